"""Nodes that make, resize, move and mix latents.

A latent's noise mask and its places in the batch go along unchanged wherever a node does not say otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor

from nodegraph.node import Choice, NodeError, Range, Widget, node
from nodes import latent_forms as forms
from nodes.compositing import edge_ramp, paste
from nodes.forms import mixing, same
from nodes.latent_forms import PIXELS as PIXELS
from nodes.orientation import FLIPS, ROTATIONS, flipped, rotated
from nodes.pairing import unlike_latents
from nodes.resize import CROPS, LATENT_METHODS, MAX_SIZE, resize, to_batch
from nodes.values import Latent, Mask

Method = Annotated[str, Choice(LATENT_METHODS)]
Pixels = Annotated[int, Range(0, MAX_SIZE, step=8)]


@node("EmptyLatentImage", category="latent", display_name="Empty Latent Image", foresee=forms.empty)
def empty_latent_image(
    width: Annotated[
        int, Range(16, MAX_SIZE, step=8, floor=True), Widget(tooltip="Width of the pictures in pixels.")
    ] = 512,
    height: Annotated[
        int, Range(16, MAX_SIZE, step=8, floor=True), Widget(tooltip="Height of the pictures in pixels.")
    ] = 512,
    batch_size: Annotated[int, Range(1, 4096), Widget(tooltip="How many pictures to make at once.")] = 1,
) -> Latent:
    """A batch of empty latents: what a sampler starts from to make pictures out of text alone.

    Returns samples (batch, 4, height / 8, width / 8), all zero, float32. Samplers bring them to the channels and the size
    that their model has for such pictures.
    """
    return Latent(torch.zeros(batch_size, 4, height // PIXELS, width // PIXELS), downscale=PIXELS)


@node("LatentUpscale", category="latent", display_name="Upscale Latent", foresee=forms.upscaled)
def latent_upscale(
    *,
    samples: Latent,
    upscale_method: Method,
    width: Pixels = 512,
    height: Pixels = 512,
    crop: Annotated[str, Choice(CROPS)],
) -> Latent:
    """Resizes latents to a picture size of width x height pixels, at least 64 each.

    Where one of them is 0, it follows from the other and the latent's own proportions; where both are, nothing
    changes. `crop` = center first cuts away what does not fit the new proportions.
    """
    if width == 0 and height == 0:
        return samples
    rows, columns = samples.samples.shape[-2:]
    rows, columns = forms.size(rows, columns, width, height, samples.downscale)
    return replace(samples, samples=resize(samples.samples, columns, rows, upscale_method, crop))


@node("LatentUpscaleBy", category="latent", display_name="Upscale Latent By", foresee=forms.upscaled_by)
def latent_upscale_by(
    samples: Latent,
    upscale_method: Method,
    scale_by: Annotated[float, Range(0.01, 8.0, step=0.01)] = 1.5,
) -> Latent:
    """Resizes latents to `scale_by` times their width and height."""
    height, width = samples.samples.shape[-2:]
    resized = resize(samples.samples, round(width * scale_by), round(height * scale_by), upscale_method)
    return replace(samples, samples=resized)


@node(
    "LatentComposite",
    category="latent",
    display_name="Latent Composite",
    foresee=mixing("samples_to", "samples_from"),
)
def latent_composite(
    samples_to: Latent,
    samples_from: Latent,
    x: Pixels = 0,
    y: Pixels = 0,
    feather: Pixels = 0,
) -> Latent:
    """Lays `samples_from` over `samples_to` with its top left corner at (x, y), in pixels of the picture.

    `feather` fades the edges that lie inside `samples_to` over so many pixels. What sticks out is cut off.
    """
    target, source = samples_to.samples, samples_from.samples
    left, top, fade = (forms.cells(pixels, samples_to.downscale) for pixels in (x, y, feather))
    rows, columns = target.shape[-2:]
    source = source[..., : max(0, rows - top), : max(0, columns - left)]
    height, width = source.shape[-2:]
    down = edge_ramp(height, fade if top > 0 else 0, fade if top + height < rows else 0)
    across = edge_ramp(width, fade if left > 0 else 0, fade if left + width < columns else 0)
    return replace(samples_to, samples=paste(target, source, left, top, down[:, None] * across))


@node("LatentCompositeMasked", category="latent", foresee=mixing("destination", "source"))
def latent_composite_masked(
    destination: Latent,
    source: Latent,
    x: Pixels = 0,
    y: Pixels = 0,
    resize_source: bool = False,
    mask: Mask | None = None,
) -> Latent:
    """Lays `source` over `destination` at (x, y), in pixels of the picture, where `mask` is 1.

    The mask is stretched over the source; without one all of it is laid on. `resize_source` first stretches the
    source to the destination's size.
    """
    pasted = paste(
        destination.samples,
        source.samples,
        forms.cells(x, destination.downscale),
        forms.cells(y, destination.downscale),
        None if mask is None else mask.values,
        stretch=resize_source,
    )
    return replace(destination, samples=pasted)


@node("LatentBlend", category="_for_testing", foresee=mixing("samples1", "samples2"))
def latent_blend(
    samples1: Latent,
    samples2: Latent,
    blend_factor: Annotated[float, Range(0.0, 1.0, step=0.01)] = 0.5,
) -> Latent:
    """Mixes two latents: `blend_factor` of the first and the rest of the second, resized to the first's size."""
    first = samples1.samples
    second = fitted(samples2.samples, first, "bicubic")
    count = max(first.shape[0], second.shape[0])
    first, second = to_batch(first, count), to_batch(second, count)
    return replace(samples1, samples=first * blend_factor + second * (1 - blend_factor))


