"""An exact denoiser: the posterior mean of data drawn from a mixture of normal distributions.

Each element of a latent is one draw, so its probability flow ODE has a solution in closed form: the share of the
distribution below the element stays the same at all noise levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from torch import Tensor

from nodes.diffusion.parametrisation import Discrete, Parametrisation

EPS = Discrete()


@dataclass(frozen=True)
class Mixture:
    """Normal distributions of one `spread` around `means`, with `weights`; `uncond` shifts the means."""

    means: tuple[float, ...] = (-1.0, 0.4, 1.5)
    weights: tuple[float, ...] = (0.3, 0.5, 0.2)
    spread: float = 0.6
    uncond: float = 0.0
    parametrisation: Parametrisation = EPS

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        return self._posterior_mean(x, sigma, 0.0)

    def with_uncond(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        return self(x, sigma), self._posterior_mean(x, sigma, self.uncond)

    def _posterior_mean(self, x: Tensor, sigma: float, shift: float) -> Tensor:
        alpha = self._alpha(sigma)
        means = torch.tensor(self.means, dtype=x.dtype) + shift
        variance = alpha**2 * self.spread**2 + sigma**2
        distance = x.unsqueeze(-1) - alpha * means
        log_weights = torch.tensor(self.weights, dtype=x.dtype).log()
        share = torch.softmax(log_weights - distance**2 / (2 * variance), -1)
        return (share * (means + alpha * self.spread**2 / variance * distance)).sum(-1)

    def _alpha(self, sigma: float) -> float:
        return 1.0 - sigma if self.parametrisation.is_flow else 1.0

    def transported(self, x: Tensor, start: float, end: float) -> Tensor:
        """Return the solution of the probability flow ODE from `x` at the level `start` to the level `end`."""
        answers = []
        for value in x.flatten().tolist():
            target = self._share_below(value, start)

            def difference(place: float, target: float = target) -> float:
                return self._share_below(place, end) - target

            answers.append(brentq(difference, -60.0, 60.0, xtol=1e-13))
        return torch.tensor(answers, dtype=x.dtype).view(x.shape)

    def _share_below(self, value: float, sigma: float) -> float:
        alpha = self._alpha(sigma)
        width = (alpha**2 * self.spread**2 + sigma**2) ** 0.5
        shares = [math.erfc((alpha * mean - value) / (width * 2**0.5)) / 2 for mean in self.means]
        return sum(weight * share for weight, share in zip(self.weights, shares, strict=True))


@dataclass(frozen=True)
class Point:
    """Data of one value: x0 is known, whatever the latent."""

    value: float
    parametrisation: Parametrisation = EPS

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        return torch.full_like(x, self.value)

    def with_uncond(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        return self(x, sigma), self(x, sigma)


def geometric(steps: int, start: float, end: float) -> Tensor:
    """Return `steps` + 1 levels evenly spaced in log sigma."""
    return torch.logspace(torch.tensor(start).log10().item(), torch.tensor(end).log10().item(), steps + 1)


def largest_difference(actual: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the largest magnitude."""
    return float((actual - expected).abs().max() / expected.abs().max())


def levels(values: Sequence[float]) -> Tensor:
    """Return noise levels as float32."""
    return torch.tensor(values, dtype=torch.float32)
