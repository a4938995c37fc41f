"""UniPC: a unified predictor and corrector (https://arxiv.org/abs/2302.04867), in its B(h) forms.

The state is that of the variance-preserving process: `x / sqrt(1 + sigma^2)`. The coefficients are computed in
float32, in which the last one, at a level of 0.001, is a few per cent off: shared pictures carry that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from nodes.diffusion.denoiser import Denoiser, OnStep, Step
from nodes.diffusion.noise import StepNoise

# Stands for a last level of 0, where the logarithm of the signal-to-noise ratio is infinite.
_LAST_SIGMA = 0.001

_HIGHEST_ORDER = 3


def uni_pc(
    denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep
) -> Tensor:
    """Take steps of up to third order with B(h) = h."""
    return _uni_pc(denoise, x, sigmas, on_step, "bh1")


def uni_pc_bh2(
    denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep
) -> Tensor:
    """Take steps of up to third order with B(h) = exp(h) - 1."""
    return _uni_pc(denoise, x, sigmas, on_step, "bh2")


def _uni_pc(
    denoise: Denoiser, x: Tensor, sigmas: Sequence[float], on_step: OnStep, variant: Literal["bh1", "bh2"]
) -> Tensor:
    levels = [_Level(sigma) for sigma in [*sigmas[:-1], sigmas[-1] or _LAST_SIGMA]]
    total = len(levels) - 1
    order = max(min(_HIGHEST_ORDER, total - 1), 1)
    x = x / float(torch.sqrt(1.0 + levels[0].sigma ** 2))
    known = [_x0(denoise, x, levels[0])]
    for index in range(1, total + 1):
        on_step(Step(index - 1, total, sigmas[index - 1], _unscaled(x, levels[index - 1]), known[-1]))
        used = index if index < order else min(order, total + 1 - index)
        step = _Step(levels[index - used : index + 1], known[-used:], variant)
        predicted = step.predict(x)
        if index < total:
            new = _x0(denoise, predicted, levels[index])
            x = step.correct(x, new)
            known = [*known, new][-order:]
        else:
            x = predicted
    x = x / float(levels[-1].alpha)
    # A flow's caller undoes the scale of the level it asked for, which is not quite the one that was reached.
    return x if sigmas[-1] else denoise.parametrisation.inverse_noise_scaling(_LAST_SIGMA, x)


class _Level:
    """The coefficients of the variance-preserving process at a noise level, as float32 scalars on the CPU."""

    def __init__(self, sigma: float) -> None:
        self.given = sigma
        self.sigma = torch.tensor(sigma, dtype=torch.float32)
        log_alpha = 0.5 * torch.log(1 / (self.sigma * self.sigma + 1))
        self.alpha = torch.exp(log_alpha)
        self.std = torch.sqrt(1.0 - torch.exp(2.0 * log_alpha))
        self.time = log_alpha - 0.5 * torch.log(1.0 - torch.exp(2.0 * log_alpha))


class _Step:
    """One step: from the last of the known levels to the next, by the x0 known at them."""

    def __init__(
        self, levels: Sequence[_Level], known: Sequence[Tensor], variant: Literal["bh1", "bh2"]
    ) -> None:
        *past, here, target = levels
        self._start, self._target = here, target
        self._newest = known[-1]
        width = target.time - here.time
        ratios = [(level.time - here.time) / width for level in reversed(past)]
        self._changes = [
            (x0 - known[-1]) / float(ratio) for x0, ratio in zip(reversed(known[:-1]), ratios, strict=True)
        ]
        back = -width
        self._phi = torch.expm1(back)
        self._b = back if variant == "bh1" else torch.expm1(back)
        order = len(known)
        self._powers = torch.stack(
            [torch.stack([*ratios, torch.ones(())]) ** power for power in range(order)]
        )
        self._moments = self._phi_moments(back, order) / self._b

    def _phi_moments(self, back: Tensor, order: int) -> Tensor:
        phi = self._phi / back - 1
        factorial = 1.0
        moments = []
        for power in range(1, order + 1):
            moments.append(phi * factorial)
            factorial *= power + 1
            phi = phi / back - 1 / factorial
        return torch.stack(moments)

    def predict(self, x: Tensor) -> Tensor:
        """Return the state at the target from what is known before it."""
        if not self._changes:
            return self._first_order(x)
        if len(self._changes) == 1:
            # Second order has the paper's constant in place of the solution.
            weights = torch.tensor([0.5])
        else:
            weights = torch.linalg.solve(self._powers[:-1, :-1], self._moments[:-1])
        return self._combined(x, weights, self._changes)

    def correct(self, x: Tensor, new: Tensor) -> Tensor:
        """Return the state at the target with the x0 found there taken into account."""
        weights = torch.tensor([0.5])
        if self._changes:
            weights = torch.linalg.solve(self._powers, self._moments)
        return self._combined(x, weights, [*self._changes, new - self._newest])

    def _first_order(self, x: Tensor) -> Tensor:
        ratio = self._target.std / self._start.std
        return x * float(ratio) - self._newest * float(self._target.alpha * self._phi)

    def _combined(self, x: Tensor, weights: Tensor, changes: Sequence[Tensor]) -> Tensor:
        factor = self._target.alpha * self._b
        total = self._first_order(x)
        for weight, change in zip(weights, changes, strict=True):
            total = total - change * float(factor * weight)
        return total


def _x0(denoise: Denoiser, x: Tensor, level: _Level) -> Tensor:
    sigma = level.given
    x_unscaled = _unscaled(x, level)
    eps = (x_unscaled - denoise(x_unscaled, sigma)) / sigma
    return (x - eps * float(level.std)) / float(level.alpha)


def _unscaled(x: Tensor, level: _Level) -> Tensor:
    return x * float(torch.sqrt(level.sigma**2 + 1.0))
