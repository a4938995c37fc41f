"""Nodes that join, split and composite pictures by their transparency.

A mask is the inverse of alpha: 1 where the picture is transparent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from nodegraph.node import Choice, NodeError, node
from nodes.resize import resize, resize_mask
from nodes.values import Image, ImageAndMask, Mask

Operator = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
OPAQUE_ENOUGH = 1e-5
"""The alpha up to which a composited pixel counts as transparent, and so as black."""


def _weighted(
    source_part: Callable[..., Tensor | float], target_part: Callable[..., Tensor | float]
) -> Operator:
    """A Porter-Duff operator from the parts of source and destination that it keeps, given both alphas."""

    def apply(source: Tensor, target: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        keep_source, keep_target = source_part(a, b), target_part(a, b)
        return source * keep_source + target * keep_target, a * keep_source + b * keep_target

    return apply


def _blended(mix: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Operator:
    """A blend of premultiplied colours whose coverage is the union of both."""

    def apply(source: Tensor, target: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return mix(source, target, a, b), a + b - a * b

    return apply


def _outside(source: Tensor, target: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """What each shows where the other is transparent."""
    return source * (1 - b) + target * (1 - a)


def _overlay(source: Tensor, target: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(2 * target < b, 2 * source * target, a * b - 2 * (b - source) * (a - target))


OPERATORS: dict[str, Operator] = {
    "ADD": lambda source, target, a, b: ((source + target).clamp(0, 1), (a + b).clamp(0, 1)),
    "CLEAR": _weighted(lambda a, b: 0.0, lambda a, b: 0.0),
    "DARKEN": _blended(lambda s, t, a, b: _outside(s, t, a, b) + torch.minimum(s, t)),
    "DST": _weighted(lambda a, b: 0.0, lambda a, b: 1.0),
    "DST_ATOP": _weighted(lambda a, b: 1 - b, lambda a, b: a),
    "DST_IN": _weighted(lambda a, b: 0.0, lambda a, b: a),
    "DST_OUT": _weighted(lambda a, b: 0.0, lambda a, b: 1 - a),
    "DST_OVER": _weighted(lambda a, b: 1 - b, lambda a, b: 1.0),
    "LIGHTEN": _blended(lambda s, t, a, b: _outside(s, t, a, b) + torch.maximum(s, t)),
    "MULTIPLY": lambda source, target, a, b: (source * target, a * b),
    "OVERLAY": _blended(_overlay),
    "SCREEN": _blended(lambda s, t, a, b: s + t - s * t),
    "SRC": _weighted(lambda a, b: 1.0, lambda a, b: 0.0),
    "SRC_ATOP": _weighted(lambda a, b: b, lambda a, b: 1 - a),
    "SRC_IN": _weighted(lambda a, b: b, lambda a, b: 0.0),
    "SRC_OUT": _weighted(lambda a, b: 1 - b, lambda a, b: 0.0),
    "SRC_OVER": _weighted(lambda a, b: 1.0, lambda a, b: 1 - a),
    "XOR": _weighted(lambda a, b: 1 - b, lambda a, b: 1 - a),
}
"""(premultiplied source, premultiplied destination, source alpha, destination alpha) -> (premultiplied, alpha).

Source: Porter and Duff, Compositing Digital Images (SIGGRAPH 1984); the blends as in Android's PorterDuff.Mode.
"""


@node("PorterDuffImageComposite", category="mask/compositing", display_name="Porter-Duff Image Composite")
def porter_duff_image_composite(
    source: Image,
    source_alpha: Mask,
    destination: Image,
    destination_alpha: Mask,
    mode: Annotated[str, Choice(tuple(OPERATORS))] = "DST",
) -> ImageAndMask:
    """Composites two pictures by a Porter-Duff operator or a blend mode.

    The masks are 1 where their picture is transparent, and so is MASK. Everything is resized to the destination's
    size; as many pictures come out as the smallest batch has. Raises NodeError where the channels differ.
    """
    if source.pixels.shape[-1] != destination.pixels.shape[-1]:
        raise NodeError(
            "the two pictures do not have the same channels.",
            input="source",
            found=f"{source.pixels.shape[-1]} and {destination.pixels.shape[-1]} channels",
            hint="SplitImageWithAlpha takes the alpha channel off.",
        )
    stacks = [
        source.pixels.movedim(-1, 1),
        destination.pixels.movedim(-1, 1),
        1 - source_alpha.values[:, None],
        1 - destination_alpha.values[:, None],
    ]
    count = min(len(stack) for stack in stacks)
    height, width = destination.pixels.shape[1:3]
    colors, below, a, b = (_sized(stack[:count], width, height) for stack in stacks)
    mixed, alpha = OPERATORS[mode](colors * a, below * b, a, b)
    visible = torch.where(alpha > OPAQUE_ENOUGH, mixed / alpha, torch.zeros_like(mixed)).clamp(0, 1)
    return ImageAndMask(Image(visible.movedim(1, -1)), Mask(1 - alpha[:, 0]))


@node("SplitImageWithAlpha", category="mask/compositing", display_name="Split Image with Alpha")
def split_image_with_alpha(image: Image) -> ImageAndMask:
    """Takes the alpha channel off: a picture of 3 channels, and a mask that is 1 where it was transparent."""
    pixels = image.pixels
    alpha = pixels[..., 3] if pixels.shape[-1] > 3 else torch.ones_like(pixels[..., 0])
    return ImageAndMask(Image(pixels[..., :3]), Mask(1.0 - alpha))


@node("JoinImageWithAlpha", category="mask/compositing", display_name="Join Image with Alpha")
def join_image_with_alpha(image: Image, alpha: Mask) -> Image:
    """Gives pictures an alpha channel: transparent where the mask `alpha` is 1, which is resized to them."""
    count = min(image.pixels.shape[0], alpha.values.shape[0])
    height, width = image.pixels.shape[1:3]
    opacity = 1.0 - resize_mask(alpha.values[:count], width, height).movedim(1, -1)
    return Image(torch.cat((image.pixels[:count, ..., :3], opacity), -1))


def _sized(stack: Tensor, width: int, height: int) -> Tensor:
    if stack.shape[-2:] == (height, width):
        return stack
    return resize(stack, width, height, "bicubic", "center")
