"""A network and its parametrisation as one estimate of the clean latent: `(x, sigma, inputs) -> x0`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import lcm
from typing import Any, Protocol

import torch
from torch import Tensor

from nodes.diffusion.levels import time_at
from nodes.diffusion.parametrisation import Parametrisation
from nodes.values import LatentFormat, Patch


class Network(Protocol):
    """A network on its device, as the model pool hands it out."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""

    def __call__(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        pooled: Tensor | None = None,
        concat: Tensor | None = None,
        patches: tuple[Patch, ...] = (),
        extras: Mapping[str, Any] = ...,
    ) -> Tensor:
        """Return the raw output for `x` (batch, channels, height, width) at `timestep` (batch,), in x's dtype."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a network is given besides the noisy latent, on its device and in its dtype.

    `context` (batch, tokens, width), `pooled` (batch, width), `concat` (batch, channels, height, width) at the
    latent's size. `repeatable` where a context repeated is to the network as it was.
    """

    context: Tensor
    pooled: Tensor | None = None
    concat: Tensor | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    repeatable: bool = True

    def fits(self, other: Inputs, padding: int = 4) -> bool:
        """Whether both can be given to the network in one batch.

        Contexts of different token counts can, repeated to their least common multiple, where attention to the
        context alone is as it was by that; not where one would be repeated more than `padding` times.
        """
        mine, theirs = self.context.shape, other.context.shape
        most = padding if self.repeatable and other.repeatable else 1
        return (
            (mine[0], mine[2]) == (theirs[0], theirs[2])
            and lcm(mine[1], theirs[1]) // min(mine[1], theirs[1]) <= most
            and _alike(self.pooled, other.pooled)
            and _alike(self.concat, other.concat)
            and self.extras.keys() == other.extras.keys()
            and all(_alike(self.extras[name], other.extras[name]) for name in self.extras)
        )


def stack(items: Sequence[Inputs]) -> Inputs:
    """Join inputs that fit one another into one batch, in order."""
    if len(items) == 1:
        return items[0]
    tokens = lcm(*(item.context.shape[1] for item in items))
    first = items[0]
    return Inputs(
        context=torch.cat([item.context.repeat(1, tokens // item.context.shape[1], 1) for item in items]),
        pooled=_joined([item.pooled for item in items]),
        concat=_joined([item.concat for item in items]),
        extras={name: _joined([item.extras[name] for item in items]) for name in first.extras},
        repeatable=all(item.repeatable for item in items),
    )


@dataclass(frozen=True, eq=False)
class ModelDenoiser:
    """Turns a network's raw output into x0: float32 outside, the network's dtype inside."""

    network: Network
    parametrisation: Parametrisation
    patches: tuple[Patch, ...] = ()

    def __call__(self, x: Tensor, sigma: float, inputs: Inputs) -> Tensor:
        """Return x0, shaped as `x` (batch, channels, height, width), float32; `inputs` has x's batch size."""
        # The timestep is filled on the device from a host number: no copy, no synchronisation.
        timestep = torch.full(
            (x.shape[0],), time_at(sigma, self.parametrisation), dtype=torch.float32, device=x.device
        )
        scaled = self.parametrisation.scale_input(x, sigma).to(self.network.dtype)
        output = self.network(
            scaled,
            timestep,
            inputs.context,
            pooled=inputs.pooled,
            concat=inputs.concat,
            patches=self.patches,
            extras=inputs.extras,
        )
        return self.parametrisation.to_x0(output.float(), x, sigma)


def into_network(samples: Tensor, latent_format: LatentFormat) -> Tensor:
    """Scale latents as links carry them to what the network sees."""
    return (samples - latent_format.shift) * latent_format.scale


def out_of_network(samples: Tensor, latent_format: LatentFormat) -> Tensor:
    """Scale latents as the network sees them to what links carry."""
    return samples / latent_format.scale + latent_format.shift


def _alike(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape
    return one is other or (not isinstance(one, Tensor) and not isinstance(other, Tensor) and one == other)


def _joined(items: Sequence[Any]) -> Any:
    return torch.cat(list(items)) if isinstance(items[0], Tensor) else items[0]
