"""Stage A of Würstchen and Stable Cascade: the VQGAN of Paella (https://arxiv.org/abs/2211.07292)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nodes.models.networks.convolutions import Conv2d, ConvTranspose2d
from nodes.models.networks.layers import BatchNorm2d, Embedding, Linear
from nodes.models.networks.steps import Step, Steps, local

_EPS = 1e-6
_AT_ONCE = 1 << 25
"""Elements of a block's inner width that are held at once: it is four times the picture's."""
_COMPARED = 4096
"""Pixels that are compared with the codebook at once."""


class MixingBlock(nn.Module):
    """A depthwise convolution and a pointwise network, each scaled, shifted and weighted by learnt numbers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(nn.ReplicationPad2d(1), Conv2d(channels, channels, 3, groups=channels))
        self.channelwise = nn.Sequential(
            Linear(channels, channels * 4), nn.GELU(), Linear(channels * 4, channels)
        )
        self.gammas = nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, channels, h, w) to the same shape."""
        scale1, shift1, weight1, scale2, shift2, weight2 = self.gammas.to(x.dtype)
        h = F.layer_norm(x.movedim(1, -1), x.shape[1:2], eps=_EPS).movedim(-1, 1)
        x = x + self.depthwise(h * (1.0 + scale1) + shift1) * weight1
        h = F.layer_norm(x.movedim(1, -1), x.shape[1:2], eps=_EPS) * (1.0 + scale2) + shift2
        return x + self._pointwise(h).movedim(-1, 1) * weight2

    def _pointwise(self, h: Tensor) -> Tensor:
        """The pointwise network of (b, h, w, channels); pixels do not see each other, so large pictures go in strips."""
        rows = max(1, h.shape[1] * _AT_ONCE // (4 * h.numel()))
        if rows >= h.shape[1]:
            return self.channelwise(h)
        return torch.cat([self.channelwise(strip) for strip in torch.split(h, rows, dim=1)], dim=1)


class Quantizer(nn.Module):
    """The codebook."""

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.embedding = Embedding(size, channels)

    def forward(self, latents: Tensor) -> Tensor:
        """Return for each pixel of the latents (b, channels, h, w) the nearest vector of the codebook."""
        table = self.embedding.weight.float()
        pixels = latents.float().movedim(1, -1)
        parts = torch.split(pixels.flatten(0, 2), _COMPARED)
        nearest = torch.cat([torch.cdist(part, table).argmin(dim=1) for part in parts])
        return F.embedding(nearest, table).view(pixels.shape).movedim(-1, 1).to(latents.dtype)


class PaellaVQ(nn.Module):
    """Pictures, 0..1, to latents of a fourth of their size and back.

    Latents are continuous; `quantize` takes the nearest of the codebook instead. Parameters are named as in diffusers
    folders.
    """

    def __init__(
        self,
        picture_channels: int = 3,
        latent_channels: int = 4,
        channels: int = 384,
        levels: int = 2,
        bottleneck_blocks: int = 12,
        codebook_size: int = 8192,
        patch_size: int = 2,
    ) -> None:
        super().__init__()
        self.picture_channels, self.latent_channels = picture_channels, latent_channels
        self.patch_size, self.downscale = patch_size, patch_size * 2 ** (levels - 1)
        widths = [channels // 2**level for level in reversed(range(levels))]
        patches = picture_channels * patch_size**2
        self.in_block = nn.Sequential(nn.PixelUnshuffle(patch_size), Conv2d(patches, widths[0], 1))
        down: list[nn.Module] = []
        for level, width in enumerate(widths):
            if level:
                down.append(Conv2d(widths[level - 1], width, 4, stride=2, padding=1))
            down.append(MixingBlock(width))
        down.append(
            nn.Sequential(Conv2d(channels, latent_channels, 1, bias=False), BatchNorm2d(latent_channels))
        )
        self.down_blocks = nn.Sequential(*down)
        self.vquantizer = Quantizer(codebook_size, latent_channels)
        up: list[nn.Module] = [nn.Sequential(Conv2d(latent_channels, channels, 1))]
        for level, width in reversed(list(enumerate(widths))):
            up += [MixingBlock(width) for _ in range(bottleneck_blocks if width == channels else 1)]
            if level:
                up.append(ConvTranspose2d(width, widths[level - 1], 4, stride=2, padding=1))
        self.up_blocks = nn.Sequential(*up)
        self.out_block = nn.Sequential(Conv2d(widths[0], patches, 1), nn.PixelShuffle(patch_size))

    def encode(self, pictures: Tensor, quantize: bool = False) -> Tensor:
        """Map pictures (b, picture_channels, H, W), 0..1, to latents (b, latent_channels, h, w)."""
        latents = self.down_blocks(self.in_block(pictures))
        return self.vquantizer(latents) if quantize else latents

    def decode(self, latents: Tensor, quantize: bool = False) -> Tensor:
        """Map latents (b, latent_channels, h, w) to pictures (b, picture_channels, H, W), about 0..1."""
        return self.out_block(self.up_blocks(self.vquantizer(latents) if quantize else latents))

    def steps(self) -> Steps:
        """Return the decoder, without the codebook, in steps: all of them see a little way around a pixel."""
        channels = self.latent_channels
        found: list[Step] = []
        for block in self.up_blocks:
            if isinstance(block, MixingBlock):
                # With the pointwise network's states, four times as wide before and after its activation; in strips, where
                # these are put together, and where the last is made.
                strips = ((5 * channels, 0), (3 * channels, 2 * _AT_ONCE))
                found.append(Step(local(block), 1, channels, 11 * channels, strips))
            elif isinstance(block, ConvTranspose2d):
                wide, channels = channels, block.out_channels
                found.append(Step(local(block), 1, channels, channels + wide / 4, scale=2))
            else:
                wide, channels = channels, block[0].out_channels  # type: ignore[index]
                found.append(Step(local(block), 0, channels, channels + wide))
        patch = self.patch_size
        peak = self.picture_channels * 2 + channels / patch**2
        found.append(Step(local(self.out_block), 0, self.picture_channels, peak, scale=patch))
        return Steps(_same, self.latent_channels, self.latent_channels, tuple(found))


def _same(latents: Tensor) -> Tensor:
    return latents
