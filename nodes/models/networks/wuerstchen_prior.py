"""Stage C of Würstchen v2 (https://arxiv.org/abs/2306.00637): text to the semantic latent, 42 times smaller a side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from nodes.models.networks.convolutions import Conv2d
from nodes.models.networks.denoising import DenoisingModule
from nodes.models.networks.hooks import NO_HOOKS, Hooks, Place
from nodes.models.networks.layers import Linear
from nodes.models.networks.wuerstchen_blocks import (
    BlockShape,
    ChannelNorm,
    Given,
    ratio_embedding,
    run_blocks,
)

_LAYER = "CTA"


class WuerstchenPrior(DenoisingModule):
    """The noise predictor of Stage C: `depth` layers of equal width at one resolution.

    Parameters are named as in diffusers folders.
    """

    def __init__(
        self,
        in_channels: int = 16,
        channels: int = 1536,
        cross_attention_dim: int = 1280,
        ratio_width: int = 64,
        depth: int = 32,
        num_heads: int = 24,
    ) -> None:
        super().__init__()
        self.in_channels, self.cross_attention_dim = in_channels, cross_attention_dim
        self.ratio_width = ratio_width
        self.projection = Conv2d(in_channels, channels, 1)
        self.cond_mapper = nn.Sequential(
            Linear(cross_attention_dim, channels), nn.LeakyReLU(0.2), Linear(channels, channels)
        )
        shape = BlockShape(channels, ratio_width, channels, num_heads)
        self.blocks = nn.ModuleList(shape.make(kind) for _ in range(depth) for kind in _LAYER)
        self.out = nn.Sequential(ChannelNorm(), Conv2d(channels, in_channels * 2, 1))

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

        Nothing of `pooled` and `extras` is read.
        """
        ratio = ratio_embedding(timestep, self.ratio_width).to(x.dtype)
        given = Given(ratio, self.cond_mapper(context.to(x.dtype)), hooks)
        h = run_blocks(self.blocks, self.projection(x), given, Place("middle", 0), len(_LAYER))
        # The divisor may come near zero, so the last step is made in float32 whatever the rest is computed in.
        offset, scale = self.out(h).float().chunk(2, dim=1)
        return ((x.float() - offset) / ((1.0 - scale).abs() + 1e-5)).to(x.dtype)
