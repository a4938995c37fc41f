"""Files that output nodes write: their names, their counters and how they come to be.

A file appears under its name all at once and never takes the place of another: it is written to a hidden
temporary file beside it, then linked to the first free name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Literal

from nodegraph.node import Context, NodeError, Part, SavedFile
from nodes.naming import expand

DEFAULT_PREFIX = "ComfyUI"
MAX_NAME = 1024
"""Characters of a prefix once its placeholders are filled in; file systems take at most 255 bytes a part."""
NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than is allowed there",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission was denied",
    errno.EPERM: "permission was denied",
    errno.ENAMETOOLONG: "the file name is too long",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a part of the path is a file, not a folder",
}


@dataclass
class Series:
    """Numbered files `<name>_00001_<suffix>` of one prefix in one folder.

    `name` may hold `%batch_num%`, which becomes the place in the batch.
    """

    folder: Path
    subfolder: str
    name: str
    type: Literal["output", "temp"]
    _next: dict[str, int] = field(default_factory=dict)

    def write(self, data: bytes, suffix: str, batch_number: int = 0) -> SavedFile:
        """Write one file under the next free number. Raises NodeError where that cannot be done."""
        name = self.name.replace("%batch_num%", str(batch_number))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            counter = max(self._next.get("", 1), self._next.get(name) or _first_free(self.folder, name))
            path, counter = _place(self.folder, name, counter, suffix, data)
        except OSError as error:
            raise _unwritable(self.folder, self.type, error) from error
        self._next[name] = self._next[""] = counter + 1
        return SavedFile(
            filename=path.name,
            subfolder=self.subfolder,
            type=self.type,
            path=path,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )


def series(
    ctx: Context,
    prefix: str,
    *,
    kind: Literal["output", "temp"] = "output",
    width: int = 0,
    height: int = 0,
) -> Series:
    """The files that `prefix` names in the output (or temporary) folder, placeholders filled in.

    The prefix may hold sub-folders and the placeholders that `nodes.naming.expand` knows. Raises NodeError
    where it leads out of the folder, symbolic links resolved, or is no file name.
    """
    expanded = expand(prefix, ctx.document, datetime.now(), width=width, height=height)
    if any(ord(character) < 32 for character in expanded):
        raise NodeError(
            "the file name has a control character in it.", input="filename_prefix", found=repr(expanded[:80])
        )
    if len(expanded) > MAX_NAME:
        raise NodeError(
            "the file name is too long.",
            input="filename_prefix",
            found=f"{len(expanded)} characters",
            allowed=f"up to {MAX_NAME}, sub-folders included",
        )
    root = Path(getattr(ctx.folders, kind))
    target = Path(os.path.normpath(root / expanded.replace("\\", "/")))
    if target == Path(os.path.normpath(root)):
        target = root / DEFAULT_PREFIX
    try:
        inside = target.parent.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:
        raise NodeError(
            f"the name {prefix!r} cannot be resolved: {error}.", input="filename_prefix"
        ) from error
    if not inside:
        raise NodeError(
            f"the name leads out of the {kind} folder.",
            input="filename_prefix",
            found=repr(prefix[:200]),
            allowed=f"names under {root}",
        )
    subfolder = PurePosixPath(target.parent.relative_to(os.path.normpath(root)).as_posix())
    return Series(target.parent, "" if str(subfolder) == "." else str(subfolder), target.name, kind)


def _first_free(folder: Path, name: str) -> int:
    """One more than the highest number that a file of this name has, whatever its suffix."""
    pattern = re.compile(re.escape(os.path.normcase(name)) + r"_(\d{1,12})_")
    with os.scandir(folder) as entries:
        taken = [int(match[1]) for entry in entries if (match := pattern.match(os.path.normcase(entry.name)))]
    return max(taken, default=0) + 1


def _place(folder: Path, name: str, counter: int, suffix: str, data: bytes) -> tuple[Path, int]:
    with Part(folder) as part:
        part.file.write(data)
        temporary = part.whole(durable=False)
        while True:
            path = folder / f"{name}_{counter:05}_{suffix}"
            if _claim(temporary, path):
                return path, counter
            counter += 1


def _claim(temporary: Path, path: Path) -> bool:
    """Give the finished file its name; False where another file has it."""
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
    # No hard links here: reserve the name with an empty file of our own, then replace just that.
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    try:
        os.replace(temporary, path)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True


def _unwritable(folder: Path, kind: str, error: OSError) -> NodeError:
    reason = REASONS.get(error.errno or 0, error.strerror or str(error))
    hint = f"Free or allow writing to that folder, or choose another {kind} folder."
    if error.errno == errno.ENAMETOOLONG:
        hint = "Use a shorter filename_prefix."
    return NodeError(
        f"the file could not be saved in {folder}: {reason}.",
        code="folder_not_writable",
        hint=hint,
    )
