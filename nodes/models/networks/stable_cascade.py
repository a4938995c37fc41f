"""The U-Net of Stable Cascade, Stage C and Stage B: Würstchen's third version (https://arxiv.org/abs/2306.00637)."""

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


class Switch(nn.Module):
    """A change of width between levels, and of size by two where `resize` is set."""

    def __init__(self, channels: int, out: int, up: bool, resize: bool) -> None:
        super().__init__()
        factor = 2.0 if up else 0.5
        size: nn.Module = (
            nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=True) if resize else nn.Identity()
        )
        width = Conv2d(channels, out, 1)
        self.blocks = nn.Sequential(size, width) if up else nn.Sequential(width, size)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, channels, h, w) to (b, out, h, w), or to twice or half its sides."""
        return self.blocks(x)


def _picture_mapper(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(Conv2d(channels, out * 4, 1), nn.GELU(), Conv2d(out * 4, out, 1), ChannelNorm())


class StableCascade(DenoisingModule):
    """The network of either stage; what a stage reads is there where its width is given.

    `channels`, `num_heads`, `level_config`, `self_attn` and the counts of layers and repeats have one entry a level,
    those of the way up from the last level. `level_config` says which blocks make a layer: `C` residual, `T` time,
    `A` attention. A level that is repeated runs the same blocks again after a 1x1 convolution. `switch_level` says
    whether the size changes between two levels; None for strided convolutions, which halve it. Parameters are named
    as in diffusers folders.
    """

    def __init__(
        self,
        in_channels: int = 16,
        out_channels: int = 16,
        ratio_width: int = 64,
        patch_size: int = 1,
        cond_width: int = 2048,
        channels: tuple[int, ...] = (2048, 2048),
        num_heads: tuple[int, ...] = (32, 32),
        layers_down: tuple[int, ...] = (8, 24),
        layers_up: tuple[int, ...] = (24, 8),
        repeats_down: tuple[int, ...] = (1, 1),
        repeats_up: tuple[int, ...] = (1, 1),
        level_config: tuple[str, ...] = ("CTA", "CTA"),
        self_attn: tuple[bool, ...] = (True, True),
        cross_attention_dim: int | None = 1280,
        pooled_width: int = 1280,
        clip_image_width: int | None = 768,
        clip_tokens: int = 4,
        effnet_channels: int | None = None,
        pixel_channels: int | None = None,
        kernel_size: int = 3,
        conds: tuple[str, ...] = ("sca", "crp"),
        switch_level: tuple[bool, ...] | None = (False,),
    ) -> None:
        super().__init__()
        self.in_channels, self.cross_attention_dim = in_channels, cross_attention_dim
        self.ratio_width, self.patch_size, self.conds = ratio_width, patch_size, conds
        self.level_config, self.clip_tokens = level_config, clip_tokens
        self.pooled_width, self.clip_image_width = pooled_width, clip_image_width
        self.effnet_channels, self.pixel_channels = effnet_channels, pixel_channels
        self.clip_txt_pooled_mapper = Linear(pooled_width, cond_width * clip_tokens)
        if cross_attention_dim is not None:
            self.clip_txt_mapper = Linear(cross_attention_dim, cond_width)
        if clip_image_width is not None:
            self.clip_img_mapper = Linear(clip_image_width, cond_width * clip_tokens)
        if effnet_channels is not None:
            self.effnet_mapper = _picture_mapper(effnet_channels, channels[0])
        if pixel_channels is not None:
            self.pixels_mapper = _picture_mapper(pixel_channels, channels[0])
        self.embedding = nn.Sequential(
            nn.PixelUnshuffle(patch_size),
            Conv2d(in_channels * patch_size**2, channels[0], 1),
            ChannelNorm(),
        )
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        self.down_downscalers, self.up_upscalers = nn.ModuleList(), nn.ModuleList()
        self.down_repeat_mappers, self.up_repeat_mappers = nn.ModuleList(), nn.ModuleList()

        def shape(level: int) -> BlockShape:
            width, heads = channels[level], num_heads[level]
            return BlockShape(
                width, ratio_width, cond_width, heads, kernel_size, conds, self_attn=self_attn[level]
            )

        def between(level: int, up: bool) -> nn.Module:
            """From the level above to this one, or back."""
            inner, outer = channels[level - 1], channels[level]
            if not level:
                return nn.Identity()
            if switch_level is not None:
                resize = switch_level[level - 1]
                change: nn.Module = (
                    Switch(outer, inner, True, resize) if up else Switch(inner, outer, False, resize)
                )
            else:
                change = (
                    ConvTranspose2d(outer, inner, 2, stride=2) if up else Conv2d(inner, outer, 2, stride=2)
                )
            return nn.Sequential(ChannelNorm(), change)

        def mappers(level: int, repeats: int) -> nn.ModuleList:
            return nn.ModuleList(Conv2d(channels[level], channels[level], 1) for _ in range(repeats - 1))

        for level, (layers, repeats) in enumerate(zip(layers_down, repeats_down, strict=True)):
            self.down_downscalers.append(between(level, up=False))
            kinds = level_config[level] * layers
            self.down_blocks.append(nn.ModuleList(shape(level).make(kind) for kind in kinds))
            self.down_repeat_mappers.append(mappers(level, repeats))
        for place, (layers, repeats) in enumerate(zip(layers_up, repeats_up, strict=True)):
            level = len(channels) - 1 - place
            kinds = level_config[level] * layers
            self.up_blocks.append(
                nn.ModuleList(
                    shape(level).make(kind, channels[level] if place and not index else 0)
                    for index, kind in enumerate(kinds)
                )
            )
            self.up_repeat_mappers.append(mappers(level, repeats))
            self.up_upscalers.append(between(level, up=True))
        self.clf = nn.Sequential(
            ChannelNorm(), Conv2d(channels[0], out_channels * patch_size**2, 1), nn.PixelShuffle(patch_size)
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
        """Map x (b, in_channels, h, w) and ratios (b,) 0..1 to (b, out_channels, h, w).

        `pooled` is (b, pooled_width) or (b, n, pooled_width). Stage C reads `context` (b, n, cross_attention_dim) and
        `extras["clip_img"]` (b, clip_image_width) or (b, n, clip_image_width); Stage B `extras["effnet"]`
        (b, effnet_channels, any size) and `extras["pixels"]` (b, pixel_channels, any size). What is absent is zeros.
        """
        height, width = x.shape[2:]
        given = Given(self._times(timestep).to(x.dtype), self._context(x, context, pooled, extras), hooks)
        padding = (0, -width % self.patch_size, 0, -height % self.patch_size)
        h = self.embedding(F.pad(x, padding, mode="replicate") if any(padding) else x)
        if self.effnet_channels is not None:
            effnet = self._plane(x, extras.get("effnet"), self.effnet_channels)
            h = h + self.effnet_mapper(resize_to(effnet, h))
        if self.pixel_channels is not None:
            pixels = self._plane(x, extras.get("pixels"), self.pixel_channels)
            h = h + resize_to(self.pixels_mapper(pixels), h)
        h = self._decode(self._encode(h, given), given)
        return self.clf(h)[:, :, :height, :width]

    def _times(self, ratio: Tensor) -> Tensor:
        """The embedded ratio followed by the further conditions, which are zero."""
        times = [ratio, *(torch.zeros_like(ratio) for _ in self.conds)]
        return torch.cat([ratio_embedding(time, self.ratio_width) for time in times], dim=1)

    def _context(
        self, x: Tensor, context: Tensor, pooled: Tensor | None, extras: Mapping[str, Any]
    ) -> Tensor:
        """What attention reads (b, tokens, cond_width)."""
        parts = [self._tokens(self.clip_txt_pooled_mapper, x, pooled, self.pooled_width)]
        if self.cross_attention_dim is not None:
            parts.insert(0, self.clip_txt_mapper(context.to(x.dtype)))
        if self.clip_image_width is not None:
            parts.append(self._tokens(self.clip_img_mapper, x, extras.get("clip_img"), self.clip_image_width))
        joined = torch.cat(parts, dim=1)
        return F.layer_norm(joined, joined.shape[-1:], eps=1e-6)

    def _tokens(self, mapper: nn.Module, x: Tensor, vectors: Tensor | None, width: int) -> Tensor:
        """`clip_tokens` tokens for each vector."""
        if vectors is None:
            vectors = x.new_zeros(x.shape[0], width)
        mapped: Tensor = mapper(vectors.to(x).view(x.shape[0], -1, width))
        return mapped.view(x.shape[0], -1, mapped.shape[2] // self.clip_tokens)

    def _plane(self, x: Tensor, given: Tensor | None, channels: int) -> Tensor:
        return x.new_zeros(x.shape[0], channels, 1, 1) if given is None else given.to(x)

    def _encode(self, h: Tensor, given: Given) -> list[Tensor]:
        """What each level gives, the first level first."""
        outputs: list[Tensor] = []
        index = 0
        for level, blocks in enumerate(self.down_blocks):
            per_layer = len(self.level_config[level])
            h = self.down_downscalers[level](h)
            layers = list(blocks.children())
            for mapper in (None, *self.down_repeat_mappers[level].children()):
                h = h if mapper is None else mapper(h)
                h = run_blocks(layers, h, given, Place("input", index), per_layer)
            index += len(layers) // per_layer
            outputs.append(h)
        return outputs

    def _decode(self, outputs: list[Tensor], given: Given) -> Tensor:
        h = outputs[-1]
        index = 0
        for place, blocks in enumerate(self.up_blocks):
            level = len(outputs) - 1 - place
            per_layer = len(self.level_config[level])
            here = Place("output", index)
            layers = list(blocks.children())
            for mapper in (None, *self.up_repeat_mappers[place].children()):
                h, joined = h if mapper is None else mapper(h), None
                if place:
                    h, joined = resize_to(h, outputs[level]), outputs[level]
                    for hook in given.hooks.skip:
                        h, joined = hook(here, h, joined)
                h = run_blocks(layers, h, given, here, per_layer, first=joined)
            index += len(layers) // per_layer
            h = self.up_upscalers[place](h)
        return h
