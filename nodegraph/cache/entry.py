"""One result in the cache: what it holds, how large it is, and the files that it wrote."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nodegraph.node import SavedFile
from nodegraph.sockets import codec_of

SMALL = 256
"""Bytes that a value without a codec counts as."""
OVERHEAD = 512
"""Bytes that an entry counts as besides its values."""
_PIECE = 2**16
"""Bytes of a file that are read at once."""
_PLAIN = frozenset({int, float, bool, type(None)})
Block = tuple[object, int]


@dataclass(slots=True, eq=False)
class WrittenFile:
    """A file as it was when the node had written it."""

    path: str
    size: int
    mtime_ns: int
    sha256: str

    def intact(self) -> bool:
        """Whether it still has the recorded content; it is read only where its time of change is another."""
        try:
            found = os.stat(self.path)
        except OSError:
            return False
        if found.st_size != self.size:
            return False
        if found.st_mtime_ns != self.mtime_ns:
            if file_hash(self.path) != self.sha256:
                return False
            self.mtime_ns = found.st_mtime_ns
        return True


@dataclass(slots=True, eq=False)
class Entry:
    """A result and what the cache knows of it. Belongs to one memory tier at a time."""

    key: bytes
    outputs: tuple[Any, ...]
    ui: Mapping[str, tuple[Any, ...]]
    seconds: float
    parents: tuple[bytes, ...]
    small: int
    """Bytes of host memory that are not in blocks."""
    device_blocks: tuple[Block, ...] = ()
    host_blocks: tuple[Block, ...] = ()
    homes: tuple[str, ...] = ()
    """Devices that its blocks were on when it was made."""
    files: tuple[WrittenFile, ...] = ()
    """Files that it wrote: it is a hit only while they are intact."""
    uses: int = 1
    pins: int = 0
    """How many runs hold its values now: evicting it would free nothing."""
    run: int = 0
    """How many runs had ended when it was made."""
    age: float = 0.0
    rank: float = 0.0
    serial: int = 0

    @property
    def mixed(self) -> bool:
        """Whether its values lie in several memories, so that moving them back would not restore them."""
        return len(self.homes) > 1


def blocks_of(outputs: Iterable[Any]) -> tuple[list[Block], list[Block], list[str], int]:
    """(device blocks, host blocks, devices, small bytes) of some values."""
    device: list[Block] = []
    host: list[Block] = []
    homes: list[str] = []
    small = 0
    for item in _walk(outputs):
        kind = type(item)
        if kind in _PLAIN:
            small += 32
            continue
        codec = codec_of(item)
        if codec is None:
            small += sys.getsizeof(item) if kind in (str, bytes) else SMALL
            continue
        small += SMALL
        for identity, size, place in codec.storages(item):
            (host if place == "cpu" else device).append((identity, size))
            if place not in homes:
                homes.append(place)
    return device, host, homes, small


def moved(outputs: Any, device: str) -> Any:
    """The same outputs with the blocks of every value on `device`."""
    if isinstance(outputs, tuple):
        return type(outputs)(moved(item, device) for item in outputs)
    codec = codec_of(outputs)
    return outputs if codec is None else codec.move(outputs, device)


def written_files(ui: Mapping[str, tuple[Any, ...]]) -> tuple[WrittenFile, ...] | None:
    """The saved files that a result shows, as they are now; None where one of them is already gone or another."""
    found = []
    for item in _walk(ui.values()):
        if isinstance(item, SavedFile):
            path = str(item.path)
            try:
                state = os.stat(path)
            except OSError:
                return None
            if item.size and item.size != state.st_size:
                return None
            sha256 = item.sha256 or file_hash(path)
            found.append(WrittenFile(path, state.st_size, state.st_mtime_ns, sha256))
    return tuple(found)


def file_hash(path: str) -> str:
    """SHA-256 of a file in hexadecimal; empty where it cannot be read."""
    found = hashlib.sha256()
    try:
        # hashlib.file_digest clears 256 KiB first, which takes longer than the rest where the file is small.
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                found.update(piece)
    except OSError:
        return ""
    return found.hexdigest()


def _walk(outputs: Iterable[Any]) -> Iterator[Any]:
    for item in outputs:
        if isinstance(item, (tuple, list)):
            yield from _walk(item)
        elif isinstance(item, dict):
            yield from _walk(item.values())
        else:
            yield item
