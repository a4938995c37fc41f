"""Which files hold which bytes: what was sent here is known by its SHA-256, so that it need not be sent again."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from nodegraph.folders import Folders
from nodegraph.parts import Part
from nodegraph.server.answers import Refused
from nodegraph.server.security import found_file

HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Content:
    """A file of the input, output or temporary folder, by the address that clients use."""

    name: str
    subfolder: str
    type: str
    sha256: str
    size: int

    @property
    def place(self) -> str:
        """As the input of a node names it."""
        name = f"{self.subfolder}/{self.name}" if self.subfolder else self.name
        return name if self.type == "input" else f"{name} [{self.type}]"


class Contents:
    """A small file for each hash, in a folder that may be removed at any time: what is gone is sent again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, content: Content, path: Path) -> None:
        """Remember where a file is. Raises OSError."""
        state = path.stat()
        record = self._record(content.sha256)
        record.parent.mkdir(parents=True, exist_ok=True)
        data = {**asdict(content), "mtime_ns": state.st_mtime_ns, "inode": state.st_ino}
        with Part(record.parent) as part:
            part.file.write(json.dumps(data).encode())
            os.replace(part.whole(durable=False), record)

    def find(self, sha256: str, folders: Folders) -> Content | None:
        """The file with these bytes, None where none is known, or where it was changed or removed since."""
        if not HASH.fullmatch(sha256):
            return None
        try:
            data = json.loads(self._record(sha256).read_text(encoding="utf-8"))
            content = Content(*(data[name] for name in ("name", "subfolder", "type", "sha256", "size")))
            path = found_file(
                folders, content.type, "/".join(filter(None, (content.subfolder, content.name)))
            )
            state = path.stat()
        except (OSError, ValueError, KeyError, TypeError, Refused):
            return None
        now = (state.st_size, state.st_mtime_ns, state.st_ino)
        return content if now == (content.size, data.get("mtime_ns"), data.get("inode")) else None

    def knows(self, sha256: str) -> bool:
        """Whether these bytes were ever sent here, as far as is remembered."""
        return self._record(sha256).is_file()

    def forget(self, sha256: str) -> None:
        """Remember no longer where a file with these bytes is. Raises OSError."""
        self._record(sha256).unlink(missing_ok=True)

    def _record(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256[2:]
