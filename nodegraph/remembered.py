"""What a person has asked nodegraph to remember: the model folders, in a file of their own settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nodegraph.errors import Problem, ValidationError

NAME = "settings.json"
_MOST = 2**20
"""Bytes of settings that are read."""
_MODELS = "models"
_PATIENCE = 30.0
"""Seconds that a change waits for those that others make."""


def config_dir() -> Path | None:
    """Where this person's settings lie: $NODEGRAPH_CONFIG, or what the system has for such; None for one without a home."""
    given = os.environ.get("NODEGRAPH_CONFIG")
    if given:
        return Path(given).absolute()
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming") / "nodegraph"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "nodegraph"
    return Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "nodegraph"


def remembered_models() -> tuple[Path, ...]:
    """The model folders and extra_model_paths files that are remembered, the first added first.

    Raises ValidationError where the settings cannot be read.
    """
    folder = config_dir()
    return () if folder is None else tuple(Path(item) for item in _read(folder / NAME)[_MODELS])


def remember_models(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Remember these too, whole paths; what is remembered then. Raises ValidationError where it cannot be written."""
    return _change(lambda known: [*known, *(path for path in map(str, paths) if path not in known)])


def forget_models(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Remember these no longer; what is remembered then. Raises ValidationError, and changes nothing, for one that was not."""

    def without(known: list[str]) -> list[str]:
        gone = [str(path) for path in paths]
        unknown = [path for path in gone if path not in known]
        if unknown:
            allowed = ", ".join(known) or "none is"
            raise ValidationError(
                Problem("not_remembered", f"{path} is not remembered.", allowed=allowed) for path in unknown
            )
        return [path for path in known if path not in gone]

    return _change(without)


def _change(change: Callable[[list[str]], list[str]]) -> tuple[Path, ...]:
    import json

    from nodegraph.locking import locked
    from nodegraph.naming import write_atomically

    folder = config_dir()
    if folder is None:
        raise ValidationError(
            Problem(
                "cannot_write",
                "there is no place for this person's settings: no home folder.",
                hint="Name a folder for them in $NODEGRAPH_CONFIG.",
            )
        )
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Read and written in one hold: of two commands at once, neither undoes what the other did.
        with locked(folder / f"{NAME}.lock", _PATIENCE):
            settings = _read(path)
            settings[_MODELS] = list(dict.fromkeys(change(settings[_MODELS])))
            write_atomically(path, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValidationError(
            Problem("cannot_write", f"the settings {path} cannot be written: {reason}.")
        ) from None
    return tuple(Path(item) for item in settings[_MODELS])


def _read(path: Path) -> dict[str, Any]:
    """The settings, whose `models` is a list of paths; nothing is set where the file is not there."""
    import json

    def damaged(reason: str) -> ValidationError:
        hint = "Mend the file or remove it; `nodegraph models --add PATH` writes it anew."
        return ValidationError(
            Problem("bad_settings", f"the settings {path} cannot be read: {reason}.", hint=hint)
        )

    try:
        if not path.exists():
            return {_MODELS: []}
        if not path.is_file():
            raise damaged("it is no file")
        with open(path, "rb") as file:
            data = file.read(_MOST + 1)
        if len(data) > _MOST:
            raise damaged(f"they are larger than {_MOST:,} bytes")
        found = json.loads(data)
    except OSError as error:
        raise damaged(error.strerror or "the system refuses") from None
    except (ValueError, RecursionError):
        raise damaged("it is not JSON") from None
    if not isinstance(found, dict):
        raise damaged("it is not a JSON object")
    models = found.setdefault(_MODELS, [])
    if not isinstance(models, list) or not all(isinstance(item, str) and item for item in models):
        raise damaged(f"`{_MODELS}` is not a list of paths")
    return found
