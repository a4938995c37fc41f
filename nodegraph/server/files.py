"""Routes of pictures and other files: view, upload, masks."""

from __future__ import annotations

import asyncio
import hashlib
import io
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from aiohttp import web

from nodegraph.folders import OWN_KINDS
from nodegraph.formats.json_text import parse
from nodegraph.naming import place
from nodegraph.server.answers import Refused, reply
from nodegraph.server.contents import Content
from nodegraph.server.forms import FormFile, read_form
from nodegraph.server.routing import Route, query_of
from nodegraph.server.security import file_headers, found_file, inside, plain_name, plain_path
from nodegraph.server.shapes import checked
from nodegraph.server.state import STATE, State

if TYPE_CHECKING:
    from PIL import Image

Kind = Literal["output", "input", "temp"]
"""Folders that clients name."""
_PREVIEWS = {"webp": "WEBP", "jpeg": "JPEG"}
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
    most = state.config.limits.pixels
    async with state.decoding:
        body, mime = await asyncio.to_thread(_rendered, path, kind, quality, asked.channel, most)
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
                    raise _too_many_pixels(most_pixels)
                picture.load()
    except Refused:
        raise
    except Image.DecompressionBombError as error:
        # Pillow has a bound of its own, above ours, and finds some pictures out sooner.
        raise _too_many_pixels(most_pixels) from error
    except Exception as error:  # Pillow raises many kinds of error for damaged files
        raise Refused(400, "not_a_picture", "this is no picture that can be decoded.") from error
    return picture


def _too_many_pixels(most: int) -> Refused:
    return Refused(413, "too_large", f"the picture has more than {most} pixels, the most that is decoded.")


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


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was uploaded, and what the form says of it."""

    file: FormFile
    fields: Mapping[str, str]

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


class UploadForm(TypedDict):
    """A file, and where it is kept."""

    image: bytes
    type: NotRequired[Kind]
    subfolder: NotRequired[str]
    overwrite: NotRequired[str]
    original_ref: NotRequired[str]


async def upload_image(request: web.Request) -> web.Response:
    """Keep an uploaded file in the input folder; a taken name becomes `name (1).ext` unless the bytes are the same."""
    return await _uploading(request, lambda state, upload: asyncio.to_thread(_kept, state, upload))


async def upload_mask(request: web.Request) -> web.Response:
    """Keep a picture whose transparency is the uploaded mask's and whose colours are those of `original_ref`."""

    async def keep(state: State, upload: Upload) -> Content:
        async with state.decoding:
            return await asyncio.to_thread(_masked, state, upload)

    return await _uploading(request, keep)


async def _uploading(
    request: web.Request, keep: Callable[[State, Upload], Awaitable[Content]]
) -> web.Response:
    state = request.app[STATE]
    folder = state.config.data_dir / "incoming"
    limit = state.config.limits.upload
    with await read_form(request, folder, limit, lambda item: item.name == "image") as form:
        file = form.files.get("image")
        if file is None:
            raise Refused(400, "no_file", "the form has no file named 'image'.")
        plain_name(_last(file.name))
        found = await keep(state, Upload(file, form.fields))
    state.folders.forget(found.type)
    return reply(asdict(found))


def _last(name: str) -> str:
    """The file's own name, of a path as some browsers send it."""
    return Path(name.replace("\\", "/")).name


async def uploaded(request: web.Request) -> web.Response:
    """Where the file with a hash is, that was uploaded or given before; 404 where it has to be sent."""
    state = request.app[STATE]
    sha256 = request.match_info["sha256"].lower().removeprefix("sha256:")
    found = await asyncio.to_thread(state.dispatch.received.find, sha256, state.folders)
    if found is None:
        raise Refused(
            404, "unknown_content", "no file with this hash was sent here.", found=repr(sha256[:80])
        )
    return reply(asdict(found))


def _kept(state: State, upload: Upload) -> Content:
    kind, parts = upload.target()
    root = state.folders.roots(kind)[0]
    folder = inside(root, *parts)
    folder.mkdir(parents=True, exist_ok=True)
    overwrite = upload.fields.get("overwrite", "").lower() in ("true", "1")
    # Beside its place first, as another folder may lie on another disk: what appears under the name is whole.
    staged = folder / upload.file.part.name
    size = upload.file.part.stat().st_size
    try:
        shutil.move(upload.file.part, staged)
        sha256 = upload.file.sha256
        name = place(staged, folder, _last(upload.file.name), sha256=sha256, overwrite=overwrite)
    finally:
        staged.unlink(missing_ok=True)
    found = Content(name, "/".join(parts), kind, sha256, size)
    state.contents.note(found, folder / name)
    return found


@dataclass(frozen=True, slots=True)
class OriginalRef:
    """The picture that a mask is for."""

    filename: str
    subfolder: str = ""
    type: str = "output"


def _masked(state: State, upload: Upload) -> Content:
    if not upload.fields.get("original_ref"):
        return _kept(state, upload)
    original = checked(OriginalRef, parse(upload.fields["original_ref"], "original_ref"))
    path = address(state, original.type, original.subfolder, original.filename)
    most = state.config.limits.pixels
    picture = open_picture(path, most)
    mask = open_picture(upload.file.part, most).convert("RGBA").getchannel("A")
    if mask.size != picture.size:
        text = "the mask and the picture must be of one size."
        raise Refused(400, "sizes_differ", text, found=f"{mask.size} and {picture.size}")
    texts = _texts(picture)
    merged = picture.convert("RGBA")
    merged.putalpha(mask)
    buffer = io.BytesIO()
    merged.save(buffer, "PNG", pnginfo=texts, compress_level=4)
    upload.file.part.write_bytes(buffer.getvalue())
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    return _kept(state, replace(upload, file=replace(upload.file, sha256=sha256)))


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
    Route(
        "POST",
        "/upload/image",
        upload_image,
        "Upload a file to the input folder",
        upload=UploadForm,
        answers={200: Content},
    ),
    Route(
        "POST",
        "/upload/mask",
        upload_mask,
        "Upload a mask for a picture",
        upload=UploadForm,
        answers={200: Content},
    ),
    Route(
        "GET",
        "/uploads/{sha256}",
        uploaded,
        "Whether a file with this hash was sent before, and where it is",
        answers={200: Content},
    ),
)
