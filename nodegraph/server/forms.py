"""Multipart forms: files go to the disk as they come, so that their size is bounded and memory is not filled."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import BodyPartReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from nodegraph.parts import Part
from nodegraph.server.answers import LIMITS, Refused, too_large
from nodegraph.server.connections import Patience

MOST_FIELD = 64 * 1024
"""Bytes of a field that is no file."""


@dataclass(frozen=True, slots=True)
class FormFile:
    """A file of a form, at a path that is not its place yet."""

    staged: Part
    name: str
    """As the client calls it."""
    sha256: str

    @property
    def part(self) -> Path:
        """Where it is."""
        return self.staged.path


@dataclass
class Form:
    """A form that was read to its end. A context manager: what was not moved away by its end is removed."""

    files: dict[str, FormFile] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self.files.values():
            file.staged.close()


async def read_form(
    request: web.Request,
    folder: Path,
    most: int,
    is_file: Callable[[BodyPartReader], bool],
    *,
    parts: int = 17,
    long: Mapping[str, int] | None = None,
) -> Form:
    """Read a form: `most` bytes of files, staged in `folder`, and up to `parts` parts; `long` fields have their own bound.

    Raises Refused, TooSlow, and OSError where the disk is full.
    """
    if request.content_type != "multipart/form-data":
        text = "the body must be a multipart form."
        raise Refused(415, "unsupported_media_type", text, found=request.content_type)
    bounds = long or {}
    if (request.content_length or 0) > most + sum(bounds.values()) + 2**20:
        raise too_large(most)
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    form = Form()
    left = most
    patience = Patience(request.app[LIMITS].stall)
    try:
        reader = await request.multipart()
        while (item := await patience.wait(reader.next())) is not None:
            if not isinstance(item, BodyPartReader) or hdrs.CONTENT_TRANSFER_ENCODING in item.headers:
                raise Refused(400, "bad_form", "the form nests another, or encodes a part.")
            name = item.name or ""
            if len(form.files) + len(form.fields) >= parts:
                raise Refused(400, "bad_form", f"the form has more than {parts} fields.")
            if name in form.files or name in form.fields:
                raise Refused(400, "bad_form", "the form has a field twice.", found=repr(name[:100]))
            if is_file(item):
                file, size = await _file(item, patience, folder, left, most)
                form.files[name] = file
                left -= size
            else:
                form.fields[name] = await _field(item, patience, bounds.get(name, MOST_FIELD))
    except (ValueError, HttpProcessingError) as error:
        form.__exit__(None, None, None)
        raise Refused(400, "bad_form", f"the form cannot be read: {str(error)[:200]}.") from error
    except BaseException:
        form.__exit__(None, None, None)
        raise
    return form


async def _file(
    item: BodyPartReader, patience: Patience, folder: Path, left: int, most: int
) -> tuple[FormFile, int]:
    part = Part(folder)
    digest = hashlib.sha256()
    size = 0
    try:
        while chunk := await patience.wait(item.read_chunk(2**18)):
            size += len(chunk)
            if size > left:
                raise too_large(most)
            digest.update(chunk)
            await asyncio.to_thread(part.file.write, chunk)
        await asyncio.to_thread(part.whole)
    except BaseException:
        part.close()
        raise
    return FormFile(part, item.filename or "", digest.hexdigest()), size


async def _field(item: BodyPartReader, patience: Patience, most: int) -> str:
    data = bytearray()
    while chunk := await patience.wait(item.read_chunk(8192)):
        data += chunk
        if len(data) > most:
            raise Refused(413, "too_large", f"a field of the form is larger than {most} bytes.")
    return data.decode("utf-8", "replace")
