"""Small networks with known outputs, for what lies between a sampler and a network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nodes.diffusion.parametrisation import Discrete, Parametrisation
from nodes.values import Architecture, Cond, Conditioning, Guider, LatentFormat, Model, Patch, Weights

WIDTH = 16
LATENT_FORMAT = LatentFormat("sd1", 4, 0.18215)


@dataclass
class ToyNetwork:
    """A convolution, cross-attention and a second convolution, with fixed weights.

    What it predicts at a pixel depends on its neighbours, the time, the context and the extra channels.
    `calls` lists the batch size, height and width of each call.
    """

    extra_channels: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    calls: list[tuple[int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(1)

        def weight(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator) / math.sqrt(math.prod(shape[1:]))

        self.first, self.query = weight(8, 4 + self.extra_channels, 3, 3), weight(8, 8)
        self.key, self.value, self.last = weight(8, WIDTH), weight(8, WIDTH), weight(4, 8, 3, 3)

    def __call__(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        pooled: Tensor | None = None,
        concat: Tensor | None = None,
        patches: tuple[Patch, ...] = (),
        extras: Mapping[str, Any] | None = None,
    ) -> Tensor:
        assert x.dtype == self.dtype and context.dtype == self.dtype
        assert len(x) == len(timestep) == len(context)
        self.calls.append((len(x), *x.shape[-2:]))
        joined = x if concat is None else torch.cat([x, concat], dim=1)
        hidden = torch.tanh(functional.conv2d(joined.float(), self.first, padding=1))
        query = hidden.flatten(2).transpose(1, 2) @ self.query.T * 3
        scores = query @ (context.float() @ self.key.T).transpose(1, 2)
        read = torch.softmax(scores, dim=-1) @ (context.float() @ self.value.T)
        hidden = hidden + read.transpose(1, 2).reshape(hidden.shape)
        hidden = hidden + torch.sin(timestep / 150).view(-1, 1, 1, 1)
        return functional.conv2d(hidden, self.last, padding=1).to(x.dtype)


@dataclass
class ConstantNetwork:
    """Predicts x0 (in an x0 parametrisation) equal to the mean of the context everywhere."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    memory: int = 10**9
    """How many items of a batch fit."""
    calls: list[tuple[int, int, int]] = field(default_factory=list)

    def __call__(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        pooled: Tensor | None = None,
        concat: Tensor | None = None,
        patches: tuple[Patch, ...] = (),
        extras: Mapping[str, Any] | None = None,
    ) -> Tensor:
        if len(x) > self.memory:
            raise torch.OutOfMemoryError("no room")
        self.calls.append((len(x), *x.shape[-2:]))
        return context.mean(dim=(1, 2)).view(-1, 1, 1, 1).expand_as(x).to(x.dtype)


def model(
    parametrisation: Parametrisation | None = None, extra_channels: int = 0, patches: tuple[Patch, ...] = ()
) -> Model:
    """A recipe that the toy networks stand for."""
    arguments = (("in_channels", 4 + extra_channels), ("cross_attention_dim", WIDTH))
    return Model(
        Weights("toy", "unet", "ldm"),
        Architecture("toy", arguments),
        parametrisation if parametrisation is not None else Discrete(),
        LATENT_FORMAT,
        "sd1",
        patches,
    )


def constant(value: float, tokens: int = 77, **facts: Any) -> Cond:
    """A conditioning whose context is `value` throughout."""
    return Cond(torch.full((1, tokens, WIDTH), value), **facts)


def together(*entries: Cond) -> Conditioning:
    """Conditionings that apply together."""
    return Conditioning(entries)


def cfg_guider(recipe: Model, positive: Conditioning, negative: Conditioning, scale: float) -> Guider:
    """Classifier-free guidance."""
    return Guider("cfg", recipe, (("positive", positive), ("negative", negative)), (("cfg", scale),))
