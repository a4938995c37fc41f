"""Write workflows into pictures: text chunks of a PNG, EXIF entries of a WebP, where ComfyUI has them too.

The pixels are not touched: `png` reads back what is written here.
"""

from __future__ import annotations

import json
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from nodegraph.formats.json_text import refuse
from nodegraph.formats.png import PNG_SIGNATURE

EXIF_TAGS = {"prompt": 0x0110, "workflow": 0x010F}
"""The tags (model and make of the camera) that hold the texts of a WebP."""
_HAS_EXIF, _HAS_ALPHA = 0x08, 0x10


def with_workflow(data: bytes, texts: Mapping[str, Any], name: str) -> bytes:
    """The picture with JSON under `prompt` and `workflow`, in place of what it carried.

    Raises ValidationError for a file that is no PNG or WebP, or a damaged one.
    """
    written = {key: json.dumps(value, allow_nan=False) for key, value in texts.items()}
    try:
        if data.startswith(PNG_SIGNATURE):
            return _png(data, written)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data, written)
    except (struct.error, IndexError, ValueError):
        refuse(f"{name} is a damaged picture.", code="invalid_picture")
    refuse(f"{name} is neither a PNG nor a WebP, the pictures that carry workflows.", code="invalid_picture")


def _png(data: bytes, texts: Mapping[str, str]) -> bytes:
    pieces = [PNG_SIGNATURE]
    position = len(PNG_SIGNATURE)
    while position < len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        chunk = data[position : position + size + 12]
        if len(chunk) < size + 12:
            raise ValueError("a chunk is cut off")
        position += len(chunk)
        keyword = chunk[8:].partition(b"\0")[0].decode("latin-1")
        if kind not in (b"tEXt", b"zTXt", b"iTXt") or keyword not in EXIF_TAGS:
            pieces.append(chunk)
        if kind == b"IHDR":
            pieces += [_png_chunk(b"tEXt", f"{key}\0{text}".encode("ascii")) for key, text in texts.items()]
        if kind == b"IEND":
            return b"".join(pieces)
    raise ValueError("it has no end")


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _webp(data: bytes, texts: Mapping[str, str]) -> bytes:
    chunks = [*_webp_chunks(data)]
    exif = next((body for kind, body in chunks if kind == b"EXIF"), b"")
    chunks = [(kind, body) for kind, body in chunks if kind != b"EXIF"]
    if chunks[0][0] == b"VP8X":
        head = chunks.pop(0)[1]
        head = bytes([head[0] | _HAS_EXIF]) + head[1:]
    else:
        head = _webp_head(*chunks[0])
    chunks = [(b"VP8X", head), *chunks, (b"EXIF", _exif(exif, texts))]
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(part)) + part + b"\0" * (len(part) & 1) for kind, part in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 12
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : position + 8 + size]
        if len(body) < size:
            raise ValueError("a chunk is cut off")
        yield kind, body
        position += 8 + size + (size & 1)


def _webp_head(kind: bytes, body: bytes) -> bytes:
    """The header of the extended format for a picture of the simple one, which has no place for EXIF."""
    width: int
    height: int
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", body, 1)
        width, height = (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
        alpha = _HAS_ALPHA if bits >> 28 & 1 else 0
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", body, 6))
        alpha = 0
    else:
        raise ValueError("it begins with no picture")
    sides: bytes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes([_HAS_EXIF | alpha, 0, 0, 0]) + sides


def _exif(before: bytes, texts: Mapping[str, str]) -> bytes:
    from PIL import Image

    exif = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exif.load(before)
    except Exception:  # Pillow raises many kinds of error for damaged EXIF data, of which nothing can be kept
        exif = Image.Exif()
    for key, tag in EXIF_TAGS.items():
        exif.pop(tag, None)
        if key in texts:
            exif[tag] = f"{key}:{texts[key]}"
    written: bytes = exif.tobytes()
    return written.removeprefix(b"Exif\0\0")