@node("LatentCrop", category="latent/transform", display_name="Crop Latent", foresee=forms.cropped)
def latent_crop(
    samples: Latent,
    width: Annotated[int, Range(64, MAX_SIZE, step=8)] = 512,
    height: Annotated[int, Range(64, MAX_SIZE, step=8)] = 512,
    x: Pixels = 0,
    y: Pixels = 0,
) -> Latent:
    """Cuts out width x height pixels at (x, y); at least 64x64 are left where the latent has so many."""
    rows, columns = samples.samples.shape[-2:]
    scale = samples.downscale
    left, top = forms.start(columns, x, scale), forms.start(rows, y, scale)
    bottom, right = top + forms.cells(height, scale), left + forms.cells(width, scale)
    cut = samples.samples[..., top:bottom, left:right]
    return replace(samples, samples=cut)


@node("LatentRotate", category="latent/transform", display_name="Rotate Latent", foresee=forms.turned)
def latent_rotate(samples: Latent, rotation: Annotated[str, Choice(ROTATIONS)]) -> Latent:
    """Turns latents clockwise by a multiple of 90 degrees."""
    return replace(samples, samples=rotated(samples.samples, rotation, -2, -1))


@node("LatentFlip", category="latent/transform", display_name="Flip Latent", foresee=same("samples"))
def latent_flip(samples: Latent, flip_method: Annotated[str, Choice(FLIPS)]) -> Latent:
    """Mirrors latents: top to bottom (about the x-axis) or left to right (about the y-axis)."""
    return replace(samples, samples=flipped(samples.samples, flip_method, -2, -1))


@node(
    "SetLatentNoiseMask",
    category="latent/inpaint",
    display_name="Set Latent Noise Mask",
    foresee=same("samples"),
)
def set_latent_noise_mask(samples: Latent, mask: Mask) -> Latent:
    """Limits sampling to where the mask is 1; the rest of the latent stays as it is."""
    values = mask.values
    return replace(samples, noise_mask=values.reshape(-1, 1, values.shape[-2], values.shape[-1]))


@node("LatentAdd", category="latent/advanced", foresee=mixing("samples1", "samples2"))
def latent_add(samples1: Latent, samples2: Latent) -> Latent:
    """The sum of two latents; the second is fitted to the first's size and batch."""
    return replace(samples1, samples=samples1.samples + _fitted(samples2.samples, samples1.samples))


