"""Encodes pictures with CLIP: brought to its size and range, and through the network in float32."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nodes.models.networks.clip_vision import ClipVision, Encoded

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
"""What OpenAI normalised the pictures with that CLIP was trained on."""


class VisionEncoder:
    """A vision encoder on its device."""

    def __init__(self, module: ClipVision, device: torch.device) -> None:
        self.module = module
        self.device = device

    @torch.no_grad()
    def encode(self, pixels: Tensor, crop: bool = True) -> Encoded:
        """Encode pictures (batch, height, width, 3 or more), 0..1; float32, on the CPU.

        With `crop` what lies beyond the middle square is left out, else the picture is squeezed into one.
        """
        pictures = prepared(pixels, self.module.size, crop).to(self.device)
        return Encoded(*(part.float().cpu() for part in self.module(pictures)))


def prepared(pixels: Tensor, size: int, crop: bool) -> Tensor:
    """Return pictures (batch, height, width, 3 or more), 0..1, as CLIP sees them: (batch, 3, size, size), normalised."""
    pictures = pixels[..., :3].movedim(-1, 1).float()
    height, width = pictures.shape[-2:]
    if (height, width) != (size, size):
        scale = size / min(height, width)
        sides = (round(height * scale), round(width * scale)) if crop else (size, size)
        pictures = F.interpolate(pictures, size=sides, mode="bicubic", antialias=True)
        top, left = (sides[0] - size) // 2, (sides[1] - size) // 2
        pictures = pictures[..., top : top + size, left : left + size]
    # CLIP learnt from pictures of 256 levels.
    levels = (pictures * 255.0).clamp(0.0, 255.0).round() / 255.0
    mean, std = (levels.new_tensor(numbers)[:, None, None] for numbers in (_MEAN, _STD))
    return (levels - mean) / std
