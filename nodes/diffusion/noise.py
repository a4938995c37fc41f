"""Noise: the first of a run, the step noise of ancestral samplers, the Brownian paths of SDE samplers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

_TREE_DIGITS = 6


class StepNoise(Protocol):
    """Unit normal noise for the step from one noise level to the next."""

    def __call__(self, sigma: float, sigma_next: float, like: Tensor | None = None) -> Tensor:
        """Return noise of unit variance, shaped as the latent of the run's start, or shaped and laid out as `like`."""


def initial_noise(latent: Tensor, seed: int, batch_indices: Sequence[int] | None = None) -> Tensor:
    """Draw the first noise of a run on the CPU: one draw of the whole batch from `seed`.

    With `batch_indices`, one for each sample, each sample gets the noise at that place of a sequence of
    single draws, so that a sample of a batch can be made again alone. Shaped and typed as `latent`.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    if batch_indices is None:
        return torch.randn(latent.shape, dtype=latent.dtype, generator=generator)
    one = (1, *latent.shape[1:])
    draws = [torch.randn(one, dtype=latent.dtype, generator=generator) for _ in range(max(batch_indices) + 1)]
    return torch.cat([draws[index] for index in batch_indices])


def step_noise(x: Tensor, seed: int | None, *, continued: bool = False) -> StepNoise:
    """Return independent draws from one generator on x's device, seeded with the run's own seed.

    So on the CPU the first draw is the first noise of the run again; `continued` goes on after that one. A
    seed of None leaves it to chance.
    """
    generator = torch.Generator(x.device)
    generator.manual_seed(seed) if seed is not None else generator.seed()

    def draw(sigma: float, sigma_next: float, like: Tensor | None = None) -> Tensor:
        if like is None:
            return torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
        return torch.empty_like(like).normal_(generator=generator)

    if continued and x.device.type == "cpu":
        draw(0.0, 0.0)

    return draw


def brownian_noise(
    x: Tensor,
    sigmas: Sequence[float],
    seed: int | None,
    *,
    on_cpu: bool = True,
    transform: Callable[[float], float] = lambda sigma: sigma,
) -> StepNoise:
    """Return increments of one Brownian path over the noise levels, scaled to unit variance.

    The path depends on the seed and the ends of `sigmas` only, so runs with different step counts share it.
    Held on the CPU, or with `on_cpu` false on x's device; `transform` maps sigma to the path's time.
    """
    import torchsde

    positive = [sigma for sigma in sigmas if sigma > 0]
    ends = sorted((_float32(transform(min(positive))), _float32(transform(max(sigmas)))))
    device = torch.device("cpu") if on_cpu else x.device
    entropy = int(torch.randint(0, 2**63 - 1, ())) if seed is None else seed
    tree = torchsde.BrownianTree(
        torch.tensor(ends[0], device=device),
        torch.zeros(x.shape, dtype=x.dtype, device=device),
        torch.tensor(ends[1], device=device),
        entropy=entropy,
    )

    # The tree rounds all times, its ends included, which the levels may exceed by that.
    first, last = round(ends[0], _TREE_DIGITS), round(ends[1], _TREE_DIGITS)

    def draw(sigma: float, sigma_next: float, like: Tensor | None = None) -> Tensor:
        start, end = _float32(transform(sigma)), _float32(transform(sigma_next))
        low, high = min(start, end), max(start, end)
        increment = torch.as_tensor(tree(max(low, first), min(high, last)))
        sign = 1.0 if start < end else -1.0
        return increment.to(x.device, x.dtype) * (sign / math.sqrt(high - low))

    return draw


def _float32(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float32))
