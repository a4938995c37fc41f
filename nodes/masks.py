"""Nodes that make, change and show masks, and turn pictures into masks and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph.node import Choice, Context, NodeError, Range, Shown, node
from nodes.image_files import preview
from nodes.resize import MAX_SIZE, to_batch
from nodes.values import Image, Mask

CHANNELS = ("red", "green", "blue", "alpha")
Size = Annotated[int, Range(1, MAX_SIZE, step=1)]
Offset = Annotated[int, Range(0, MAX_SIZE, step=1)]


def _as_bool(values: Tensor) -> Tensor:
    return values.round().bool()


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "multiply": lambda below, above: below * above,
    "add": lambda below, above: below + above,
    "subtract": lambda below, above: below - above,
    "and": lambda below, above: (_as_bool(below) & _as_bool(above)).float(),
    "or": lambda below, above: (_as_bool(below) | _as_bool(above)).float(),
    "xor": lambda below, above: (_as_bool(below) ^ _as_bool(above)).float(),
}


@node("SolidMask", category="mask")
def solid_mask(
    value: Annotated[float, Range(0.0, 1.0, step=0.01)] = 1.0, width: Size = 512, height: Size = 512
) -> Mask:
    """A mask (1, height, width) that has one value everywhere."""
    return Mask(torch.full((1, height, width), value, dtype=torch.float32))


@node("InvertMask", category="mask")
def invert_mask(mask: Mask) -> Mask:
    """1 minus the mask: what was kept changes, what changed is kept."""
    return Mask(1.0 - mask.values)


@node("CropMask", category="mask")
def crop_mask(mask: Mask, x: Offset = 0, y: Offset = 0, width: Size = 512, height: Size = 512) -> Mask:
    """Cuts out width x height pixels from (x, y) on, or what of them lies in the mask.

    Raises NodeError where (x, y) lies outside.
    """
    cut = mask.values[:, y : y + height, x : x + width]
    if 0 in cut.shape:
        raise NodeError(
            "the part to cut out lies outside the mask.",
            found=f"({x}, {y}) in a mask of {mask.values.shape[2]}x{mask.values.shape[1]}",
        )
    return Mask(cut)


@node("MaskComposite", category="mask")
def mask_composite(
    destination: Mask,
    source: Mask,
    x: Offset = 0,
    y: Offset = 0,
    *,
    operation: Annotated[str, Choice(tuple(OPERATIONS))],
) -> Mask:
    """Combines `source` with `destination` where it lies when its top left corner is at (x, y).

    `and`, `or` and `xor` round both to 0 or 1 first. The result is kept in 0..1; what sticks out is cut off.
    """
    below = destination.values
    above = to_batch(source.values, below.shape[0])
    above = above[:, : max(0, below.shape[1] - y), : max(0, below.shape[2] - x)]
    result = below.clone()
    place = (slice(None), slice(y, y + above.shape[1]), slice(x, x + above.shape[2]))
    result[place] = OPERATIONS[operation](result[place], above)
    return Mask(result.clamp(0.0, 1.0))


@node("FeatherMask", category="mask")
def feather_mask(
    mask: Mask, left: Offset = 0, top: Offset = 0, right: Offset = 0, bottom: Offset = 0
) -> Mask:
    """Fades a mask to 0 over so many pixels from its edges.

    As in ComfyUI, the first factor of the right (bottom) edge meets the first column (row), not the last.
    """
    height, width = mask.values.shape[-2:]
    across = _feather(width, left, right)
    down = _feather(height, top, bottom)
    return Mask(mask.values * across * down[:, None])


@node("GrowMask", category="mask")
def grow_mask(
    mask: Mask,
    expand: Annotated[int, Range(-MAX_SIZE, MAX_SIZE, step=1)] = 0,
    tapered_corners: bool = True,
) -> Mask:
    """Grows the bright part of a mask by `expand` pixels; below 0 it shrinks.

    `tapered_corners` grows along rows and columns only, which makes diamonds of points, else squares.
    """
    sign = -1.0 if expand < 0 else 1.0
    values = mask.values * sign
    grow = _grown_diamond if tapered_corners else _grown_square
    return Mask(grow(values, abs(expand)) * sign if expand else mask.values)


@node("ThresholdMask", category="mask")
def threshold_mask(mask: Mask, value: Annotated[float, Range(0.0, 1.0, step=0.01)] = 0.5) -> Mask:
    """1 where the mask is above `value`, else 0."""
    return Mask((mask.values > value).float())


@node("MaskToImage", category="mask", display_name="Convert Mask to Image")
def mask_to_image(mask: Mask) -> Image:
    """A mask as a grey picture."""
    return Image(mask.values[..., None].repeat(1, 1, 1, 3))


@node("ImageToMask", category="mask", display_name="Convert Image to Mask")
def image_to_mask(image: Image, channel: Annotated[str, Choice(CHANNELS)]) -> Mask:
    """One channel of a picture as a mask. Raises NodeError where the picture has no such channel."""
    index = CHANNELS.index(channel)
    if index >= image.pixels.shape[-1]:
        raise NodeError(
            f"the picture has no {channel} channel.",
            input="channel",
            found=f"{image.pixels.shape[-1]} channels",
            allowed=", ".join(CHANNELS[: image.pixels.shape[-1]]),
        )
    return Mask(image.pixels[..., index])


@node("ImageColorToMask", category="mask")
def image_color_to_mask(image: Image, color: Annotated[int, Range(0, 0xFFFFFF, step=1)] = 0) -> Mask:
    """1 where the picture has exactly the colour 0xRRGGBB (at 8 bits a channel), else 0."""
    levels = (image.pixels[..., :3].clamp(0, 1) * 255.0).round().int()
    wanted = torch.tensor([color >> shift & 0xFF for shift in (16, 8, 0)], dtype=torch.int32)
    return Mask((levels == wanted).all(-1).float())


@node(
    "MaskPreview",
    category="mask",
    display_name="Preview Mask",
    effect=True,
    lane="io",
    reads=("document",),
)
def mask_preview(mask: Mask, ctx: Context) -> Shown:
    """Shows a mask as a grey picture without keeping it: it goes to the temporary folder."""
    return preview(ctx, mask_to_image(mask).pixels)


def _feather(length: int, start: int, end: int) -> Tensor:
    factors = torch.ones(length, dtype=torch.float64)
    start, end = min(start, length), min(end, length)
    factors[:start] *= torch.arange(1, start + 1) / max(start, 1)
    places = -torch.arange(end)
    factors[places] *= torch.arange(1, end + 1) / max(end, 1)
    return factors.float()


def _grown_square(values: Tensor, steps: int) -> Tensor:
    """Largest value within `steps` rows and columns: one pass along each."""
    for axis in (-1, -2):
        reach = min(steps, values.shape[axis] - 1)
        kernel = (1, 2 * reach + 1) if axis == -1 else (2 * reach + 1, 1)
        padding = (0, reach) if axis == -1 else (reach, 0)
        values = F.max_pool2d(values, kernel, stride=1, padding=padding)
    return values


def _grown_diamond(values: Tensor, steps: int) -> Tensor:
    """Largest value within `steps` steps along rows and columns."""
    for _ in range(min(steps, values.shape[-1] + values.shape[-2] - 2)):
        across = F.max_pool2d(values, (1, 3), stride=1, padding=(0, 1))
        values = torch.maximum(across, F.max_pool2d(values, (3, 1), stride=1, padding=(1, 0)))
    return values
