"""Nodes that save, preview and load picture files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import PIL.Image
import torch
from PIL import ExifTags, ImageOps, ImageSequence, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from nodegraph.node import (
    UNKNOWN,
    Choice,
    Context,
    Forecast,
    NodeError,
    Range,
    Runtime,
    SavedFile,
    Shown,
    Widget,
    node,
)
from nodes import saving
from nodes.forms import ImageForm
from nodes.provenance import metadata
from nodes.values import Image, ImageAndMask, Mask

PREFIX_HELP = (
    "What the file names start with. May hold sub-folders and placeholders such as %date:yyyy-MM-dd%, %width%"
    " or %KSampler.seed%."
)
MAX_PIXELS = 2**29
"""Of all frames of a file together: 6 GiB once they are float RGB."""
NO_ALPHA = (64, 64)
"""Size of the empty mask of a picture without transparency."""
WEBP_METHODS = {"default": 4, "fastest": 0, "slowest": 6}
Prefix = Annotated[str, Widget(tooltip=PREFIX_HELP)]


@node(
    "SaveImage",
    category="image",
    display_name="Save Image",
    effect=True,
    lane="io",
    reads=("document",),
)
def save_image(
    images: Annotated[Image, Widget(tooltip="The pictures to save.")],
    ctx: Context,
    filename_prefix: Prefix = "ComfyUI",
) -> Shown:
    """Saves each picture of a batch as a PNG in the output folder.

    Files are named `<prefix>_00001_.png` and up, and never replace one that is there. Each carries the workflow
    that made it, so that opening the file brings the workflow back. Raises NodeError where the prefix leads out of
    the output folder or the folder cannot be written to.
    """
    return Shown({"images": _save_pngs(ctx, images.pixels, filename_prefix, "output", compress_level=4)})


@node(
    "PreviewImage",
    category="image",
    display_name="Preview Image",
    effect=True,
    lane="io",
    reads=("document",),
)
def preview_image(images: Image, ctx: Context) -> Shown:
    """Shows a batch of pictures without keeping them: they go to the temporary folder."""
    return preview(ctx, images.pixels)


def preview(ctx: Context, pixels: Tensor) -> Shown:
    """Pixels (batch, height, width, channels) as PNG files of the temporary folder."""
    return Shown({"images": _save_pngs(ctx, pixels, "ComfyUI_temp", "temp", compress_level=1)})


@node(
    "SaveAnimatedWEBP",
    category="image/animation",
    effect=True,
    lane="io",
    reads=("document",),
)
def save_animated_webp(
    *,
    images: Image,
    ctx: Context,
    filename_prefix: Prefix = "ComfyUI",
    fps: Annotated[float, Range(0.01, 1000.0, step=0.01)] = 6.0,
    lossless: bool = True,
    quality: Annotated[int, Range(0, 100)] = 80,
    method: Annotated[str, Choice(tuple(WEBP_METHODS))],
) -> Shown:
    """Saves a batch as the frames of one animated WebP, `fps` frames a second, with its workflow in the EXIF data."""
    frames = [to_pil(picture) for picture in images.pixels]
    exif = frames[0].getexif()
    # Clients look for `prompt:` under Model and for `workflow:` under Make and the tags below it.
    texts = metadata(ctx)
    tag = 0x010F
    for key, text in texts.items():
        if key == "prompt":
            exif[0x0110] = f"prompt:{text}"
        else:
            exif[tag] = f"{key}:{text}"
            tag -= 1
    data = _encoded(
        frames,
        "WEBP",
        duration=int(1000.0 / fps),
        exif=exif,
        lossless=lossless,
        quality=quality,
        method=WEBP_METHODS[method],
    )
    files = (_series(ctx, images.pixels, filename_prefix, "output").write(data, ".webp"),)
    return Shown({"images": files, "animated": (len(frames) != 1,)})


@node(
    "SaveAnimatedPNG",
    category="image/animation",
    effect=True,
    lane="io",
    reads=("document",),
)
def save_animated_png(
    images: Image,
    ctx: Context,
    filename_prefix: Prefix = "ComfyUI",
    fps: Annotated[float, Range(0.01, 1000.0, step=0.01)] = 6.0,
    compress_level: Annotated[int, Range(0, 9)] = 4,
) -> Shown:
    """Saves a batch as the frames of one animated PNG, `fps` frames a second, with its workflow inside."""
    frames = [to_pil(picture) for picture in images.pixels]
    data = _encoded(
        frames,
        "PNG",
        duration=int(1000.0 / fps),
        compress_level=compress_level,
        pnginfo=_png_info(metadata(ctx)),
    )
    files = (_series(ctx, images.pixels, filename_prefix, "output").write(data, ".png"),)
    return Shown({"images": files, "animated": (True,)})


def _foresee(image: object, runtime: Runtime) -> Forecast:
    return _foreseen(image, runtime, "input")


def _foresee_output(image: object, runtime: Runtime) -> Forecast:
    return _foreseen(image, runtime, "output")


def _foreseen(image: object, runtime: Runtime, kind: str) -> Forecast:
    if not isinstance(image, str):
        return Forecast()
    return Forecast((_opened(runtime.folders.find(kind, image), _form), UNKNOWN))


@node("LoadImage", category="image", display_name="Load Image", lane="io", foresee=_foresee)
def load_image(image: Annotated[str, Choice(files="input", upload=True)], ctx: Context) -> ImageAndMask:
    """Loads a picture of the input folder, upright as its EXIF data says.

    IMAGE is (frames, height, width, 3): an animation gives all its frames of the first one's size. MASK is
    (frames, height, width), 1 where the picture is transparent; a picture without transparency gives an empty
    mask of 64x64. Raises NodeError where the file is no picture, is damaged or is too large.
    """
    return _load(ctx, image, "input")


@node(
    "LoadImageOutput",
    category="image",
    display_name="Load Image (from Outputs)",
    lane="io",
    foresee=_foresee_output,
)
def load_image_output(
    image: Annotated[str, Choice(files="output", upload=True)], ctx: Context
) -> ImageAndMask:
    """Loads a picture of the output folder, as Load Image does: to go on with an earlier result."""
    return _load(ctx, image, "output")


@node("LoadImageMask", category="mask", display_name="Load Image (as Mask)", lane="io")
def load_image_mask(
    image: Annotated[str, Choice(files="input", upload=True)],
    channel: Annotated[str, Choice(("alpha", "red", "green", "blue"))],
    ctx: Context,
) -> Mask:
    """Loads one channel of a picture as a mask (1, height, width).

    `alpha` gives 1 where the picture is transparent; the colours give their brightness. Raises NodeError as
    Load Image does.
    """

    def read(opened: PIL.Image.Image) -> Tensor:
        picture = _eight_bit(_upright(opened)).convert("RGBA")
        values = _plane(picture.getchannel(channel[0].upper()))
        return 1.0 - values if channel == "alpha" else values

    return Mask(_opened(ctx.folders.find("input", image), read)[None])


def to_pil(pixels: Tensor) -> PIL.Image.Image:
    """A picture (height, width, channels) in 0..1 as 8-bit grey, RGB or RGBA; fractions of a level are cut off.

    Raises NodeError where it has another number of channels, or is NaN throughout.
    """
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3, 4):
        raise NodeError(
            "a picture to save needs 1, 3 or 4 channels.",
            input="images",
            found=f"shape {tuple(pixels.shape)} (height, width, channels)",
        )
    if bool(pixels.isnan().all()):
        raise NodeError(
            "the picture is not a number (NaN) in every pixel: it would be black.",
            code="not_a_number",
            input="images",
            hint="A prompt weight, cfg or latent was out of bounds, the model file is damaged, or its numbers"
            " overflow in fp16: then --dtype bf16 or fp32 helps.",
        )
    levels = (
        (pixels.detach().to("cpu", torch.float32) * 255.0).nan_to_num(0.0).clamp(0.0, 255.0).to(torch.uint8)
    )
    array = levels.numpy()
    return PIL.Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def _save_pngs(
    ctx: Context, pixels: Tensor, prefix: str, kind: Literal["output", "temp"], *, compress_level: int
) -> tuple[SavedFile, ...]:
    files = _series(ctx, pixels, prefix, kind)
    info = _png_info(metadata(ctx))
    saved = []
    for number, picture in enumerate(pixels):
        ctx.check_cancelled()
        data = _encoded([to_pil(picture)], "PNG", compress_level=compress_level, pnginfo=info)
        saved.append(files.write(data, ".png", number))
    return tuple(saved)


def _series(ctx: Context, pixels: Tensor, prefix: str, kind: Literal["output", "temp"]) -> saving.Series:
    if pixels.ndim != 4 or 0 in pixels.shape:
        raise NodeError(
            "there is no picture to save.",
            input="images",
            found=f"shape {tuple(pixels.shape)} (batch, height, width, channels)",
        )
    return saving.series(ctx, prefix, kind=kind, width=pixels.shape[2], height=pixels.shape[1])


def _png_info(texts: dict[str, str]) -> PngInfo | None:
    if not texts:
        return None
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    return info


def _encoded(frames: Sequence[PIL.Image.Image], form: str, **options: Any) -> bytes:
    if form == "WEBP" or "duration" in options:
        options |= {"save_all": True, "append_images": list(frames[1:])}
    buffer = io.BytesIO()
    frames[0].save(buffer, format=form, **options)
    return buffer.getvalue()


def _opened(path: Path, read: Callable[[PIL.Image.Image], Any]) -> Any:
    """What `read` makes of the opened picture; every fault of the file is a NodeError."""
    try:
        with PIL.Image.open(path) as opened:
            frames = getattr(opened, "n_frames", 1)
            if opened.width * opened.height * frames > MAX_PIXELS:
                raise NodeError(
                    f"the picture {path.name} is too large to load.",
                    input="image",
                    found=f"{frames} frame(s) of {opened.width}x{opened.height}",
                    allowed=f"up to {MAX_PIXELS:,} pixels in all",
                )
            return read(opened)
    except UnidentifiedImageError as error:
        raise NodeError(
            f"the file {path.name} is not a picture that can be read.",
            input="image",
            allowed="PNG, JPEG, WebP, GIF, BMP, TIFF",
        ) from error
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise NodeError(
            f"the picture {path.name} is too large to load.",
            input="image",
            allowed=f"up to {2 * (PIL.Image.MAX_IMAGE_PIXELS or 0):,} pixels",
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise NodeError(f"the picture {path.name} is damaged: {error}.", input="image") from error


def _form(opened: PIL.Image.Image) -> ImageForm:
    """What the header says of the picture that `_load` gives."""
    width, height = opened.size
    if opened.getexif().get(ExifTags.Base.Orientation, 1) >= 5:
        width, height = height, width
    return ImageForm(1 if getattr(opened, "n_frames", 1) == 1 else None, height, width, 3)


def _load(ctx: Context, name: str, kind: str) -> ImageAndMask:
    def read(opened: PIL.Image.Image) -> ImageAndMask:
        pictures, masks = zip(*_frames(opened), strict=True)
        if any(mask is not None for mask in masks):
            size = pictures[0].shape[:2]
            masks = tuple(torch.zeros(size) if mask is None else mask for mask in masks)
        else:
            masks = (torch.zeros(NO_ALPHA),) * len(pictures)
        return ImageAndMask(Image(torch.stack(pictures)), Mask(torch.stack(masks)))

    loaded: ImageAndMask = _opened(ctx.folders.find(kind, name), read)
    return loaded


def _frames(opened: PIL.Image.Image) -> Iterator[tuple[Tensor, Tensor | None]]:
    """(pixels, mask or None) of each frame that has the first one's size."""
    size = None
    for frame in ImageSequence.Iterator(opened):
        picture = _upright(frame)
        size = size or picture.size
        if picture.size == size:
            yield _plane(_eight_bit(picture).convert("RGB")), _transparency(picture)
        if opened.format == "MPO":
            # The further frames of a stereo photograph are views of the first.
            return


def _transparency(picture: PIL.Image.Image) -> Tensor | None:
    if "A" in picture.getbands():
        return 1.0 - _plane(picture.getchannel("A"))
    if picture.mode == "P" and "transparency" in picture.info:
        return 1.0 - _plane(picture.convert("RGBA").getchannel("A"))
    return None


def _upright(picture: PIL.Image.Image) -> PIL.Image.Image:
    return ImageOps.exif_transpose(picture)


def _eight_bit(picture: PIL.Image.Image) -> PIL.Image.Image:
    """16-bit grey brought to 8 bits; Pillow would clip it to white."""
    if not picture.mode.startswith("I"):
        return picture
    levels = np.asarray(picture).astype(np.int64) // 255
    return PIL.Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def _plane(picture: PIL.Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture).astype(np.float32) / 255.0)
