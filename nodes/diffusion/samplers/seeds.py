"""SEEDS: stochastic explicit exponential derivative-free solvers (https://arxiv.org/abs/2305.14267).

Time is the half log signal-to-noise ratio. `eta` 0 is the ODE; `s_noise` scales the noise, which is one path
through the inner stages of each step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from nodes.diffusion.denoiser import Denoiser, OnStep
from nodes.diffusion.noise import StepNoise
from nodes.diffusion.samplers.steps import (
    evaluate,
    half_log_snr,
    intervals,
    root,
    sigma_between,
    signal_scale,
    within_snr_range,
)


def seeds_2(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    r: float = 0.5,
) -> Tensor:
    """Take steps of two stages, the inner one at the share `r` of the step."""
    sigmas = within_snr_range(sigmas, denoise.parametrisation)
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        if sigma_next == 0.0:
            x = x0
            continue
        step = _Stages(denoise, x, sigma, sigma_next, noise, eta, s_noise)
        inner = step.evaluate(r, x0 * _phi_1(step.stretched(r)))
        weight = 1 / (2 * r)
        x = step.reach(1.0, (x0 * (1.0 - weight) + inner * weight) * _phi_1(step.stretched(1.0)))
    return x


def seeds_3(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    r_1: float = 1 / 3,
    r_2: float = 2 / 3,
) -> Tensor:
    """Take steps of three stages, the inner ones at the shares `r_1` and `r_2` of the step."""
    sigmas = within_snr_range(sigmas, denoise.parametrisation)
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        if sigma_next == 0.0:
            x = x0
            continue
        step = _Stages(denoise, x, sigma, sigma_next, noise, eta, s_noise)
        first = step.evaluate(r_1, x0 * _phi_1(step.stretched(r_1)))
        bend = r_2 / r_1 * _phi_2(step.stretched(r_2))
        second = step.evaluate(r_2, x0 * (_phi_1(step.stretched(r_2)) - bend) + first * bend)
        bend = _phi_2(step.stretched(1.0)) / r_2
        x = step.reach(1.0, x0 * (_phi_1(step.stretched(1.0)) - bend) + second * bend)
    return x


def _phi_1(width: float) -> float:
    """Return `width * phi_1(-width)`: the weight of x0 in a first-order step."""
    return -math.expm1(-width)


def _phi_2(width: float) -> float:
    """Return `width * phi_2(-width)`."""
    return (math.expm1(-width) + width) / width


class _Stages:
    """The stages of one step, and the noise that has been gathered on the way to each."""

    def __init__(
        self,
        denoise: Denoiser,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        noise: StepNoise,
        eta: float,
        s_noise: float,
    ) -> None:
        self._denoise, self._x, self._noise = denoise, x, noise
        self._sigma, self._sigma_next = sigma, sigma_next
        self._eta, self._s_noise = eta, s_noise
        scheme = denoise.parametrisation
        self._width = half_log_snr(sigma_next, scheme) - half_log_snr(sigma, scheme)
        self._share = 0.0
        self._level = sigma
        self._gathered: Tensor | None = None

    def stretched(self, share: float) -> float:
        """Return the width of the part up to `share`, as the SDE's integrals see it."""
        return share * self._width * (self._eta + 1.0)

    def evaluate(self, share: float, weighted: Tensor) -> Tensor:
        """Return x0 at the inner stage at `share`, which is reached along `weighted`."""
        state = self.reach(share, weighted)
        return self._denoise(state, self._level)

    def reach(self, share: float, weighted: Tensor) -> Tensor:
        """Return the state at `share`: what is left of x, the weighted x0, and the noise so far."""
        scheme = self._denoise.parametrisation
        level = self._sigma_next
        if share != 1.0:
            level = sigma_between(self._sigma, self._sigma_next, share, scheme)
        left = level / self._sigma * math.exp(-share * self._width * self._eta)
        state = self._x * left + weighted * signal_scale(level, scheme)
        if self._eta > 0 and self._s_noise > 0:
            state = state + self._gather(share, level) * (level * self._s_noise)
        self._share, self._level = share, level
        return state

    def _gather(self, share: float, level: float) -> Tensor:
        decay = (self._share - share) * self._width * self._eta
        fresh = self._noise(self._level, level) * root(-math.expm1(2.0 * decay))
        self._gathered = fresh if self._gathered is None else self._gathered * math.exp(decay) + fresh
        return self._gathered
