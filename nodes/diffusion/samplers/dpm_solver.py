"""DPM-Solver with one-step methods of mixed order: a fixed number of evaluations, or adaptive steps.

Source: https://arxiv.org/abs/2206.00927. Time is `t = -log(sigma)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nodes.diffusion.denoiser import Denoiser, OnStep, Step
from nodes.diffusion.noise import StepNoise
from nodes.diffusion.samplers.steps import ancestral, root

# The adaptive solver is done when it is this close to the end in log sigma.
_END_TOLERANCE = 1e-5


def dpm_fast(
    denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep
) -> Tensor:
    """Spend as many evaluations as `sigmas` has steps on third-order steps, evenly spaced in log sigma.

    Of `sigmas` only the ends count; a last level of 0 is left out, so the result keeps the last positive level.
    """
    start, end = _time_range(sigmas)
    evaluations = len(sigmas) - 1
    orders = (
        [3] * (evaluations // 3 - 1) + [2, 1]
        if evaluations % 3 == 0
        else ([3] * (evaluations // 3) + [evaluations % 3])
    )
    times = torch.linspace(start, end, evaluations // 3 + 2).tolist()
    for index, order in enumerate(orders):
        here = _Origin(denoise, x, times[index])
        on_step(Step(index, evaluations, math.exp(-times[index]), x, here.x0))
        x = here.step(times[index + 1], order)
    return x


def dpm_adaptive(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    order: int = 3,
    rtol: float = 0.05,
    atol: float = 0.0078,
    h_init: float = 0.05,
    pcoeff: float = 0.0,
    icoeff: float = 1.0,
    dcoeff: float = 0.0,
    accept_safety: float = 0.81,
    eta: float = 0.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Choose each step's width by the difference of two orders, with a PID controller.

    Of `sigmas` only the ends count; a last level of 0 is left out. `order` is 2 or 3; `rtol` and `atol` bound the
    error of a step, `h_init` is the first width in log sigma, `pcoeff`, `icoeff` and `dcoeff` weigh the
    controller's terms, a step counts where the width would shrink to no less than `accept_safety`. Reading the
    error costs a device synchronisation a step. Raises ValueError for another order.
    """
    if order not in (2, 3):
        raise ValueError(f"dpm_adaptive takes an order of 2 or 3, not {order}.")
    now, end = _time_range(sigmas)
    forward = end > now
    if eta and not forward:
        raise ValueError("dpm_adaptive adds noise (eta above 0) only where sigmas descend.")
    control = _StepSize(
        abs(h_init) * (1 if forward else -1), pcoeff, icoeff, dcoeff, 1.5 if eta else order, accept_safety
    )
    clip = min if forward else max
    previous = x
    attempt = 0
    while now < end - _END_TOLERANCE if forward else now > end + _END_TOLERANCE:
        after = clip(end, now + control.width)
        target, up = _ancestral_time(now, after, end, eta) if eta else (after, 0.0)
        here = _Origin(denoise, x, now)
        if order == 2:
            low, high = here.step(target, 1), here.step(target, 2)
        else:
            low, high = here.step(target, 2, first=1 / 3), here.step(target, 3)
        error = _error(low, high, previous, rtol, atol)
        if control.accepts(error):
            previous = low
            x = high + noise(math.exp(-now), math.exp(-after)) * (up * s_noise)
            now = after
        on_step(Step(attempt, len(sigmas) - 1, math.exp(-now), x, here.x0))
        attempt += 1
    return x


def _time_range(sigmas: Sequence[float]) -> tuple[float, float]:
    last = sigmas[-1] if sigmas[-1] != 0.0 else sigmas[-2]
    return -math.log(sigmas[0]), -math.log(last)


def _ancestral_time(now: float, after: float, end: float, eta: float) -> tuple[float, float]:
    """Return the time to step to and the standard deviation of the noise that leads back to `after`."""
    down, _ = ancestral(math.exp(-now), math.exp(-after), eta)
    target = min(end, -math.log(down)) if down > 0.0 else end
    return target, root(math.exp(-after) ** 2 - math.exp(-target) ** 2)


def _error(low: Tensor, high: Tensor, previous: Tensor, rtol: float, atol: float) -> float:
    tolerance = (torch.maximum(low.abs(), previous.abs()) * rtol).clamp(min=atol)
    return float(torch.linalg.norm((low - high) / tolerance)) / math.sqrt(low.numel())


class _Origin:
    """A state of the ODE from which steps of several orders are tried; evaluations are shared among them."""

    def __init__(self, denoise: Denoiser, x: Tensor, time: float) -> None:
        self._denoise = denoise
        self._x = x
        self._time = time
        self._eps = self._noise_at(x, time)
        self._stages: dict[tuple[float, float], Tensor] = {}

    @property
    def x0(self) -> Tensor:
        """The clean latent that the first evaluation points at."""
        return self._x - self._eps * math.exp(-self._time)

    def step(self, time: float, order: int, first: float | None = None) -> Tensor:
        """Return the state at `time` by a step of `order`, whose first inner stage is at the share `first`."""
        width = time - self._time
        sigma = math.exp(-time)
        straight = self._x - self._eps * (sigma * math.expm1(width))
        if order == 1:
            return straight
        if order == 2:
            share = 1 / 2 if first is None else first
            stage = self._stage(share, width) - self._eps
            return straight - stage * (sigma / (2 * share) * math.expm1(width))
        stage = self._second_stage(width) - self._eps
        return straight - stage * (sigma / (2 / 3) * (math.expm1(width) / width - 1))

    def _stage(self, share: float, width: float) -> Tensor:
        if (share, width) not in self._stages:
            time = self._time + share * width
            inner = self._x - self._eps * (math.exp(-time) * math.expm1(share * width))
            self._stages[share, width] = self._noise_at(inner, time)
        return self._stages[share, width]

    def _second_stage(self, width: float) -> Tensor:
        share = 2 / 3
        time = self._time + share * width
        sigma = math.exp(-time)
        partial = math.expm1(share * width)
        change = self._stage(1 / 3, width) - self._eps
        inner = (
            self._x - self._eps * (sigma * partial) - change * (sigma * 2 * (partial / (share * width) - 1))
        )
        return self._noise_at(inner, time)

    def _noise_at(self, x: Tensor, time: float) -> Tensor:
        sigma = math.exp(-time)
        return (x - self._denoise(x, sigma)) / sigma


@dataclass
class _StepSize:
    """A PID controller of the step's width."""

    width: float
    pcoeff: float
    icoeff: float
    dcoeff: float
    order: float
    accept_safety: float
    _inverse_errors: list[float] = field(default_factory=list)

    def accepts(self, error: float) -> bool:
        """Return whether a step with this error counts, and set the width of the next."""
        inverse = 1 / (error + 1e-8)
        now, before, long_before = inverse, *(self._inverse_errors or [inverse, inverse])
        factor = (
            now ** ((self.pcoeff + self.icoeff + self.dcoeff) / self.order)
            * before ** (-(self.pcoeff + 2 * self.dcoeff) / self.order)
            * long_before ** (self.dcoeff / self.order)
        )
        factor = 1 + math.atan(factor - 1)
        accepted = factor >= self.accept_safety
        if accepted:
            self._inverse_errors = [now, before]
        elif not self._inverse_errors:
            self._inverse_errors = [inverse, inverse]
        self.width *= factor
        return accepted
