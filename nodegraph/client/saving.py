"""Files that were downloaded get their names here: inside their folder, never over another file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from nodegraph.client.records import RemoteFile
from nodegraph.errors import Problem, ServerError
from nodegraph.server.security import inside, plain_path

_MOST_NAMES = 10_000


def folder_of(root: Path, file: RemoteFile) -> tuple[Path, str]:
    """The folder and the name for a file of a server. Raises Refused where its name leads out of `root`."""
    *parts, name = plain_path(
        "/".join(part for part in (file.subfolder, file.filename) if part), what="file name"
    )
    folder = inside(root, *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder, name


def keep(staged: Path, folder: Path, name: str) -> Path:
    """Give a whole file its name, `name (1).ext` where another file has it; one that is there already is that file."""
    stem, suffix = os.path.splitext(name)
    for count in range(_MOST_NAMES):
        path = folder / (name if count == 0 else f"{stem} ({count}){suffix}")
        try:
            # The name is taken first, so that two downloads at once never write over each other.
            with open(path, "xb"):
                os.replace(staged, path)
            return path
        except FileExistsError:
            if path.is_file() and _digest(path) == _digest(staged):
                staged.unlink()
                return path
    text = f"{_MOST_NAMES} files of this name are there already."
    raise ServerError(Problem("already_there", text, found=repr(name)))


def _digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
