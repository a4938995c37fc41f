"""Workflows inside pictures: text chunks of a PNG, EXIF entries of a WebP.

`prompt` holds API JSON; `workflow` holds what an editor saved: a document of ours, or ComfyUI's UI format. `parameters` in a
PNG is what A1111 writes.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nodegraph.errors import Problem, ValidationError
from nodegraph.formats.a1111 import from_parameters, is_parameters
from nodegraph.formats.json_text import parse, refuse
from nodegraph.limits import MAX_BYTES

if TYPE_CHECKING:
    from nodegraph.node import NodeSpec

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EXIF_TEXT_TAGS = (0x010E, 0x010F, 0x0110)
_MAX_CHUNKS = 200_000
"""A picture has some thousands at most; empty ones would come to millions."""


def is_picture(data: bytes) -> bool:
    """Whether bytes begin like a PNG or a WebP."""
    return data.startswith(PNG_SIGNATURE) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


@dataclass(frozen=True)
class Carried:
    """What a picture carries: JSON of any of the formats, what it is called, and what could not be carried over."""

    data: dict[str, Any]
    name: str
    problems: Sequence[Problem] = ()


def embedded(
    data: bytes,
    name: str,
    registry: Mapping[str, NodeSpec] | None = None,
    listing: Callable[[str], list[str]] | None = None,
) -> Carried:
    """The workflow that a picture carries, whose data is not checked yet.

    A whole document is preferred, then the API form, then the UI format, then A1111's parameters, whose models are looked
    for in `listing`. Raises ValidationError where there is none.
    """
    texts = texts_of(data)
    workflow: Any = None
    if "workflow" in texts:
        try:
            workflow = parse(texts["workflow"], f"the workflow in {name}")
        except ValidationError:
            if "prompt" not in texts:
                raise
    if isinstance(workflow, dict) and "nodegraph" in workflow:
        return Carried(workflow, f"the workflow in {name}")
    if "prompt" in texts:
        prompt = parse(texts["prompt"], f"the prompt in {name}")
        if isinstance(prompt, dict) and isinstance(workflow, dict):
            prompt = {"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": workflow}}}
        return Carried(_object(prompt, name), f"the prompt in {name}")
    if workflow is not None:
        return Carried(_object(workflow, name), f"the workflow in {name}")
    if is_parameters(texts.get("parameters", "")):
        called = f"the parameters in {name}"
        document, problems = from_parameters(texts["parameters"], registry, listing, called)
        return Carried(document, called, problems)
    refuse(f"{name} is a picture that carries no workflow.", code="invalid_prompt")


def texts_of(data: bytes) -> dict[str, str]:
    """The texts in a PNG or WebP by keyword; what is damaged is left out, and what comes after MAX_BYTES of text."""
    if data.startswith(PNG_SIGNATURE):
        return dict(_png_texts(data))
    return dict(_webp_texts(data))


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValidationError(Problem("invalid_prompt", f"what {name} carries is not a workflow."))
    return value


def _png_texts(data: bytes) -> Iterator[tuple[str, str]]:
    room = MAX_BYTES
    for kind, start, end in _chunks(data, len(PNG_SIGNATURE), ">I4s"):
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            continue
        body = data[start:end]
        keyword, _, rest = body.partition(b"\0")
        text: bytes | None = None
        if kind == b"tEXt":
            text, decoded = rest, _utf8_or_latin1
        elif kind == b"zTXt":
            text, decoded = _inflate(rest[1:], room), _latin1
        elif kind == b"iTXt" and len(rest) >= 2:
            compressed = rest[0] == 1
            _, _, after_language = rest[2:].partition(b"\0")
            _, _, body = after_language.partition(b"\0")
            text, decoded = _inflate(body, room) if compressed else body, _utf8
        if text is None:
            continue
        # A few bytes may inflate to millions: what one text took, the others have not.
        room -= len(text)
        if room < 0:
            return
        yield _latin1(keyword), decoded(text)


def _chunks(data: bytes, position: int, layout: str) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of each chunk of a PNG (`>I4s`) or WebP (`<4sI`); what follows _MAX_CHUNKS is passed over."""
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(data):
            return
        first, second = struct.unpack_from(layout, data, position)
        kind, size = (first, second) if layout == "<4sI" else (second, first)
        yield kind, position + 8, position + 8 + size
        position += size + (12 if layout == ">I4s" else 8 + (size & 1))


def _latin1(text: bytes) -> str:
    return text.decode("latin-1")


def _utf8(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _utf8_or_latin1(text: bytes) -> str:
    """tEXt is Latin-1 by the specification; writers put UTF-8 there, which Latin-1 text seldom is by chance."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _inflate(data: bytes, most: int) -> bytes | None:
    """Decompressed bytes, only `most` + 1 of them where there are more; None where they are damaged."""
    try:
        return zlib.decompressobj().decompress(data, most + 1)
    except zlib.error:
        return None


def _webp_texts(data: bytes) -> Iterator[tuple[str, str]]:
    for kind, start, end in _chunks(data, 12, "<4sI"):
        if kind == b"EXIF":
            yield from _exif_texts(data[start:end])
            return  # there is one at most


def _exif_texts(data: bytes) -> Iterator[tuple[str, str]]:
    from PIL import Image

    exif = Image.Exif()
    try:
        with warnings.catch_warnings():
            # Pillow warns of damage on stderr as well; the one message is ours.
            warnings.simplefilter("ignore")
            exif.load(data)
            values = [exif.get(tag) for tag in _EXIF_TEXT_TAGS]
    except Exception:  # Pillow raises many kinds of error for damaged EXIF data
        return
    for value in values:
        keyword, colon, text = str(value or "").partition(":")
        if colon and keyword.lower() in ("prompt", "workflow"):
            yield keyword.lower(), text.rstrip("\0")
