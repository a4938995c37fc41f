"""Linear multistep solvers in sigma: LMS, iPNDM, iPNDM with variable steps, DEIS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nodes.diffusion.denoiser import Denoiser, OnStep
from nodes.diffusion.noise import StepNoise
from nodes.diffusion.samplers.steps import derivative, evaluate, intervals, scalar

# Adams-Bashforth weights by order, the newest slope first, and what they are divided by.
_ADAMS_BASHFORTH = (
    ((1,), 1),
    ((3, -1), 2),
    ((23, -16, 5), 12),
    ((55, -59, 37, -9), 24),
)

# The variance-preserving process that DEIS takes its time from, and the points of its integrals.
_DEIS_TIME_MIN = 1e-3
_DEIS_SIGMA_MIN = 0.002
_DEIS_SIGMA_MAX = 80.0
_DEIS_POINTS = 10_000


def lms(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    order: int = 4,
) -> Tensor:
    """Integrate the polynomial through the last `order` slopes: Adams-Bashforth for uneven steps."""
    slopes: list[Tensor] = []
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        slopes = [derivative(x, sigma, x0), *slopes][:order]
        if sigma_next == 0.0:
            x = x0
            continue
        known = [sigmas[index - back] for back in range(len(slopes))]
        x = x + _weighted(_lagrange_integrals(known, sigma, sigma_next), slopes)
    return x


def ipndm(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep) -> Tensor:
    """Step with Adams-Bashforth weights of up to fourth order, as if steps were even.

    Source: https://arxiv.org/abs/2204.13902.
    """
    slopes: list[Tensor] = []
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        slopes = [derivative(x, sigma, x0), *slopes][:4]
        if sigma_next == 0.0:
            x = x0
            continue
        weights, divisor = _ADAMS_BASHFORTH[len(slopes) - 1]
        x = x + _weighted(weights, slopes) * (sigma_next - sigma) / divisor
    return x


def ipndm_v(
    denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep
) -> Tensor:
    """Step with iPNDM's weights of up to fourth order, adapted to uneven steps.

    The weights are those of https://github.com/zju-pi/diff-sampler, on which shared pictures rest; from third
    order they are not quite the exact integrals that `lms` uses, and add up to 1 only where steps keep one ratio.
    """
    slopes: list[Tensor] = []
    levels = torch.tensor(sigmas, dtype=torch.float32)
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        slopes = [derivative(x, sigma, x0), *slopes][:4]
        if sigma_next == 0.0:
            x = x0
            continue
        widths = [levels[index - back + 1] - levels[index - back] for back in range(len(slopes))]
        x = x + _weighted(_uneven_weights(widths), slopes) * (sigma_next - sigma)
    return x


def deis(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep) -> Tensor:
    """Integrate the polynomial through the last three slopes exactly in the VP process's own time.

    The tabulated form ("tAB-DEIS") of https://arxiv.org/abs/2204.13902.
    """
    slopes: list[Tensor] = []
    times, beta_min, beta_max = _deis_times(sigmas)
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        slopes = [derivative(x, sigma, x0), *slopes][:3]
        if len(slopes) == 1 or sigma_next <= 0.0:
            x = x + slopes[0] * (sigma_next - sigma)
        else:
            known = times[index - len(slopes) + 1 : index + 1].flip(0)
            weights = _deis_integrals(known, times[index + 1], beta_min, beta_max)
            for weight, slope in zip(weights, slopes, strict=True):
                x = x + slope * weight
    return x


def _weighted(weights: Sequence[float], terms: Sequence[Tensor]) -> Tensor:
    total = terms[0] * weights[0]
    for weight, term in zip(weights[1:], terms[1:], strict=True):
        total = total + term * weight
    return total


def _lagrange_integrals(known: Sequence[float], start: float, end: float) -> list[float]:
    from scipy import integrate

    # In float32, like the levels: where they lie close together the rounding reaches the fifth digit.
    levels = np.asarray(known, dtype=np.float32)

    def basis(place: float, own: int) -> np.float32 | float:
        value: np.float32 | float = 1.0
        for other in range(len(levels)):
            if other != own:
                value = value * ((place - levels[other]) / (levels[own] - levels[other]))
        return value

    return [float(integrate.quad(basis, start, end, (own,), epsrel=1e-4)[0]) for own in range(len(levels))]


def _uneven_weights(widths: Sequence[Tensor]) -> list[float]:
    """Return the weights of the slopes, newest first; `widths` are those of the steps, newest first."""
    if len(widths) == 1:
        return [1.0]
    h0, h1 = widths[:2]
    weights = [(2 + h0 / h1) / 2, -(h0 / h1) / 2]
    if len(widths) > 2:
        h2 = widths[2]
        q = h1 / h2
        second = (1 - h0 / (3 * (h0 + h1)) * (h0 * (h0 + h1)) / (h1 * (h1 + h2))) / 2
        weights = [weights[0] + second, weights[1] - (1 + q) * second, second * q]
    if len(widths) > 3:
        h3 = widths[3]
        p = h1 * (h1 + h2) / (h2 * (h2 + h3))
        third = (1 - h0 / (3 * (h0 + h1))) / 2 + (1 - h0 / (2 * (h0 + h1))) * h0 / (6 * (h0 + h1 + h2))
        third = third * (h0 * (h0 + h1) * (h0 + h1 + h2)) / (h1 * (h1 + h2) * (h1 + h2 + h3))
        differences = (scalar(1.0), -(1 + q + p), q + p * (1 + h2 / h3), -(p * q))
        weights = [
            weight + difference * third
            for weight, difference in zip([*weights, scalar(0.0)], differences, strict=True)
        ]
    return [float(weight) for weight in weights]


def _deis_times(sigmas: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the VP times of the levels, and the betas at the ends of the process, in float32."""
    low, high = (scalar(_DEIS_SIGMA_MIN) ** 2 + 1).log(), (scalar(_DEIS_SIGMA_MAX) ** 2 + 1).log()
    slope = 2 * (low / _DEIS_TIME_MIN - high) / (_DEIS_TIME_MIN - 1)
    start = high - 0.5 * slope
    levels = torch.tensor(sigmas, dtype=torch.float32)
    times = ((start**2 + 2 * slope * (levels**2 + 1).log()).sqrt() - start) / slope
    return times, start, slope + start


def _deis_integrals(known: Tensor, end: Tensor, beta_min: Tensor, beta_max: Tensor) -> list[float]:
    # A sum over evenly spaced points with both ends at full weight: the tables were always made that way.
    times = torch.linspace(float(known[0]), float(end), _DEIS_POINTS)
    width = (end - known[0]) / _DEIS_POINTS
    rate = times * (beta_max - beta_min) + beta_min
    alpha_bar = torch.exp(-0.5 * times**2 * (beta_max - beta_min) - times * beta_min)
    integrand = 0.5 * rate / torch.sqrt(alpha_bar * (1 - alpha_bar))
    integrals = []
    for own in range(len(known)):
        basis = torch.ones_like(times)
        for other in range(len(known)):
            if other != own:
                basis = basis * ((times - known[other]) / (known[own] - known[other]))
        integrals.append(float(torch.sum(integrand * basis) * width))
    return integrals
