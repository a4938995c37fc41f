"""The files that came with runs lie in `.received/` of the input folder, by their hash; those of long ago are removed."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nodegraph.server.config import Limits

if TYPE_CHECKING:
    from nodegraph.folders import Folders
    from nodegraph.server.contents import Content, Contents

FOLDER: Final = ".received"
"""Of the input folder; hidden, so that it fills no list of names."""
NAMES: Final = re.compile(r"[0-9a-f]{64}\.[a-z]{3,6}", re.IGNORECASE)
GRACE = 3600.0
"""Seconds that a file stays after its last use, whatever its size: a run that names it may be on its way to the queue."""


class Received:
    """When each file was last used is its time of access, set here; its time of change says that its bytes are the same.

    Another server may keep files in the same folder, whose jobs are not known here: only those are removed that `contents`
    knows as sent to this one.
    """

    def __init__(self, folder: Path, contents: Contents) -> None:
        self.folder = folder
        self._contents = contents
        self.lock = threading.Lock()
        """Held while a file is used or removed."""

    def use(self, name: str) -> bool:
        """Note that a run names a file; False where it is gone."""
        with self.lock:
            return self.touch(name)

    def touch(self, name: str) -> bool:
        """The same, for one who holds the lock."""
        path = self.folder / name
        try:
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
        except FileNotFoundError:
            return False
        except PermissionError:
            # It is another user's, and so is its end.
            return True
        return True

    def use_all(self, text: str) -> None:
        """Note that a run names the files whose names are in a text."""
        if FOLDER in text:
            for name in set(NAMES.findall(text)):
                self.use(name.lower())

    def find(self, sha256: str, folders: Folders) -> Content | None:
        """The file with a hash, of those that were sent before; a run may name it now, so it stays for a while."""
        found = self._contents.find(sha256, folders)
        if found is not None and (found.type, found.subfolder) == ("input", FOLDER):
            return found if self.use(found.name) else None
        return found

    def superfluous(self, limits: Limits, named: Collection[str] = ()) -> list[str]:
        """What is too old or too much, the longest unused first; not what is `named`, in lower case, or was used of late."""
        found = []
        if self.folder.is_symlink():
            return []
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if (
                        NAMES.fullmatch(entry.name)
                        and entry.is_file(follow_symlinks=False)
                        and self._contents.knows(entry.name[:64])
                    ):
                        state = entry.stat(follow_symlinks=False)
                        found.append((max(state.st_atime, state.st_mtime), entry.name, state.st_size))
        left = sum(size for _, _, size in found)
        now = time.time()
        chosen = []
        for used, name, size in sorted(found):
            old = used < now - max(limits.received_age, GRACE)
            much = left > limits.received_bytes and used < now - GRACE
            if (old or much) and name.lower() not in named:
                chosen.append(name)
                left -= size
        return chosen

    def remove(self, names: Collection[str]) -> int:
        """Remove files, but not those that were used meanwhile; how many."""
        count = 0
        for name in names:
            path = self.folder / name
            with self.lock, suppress(OSError):
                if path.stat().st_atime < time.time() - GRACE:
                    path.unlink()
                    self._contents.forget(name[:64])
                    count += 1
        return count
