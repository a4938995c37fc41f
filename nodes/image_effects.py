"""Nodes that filter pictures: blur, sharpen, fewer colours, edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph.node import Choice, NodeError, Range, node
from nodes.values import Image

SHARPENING = 10.0
"""How much of the difference to the blurred picture one unit of `alpha` adds."""
BAYER_ORDERS = {"bayer-2": 1, "bayer-4": 2, "bayer-8": 3, "bayer-16": 4}
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness (ITU-R BT.601)."""
NEIGHBOURS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
"""(row, column) steps to the eight neighbours, by multiples of 45 degrees."""
Radius = Annotated[int, Range(1, 31, step=1)]


@node("ImageBlur", category="image/postprocessing")
def image_blur(
    image: Image, blur_radius: Radius = 1, sigma: Annotated[float, Range(0.1, 10.0, step=0.1)] = 1.0
) -> Image:
    """Blurs pictures by a Gaussian window of 2 x `blur_radius` + 1 pixels.

    `sigma` is a fraction of the radius. Raises NodeError where the radius is not less than the picture's sides.
    """
    return Image(_blurred(image.pixels, blur_radius, sigma).float())


@node("ImageSharpen", category="image/postprocessing")
def image_sharpen(
    image: Image,
    sharpen_radius: Radius = 1,
    sigma: Annotated[float, Range(0.1, 10.0, step=0.01)] = 1.0,
    alpha: Annotated[float, Range(0.0, 5.0, step=0.01)] = 1.0,
) -> Image:
    """Sharpens pictures by an unsharp mask: adds 10 x `alpha` times what a Gaussian blur would take away.

    `sigma` is a fraction of the radius. Raises NodeError where the radius is not less than the picture's sides.
    """
    amount = SHARPENING * alpha
    sharper = (1.0 + amount) * image.pixels - amount * _blurred(image.pixels, sharpen_radius, sigma)
    return Image(sharper.clamp(0, 1).float())


@node("ImageQuantize", category="image/postprocessing")
def image_quantize(
    image: Image,
    colors: Annotated[int, Range(1, 256, step=1)] = 256,
    *,
    dither: Annotated[str, Choice(("none", "floyd-steinberg", *BAYER_ORDERS))],
) -> Image:
    """Reduces each picture to at most `colors` colours of its own; an alpha channel is dropped.

    `dither` hides the steps: floyd-steinberg spreads each pixel's error, bayer adds a regular pattern.
    """
    levels = (image.pixels[..., :3] * 255).to(torch.uint8).numpy()
    pictures = []
    for picture in levels:
        original = PIL.Image.fromarray(picture)
        palette = original.quantize(colors=colors)
        spread = PIL.Image.Dither.FLOYDSTEINBERG if dither == "floyd-steinberg" else PIL.Image.Dither.NONE
        if dither in BAYER_ORDERS:
            original = PIL.Image.fromarray(_bayer_dithered(picture, palette, BAYER_ORDERS[dither]))
        reduced = original.quantize(palette=palette, dither=spread).convert("RGB")
        pictures.append(np.asarray(reduced))
    return Image(torch.from_numpy(np.stack(pictures)).float() / 255)


@node("Canny", category="image/preprocessors")
def canny(
    image: Image,
    low_threshold: Annotated[float, Range(0.01, 0.99, step=0.01)] = 0.4,
    high_threshold: Annotated[float, Range(0.01, 0.99, step=0.01)] = 0.8,
) -> Image:
    """White edges on black, where the brightness changes sharply.

    An edge is a change of more than `high_threshold`, and what is joined to it above `low_threshold`.
    Returns (batch, height, width, 3) of 0 and 1. Source: Canny, A Computational Approach to Edge Detection (1986).
    """
    if low_threshold > high_threshold:
        raise NodeError(
            "the low threshold is above the high one.",
            input="low_threshold",
            found=str(low_threshold),
            allowed=f"up to {high_threshold}",
        )
    strength = _thinned(*_gradient(_smoothed(_brightness(image.pixels))))
    edges = _connected(strength > low_threshold, strength > high_threshold)
    return Image(edges[..., None].float().repeat(1, 1, 1, 3))


