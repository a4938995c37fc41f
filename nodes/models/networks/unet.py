"""The U-Net of latent diffusion (https://arxiv.org/abs/2112.10752): Stable Diffusion 1.x, 2.x and their kin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nodes.models.networks.convolutions import Conv2d, Upsample
from nodes.models.networks.denoising import DenoisingModule
from nodes.models.networks.hooks import NO_HOOKS, AttentionPlace, Hooks, Place
from nodes.models.networks.layers import GroupNorm, LayerNorm, Linear, attend, sinusoidal


class ResBlock(nn.Module):
    """Two convolutions around the time embedding, with a skip."""

    def __init__(self, channels: int, time_width: int, out: int, groups: int) -> None:
        super().__init__()
        # The empty places are the activations and the dropout that checkpoints count in their names.
        self.in_layers = nn.Sequential(
            GroupNorm(channels, 1e-5, groups), nn.SiLU(), Conv2d(channels, out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), Linear(time_width, out))
        self.out_layers = nn.Sequential(
            GroupNorm(out, 1e-5, groups), nn.SiLU(), nn.Identity(), Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if channels == out else Conv2d(channels, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Map (b, channels, h, w) and (b, time_width) to (b, out, h, w)."""
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class CrossAttention(nn.Module):
    """Multi-head attention to the context, or to itself."""

    def __init__(self, width: int, cross_attention_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = Linear(width, width, bias=False)
        self.to_k = Linear(cross_attention_dim, width, bias=False)
        self.to_v = Linear(cross_attention_dim, width, bias=False)
        self.to_out = nn.Sequential(Linear(width, width))

    def forward(self, x: Tensor, context: Tensor, place: AttentionPlace, hooks: Hooks) -> Tensor:
        """Map (b, tokens, width) with (b, n, cross_attention_dim) to (b, tokens, width)."""
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        for hook in hooks.attention:
            changed = hook(place, q, k, v)
            if changed is not None:
                return self.to_out(changed)
        return self.to_out(attend(q, k, v, self.heads))


class GatedLinear(nn.Module):
    """A linear layer whose second half gates the first through GELU (https://arxiv.org/abs/2002.05202)."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.proj = Linear(width, out * 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., out)."""
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    """The transformer's feed-forward part, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GatedLinear(width, width * 4), nn.Identity(), Linear(width * 4, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, each after a norm and with a skip."""

    def __init__(self, width: int, cross_attention_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attn1 = CrossAttention(width, width, heads)
        self.attn2 = CrossAttention(width, cross_attention_dim, heads)
        self.ff = FeedForward(width)
        self.norm1, self.norm2, self.norm3 = LayerNorm(width), LayerNorm(width), LayerNorm(width)

    def forward(self, x: Tensor, context: Tensor, block: Place, layer: int, hooks: Hooks) -> Tensor:
        """Map (b, tokens, width) to (b, tokens, width)."""
        own = self.norm1(x)
        x = x + self.attn1(own, own, AttentionPlace(block, layer, False, self.heads), hooks)
        x = x + self.attn2(self.norm2(x), context, AttentionPlace(block, layer, True, self.heads), hooks)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a feature map."""

    def __init__(
        self, channels: int, cross_attention_dim: int, heads: int, depth: int, linear: bool, groups: int
    ) -> None:
        super().__init__()
        self.linear = linear
        self.norm = GroupNorm(channels, 1e-6, groups)
        self.proj_in: nn.Module = Linear(channels, channels) if linear else Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(channels, cross_attention_dim, heads) for _ in range(depth)
        )
        self.proj_out: nn.Module = Linear(channels, channels) if linear else Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor, place: Place, hooks: Hooks) -> Tensor:
        """Map (b, channels, h, w) to the same shape."""
        height, width = x.shape[-2:]
        h = self.norm(x)
        if not self.linear:
            h = self.proj_in(h)
        # Tokens next to each other in memory: each sum and norm of the blocks would go across them otherwise.
        h = h.flatten(2).transpose(1, 2).contiguous()
        if self.linear:
            h = self.proj_in(h)
        for layer, block in enumerate(self.transformer_blocks):
            h = block(h, context, place, layer, hooks)
        if self.linear:
            h = self.proj_out(h)
        h = h.transpose(1, 2).unflatten(2, (height, width))
        if not self.linear:
            h = self.proj_out(h)
        return x + h


class Downsample(nn.Module):
    """Half the height and width by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, c, ceil(h / 2), ceil(w / 2))."""
        return self.op(x)


class UNet(DenoisingModule):
    """The noise predictor.

    `channel_mult` and `num_res_blocks` have one entry a level; `depth_in` and `depth_out` one for each residual block
    of the way down and up: how many transformer layers follow it. Heads are `num_heads`, or channels / `head_width`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        model_channels: int,
        channel_mult: tuple[int, ...],
        num_res_blocks: tuple[int, ...],
        depth_in: tuple[int, ...],
        depth_middle: int,
        depth_out: tuple[int, ...],
        cross_attention_dim: int,
        linear: bool,
        num_heads: int | None = None,
        head_width: int | None = None,
        vector_width: int | None = None,
        norm_groups: int = 32,
    ) -> None:
        super().__init__()
        self.in_channels, self.model_channels, self.cross_attention_dim = (
            in_channels,
            model_channels,
            cross_attention_dim,
        )
        self.vector_width = vector_width
        time = model_channels * 4
        self.time_embed = nn.Sequential(Linear(model_channels, time), nn.SiLU(), Linear(time, time))
        if vector_width is not None:
            self.label_emb = nn.Sequential(
                nn.Sequential(Linear(vector_width, time), nn.SiLU(), Linear(time, time))
            )

        def transformer(channels: int, depth: int) -> list[nn.Module]:
            if not depth:
                return []
            heads = num_heads if num_heads is not None else channels // (head_width or 64)
            return [SpatialTransformer(channels, cross_attention_dim, heads, depth, linear, norm_groups)]

        blocks = [nn.ModuleList([Conv2d(in_channels, model_channels, 3, padding=1)])]
        channels, skips, depths = model_channels, [model_channels], iter(depth_in)
        for level, (mult, count) in enumerate(zip(channel_mult, num_res_blocks, strict=True)):
            for _ in range(count):
                out = mult * model_channels
                blocks.append(
                    nn.ModuleList(
                        [ResBlock(channels, time, out, norm_groups), *transformer(out, next(depths))]
                    )
                )
                channels = out
                skips.append(channels)
            if level != len(channel_mult) - 1:
                blocks.append(nn.ModuleList([Downsample(channels)]))
                skips.append(channels)
        self.input_blocks = nn.ModuleList(blocks)
        self.middle_block = nn.ModuleList(
            [
                ResBlock(channels, time, channels, norm_groups),
                *transformer(channels, depth_middle),
                ResBlock(channels, time, channels, norm_groups),
            ]
        )
        blocks, depths = [], iter(depth_out)
        for level in reversed(range(len(channel_mult))):
            for index in range(num_res_blocks[level] + 1):
                out = channel_mult[level] * model_channels
                layers: list[nn.Module] = [ResBlock(channels + skips.pop(), time, out, norm_groups)]
                layers += transformer(out, next(depths))
                if level and index == num_res_blocks[level]:
                    layers.append(Upsample(out))
                blocks.append(nn.ModuleList(layers))
                channels = out
        self.output_blocks = nn.ModuleList(blocks)
        self.out = nn.Sequential(
            GroupNorm(channels, 1e-5, norm_groups), nn.SiLU(), Conv2d(channels, out_channels, 3, padding=1)
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
        """Map x (b, in_channels, h, w), timestep (b,), context (b, n, cross_attention_dim) to (b, out_channels, h, w).

        `pooled` (b, vector_width) joins the time embedding where the architecture has a place for it; nothing of
        `extras` is read.
        """
        emb = self.time_embed(sinusoidal(timestep, self.model_channels).to(x.dtype))
        if self.vector_width is not None and pooled is not None:
            emb = emb + self.label_emb(pooled.to(x.dtype))
        skips: list[Tensor] = []
        h = x
        for index, block in enumerate(self.input_blocks):
            h = _run(block, h, emb, context, Place("input", index), hooks)
            skips.append(h)
        h = _run(self.middle_block, h, emb, context, Place("middle", 0), hooks)
        for index, block in enumerate(self.output_blocks):
            place, skip = Place("output", index), skips.pop()
            for hook in hooks.skip:
                h, skip = hook(place, h, skip)
            size = skips[-1].shape[-2:] if skips else h.shape[-2:]
            h = _run(block, torch.cat([h, skip], dim=1), emb, context, place, hooks, size)
        return self.out(h)


def _run(
    block: nn.Module,
    h: Tensor,
    emb: Tensor,
    context: Tensor,
    place: Place,
    hooks: Hooks,
    size: torch.Size | None = None,
) -> Tensor:
    for layer in block.children():
        if isinstance(layer, ResBlock):
            h = layer(h, emb)
        elif isinstance(layer, SpatialTransformer):
            h = layer(h, context, place, hooks)
        elif isinstance(layer, Upsample):
            h = layer(h, size)
        else:
            h = layer(h)
    for hook in hooks.block:
        h = hook(place, h)
    return h
