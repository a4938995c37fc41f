"""Files that are not whole yet: hidden under `.*.part`, held by who writes them, removed once nobody does."""

from __future__ import annotations

import os
import re
import secrets
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

if sys.platform != "win32":
    import fcntl

QUIET = 60.0
"""Seconds that a file is left alone after its last change: one that was made this instant may not be held yet."""
_NAME = re.compile(r"\.(?:.*\.)?(?:[0-9a-f]{8}|[0-9a-f]{16})\.part", re.DOTALL)


class Part:
    """A new file of a folder, at a path that is not its place yet, open for writing as `file`.

    A context manager: what did not get another name is removed, and where the process is killed, `remove_abandoned` does it.
    Raises OSError where it cannot be made.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        """`name` is what the file is to be called, for people who find it."""
        shown = f"{name[:40]}." if name else ""
        self.path = folder / f".{shown}{secrets.token_hex(8)}.part"
        self.file: BinaryIO = open(self.path, "xb")  # noqa: SIM115
        if sys.platform != "win32":
            # Where the file system has no locks, nobody takes one away either.
            with suppress(OSError):
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def whole(self, *, durable: bool = True) -> Path:
        """The path of the file with all that was written, on the disk with `durable`; now it can get its name. OSError."""
        self.file.flush()
        if durable:
            os.fsync(self.file.fileno())
        if sys.platform == "win32":
            # Held no longer, for what is open there cannot be named.
            self.file.close()
        return self.path

    def close(self) -> None:
        """Let go of the file, and remove it where it has no other name."""
        try:
            self.file.close()
        finally:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def remove_abandoned(root: Path, quiet: float = QUIET) -> int:
    """Remove what killed processes left half written in a folder and those in it; how many files.

    What somebody holds stays, as does what was changed in the last `quiet` seconds and what cannot be removed. Links to
    other folders are not followed.
    """
    count = 0
    for folder, _, names in os.walk(root):
        for name in names:
            if _NAME.fullmatch(name):
                with suppress(OSError):
                    count += _removed(os.path.join(folder, name), quiet)
    return count


def _removed(path: str, quiet: float) -> bool:
    state = os.lstat(path)
    if not stat.S_ISREG(state.st_mode) or time.time() - state.st_mtime < quiet:
        return False
    if sys.platform == "win32":
        # What is open there cannot be removed.
        os.unlink(path)
        return True
    # Not through a link that has come since.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    finally:
        os.close(descriptor)
    return True