@node("LatentSubtract", category="latent/advanced", foresee=mixing("samples1", "samples2"))
def latent_subtract(samples1: Latent, samples2: Latent) -> Latent:
    """The first latent minus the second, which is fitted to the first's size and batch."""
    return replace(samples1, samples=samples1.samples - _fitted(samples2.samples, samples1.samples))


@node("LatentMultiply", category="latent/advanced", foresee=same("samples"))
def latent_multiply(
    samples: Latent, multiplier: Annotated[float, Range(-10.0, 10.0, step=0.01)] = 1.0
) -> Latent:
    """The latent times a number."""
    return replace(samples, samples=samples.samples * multiplier)


@node("LatentInterpolate", category="latent/advanced", foresee=mixing("samples1", "samples2"))
def latent_interpolate(
    samples1: Latent,
    samples2: Latent,
    ratio: Annotated[float, Range(0.0, 1.0, step=0.01)] = 1.0,
) -> Latent:
    """Between two latents: `ratio` of the first, the rest of the second.

    Directions and lengths of the channel vectors are mixed apart, so that the mixture is not weaker than its parts.
    """
    first = samples1.samples
    second = _fitted(samples2.samples, first)
    unit1, length1 = _polar(first)
    unit2, length2 = _polar(second)
    direction, _ = _polar(unit1 * ratio + unit2 * (1.0 - ratio))
    return replace(samples1, samples=direction * (length1 * ratio + length2 * (1.0 - ratio)))


@node("LatentCut", category="latent/advanced")
def latent_cut(
    samples: Latent,
    dim: Annotated[str, Choice(("x", "y", "t"))],
    index: Annotated[int, Range(-MAX_SIZE, MAX_SIZE, step=1)] = 0,
    amount: Annotated[int, Range(1, MAX_SIZE, step=1)] = 1,
) -> Latent:
    """Cuts `amount` latent pixels out along x or y (t: channels), from `index` on; below 0 it counts from the end."""
    tensor = samples.samples
    axis = _axis(dim)
    size = tensor.shape[axis]
    start = min(index, size - 1) if index >= 0 else max(0, size + index)
    return replace(samples, samples=tensor.narrow(axis, start, min(amount, size - start)))


@node("LatentConcat", category="latent/advanced")
def latent_concat(
    samples1: Latent,
    samples2: Latent,
    dim: Annotated[str, Choice(("x", "-x", "y", "-y", "t", "-t"))],
) -> Latent:
    """Joins two latents side by side (x), one below the other (y) or by channels (t); `-` puts the second first."""
    first = samples1.samples
    second = to_batch(samples2.samples, first.shape[0])
    axis = _axis(dim)
    if any(a != b for at, (a, b) in enumerate(zip(first.shape, second.shape, strict=True), -4) if at != axis):
        raise NodeError(
            f"the latents cannot be joined along {dim}: their other sizes differ.",
            input="samples2",
            found=f"shapes {tuple(first.shape)} and {tuple(second.shape)}",
        )
    pair = (second, first) if dim.startswith("-") else (first, second)
    return replace(samples1, samples=torch.cat(pair, axis))


def fitted(source: Tensor, like: Tensor, method: str = "bilinear") -> Tensor:
    """The latents resized (and cropped in the middle) to the height and width of `like`.

    Raises NodeError where their channels differ.
    """
    if source.shape[1] != like.shape[1]:
        raise unlike_latents(None, f"{like.shape[1]}", f"{source.shape[1]} channels")
    if source.shape[1:] == like.shape[1:]:
        return source
    return resize(source, like.shape[-1], like.shape[-2], method, "center")


def _fitted(source: Tensor, like: Tensor) -> Tensor:
    return to_batch(fitted(source, like), like.shape[0])


def _axis(dim: str) -> int:
    return {"x": -1, "y": -2, "t": -3}[dim[-1]]


def _polar(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Direction and length of each pixel's channel vector; a zero vector has no direction."""
    length = torch.linalg.vector_norm(samples, dim=1, keepdim=True)
    return torch.nan_to_num(samples / length), length
