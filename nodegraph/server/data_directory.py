"""The version of the data directory: a later release's is refused, an older one's is copied and brought up to date.

    version.json    {"version": 1, "release": "0.1.0"}: which files there are and what is in them, and who wrote that

The tables of the job store have a version of their own in its file, for they change in one transaction with it
(`nodegraph.jobs.schema`). All else that a new release finds in another place or form is a `Step` here. The store's lock is held
meanwhile: hand `prepare` to `JobStore.open`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nodegraph import __version__
from nodegraph.errors import NodegraphError, Problem
from nodegraph.naming import write_atomically
from nodegraph.server.config import DATABASE

NAME: Final = "version.json"


@dataclass(frozen=True, slots=True)
class Step:
    """Brings a data directory from one version to the next."""

    changes: tuple[str, ...]
    """Files and folders in it that are written, made or removed; they are copied first, so no outputs, which may be large."""
    run: Callable[[Path], None]
    """Raises OSError or ValueError where it cannot be done; what it has changed by then is put back."""


STEPS: Final[tuple[Step, ...]] = ()
"""From version 1 on. Released ones never change."""


def prepare(folder: Path, steps: Sequence[Step] = STEPS) -> Path | None:
    """Bring a data directory, which exists, to the version after the last of `steps`; the backup where that changed it.

    A kill on the way is made good at the next start. NodegraphError: `data_too_new`, `data_damaged`, `migration_failed`,
    `data_unwritable`; the directory is as it was.
    """
    try:
        return _prepare(folder, steps, 1 + len(steps))
    except OSError as error:
        raise NodegraphError(
            Problem(
                "data_unwritable",
                "the data directory cannot be read or written.",
                found=f"{error.filename or folder}: {error.strerror or error}",
                hint="Look at who owns it and whether the disk is full. Nothing is lost.",
            )
        ) from error


def _prepare(folder: Path, steps: Sequence[Step], newest: int) -> Path | None:
    found = _read(folder, newest)
    if found is None and (not (folder / DATABASE).exists() or newest == 1):
        _write(folder, newest)
        return None
    # Before there were version files, everything was as in version 1.
    data = found if found is not None else {"version": 1}
    version = data["version"]
    if version > newest:
        raise NodegraphError(
            Problem(
                "data_too_new",
                "the data directory was written by a later release.",
                found=f"{folder}, version {version} of nodegraph {data.get('release', 'unknown')}",
                allowed=f"up to version {newest}, that of nodegraph {__version__}",
                hint="Install that release again, or give this one another data directory.",
            )
        )
    return None if version == newest else _bring_up(folder, data, steps[version - 1 :], newest)


def _bring_up(folder: Path, data: dict[str, Any], steps: Sequence[Step], newest: int) -> Path:
    version = data["version"]
    names = sorted({name for step in steps for name in step.changes})
    if "backup" in data:
        # It was interrupted: begin again with what was there before.
        backup = folder / str(data["backup"])
        _put_back(folder, backup, names)
    else:
        backup = _back_up(folder, version, names)
        _write(folder, version, backup.name)
    try:
        for step in steps:
            step.run(folder)
    except (OSError, ValueError) as error:
        _put_back(folder, backup, names)
        _write(folder, version)
        raise NodegraphError(
            Problem(
                "migration_failed",
                "the data directory could not be brought up to date; it is as it was.",
                found=f"{folder}, version {version}: {error}",
                allowed=f"version {newest}",
                hint=f"A copy is in {backup}. The earlier release still reads the directory.",
            )
        ) from error
    _write(folder, newest)
    return backup


def _read(folder: Path, newest: int) -> dict[str, Any] | None:
    """What the version file says; None where there is none."""
    path = folder / NAME
    try:
        data = json.loads(path.read_bytes())
        if not isinstance(data, dict) or type(data.get("version")) is not int or data["version"] < 1:
            raise ValueError("it names no version")
        if "backup" in data and not (folder / str(data["backup"])).is_dir():
            raise ValueError(f"the backup {data['backup']!r} that it names is not there")
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise NodegraphError(
            Problem(
                "data_damaged",
                "the file that says the data directory's version is damaged; nothing was changed.",
                found=f"{path}: {error}",
                hint=f'If nodegraph {__version__} used the directory last, write {{"version": {newest}}} into the file.',
            )
        ) from error
    return data


def _write(folder: Path, version: int, backup: str | None = None) -> None:
    data: dict[str, Any] = {"version": version, "release": __version__}
    if backup is not None:
        data["backup"] = backup
    write_atomically(folder / NAME, json.dumps(data) + "\n")


def _back_up(folder: Path, version: int, names: Sequence[str]) -> Path:
    """A copy of what will change, on the disk before this returns."""
    backup = folder / f"backup-v{version}"
    count = 1
    while backup.exists():
        count += 1
        backup = folder / f"backup-v{version}-{count}"
    part = folder / f".{backup.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for name in names:
        _copy(folder / name, part / name)
    for place, _, files in os.walk(part):
        for name in files:
            with open(os.path.join(place, name), "r+b") as file:
                os.fsync(file.fileno())
    os.replace(part, backup)
    return backup


def _put_back(folder: Path, backup: Path, names: Sequence[str]) -> None:
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        _copy(backup / name, path)


def _copy(source: Path, target: Path) -> None:
    """A file or folder, links as links; nothing where there is none."""
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True)
    elif os.path.lexists(source):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
