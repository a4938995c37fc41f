"""Stage B of Würstchen v2 (https://arxiv.org/abs/2306.00637): the semantic latent to the latent of the VQGAN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nodes.models.networks.convolutions import Conv2d, ConvTranspose2d
from nodes.models.networks.denoising import DenoisingModule
from nodes.models.networks.hooks import NO_HOOKS, Hooks, Place
from nodes.models.networks.layers import Linear
from nodes.models.networks.wuerstchen_blocks import (
    BlockShape,
    ChannelNorm,
    Given,
    ratio_embedding,
    resize_to,
    run_blocks,
)

_LOWEST = 1e-3
"""Between this and one minus it lies the divisor of the output."""


class WuerstchenDiffNeXt(DenoisingModule):
    """The noise predictor of Stage B, a U-Net that reads the semantic latent at its levels.

    `channels`, `num_heads`, `blocks`, `level_config` and `inject_effnet` have one entry a level. `level_config` says
    which blocks make a layer: `C` residual, `T` time, `A` attention. Parameters are named as in diffusers folders.
    """

    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 4,
        ratio_width: int = 64,
        patch_size: int = 2,
        cond_width: int = 1024,
        channels: tuple[int, ...] = (320, 640, 1280, 1280),
        num_heads: tuple[int, ...] = (-1, 10, 20, 20),
        blocks: tuple[int, ...] = (4, 4, 14, 4),
        level_config: tuple[str, ...] = ("CT", "CTA", "CTA", "CTA"),
        inject_effnet: tuple[bool, ...] = (False, True, True, True),
        effnet_channels: int = 16,
        cross_attention_dim: int = 1024,
        kernel_size: int = 3,
    ) -> None:
        super().__init__()
        self.in_channels, self.cross_attention_dim = in_channels, cross_attention_dim
        self.ratio_width, self.patch_size, self.effnet_channels = ratio_width, patch_size, effnet_channels
        self.level_config = level_config
        self.clip_mapper = Linear(cross_attention_dim, cond_width)
        # By their place in the lists of levels down and up: levels that read no effnet have none.
        self.effnet_mappers = nn.ModuleDict(
            {
                str(place): Conv2d(effnet_channels, cond_width, 1)
                for place, inject in enumerate((*inject_effnet, *reversed(inject_effnet)))
                if inject
            }
        )
        self.embedding = nn.Sequential(
            nn.PixelUnshuffle(patch_size),
            Conv2d(in_channels * patch_size**2, channels[0], 1),
            ChannelNorm(),
        )
        levels = range(len(channels))
        shapes = [
            BlockShape(channels[level], ratio_width, cond_width, num_heads[level], kernel_size)
            for level in levels
        ]
        injected = [cond_width if inject else 0 for inject in inject_effnet]
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        for level in levels:
            stack = nn.ModuleList()
            if level:
                smaller = Conv2d(channels[level - 1], channels[level], 2, stride=2)
                stack.append(nn.Sequential(ChannelNorm(), smaller))
            kinds = level_config[level] * blocks[level]
            stack.extend(shapes[level].make(kind, injected[level]) for kind in kinds)
            self.down_blocks.append(stack)
        for level in reversed(levels):
            kinds = level_config[level] * blocks[level]
            skips = [injected[level]] * len(kinds)
            if level != levels[-1]:
                skips[0] += channels[level]
            stack = nn.ModuleList(
                shapes[level].make(kind, skip) for kind, skip in zip(kinds, skips, strict=True)
            )
            if level:
                larger = ConvTranspose2d(channels[level], channels[level - 1], 2, stride=2)
                stack.append(nn.Sequential(ChannelNorm(), larger))
            self.up_blocks.append(stack)
        self.clf = nn.Sequential(
            ChannelNorm(),
            Conv2d(channels[0], 2 * out_channels * patch_size**2, 1),
            nn.PixelShuffle(patch_size),
        )

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        pooled: Tensor | None = None,
        hooks: Hooks = NO_HOOKS,
        extras: Mapping[str, Any] = {},
    ) -> Tensor:
        """Map x (b, in_channels, h, w), ratios (b,) 0..1, context (b, n, cross_attention_dim) to noise, shaped as x.

        `extras["effnet"]` is the semantic latent (b, effnet_channels, any size), zeros where absent. Sides of any
        length are taken: those that the levels do not halve are resized where they meet. `pooled` is not read.
        """
        height, width = x.shape[2:]
        ratio = ratio_embedding(timestep, self.ratio_width).to(x.dtype)
        mapped = self.clip_mapper(context.to(x.dtype))
        given = Given(ratio, F.layer_norm(mapped, mapped.shape[-1:], eps=1e-6), hooks)
        effnet = extras.get("effnet")
        if effnet is None:
            effnet = x.new_zeros(x.shape[0], self.effnet_channels, 1, 1)
        padding = (0, -width % self.patch_size, 0, -height % self.patch_size)
        padded = F.pad(x, padding, mode="replicate") if any(padding) else x
        h = self._decode(self._encode(self.embedding(padded), given, effnet), given, effnet)
        offset, scale = self.clf(h)[:, :, :height, :width].float().chunk(2, dim=1)
        scale = scale.sigmoid() * (1.0 - 2.0 * _LOWEST) + _LOWEST
        return ((x.float() - offset) / scale).to(x.dtype)

    def _encode(self, h: Tensor, given: Given, effnet: Tensor) -> list[Tensor]:
        """What each level gives, the first level first."""
        outputs: list[Tensor] = []
        index = 0
        for level, stack in enumerate(self.down_blocks):
            layers = list(stack.children())
            if level:
                h = layers.pop(0)(h)
            per_layer = len(self.level_config[level])
            read = self._read(level, effnet, h)
            h = run_blocks(layers, h, given, Place("input", index), per_layer, every=read)
            index += len(layers) // per_layer
            outputs.append(h)
        return outputs

    def _decode(self, outputs: list[Tensor], given: Given, effnet: Tensor) -> Tensor:
        levels = len(outputs)
        h = outputs[-1]
        index = 0
        for place, stack in enumerate(self.up_blocks):
            level = levels - 1 - place
            layers = list(stack.children())
            larger = layers.pop() if level else None
            per_layer = len(self.level_config[level])
            joined = None
            if place:
                h, joined = resize_to(h, outputs[level]), outputs[level]
                for hook in given.hooks.skip:
                    h, joined = hook(Place("output", index), h, joined)
            read = self._read(levels + place, effnet, h)
            if joined is not None and read is not None:
                joined = torch.cat([joined, read], dim=1)
            h = run_blocks(layers, h, given, Place("output", index), per_layer, joined, read)
            index += len(layers) // per_layer
            if larger is not None:
                h = larger(h)
        return h

    def _read(self, place: int, effnet: Tensor, like: Tensor) -> Tensor | None:
        """What the level at `place` reads of the semantic latent, at the size of `like`."""
        if str(place) not in self.effnet_mappers:
            return None
        size = like.shape[2:]
        sized = F.interpolate(effnet.float(), size, mode="bicubic", antialias=True, align_corners=True)
        return self.effnet_mappers[str(place)](sized.to(like.dtype))
