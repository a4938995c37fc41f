"""Routes of pictures and other files: view, upload, masks."""

from __future__ import annotations

import asyncio
import hashlib
import io
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import BodyPartReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from nodegraph.folders import OWN_KINDS
from nodegraph.formats.json_text import parse
from nodegraph.naming import place
from nodegraph.server.answers import Refused, reply, too_large
from nodegraph.server.routing import Route, query_of
from nodegraph.server.security import file_headers, found_file, inside, plain_name, plain_path
from nodegraph.server.shapes import checked
from nodegraph.server.state import STATE, State

if TYPE_CHECKING:
    from PIL import Image

Kind = Literal["output", "input", "temp"]
_PREVIEWS = {"webp": "WEBP", "jpeg": "JPEG"}
_MOST_FIELD = 64 * 1024
_DECODED = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are decoded here; Pillow knows many more, which nobody needs and some of which are old code."""


@dataclass(frozen=True, slots=True)
class ViewQuery:
    """The file that is asked for, and in which form."""

    filename: str
    type: str = "output"
    subfolder: str = ""
    preview: str | None = None
    """`webp;90` or `jpeg;90`: smaller, for showing."""
    channel: str = "rgba"
    """`rgba`, `rgb` or `a`."""


async def view(request: web.Request) -> web.StreamResponse:
    """A file of the output, input or temporary folder."""
    state = request.app[STATE]
    asked = query_of(request, ViewQuery)
    path = address(state, asked.type, asked.subfolder, asked.filename)
    headers = file_headers(path.name)
    if asked.preview is None and asked.channel == "rgba":
        # The same name may come to hold another picture, so a browser asks whether its copy is still right.
        return web.FileResponse(path, headers={**headers, "Cache-Control": "no-cache"})
    kind, quality = _form(asked)
    body, mime = await asyncio.to_thread(
        _rendered, path, kind, quality, asked.channel, state.config.limits.pixels
    )
    return web.Response(body=body, headers={**headers, "Content-Type": mime, "Cache-Control": "no-cache"})


def address(state: State, type: str, subfolder: str, filename: str) -> Path:
    """The path of an existing file by the address that clients use. Raises Refused."""
    for kind in OWN_KINDS:
        if filename.endswith(f" [{kind}]"):
            filename, type = filename.removesuffix(f" [{kind}]"), kind
    if type not in OWN_KINDS:
        raise Refused(
            400, "bad_type", "there is no such folder.", found=repr(type[:50]), allowed=", ".join(OWN_KINDS)
        )
    name = "/".join((*_parts(subfolder), *_parts(filename)))
    if not name:
        raise Refused(400, "bad_name", "no file is named.")
    return found_file(state.folders, type, name)


def _parts(path: str) -> list[str]:
    """Parts of a name that may be older than the rules for new ones, but never leads upwards."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    if path.startswith(("/", "\\")) or ".." in parts or "\0" in path or ":" in path.split("/")[0][1:2]:
        raise Refused(403, "outside_folder", "this name leads out of its folder.", found=repr(path[:200]))
    return parts


def _form(asked: ViewQuery) -> tuple[str | None, int]:
    if asked.channel not in ("rgba", "rgb", "a"):
        raise Refused(400, "bad_channel", "there is no such channel.", allowed="rgba, rgb, a")
    if asked.preview is None:
        return None, 90
    name, _, quality = asked.preview.partition(";")
    if name not in _PREVIEWS:
        # ComfyUI falls back to WebP as well.
        name = "webp"
    number = int(quality) if quality.isascii() and quality.isdigit() and len(quality) < 4 else 90
    return _PREVIEWS[name], min(max(number, 1), 100)


def open_picture(path: Path, most_pixels: int) -> Image.Image:
    """A decoded picture. Raises Refused for what is none, or has too many pixels to decode."""
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            # The bound on pixels is ours, checked before anything is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=_DECODED) as picture:
                if picture.width * picture.height > most_pixels:
                    text = f"the picture has more than {most_pixels} pixels, the most that is decoded."
                    raise Refused(413, "too_large", text, found=f"{picture.width}x{picture.height}")
                picture.load()
    except Refused:
        raise
    except Exception as error:  # Pillow raises many kinds of error for damaged files
        raise Refused(400, "not_a_picture", "this is no picture that can be decoded.") from error
    return picture


def _rendered(
    path: Path, form: str | None, quality: int, channel: str, most_pixels: int
) -> tuple[bytes, str]:
    from PIL import Image

    picture = open_picture(path, most_pixels)
    buffer = io.BytesIO()
    if channel == "a":
        alpha = picture.convert("RGBA").getchannel("A")
        flat = Image.new("RGBA", picture.size)
        flat.putalpha(alpha)
        flat.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue(), "image/png"
    if channel == "rgb" or form == "JPEG":
        picture = picture.convert("RGB")
    elif picture.mode not in ("RGB", "RGBA"):
        picture = picture.convert("RGBA")
    if form is None:
        picture.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue(), "image/png"
    picture.save(buffer, form, quality=quality)
    return buffer.getvalue(), f"image/{form.lower()}"


@dataclass
class Upload:
    """A multipart form: its file, spooled beside its place, and its other fields."""

    part: Path
    name: str
    sha256: str
    fields: dict[str, str]

    def target(self) -> tuple[Kind, tuple[str, ...]]:
        """(folder kind, parts of the sub-folder). Raises Refused."""
        kind = self.fields.get("type") or "input"
        if kind not in OWN_KINDS:
            raise Refused(
                400,
                "bad_type",
                "there is no such folder.",
                found=repr(kind[:50]),
                allowed=", ".join(OWN_KINDS),
            )
        return kind, plain_path(self.fields.get("subfolder", ""), what="sub-folder")  # type: ignore[return-value]


