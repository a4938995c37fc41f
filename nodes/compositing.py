"""Laying pictures and latents over one another, and the nodes that do so with pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph.node import Choice, NodeError, Range, node
from nodes.resize import MAX_SIZE, resize, resize_mask, to_batch
from nodes.values import Image, Mask

BLENDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "normal": lambda below, above: above,
    "multiply": lambda below, above: below * above,
    "screen": lambda below, above: 1 - (1 - below) * (1 - above),
    "overlay": lambda below, above: torch.where(
        below <= 0.5, 2 * below * above, 1 - 2 * (1 - below) * (1 - above)
    ),
    "soft_light": lambda below, above: _soft_light(below, above),
    "difference": lambda below, above: below - above,
}
"""Blend modes of ImageBlend: (lower, upper) -> result. Source: W3C Compositing and Blending Level 1, section 9."""


def edge_ramp(length: int, start: int, end: int) -> Tensor:
    """(length,) of ones that rise over the first `start` and fall over the last `end` places: 1/n, 2/n, ... 1."""
    ramp = torch.ones(length, dtype=torch.float64)
    steps = torch.arange(1, length + 1, dtype=torch.float64)
    if start > 0:
        ramp *= (steps / start).clamp(max=1.0)
    if end > 0:
        ramp *= (steps.flip(0) / end).clamp(max=1.0)
    return ramp.float()


def paste(
    target: Tensor,
    source: Tensor,
    left: int,
    top: int,
    mask: Tensor | None = None,
    *,
    stretch: bool = False,
) -> Tensor:
    """A copy of `target` with `source` over it, weighted by `mask`; both are (batch, channels, height, width).

    The top left corner of the source comes to (left, top), which may lie outside. The mask (..., height, width),
    0..1, is stretched over the source. `stretch` first resizes the source to the target's size. The source's batch is
    repeated or cut to the target's. Raises NodeError where the channels differ.
    """
    if source.shape[1] != target.shape[1]:
        raise NodeError(
            "the two do not have the same channels.",
            input="source",
            found=f"{source.shape[1]} over {target.shape[1]} channels",
        )
    rows, columns = target.shape[-2:]
    if stretch:
        source = resize(source, columns, rows, "bilinear")
    source = to_batch(source, target.shape[0])
    height, width = source.shape[-2:]
    shown_rows = slice(max(0, -top), max(0, min(height, rows - top)))
    shown_columns = slice(max(0, -left), max(0, min(width, columns - left)))
    above = source[..., shown_rows, shown_columns]
    result = target.clone()
    if 0 in above.shape:
        return result
    y, x = top + shown_rows.start, left + shown_columns.start
    place = (..., slice(y, y + above.shape[-2]), slice(x, x + above.shape[-1]))
    if mask is None:
        result[place] = above
        return result
    weights = to_batch(resize_mask(mask, width, height).to(target), target.shape[0])
    weights = weights[..., shown_rows, shown_columns]
    result[place] = weights * above + (1.0 - weights) * target[place]
    return result


def matched(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Two pictures (..., channels), the upper one with the lower one's channels.

    An alpha channel that the lower one lacks is dropped; one that the upper one lacks is opaque.
    """
    missing = lower.shape[-1] - upper.shape[-1]
    if missing > 0:
        return lower, F.pad(upper, (0, missing), value=1.0)
    return lower, upper[..., : lower.shape[-1]]


@node("ImageCompositeMasked", category="image")
def image_composite_masked(
    destination: Image,
    source: Image,
    x: Annotated[int, Range(0, MAX_SIZE, step=1)] = 0,
    y: Annotated[int, Range(0, MAX_SIZE, step=1)] = 0,
    resize_source: bool = False,
    mask: Mask | None = None,
) -> Image:
    """Lays `source` over `destination` with its top left corner at (x, y), where `mask` is 1.

    The mask is stretched over the source; without one all of it is laid on. `resize_source` first stretches the
    source to the destination's size. What sticks out is cut off.
    """
    below, above = matched(destination.pixels, source.pixels)
    pasted = paste(
        below.movedim(-1, 1),
        above.movedim(-1, 1),
        x,
        y,
        None if mask is None else mask.values,
        stretch=resize_source,
    )
    return Image(pasted.movedim(1, -1))


@node("ImageBlend", category="image/postprocessing")
def image_blend(
    image1: Image,
    image2: Image,
    blend_factor: Annotated[float, Range(0.0, 1.0, step=0.01)] = 0.5,
    *,
    blend_mode: Annotated[str, Choice(tuple(BLENDS))],
) -> Image:
    """Blends `image2` over `image1`: from `blend_factor` 0 (only the first) to 1 (the blend alone).

    The second is resized to the first's size and cropped in the middle where the proportions differ.
    """
    below, above = matched(image1.pixels, image2.pixels)
    if below.shape != above.shape:
        above = resize(above.movedim(-1, 1), below.shape[2], below.shape[1], "bicubic", "center").movedim(
            1, -1
        )
        count = max(below.shape[0], above.shape[0])
        below, above = to_batch(below, count), to_batch(above, count)
    blended = BLENDS[blend_mode](below, above)
    return Image((below * (1 - blend_factor) + blended * blend_factor).clamp(0, 1))


def _soft_light(below: Tensor, above: Tensor) -> Tensor:
    curve = torch.where(below <= 0.25, ((16 * below - 12) * below + 4) * below, below.clamp(min=0).sqrt())
    darker = below - (1 - 2 * above) * below * (1 - below)
    return torch.where(above <= 0.5, darker, below + (2 * above - 1) * (curve - below))
