"""Folders of models, inputs and outputs: listing, finding and never leaving them."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from nodegraph.errors import NodeError, did_you_mean
from nodegraph.extra_paths import LEGACY
from nodegraph.model_folders import ALIASES, absolute, model_folders

OWN_KINDS = ("input", "output", "temp")
"""Kinds that are one folder each, and no models."""
MODEL_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")
CONFIG_SUFFIXES = (".yaml",)
FILE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".latent")


@dataclass(frozen=True)
class Folders:
    """Where files are found. `models` are roots in ComfyUI's layout, searched in order.

    Names are relative, with forward slashes, and may not lead out of their folder, symlinks resolved
    for `input`, `output` and `temp` (model folders may hold links to anywhere).
    """

    models: tuple[Path, ...]
    input: Path
    output: Path
    temp: Path
    named: Mapping[str, tuple[Path, ...]] = field(default_factory=dict, hash=False)
    """All folders, in order, of the kinds for which a file of ComfyUI's names some beside `models`."""

    def and_models(self, roots: Iterable[Path]) -> Self:
        """The same with further model folders in ComfyUI's layout, searched after the others."""
        more = [root for root in dict.fromkeys(roots) if root not in self.models]
        named = {
            kind: (*paths, *(root / name for root in more for name in ALIASES.get(kind, (kind,))))
            for kind, paths in self.named.items()
        }
        return replace(self, models=(*self.models, *more), named=named)

    def roots(self, kind: str) -> list[Path]:
        """The folders of a kind: `input`, `output`, `temp`, or a model kind such as `checkpoints`."""
        if kind in OWN_KINDS:
            return [Path(getattr(self, kind))]
        kind = LEGACY.get(kind, kind)
        if kind in self.named:
            return [*self.named[kind]]
        return [root / name for root in self.models for name in ALIASES.get(kind, (kind,))]

    def list(self, kind: str) -> list[str]:
        """Names of the files of a kind, sorted; a diffusers kind lists folders with a model_index.json."""
        names: set[str] = set()
        for root in self.roots(kind):
            names.update(_walk(root, kind))
        return sorted(names)

    def find(self, kind: str, name: str) -> Path:
        """The path of `name`. Raises NodeError where there is none, or where the name leads out of the folder."""
        path = self.look(kind, name)
        if path is None:
            raise self.missing(kind, name, self.list(kind))
        return path

    def look(self, kind: str, name: str) -> Path | None:
        """The path of `name`, None where there is none.

        Raises NodeError where the name leads out of the folder, or names what may not be read or is no file: opening a
        pipe or a device could wait for ever.

        As in ComfyUI, an input, output or temp file may say its folder: `picture.png [output]`.
        """
        if kind in OWN_KINDS and name.endswith("]"):
            for other in OWN_KINDS:
                if name.endswith(f" [{other}]"):
                    kind, name = other, name.removesuffix(f" [{other}]")
        refused: NodeError | None = None
        for root in self.roots(kind):
            path = root / name
            if kind in OWN_KINDS:
                _contained(root, path, name)
            elif os.path.isabs(name) or ".." in Path(name).parts:
                raise NodeError(
                    f"the name {name[:200]!r} leads out of the {kind} folder.", code="value_not_in_list"
                )
            try:
                mode = os.stat(path).st_mode
            except PermissionError:
                refused = NodeError(f"{path} cannot be read: permission denied.", code="cannot_read")
                continue
            except (OSError, ValueError):
                continue
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                return path
            refused = NodeError(f"{path} is a pipe or a device, not a file.", code="cannot_read")
        if refused is not None:
            raise refused
        return None

    def missing(self, kind: str, name: str, known: Sequence[str], hint: str | None = None) -> NodeError:
        """The error for a name that is not there: where it was looked for, what is there, what is like it."""
        places = ", ".join(str(root) for root in self.roots(kind))
        allowed = ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
        return NodeError(
            f"there is no file {name[:200]!r} among the {kind}; looked in {places}.",
            code="value_not_in_list",
            allowed=allowed or "none are there",
            hint=hint or did_you_mean(name, known) or "Put it into one of these folders.",
        )


def _contained(root: Path, path: Path, name: str) -> None:
    try:
        inside = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError) as error:
        raise NodeError(f"{name[:200]!r} is not the name of a file.", code="value_not_in_list") from error
    if not inside:
        raise NodeError(f"the name {name[:200]!r} leads out of the folder {root}.", code="value_not_in_list")


def _walk(root: Path, kind: str) -> Iterator[str]:
    """Names of files under a root, links followed, but none that leads back to a folder it lies in."""
    wanted = FILE_SUFFIXES if kind in OWN_KINDS else CONFIG_SUFFIXES if kind == "configs" else MODEL_SUFFIXES
    above = {str(root): frozenset([os.path.realpath(root)])}
    for folder, subfolders, files in os.walk(root, followlinks=True):
        here, known = Path(folder), above.pop(folder)
        found = {name: os.path.realpath(here / name) for name in sorted(subfolders) if name[0] != "."}
        subfolders[:] = [name for name, real in found.items() if real not in known]
        above |= {os.path.join(folder, name): known | {found[name]} for name in subfolders}
        if kind == "diffusers":
            if "model_index.json" in files:
                yield here.relative_to(root).as_posix()
                subfolders.clear()
            continue
        for name in files:
            suffix = os.path.splitext(name)[1].lower()
            if suffix in wanted and not name.startswith(".") and os.path.isfile(here / name):
                yield (here / name).relative_to(root).as_posix()


def default_folders(
    models: Iterable[str | os.PathLike[str]] = (),
    *,
    input: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    pack_roots: Iterable[Path] = (),
) -> Folders:
    """The folders of a session.

    Models are looked for as `nodegraph.model_folders.model_folders` says; `models` and `pack_roots` are its arguments, and
    it may raise ValidationError. Input and output are ./input and ./output unless given; none is made.
    """
    found = model_folders(models)
    kinds = dict.fromkeys(item.kind for item in found if item.kind is not None)
    return Folders(
        tuple(item.path for item in found if item.kind is None),
        absolute(Path(input if input is not None else "input")),
        absolute(Path(output if output is not None else "output")),
        _temporary(),
        {kind: tuple(dict.fromkeys(path for item in found for path in item.roots(kind))) for kind in kinds},
    ).and_models(map(absolute, pack_roots))


def _temporary() -> Path:
    """This person's folder for temporary files: one that all share would be the first comer's only."""
    owner = f"nodegraph-{os.getuid()}" if hasattr(os, "getuid") else "nodegraph"
    try:
        return Path(tempfile.gettempdir()) / owner
    except FileNotFoundError:
        # Nowhere may be written to; nodes that need it say so, and others run.
        return Path(os.path.abspath(os.sep), "tmp", owner)
