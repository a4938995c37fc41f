"""Nodes that make, resize, cut, turn and join pictures."""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph.node import Choice, Many, NodeError, Range, Widget, node
from nodes import image_forms as forms
from nodes.compositing import matched
from nodes.orientation import FLIPS, ROTATIONS, flipped, rotated
from nodes.resize import CROPS, IMAGE_METHODS, MAX_SIZE, resize
from nodes.values import Image, ImageAndMask, Mask

MEGAPIXEL = 1024 * 1024
SPACING_COLORS = {
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
}
Method = Annotated[str, Choice(IMAGE_METHODS)]
Size = Annotated[int, Range(1, MAX_SIZE, step=1)]
Offset = Annotated[int, Range(0, MAX_SIZE, step=1)]
Padding = Annotated[int, Range(0, MAX_SIZE, step=8)]
Color = Annotated[int, Range(0, 0xFFFFFF, step=1)]


class ImageSize(NamedTuple):
    """Outputs of GetImageSize."""

    width: int
    height: int
    batch_size: int


@node("EmptyImage", category="image", foresee=forms.empty)
def empty_image(
    width: Size = 512,
    height: Size = 512,
    batch_size: Annotated[int, Range(1, 4096)] = 1,
    color: Color = 0,
) -> Image:
    """Pictures of one colour, given as the number 0xRRGGBB (0 black, 16711680 red, 65280 green, 255 blue)."""
    return Image(rgb(color).repeat(batch_size, height, width, 1))


@node("ImageScale", category="image/upscaling", display_name="Upscale Image", foresee=forms.scaled)
def image_scale(
    *,
    image: Image,
    upscale_method: Method,
    width: Offset = 512,
    height: Offset = 512,
    crop: Annotated[str, Choice(CROPS)],
) -> Image:
    """Resizes pictures to width x height pixels.

    Where one of them is 0, it follows from the other and the picture's own proportions; where both are, nothing
    changes. `crop` = center first cuts away what does not fit the new proportions.
    """
    if width == 0 and height == 0:
        return image
    rows, columns = image.pixels.shape[1:3]
    width, height = forms.size(rows, columns, width, height)
    return Image(_resized(image.pixels, width, height, upscale_method, crop))


@node("ImageScaleBy", category="image/upscaling", display_name="Upscale Image By", foresee=forms.scaled_by)
def image_scale_by(
    image: Image,
    upscale_method: Method,
    scale_by: Annotated[float, Range(0.01, 8.0, step=0.01)] = 1.0,
) -> Image:
    """Resizes pictures to `scale_by` times their width and height."""
    height, width = image.pixels.shape[1:3]
    return Image(_resized(image.pixels, round(width * scale_by), round(height * scale_by), upscale_method))


@node("ImageScaleToTotalPixels", category="image/upscaling")
def image_scale_to_total_pixels(
    image: Image,
    upscale_method: Method,
    megapixels: Annotated[float, Range(0.01, 16.0, step=0.01)] = 1.0,
) -> Image:
    """Resizes pictures to about `megapixels` (of 1024 x 1024 pixels), keeping their proportions."""
    height, width = image.pixels.shape[1:3]
    scale = math.sqrt(int(megapixels * MEGAPIXEL) / (width * height))
    return Image(_resized(image.pixels, round(width * scale), round(height * scale), upscale_method))


@node("ImageInvert", category="image", display_name="Invert Image")
def image_invert(image: Image) -> Image:
    """The negative of a picture: 1 minus each channel, alpha included."""
    return Image(1.0 - image.pixels)


@node("ImageBatch", category="image", display_name="Batch Images")
def image_batch(image1: Image, image2: Image) -> Image:
    """Joins two batches of pictures; the second is resized to the first's size, cropped in the middle."""
    first, second = matched(image1.pixels, image2.pixels)
    if first.shape[1:] != second.shape[1:]:
        second = _resized(second, first.shape[2], first.shape[1], "bilinear", "center")
    return Image(torch.cat((first, second)))


@node("RepeatImageBatch", category="image/batch")
def repeat_image_batch(image: Image, amount: Annotated[int, Range(1, 4096)] = 1) -> Image:
    """Repeats a whole batch of pictures `amount` times."""
    return Image(image.pixels.repeat(amount, 1, 1, 1))


