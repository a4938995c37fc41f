"""CLIP's text encoder (https://arxiv.org/abs/2103.00020), named as transformers names it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nodes.models.networks.layers import Embedding, LayerNorm, Linear, attend


class Attention(nn.Module):
    """Multi-head self-attention; where it is causal, tokens see only themselves and those before them."""

    def __init__(self, width: int, heads: int, causal: bool = True) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.q_proj, self.k_proj = Linear(width, width), Linear(width, width)
        self.v_proj, self.out_proj = Linear(width, width), Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (b, tokens, width) to the same shape; `mask` (b, 1, tokens, tokens) stands in for the causal one."""
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        causal = self.causal and mask is None
        return self.out_proj(attend(q, k, v, self.heads, causal=causal, mask=mask))


class Mlp(nn.Module):
    """The feed-forward part; `quick_gelu` is x * sigmoid(1.702 x)."""

    def __init__(self, width: int, inner: int, activation: Literal["quick_gelu", "gelu"]) -> None:
        super().__init__()
        self.quick = activation == "quick_gelu"
        self.fc1, self.fc2 = Linear(width, inner), Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        h = self.fc1(x)
        return self.fc2(h * torch.sigmoid(1.702 * h) if self.quick else F.gelu(h))


class Layer(nn.Module):
    """One transformer layer, norms first."""

    def __init__(
        self,
        width: int,
        heads: int,
        inner: int,
        activation: Literal["quick_gelu", "gelu"],
        causal: bool = True,
    ) -> None:
        super().__init__()
        self.layer_norm1, self.self_attn = LayerNorm(width), Attention(width, heads, causal)
        self.layer_norm2, self.mlp = LayerNorm(width), Mlp(width, inner, activation)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (b, tokens, width) to the same shape; `mask` as `Attention` takes it."""
        x = x + self.self_attn(self.layer_norm1(x), mask)
        return x + self.mlp(self.layer_norm2(x))


class ClipText(nn.Module):
    """The text encoder; computes in float32 whatever its weights are stored in."""

    def __init__(
        self,
        vocabulary: int,
        positions: int,
        width: int,
        layers: int,
        heads: int,
        inner: int,
        activation: Literal["quick_gelu", "gelu"],
        projection: int | None = None,
    ) -> None:
        super().__init__()
        self.text_model = nn.ModuleDict(
            {
                "embeddings": nn.ModuleDict(
                    {
                        "token_embedding": Embedding(vocabulary, width),
                        "position_embedding": Embedding(positions, width),
                    }
                ),
                "encoder": nn.ModuleDict(
                    {"layers": nn.ModuleList(Layer(width, heads, inner, activation) for _ in range(layers))}
                ),
                "final_layer_norm": LayerNorm(width),
            }
        )
        self.text_projection = Linear(width, projection, bias=False) if projection is not None else None
        self.width = width

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the token embeddings (..., width), float32, of ids (...)."""
        table = self.text_model["embeddings"]["token_embedding"]  # type: ignore[index]
        return F.embedding(tokens, table.weight).float()

    def forward(
        self, embedded: Tensor, ends: Tensor, after: int, masked: bool = False, normed: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return (hidden (b, tokens, width), pooled (b, projection or width)) of token embeddings (b, tokens, width).

        `hidden` is taken after layer `after` (the number of layers for the last one), and through the final norm where
        `normed`; `pooled` is the last layer's state at the positions `ends` (b,), normed, and projected where there is a
        projection. `masked` hides what follows the ends from every token.
        """
        positions = self.text_model["embeddings"]["position_embedding"].weight  # type: ignore[index]
        x = embedded + positions[: embedded.shape[1]].to(embedded.dtype)
        mask = _mask(ends, embedded.shape[1]) if masked else None
        norm = self.text_model["final_layer_norm"]
        hidden = x
        for number, layer in enumerate(self.text_model["encoder"]["layers"], start=1):  # type: ignore[index]
            x = layer(x, mask)
            if number == after:
                hidden = x
        pooled = norm(x[torch.arange(len(x), device=x.device), ends])
        if self.text_projection is not None:
            pooled = self.text_projection(pooled)
        return norm(hidden) if normed else hidden, pooled


def _mask(ends: Tensor, tokens: int) -> Tensor:
    """(b, 1, tokens, tokens): each token sees those before it, itself, and nothing that follows its prompt's end."""
    places = torch.arange(tokens, device=ends.device)
    return (places <= places[:, None]) & (places <= ends[:, None, None])[:, None]
