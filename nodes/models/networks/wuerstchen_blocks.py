"""What the networks of Würstchen (https://arxiv.org/abs/2306.00637) and Stable Cascade are made of.

Blocks after ConvNeXt V2 (https://arxiv.org/abs/2301.00808) that normalise over the channels, modulation by the time,
and attention whose keys are the picture's own positions followed by the context.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nodes.models.networks.convolutions import Conv2d
from nodes.models.networks.hooks import AttentionPlace, Hooks, Place
from nodes.models.networks.layers import Linear, attend

_EPS = 1e-6
_POSITIONS = 10000.0


def ratio_embedding(ratio: Tensor, width: int) -> Tensor:
    """Return the embedding (batch, width) of ratios (batch,), 0..1: sines, then cosines, float32.

    The frequencies of 10,000 times the ratio fall geometrically from 1 to 1/10,000, both ends included.
    """
    half = width // 2
    # Angles reach 10,000, which makes the last bit of a frequency visible: the order of operations counts.
    falling = torch.arange(half, dtype=torch.float32, device=ratio.device) * -(
        math.log(_POSITIONS) / max(1, half - 1)
    )
    angles = (ratio.float() * _POSITIONS)[:, None] * torch.exp(falling)
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width % 2))


class ChannelNorm(nn.Module):
    """Normalises each pixel over its channels, without scale."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (batch, channels, height, width)."""
        return F.layer_norm(x.movedim(1, -1), x.shape[1:2], eps=_EPS).movedim(-1, 1)


class GlobalResponseNorm(nn.Module):
    """Scales channels by their share in the whole picture's response, with a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (batch, height, width, channels)."""
        return torch.addcmul(self.beta.to(x.dtype), x, self._scale(x))

    def apply_(self, x: Tensor) -> Tensor:
        """Apply to (batch, height, width, channels) in place; without gradients only."""
        return torch.addcmul(self.beta.to(x.dtype), x, self._scale(x), out=x)

    def _scale(self, x: Tensor) -> Tensor:
        response = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=torch.float32)
        share = response / (response.mean(dim=-1, keepdim=True) + _EPS)
        return (1.0 + self.gamma.float() * share).to(x.dtype)


class ResBlock(nn.Module):
    """A depthwise convolution and a pointwise network four times as wide inside, with a skip.

    `skip` channels of another feature map join after the normalisation.
    """

    def __init__(self, channels: int, skip: int = 0, kernel_size: int = 3) -> None:
        super().__init__()
        self.depthwise = Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        # The empty place is the dropout that checkpoints count in their names.
        self.channelwise = nn.Sequential(
            Linear(channels + skip, channels * 4),
            nn.GELU(),
            GlobalResponseNorm(channels * 4),
            nn.Identity(),
            Linear(channels * 4, channels),
        )

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Map (batch, channels, h, w) and a skip (batch, skip, h, w) to (batch, channels, h, w)."""
        h = F.layer_norm(self.depthwise(x).movedim(1, -1), x.shape[1:2], eps=_EPS)
        if skip is not None:
            h = torch.cat([h, skip.movedim(1, -1)], dim=-1)
        return x + self._pointwise(h).movedim(-1, 1)

    def _pointwise(self, h: Tensor) -> Tensor:
        """The pointwise network of (batch, h, w, channels + skip)."""
        if torch.is_grad_enabled():
            return self.channelwise(h)
        # In place: the inner width is what decides how large a picture fits into memory.
        wide, _, norm, _, narrow = self.channelwise
        return narrow(norm.apply_(torch.ops.aten.gelu_(wide(h))))  # type: ignore[operator]


class TimestepBlock(nn.Module):
    """Scales and shifts channels by the time, and by the further conditions named `conds`."""

    def __init__(self, channels: int, ratio_width: int, conds: tuple[str, ...] = ()) -> None:
        super().__init__()
        names = ("mapper", *(f"mapper_{cond}" for cond in conds))
        for name in names:
            self.add_module(name, Linear(ratio_width, channels * 2))

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """Map (batch, channels, h, w) by the embeddings (batch, ratio_width for each mapper)."""
        mappers = list(self.children())
        parts = embedded.chunk(len(mappers), dim=1)
        mapped = sum(mapper(part) for mapper, part in zip(mappers, parts, strict=True))
        scale, shift = mapped[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, x, 1.0 + scale)


class Attention(nn.Module):
    """Multi-head attention of one sequence to another."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (Linear(channels, channels) for _ in range(3))
        self.to_out = nn.Sequential(Linear(channels, channels))

    def forward(self, x: Tensor, other: Tensor, place: Place, hooks: Hooks) -> Tensor:
        """Map (batch, tokens, channels) with (batch, n, channels) to (batch, tokens, channels)."""
        q, k, v = self.to_q(x), self.to_k(other), self.to_v(other)
        for hook in hooks.attention:
            changed = hook(AttentionPlace(place, 0, True, self.heads), q, k, v)
            if changed is not None:
                return self.to_out(changed)
        return self.to_out(attend(q, k, v, self.heads))