@node("ImageFromBatch", category="image/batch")
def image_from_batch(
    image: Image,
    batch_index: Annotated[int, Range(0, 4095)] = 0,
    length: Annotated[int, Range(1, 4096)] = 1,
) -> Image:
    """Takes `length` pictures out of a batch, from `batch_index` on (0 is the first)."""
    start = min(batch_index, image.pixels.shape[0] - 1)
    return Image(image.pixels[start : start + length])


@node("RebatchImages", category="image/batch", display_name="Rebatch Images")
def rebatch_images(images: Many[Image], batch_size: Annotated[int, Range(1, 4096)] = 1) -> Many[Image]:
    """Puts pictures together anew in batches of at most `batch_size`.

    Returns a list: what follows runs once for each batch. Raises NodeError where pictures of one batch differ in
    size.
    """
    single = [picture for image in images for picture in image.pixels]
    batches = []
    for start in range(0, len(single), batch_size):
        part = single[start : start + batch_size]
        sizes = {tuple(picture.shape) for picture in part}
        if len(sizes) > 1:
            raise NodeError(
                "pictures of different sizes cannot share a batch.",
                input="images",
                found=", ".join(map(str, sorted(sizes))),
                hint="Scale them first, or set batch_size to 1.",
            )
        batches.append(Image(torch.stack(part)))
    return tuple(batches)


@node("GetImageSize", category="image", display_name="Get Image Size")
def get_image_size(image: Image) -> ImageSize:
    """Width and height in pixels, and the number of pictures in the batch."""
    count, height, width = image.pixels.shape[:3]
    return ImageSize(width, height, count)


@node("ImageCrop", category="image/transform", display_name="Image Crop")
def image_crop(image: Image, width: Size = 512, height: Size = 512, x: Offset = 0, y: Offset = 0) -> Image:
    """Cuts out width x height pixels from (x, y) on, or what of them lies in the picture: at least one pixel."""
    rows, columns = image.pixels.shape[1:3]
    left, top = min(x, columns - 1), min(y, rows - 1)
    return Image(image.pixels[:, top : top + height, left : left + width])


@node("ImageFlip", category="image/transform")
def image_flip(image: Image, flip_method: Annotated[str, Choice(FLIPS)]) -> Image:
    """Mirrors pictures: top to bottom (about the x-axis) or left to right (about the y-axis)."""
    return Image(flipped(image.pixels, flip_method, 1, 2))


@node("ImageRotate", category="image/transform")
def image_rotate(image: Image, rotation: Annotated[str, Choice(ROTATIONS)]) -> Image:
    """Turns pictures clockwise by a multiple of 90 degrees."""
    return Image(rotated(image.pixels, rotation, 1, 2))


@node("ImagePadForOutpaint", category="image", display_name="Pad Image for Outpainting")
def image_pad_for_outpaint(
    image: Image,
    left: Padding = 0,
    top: Padding = 0,
    right: Padding = 0,
    bottom: Padding = 0,
    feathering: Offset = 40,
) -> ImageAndMask:
    """Puts grey borders around a picture, with a mask of what is to be painted there.

    MASK (1, height, width) is 1 on the borders and falls to 0 over `feathering` pixels inside the picture, where the
    picture is more than twice as large as that.
    """
    rows, columns = image.pixels.shape[1:3]
    border = (left, right, top, bottom)
    padded = F.pad(image.pixels, (0, 0, *border), value=0.5)
    inside = torch.zeros(rows, columns)
    if feathering > 0 and feathering * 2 < min(rows, columns):
        vertical = _border_distance(rows, top > 0, bottom > 0)
        horizontal = _border_distance(columns, left > 0, right > 0)
        distance = torch.minimum(vertical[:, None], horizontal)
        inside = (((feathering - distance) / feathering).clamp(min=0.0) ** 2).float()
    return ImageAndMask(Image(padded), Mask(F.pad(inside, border, value=1.0)[None]))


