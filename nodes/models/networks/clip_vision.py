"""CLIP's vision encoder, a ViT (https://arxiv.org/abs/2103.00020), named as transformers names it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from nodes.models.networks.clip_text import Layer
from nodes.models.networks.convolutions import Conv2d
from nodes.models.networks.layers import Embedding, LayerNorm, Linear


class Encoded(NamedTuple):
    """What an encoder makes of pictures."""

    embeds: Tensor
    """(batch, projection): what is compared with, and stands for, text."""
    last: Tensor
    """(batch, tokens, width): the last layer's states."""
    penultimate: Tensor
    """(batch, tokens, width): those of the layer before."""


class ClipVision(nn.Module):
    """The vision encoder; computes in its input's dtype whatever its weights are stored in."""

    def __init__(
        self,
        size: int,
        patch: int,
        width: int,
        layers: int,
        heads: int,
        inner: int,
        activation: Literal["quick_gelu", "gelu"],
        projection: int,
    ) -> None:
        super().__init__()
        self.size = size
        self.vision_model = nn.ModuleDict(
            {
                "embeddings": Patches(size, patch, width),
                "pre_layrnorm": LayerNorm(width),
                "encoder": nn.ModuleDict(
                    {
                        "layers": nn.ModuleList(
                            Layer(width, heads, inner, activation, causal=False) for _ in range(layers)
                        )
                    }
                ),
                "post_layernorm": LayerNorm(width),
            }
        )
        self.visual_projection = Linear(width, projection, bias=False)

    def forward(self, pictures: Tensor) -> Encoded:
        """Encode normalised pictures (batch, 3, size, size)."""
        x = self.vision_model["pre_layrnorm"](self.vision_model["embeddings"](pictures))
        before = x
        for layer in self.vision_model["encoder"]["layers"]:  # type: ignore[index]
            before, x = x, layer(x)
        pooled = self.vision_model["post_layernorm"](x[:, 0])
        return Encoded(self.visual_projection(pooled), x, before)


class Patches(nn.Module):
    """A picture's patches as tokens, after one for the whole picture, with their places."""

    def __init__(self, size: int, patch: int, width: int) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.patch_embedding = Conv2d(3, width, patch, stride=patch, bias=False)
        self.position_embedding = Embedding((size // patch) ** 2 + 1, width)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map (batch, 3, size, size) to (batch, patches + 1, width)."""
        patches = self.patch_embedding(pictures).flatten(2).transpose(1, 2)
        whole = self.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        return torch.cat([whole, patches], dim=1) + self.position_embedding.weight.to(patches.dtype)
