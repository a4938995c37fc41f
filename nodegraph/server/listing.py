"""Folders whose listings are remembered for a moment: a burst of requests walks a folder once."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from nodegraph.folders import OWN_KINDS, Folders, default_folders
from nodegraph.server.config import ServerConfig

SAFE = (".safetensors", ".sft")
"""Suffixes of model files that are offered: they hold numbers and no code."""
SECONDS = 1.0
"""How old a listing may be; a file that is asked for by name is looked up in any case."""


@dataclass(frozen=True)
class ListedFolders(Folders):
    """Folders that list each kind at most once in SECONDS."""

    _known: dict[str, tuple[float, list[str]]] = field(
        init=False, default_factory=dict, compare=False, repr=False
    )

    def list(self, kind: str) -> list[str]:
        """Names of the files of a kind, sorted; not to be changed."""
        known = self._known.get(kind)
        now = time.monotonic()
        if known is None or now - known[0] > SECONDS:
            names = super().list(kind)
            if kind not in OWN_KINDS and kind != "diffusers":
                # A pickle, which no loader takes, is no choice; who names one is told by the loader what to do with it.
                names = [name for name in names if name.lower().endswith(SAFE)]
            known = self._known[kind] = (now, names)
        return known[1]

    def forget(self, kind: str) -> None:
        """List a kind anew the next time: it was changed here."""
        self._known.pop(kind, None)


def server_folders(config: ServerConfig) -> ListedFolders:
    """The folders of a server, without those of the packs: its workers have them too. Raises ValidationError."""
    found = default_folders(
        config.models_dirs,
        input=config.input_dir or config.data_dir / "input",
        output=config.output_dir or config.data_dir / "output",
    )
    temp = (config.data_dir / "temp").absolute()
    return ListedFolders(found.models, found.input, found.output, temp, found.named)