async def upload_image(request: web.Request) -> web.Response:
    """Keep an uploaded file in the input folder; a taken name becomes `name (1).ext` unless the bytes are the same."""
    return await _uploading(request, _kept)


async def upload_mask(request: web.Request) -> web.Response:
    """Keep a picture whose transparency is the uploaded mask's and whose colours are those of `original_ref`."""
    return await _uploading(request, _masked)


async def _uploading(request: web.Request, keep: Callable[[State, Upload], dict[str, str]]) -> web.Response:
    state = request.app[STATE]
    if request.content_type != "multipart/form-data":
        text = "the body must be a multipart form with a file named 'image'."
        raise Refused(415, "unsupported_media_type", text, found=request.content_type)
    upload = await _received(request, state)
    try:
        found = await asyncio.to_thread(keep, state, upload)
    finally:
        upload.part.unlink(missing_ok=True)
    state.folders.forget(found["type"])
    return reply(found)


async def _received(request: web.Request, state: State) -> Upload:
    """Read a form to its end, its file to disk as it comes, so that its size is bounded and memory is not filled."""
    limit = state.config.limits.upload
    if (request.content_length or 0) > limit + 2**20:
        raise too_large(limit)
    folder = state.config.data_dir / "incoming"
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    part = folder / f"{secrets.token_hex(8)}.part"
    digest = hashlib.sha256()
    name = None
    fields: dict[str, str] = {}
    try:
        reader = await request.multipart()
        while (item := await reader.next()) is not None:
            if not isinstance(item, BodyPartReader) or hdrs.CONTENT_TRANSFER_ENCODING in item.headers:
                raise Refused(400, "bad_form", "the form nests another, or encodes a part.")
            if item.name == "image" and name is None:
                name = plain_name(Path((item.filename or "").replace("\\", "/")).name)
                with open(part, "xb") as file:
                    size = 0
                    while chunk := await item.read_chunk(2**18):
                        size += len(chunk)
                        if size > limit:
                            raise too_large(limit)
                        digest.update(chunk)
                        await asyncio.to_thread(file.write, chunk)
            else:
                if len(fields) >= 16:
                    raise Refused(400, "bad_form", "the form has too many fields.")
                fields[item.name or ""] = await _field(item)
        if name is None:
            raise Refused(400, "no_file", "the form has no file named 'image'.")
    except (ValueError, HttpProcessingError) as error:
        part.unlink(missing_ok=True)
        raise Refused(400, "bad_form", f"the form cannot be read: {str(error)[:200]}.") from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return Upload(part, name, digest.hexdigest(), fields)


async def _field(item: BodyPartReader) -> str:
    data = bytearray()
    while chunk := await item.read_chunk(8192):
        data += chunk
        if len(data) > _MOST_FIELD:
            raise Refused(413, "too_large", f"a field of the form is larger than {_MOST_FIELD} bytes.")
    return data.decode("utf-8", "replace")


def _kept(state: State, upload: Upload) -> dict[str, str]:
    kind, parts = upload.target()
    root = state.folders.roots(kind)[0]
    folder = inside(root, *parts)
    folder.mkdir(parents=True, exist_ok=True)
    overwrite = upload.fields.get("overwrite", "").lower() in ("true", "1")
    # Beside its place first, as another folder may lie on another disk: what appears under the name is whole.
    staged = folder / f".{upload.part.name}"
    try:
        shutil.move(upload.part, staged)
        name = place(staged, folder, upload.name, sha256=upload.sha256, overwrite=overwrite)
    finally:
        staged.unlink(missing_ok=True)
    return {"name": name, "subfolder": "/".join(parts), "type": kind}


@dataclass(frozen=True, slots=True)
class OriginalRef:
    """The picture that a mask is for."""

    filename: str
    subfolder: str = ""
    type: str = "output"


def _masked(state: State, upload: Upload) -> dict[str, str]:
    if not upload.fields.get("original_ref"):
        return _kept(state, upload)
    original = checked(OriginalRef, parse(upload.fields["original_ref"], "original_ref"))
    path = address(state, original.type, original.subfolder, original.filename)
    most = state.config.limits.pixels
    picture = open_picture(path, most)
    mask = open_picture(upload.part, most).convert("RGBA").getchannel("A")
    if mask.size != picture.size:
        text = "the mask and the picture must be of one size."
        raise Refused(400, "sizes_differ", text, found=f"{mask.size} and {picture.size}")
    texts = _texts(picture)
    merged = picture.convert("RGBA")
    merged.putalpha(mask)
    buffer = io.BytesIO()
    merged.save(buffer, "PNG", pnginfo=texts, compress_level=4)
    upload.part.write_bytes(buffer.getvalue())
    upload.sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    return _kept(state, upload)


def _texts(picture: Image.Image) -> Any:
    """The texts of a PNG, so that its workflow stays with it."""
    from PIL.PngImagePlugin import PngInfo

    found = PngInfo()
    for name, value in getattr(picture, "text", {}).items():
        found.add_text(name, value)
    return found


ROUTES = (
    Route(
        "GET", "/view", view, "A file of the output, input or temporary folder", query=ViewQuery, gives="*/*"
    ),
    Route("POST", "/upload/image", upload_image, "Upload a file to the input folder", upload=True),
    Route("POST", "/upload/mask", upload_mask, "Upload a mask for a picture", upload=True),
)