def _blurred(pixels: Tensor, radius: int, sigma: float) -> Tensor:
    if radius >= min(pixels.shape[1:3]):
        raise NodeError(
            "the radius is not less than the picture's sides.",
            found=f"radius {radius} for {pixels.shape[2]}x{pixels.shape[1]}",
        )
    offsets = torch.linspace(-1, 1, 2 * radius + 1, dtype=torch.float64)
    # Sharpening multiplies rounding errors by 50, hence the precision.
    planes = pixels.double().movedim(-1, 1)
    return _convolved(planes, torch.exp(-(offsets**2) / (2 * sigma**2))).movedim(1, -1)


def _convolved(planes: Tensor, weights: Tensor) -> Tensor:
    """(batch, channels, height, width) under the same 1-D window in both directions; borders are mirrored."""
    window = (weights / weights.sum()).to(planes)
    channels, radius = planes.shape[1], len(window) // 2
    kernel = window.repeat(channels, 1, 1, 1)
    padded = F.pad(planes, (radius,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel, groups=channels), kernel.transpose(2, 3), groups=channels)


def _bayer_dithered(levels: np.ndarray, palette: PIL.Image.Image, order: int) -> np.ndarray:
    """8-bit levels with a threshold pattern of 2^order pixels added, as strong as the palette is coarse."""
    pattern = np.zeros((1, 1))
    for size in (4**n for n in range(1, order + 1)):
        corners = np.array([[-1.5, 0.5], [1.5, -0.5]])
        # Each corner of the pattern is the smaller pattern, moved by its own amount.
        pattern = np.block([[pattern + corner / size for corner in row] for row in corners])
    count = len(palette.getpalette() or ()) // 3
    pattern = 512 / count * pattern + 0.5
    height, width = levels.shape[:2]
    tiles = (math.ceil(height / pattern.shape[0]), math.ceil(width / pattern.shape[1]))
    moved = levels + np.tile(pattern, tiles)[:height, :width, None].astype(np.float32)
    dithered: np.ndarray = moved.clip(0, 255).astype(np.uint8)
    return dithered


def _brightness(pixels: Tensor) -> Tensor:
    if pixels.shape[-1] < 3:
        return pixels[..., 0]
    return sum((weight * pixels[..., index] for index, weight in enumerate(LUMA)), torch.zeros(()))


def _smoothed(grey: Tensor) -> Tensor:
    if min(grey.shape[1:]) < 3:
        raise NodeError("the picture is too small to have edges.", found=str(tuple(grey.shape[1:])))
    # float32 on purpose: on straight edges its rounding decides which of two equal pixels stays.
    offsets = torch.arange(-2, 3, dtype=torch.float32)
    return _convolved(grey[:, None], torch.exp(-(offsets**2) / 2))[:, 0]


def _gradient(grey: Tensor) -> tuple[Tensor, Tensor]:
    """Strength of the change of brightness, and its direction as an index into NEIGHBOURS (Sobel)."""
    padded = F.pad(grey[:, None], (1, 1, 1, 1), mode="replicate")
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    across, down = F.conv2d(padded, torch.stack((sobel, sobel.T))[:, None]).unbind(1)
    strength = (across**2 + down**2 + 1e-6).sqrt()
    return strength, (torch.atan2(down, across) * (4 / math.pi)).round().long() % 8


def _thinned(strength: Tensor, direction: Tensor) -> Tensor:
    """The strength where it is greater than at both neighbours along the gradient, else 0."""
    around = _shifted(strength, NEIGHBOURS)
    ahead = around.gather(0, direction[None])[0]
    behind = around.gather(0, ((direction + 4) % 8)[None])[0]
    return torch.where((strength > ahead) & (strength > behind), strength, 0.0)


def _shifted(planes: Tensor, steps: Sequence[tuple[int, int]]) -> Tensor:
    """For each step, the planes (batch, height, width) as seen from one step off; 0 outside."""
    height, width = planes.shape[-2:]
    padded = F.pad(planes, (1, 1, 1, 1))
    return torch.stack([padded[:, 1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in steps])


def _connected(weak: Tensor, strong: Tensor) -> Tensor:
    """The connected parts of `weak` (diagonals count) that hold a pixel of `strong`."""
    from scipy import ndimage  # here, for importing it costs every start as much as the other nodes together

    kept = []
    for candidates, certain in zip(weak.numpy(), strong.numpy(), strict=True):
        labels, _ = ndimage.label(candidates, structure=np.ones((3, 3)))
        kept.append(np.isin(labels, np.unique(labels[certain])) & candidates)
    return torch.from_numpy(np.stack(kept))
