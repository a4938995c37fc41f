"""Layers whose weights may be stored in another precision than they compute in.

Each casts its parameters to the input's dtype for the one call, so that half-precision weights can stay mapped
from their file while the sums are made in float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def cast(parameter: Tensor | None, like: Tensor) -> Tensor | None:
    """Return the parameter in the dtype of `like`; itself where that is its own."""
    if parameter is None or parameter.dtype == like.dtype:
        return parameter
    return parameter.to(like.dtype)


class Linear(nn.Linear):
    """`nn.Linear` in its input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (..., in) and return (..., out)."""
        if self.weight.dtype == x.dtype:
            return F.linear(x, self.weight, self.bias)
        return F.linear(x, self.weight.to(x.dtype), cast(self.bias, x))


class BatchNorm2d(nn.Module):
    """Batch normalisation in its input's dtype, without the count of batches, which nothing reads."""

    def __init__(self, channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (batch, channels, height, width); by the batch's own statistics while training."""
        mean, variance, weight, bias = self.running_mean, self.running_var, self.weight, self.bias
        if not self.training:
            mean, variance = mean.to(x.dtype), variance.to(x.dtype)
        return F.batch_norm(x, mean, variance, cast(weight, x), cast(bias, x), self.training, eps=self.eps)


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` in its input's dtype."""

    def __init__(self, channels: int, eps: float, groups: int = 32) -> None:
        super().__init__(groups, channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (batch, channels, ...)."""
        return F.group_norm(x, self.num_groups, cast(self.weight, x), cast(self.bias, x), self.eps)


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` in its input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (..., width)."""
        return F.layer_norm(x, self.normalized_shape, cast(self.weight, x), cast(self.bias, x), self.eps)


class Embedding(nn.Module):
    """A table of vectors, left uninitialised."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width))


def attend(
    query: Tensor, key: Tensor, value: Tensor, heads: int, causal: bool = False, mask: Tensor | None = None
) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v for (batch, tokens, heads * d) tensors, same shape as `query`.

    Where `mask` (batch, 1, tokens, keys) is False, a token does not see a key.
    """
    batch, tokens, width = query.shape
    split = (batch, -1, heads, width // heads)
    q, k, v = (part.view(split).transpose(1, 2) for part in (query, key, value))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    return out.transpose(1, 2).reshape(batch, tokens, width)


def sinusoidal(timestep: Tensor, width: int, shift: float = 0.0, sines_first: bool = False) -> Tensor:
    """Return the embedding (batch, width) of times (batch,): cosines, then sines, or the other way round; float32.

    The frequencies fall geometrically from 1 to 1/10,000, which is reached at half the width less `shift`
    (https://arxiv.org/abs/1706.03762).
    """
    half = width // 2
    # The order of these operations decides the last bit of a frequency, which a timestep of 999 makes visible.
    falling = torch.arange(half, dtype=torch.float32, device=timestep.device) * -math.log(10000.0)
    angles = timestep.float()[:, None] * torch.exp(falling / (half - shift))
    parts = (angles.sin(), angles.cos()) if sines_first else (angles.cos(), angles.sin())
    return torch.cat(parts, dim=-1)