class AttnBlock(nn.Module):
    """Attention of the pixels to the context, and to themselves unless `self_attn` is False, with a skip."""

    def __init__(self, channels: int, context_width: int, heads: int, self_attn: bool = True) -> None:
        super().__init__()
        self.self_attn = self_attn
        self.attention = Attention(channels, heads)
        self.kv_mapper = nn.Sequential(nn.SiLU(), Linear(context_width, channels))

    def forward(self, x: Tensor, context: Tensor, place: Place, hooks: Hooks) -> Tensor:
        """Map (batch, channels, h, w) with (batch, n, context_width) to (batch, channels, h, w)."""
        pixels = F.layer_norm(x.flatten(2).transpose(1, 2), x.shape[1:2], eps=_EPS)
        keys = self.kv_mapper(context)
        if self.self_attn:
            keys = torch.cat([pixels, keys], dim=1)
        out = self.attention(pixels, keys, place, hooks)
        return x + out.transpose(1, 2).unflatten(2, x.shape[2:])


@dataclass(frozen=True, slots=True)
class BlockShape:
    """What the blocks of one level have in common; blocks are `C` (residual), `T` (time) and `A` (attention)."""

    channels: int
    ratio_width: int
    context_width: int
    heads: int
    kernel_size: int = 3
    conds: tuple[str, ...] = ()
    self_attn: bool = True

    def make(self, kind: str, skip: int = 0) -> nn.Module:
        """Return a block. Raises ValueError for an unknown kind."""
        match kind:
            case "C":
                return ResBlock(self.channels, skip, self.kernel_size)
            case "T":
                return TimestepBlock(self.channels, self.ratio_width, self.conds)
            case "A":
                return AttnBlock(self.channels, self.context_width, self.heads, self.self_attn)
        raise ValueError(f"no block is of the kind {kind!r}")


@dataclass(frozen=True, slots=True)
class Given:
    """What every block of one call may read: the embedded time (batch, n), the context (batch, tokens, n), hooks."""

    ratio: Tensor
    context: Tensor
    hooks: Hooks


def run_blocks(
    blocks: Iterable[nn.Module],
    x: Tensor,
    given: Given,
    place: Place,
    per_layer: int,
    first: Tensor | None = None,
    every: Tensor | None = None,
) -> Tensor:
    """Return x (batch, channels, h, w) after the blocks; `per_layer` blocks make one place, `place` is the first.

    `first` joins the first block where it is a residual one, `every` all other residual ones.
    """
    for index, block in enumerate(blocks):
        here = Place(place.stage, place.index + index // per_layer)
        if isinstance(block, ResBlock):
            x = block(x, every if index or first is None else first)
        elif isinstance(block, AttnBlock):
            x = block(x, given.context, here, given.hooks)
        else:
            x = block(x, given.ratio)
        if (index + 1) % per_layer == 0:
            for hook in given.hooks.block:
                x = hook(here, x)
    return x


def resize_to(x: Tensor, like: Tensor) -> Tensor:
    """Return x (batch, channels, h, w) at the height and width of `like`, bilinearly where they differ."""
    if x.shape[2:] == like.shape[2:]:
        return x
    size = like.shape[2:]
    return F.interpolate(x.float(), size=size, mode="bilinear", align_corners=True).to(x.dtype)
