"""Files get their names when they are whole: never over another file, or in its place where that is what is asked."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from nodegraph.errors import NodegraphError, Problem
from nodegraph.parts import Part

MOST = 10_000
"""Names that are tried for one file."""


def place(
    staged: Path, folder: Path, name: str, *, sha256: str | None = None, overwrite: bool = False
) -> str:
    """Give a file of the folder its name, or `name (n).ext` where another file has it; returns the name.

    Where a file of one of these names holds the same bytes, that is the file, and `staged` is gone as well. `sha256` is
    what the file's bytes are known to have; `overwrite` takes the name from whatever has it. A link of that name is
    another file, wherever it leads. Raises NodegraphError (`already_there`) where all names are taken, and OSError.
    """
    stem, suffix = os.path.splitext(name)
    for count in range(MOST):
        free = name if count == 0 else f"{stem} ({count}){suffix}"
        path = folder / free
        if overwrite:
            os.replace(staged, path)
            return free
        if named(staged, path):
            staged.unlink(missing_ok=True)
            return free
        if path.is_file() and not path.is_symlink() and path.stat().st_size == staged.stat().st_size:
            sha256 = sha256 if sha256 is not None else digest(staged)
            if digest(path) == sha256:
                staged.unlink()
                return free
    raise NodegraphError(
        Problem("already_there", f"{MOST} files of this name are there already.", found=repr(name))
    )


def named(source: Path, path: Path) -> bool:
    """Give a file a further name on the same disk; False where another has it. Raises OSError.

    Where the file system has no hard links the new name is the only one.
    """
    try:
        os.link(source, path)
        return True
    except FileExistsError:
        return False
    except OSError:
        # The name is taken first, then filled.
        try:
            with open(path, "xb"):
                os.replace(source, path)
        except FileExistsError:
            return False
        return True


def digest(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, data: str | bytes) -> None:
    """Write bytes, or text as UTF-8, so that `path` holds either what it held or all of it. Raises OSError."""
    with Part(path.parent, path.name) as part:
        part.file.write(data.encode() if isinstance(data, str) else data)
        os.replace(part.whole(), path)
