"""Resizing of tensors (batch, channels, height, width), and of their batches."""

from __future__ import annotations

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph.node import NodeError

MAX_SIZE = 16384
"""The largest width or height that a node's widget offers."""
IMAGE_METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")
LATENT_METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "bislerp")
CROPS = ("disabled", "center")
PARALLEL = 1.0 - 1e-5
"""Cosine from which on two directions count as one (or, negated, as opposite)."""


def resize(samples: Tensor, width: int, height: int, method: str, crop: str = "disabled") -> Tensor:
    """Resize (batch, channels, height, width) by one of IMAGE_METHODS or LATENT_METHODS.

    `crop="center"` first cuts the middle part that has the new aspect ratio. Raises NodeError where a side would
    be less than one pixel.
    """
    if width < 1 or height < 1 or 0 in samples.shape:
        raise NodeError(
            "the result would have no pixels.",
            found=f"{samples.shape[-1]}x{samples.shape[-2]} to {width}x{height}",
            allowed="a width and a height of at least 1",
        )
    if crop == "center":
        samples = _middle(samples, width / height)
    if method == "bislerp":
        return bislerp(samples, width, height)
    if method == "lanczos":
        return lanczos(samples, width, height)
    return F.interpolate(samples, size=(height, width), mode=method)


def resize_mask(values: Tensor, width: int, height: int) -> Tensor:
    """Masks (..., height, width) as (batch, 1, height, width) of another size, bilinear."""
    stacked = values.reshape(-1, 1, values.shape[-2], values.shape[-1])
    return F.interpolate(stacked, size=(height, width), mode="bilinear")


def to_batch(tensor: Tensor, count: int) -> Tensor:
    """The tensor's items over and over until there are `count`; cut off where there are more."""
    if tensor.shape[0] == count:
        return tensor
    return tensor[torch.arange(count, device=tensor.device) % tensor.shape[0]]


def bislerp(samples: Tensor, width: int, height: int) -> Tensor:
    """Bilinear resizing that turns and stretches the channel vectors instead of mixing their components.

    Spherical interpolation keeps the magnitude of latents, which mixing of components would lower.
    """
    return _slerp_axis(_slerp_axis(samples.float(), -1, width), -2, height).to(samples.dtype)


def lanczos(samples: Tensor, width: int, height: int) -> Tensor:
    """Lanczos resizing of 8-bit levels: values outside 0..1 and fractions of a level are lost."""
    levels = (samples.detach().cpu() * 255.0).clamp(0.0, 255.0).to(torch.uint8).movedim(1, -1).numpy()
    resized = []
    for picture in levels:
        planes = picture[..., 0] if picture.shape[-1] == 1 else picture
        small = PIL.Image.fromarray(planes).resize((width, height), resample=PIL.Image.Resampling.LANCZOS)
        resized.append(np.asarray(small).reshape(height, width, -1))
    result = torch.from_numpy(np.stack(resized).astype(np.float32) / 255.0)
    return result.movedim(-1, 1).to(samples.device, samples.dtype)


def _middle(samples: Tensor, aspect: float) -> Tensor:
    """The largest centred part whose width / height is `aspect`."""
    height, width = samples.shape[-2:]
    old = width / height
    left = round((width - width * (aspect / old)) / 2) if old > aspect else 0
    top = round((height - height * (old / aspect)) / 2) if old < aspect else 0
    left, top = min(left, (width - 1) // 2), min(top, (height - 1) // 2)
    return samples[..., top : height - top, left : width - left]


def _slerp_axis(samples: Tensor, axis: int, length: int) -> Tensor:
    old = samples.shape[axis]
    # Resizing the row of pixel numbers gives each new pixel's place between two old ones. float32 and the same
    # rounding as everybody's: at some odd sizes it decides which neighbour the last pixels get.
    places = torch.arange(old, dtype=torch.float32)
    place, following = (
        F.interpolate(row[None, None], size=length, mode="linear")[0, 0].to(samples.device)
        for row in (places, (places + 1).clamp(max=old - 1))
    )
    shape = [1] * samples.ndim
    shape[axis] = length
    ratio = (place - place.floor()).reshape(shape)
    index, after = place.long(), following.long()
    return _slerp(samples.index_select(axis, index), samples.index_select(axis, after), ratio)


def _slerp(first: Tensor, second: Tensor, ratio: Tensor) -> Tensor:
    """From `first` (ratio 0) to `second` (1) along the arc between their channel vectors."""
    norm1 = torch.linalg.vector_norm(first, dim=1, keepdim=True)
    norm2 = torch.linalg.vector_norm(second, dim=1, keepdim=True)
    unit1 = torch.where(norm1 == 0, 0.0, first / norm1)
    unit2 = torch.where(norm2 == 0, 0.0, second / norm2)
    cosine = (unit1 * unit2).sum(1, keepdim=True)
    angle = torch.acos(cosine)
    arc = (torch.sin((1.0 - ratio) * angle) * unit1 + torch.sin(ratio * angle) * unit2) / torch.sin(angle)
    turned = arc * torch.lerp(norm1, norm2, ratio)
    turned = torch.where(cosine > PARALLEL, first, turned)
    return torch.where(cosine < -PARALLEL, torch.lerp(first, second, ratio.expand_as(first)), turned)