@node("ImageStitch", category="image/transform", display_name="Image Stitch")
def image_stitch(
    image1: Image,
    direction: Annotated[str, Choice(("right", "down", "left", "up"))] = "right",
    match_image_size: bool = True,
    spacing_width: Annotated[int, Range(0, 1024, step=2)] = 0,
    spacing_color: Annotated[str, Choice(tuple(SPACING_COLORS))] = "white",
    image2: Image | None = None,
) -> Image:
    """Puts `image2` beside `image1`, on the side that `direction` names.

    `match_image_size` resizes the second to the first's height (or width); otherwise the smaller one is centred
    between borders. `spacing_width` pixels of `spacing_color` go between them, one more where it is odd.
    """
    if image2 is None:
        return image1
    sideways = direction in ("left", "right")
    first, second = image1.pixels, image2.pixels
    count = max(first.shape[0], second.shape[0])
    first, second = _last_repeated(first, count), _last_repeated(second, count)
    if match_image_size:
        rows, columns = first.shape[1:3]
        aspect = second.shape[2] / second.shape[1]
        width, height = (int(rows * aspect), rows) if sideways else (columns, int(columns / aspect))
        second = _resized(second, width, height, "lanczos")
    else:
        # Only the greys reach these borders; a colour leaves them black.
        color = SPACING_COLORS[spacing_color]
        value = color[0] if len(set(color)) == 1 else 0.0
        side = 1 if sideways else 2
        length = max(first.shape[side], second.shape[side])
        first, second = (_centred(picture, side, length, value) for picture in (first, second))
    channels = max(first.shape[-1], second.shape[-1])
    first, second = (
        F.pad(picture, (0, channels - picture.shape[-1]), value=1.0) for picture in (first, second)
    )
    parts = [second, first] if direction in ("left", "up") else [first, second]
    if spacing_width > 0:
        gap = spacing_width + spacing_width % 2
        size = (first.shape[1], gap) if sideways else (gap, first.shape[2])
        color_and_alpha = torch.tensor([*SPACING_COLORS[spacing_color], 1.0][:channels])
        parts.insert(1, color_and_alpha.repeat(count, *size, 1))
    return Image(torch.cat(parts, 2 if sideways else 1))


@node("ImageGrid", category="image/transform", display_name="Image Grid")
def image_grid(
    images: Many[Image],
    columns: Annotated[
        int,
        Range(0, 256),
        Widget(tooltip="Pictures in a row; 0 makes the sheet about as wide as it is high."),
    ] = 0,
    spacing: Annotated[int, Range(0, 1024), Widget(tooltip="Pixels between pictures.")] = 4,
    color: Color = 0xFFFFFF,
) -> Image:
    """One contact sheet of all pictures, row by row from the top left.

    Takes batches and lists of batches; each picture is resized to the size of the first and an alpha channel is
    dropped. `color` (0xRRGGBB) fills the gaps.
    """
    pictures = [picture[..., :3].movedim(-1, 0) for image in images for picture in image.pixels]
    channels, height, width = pictures[0].shape
    fitted = [resize(picture[None], width, height, "area", "center")[0] for picture in pictures]
    across = min(columns or math.ceil(math.sqrt(len(fitted))), len(fitted))
    down = math.ceil(len(fitted) / across)
    size = (down * (height + spacing) - spacing, across * (width + spacing) - spacing)
    sheet = rgb(color)[:channels, None, None].repeat(1, *size)
    for number, picture in enumerate(fitted):
        top, left = (number // across) * (height + spacing), (number % across) * (width + spacing)
        sheet[:, top : top + height, left : left + width] = picture
    return Image(sheet.movedim(0, -1)[None])


def rgb(color: int) -> Tensor:
    """(3,) in 0..1 of the colour 0xRRGGBB."""
    return torch.tensor([(color >> shift & 0xFF) / 0xFF for shift in (16, 8, 0)])


def _resized(pixels: Tensor, width: int, height: int, method: str, crop: str = "disabled") -> Tensor:
    return resize(pixels.movedim(-1, 1), width, height, method, crop).movedim(1, -1)


def _border_distance(length: int, before: bool, after: bool) -> Tensor:
    """How far each of `length` places is from the padded ends; `length` where no end is padded."""
    place = torch.arange(length, dtype=torch.float64)
    far = torch.full_like(place, length)
    return torch.minimum(place if before else far, length - place if after else far)


def _last_repeated(pixels: Tensor, count: int) -> Tensor:
    return pixels[torch.arange(count).clamp(max=pixels.shape[0] - 1)]


def _centred(pixels: Tensor, axis: int, length: int, value: float) -> Tensor:
    missing = length - pixels.shape[axis]
    pads = (missing // 2, missing - missing // 2)
    return F.pad(pixels, (0, 0, *pads) if axis == 2 else (0, 0, 0, 0, *pads), value=value)
