"""The identity of a file's content, for keys: the same file gives the same identity, a changed one another."""

from __future__ import annotations

import hashlib
import os
import struct
from functools import lru_cache
from pathlib import Path

SMALL = 64 * 2**20
"""Files up to this many bytes are known by their whole content."""
_SAMPLE = 2**20


def file_identity(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 that stands for a file's content on this machine.

    A small file is hashed whole, once for each (path, size, time of change, inode). Of a large one, size, time of
    change and header (safetensors) or first and last MiB stand in for the content, as hashing gigabytes
    takes longer than many a run. Raises OSError where the file cannot be read.
    """
    state = os.stat(path)
    name = os.path.realpath(path)
    if state.st_size <= SMALL:
        return _content(name, state.st_size, state.st_mtime_ns, state.st_ino)
    return _stand_in(name, state.st_size, state.st_mtime_ns, state.st_ino)


def content_hash(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of the whole file, read once for each (path, size, time of change, inode). Raises OSError."""
    state = os.stat(path)
    return _content(os.path.realpath(path), state.st_size, state.st_mtime_ns, state.st_ino)


# Both are pure in their arguments, so remembering them is no state of the engine's.
@lru_cache(maxsize=4096)
def _content(path: str, size: int, mtime_ns: int, inode: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=4096)
def _stand_in(path: str, size: int, mtime_ns: int, inode: int) -> str:
    digest = hashlib.sha256(struct.pack("<qq", size, mtime_ns))
    with open(path, "rb") as file:
        first = file.read(_SAMPLE)
        if Path(path).suffix.lower() in (".safetensors", ".sft"):
            (length,) = struct.unpack("<Q", first[:8])
            digest.update(first[: 8 + length])
            if len(first) < 8 + length <= SMALL:
                digest.update(file.read(8 + length - len(first)))
        else:
            digest.update(first)
        file.seek(-_SAMPLE, os.SEEK_END)
        digest.update(file.read(_SAMPLE))
    return digest.hexdigest()
