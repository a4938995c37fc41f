"""DPM-Solver with one-step methods of mixed order: a fixed number of evaluations, or adaptive steps.

Source: https://arxiv.org/abs/2206.00927. Time is `t = -log(sigma)`, a float32 scalar on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nodes.diffusion.denoiser import Denoiser, OnStep, Step
from nodes.diffusion.noise import StepNoise
from nodes.diffusion.samplers.steps import ancestral, root, scalar

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
    times = torch.linspace(float(start), float(end), evaluations // 3 + 2)
    for index, order in enumerate(orders):
        here = _Origin(denoise, x, times[index])
        on_step(Step(index, evaluations, float(_sigma(times[index])), x, here.x0))
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
    clip = torch.minimum if forward else torch.maximum
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
            x = high + noise(float(_sigma(now)), float(_sigma(after))) * (up * s_noise)
            now = after
        on_step(Step(attempt, len(sigmas) - 1, float(_sigma(now)), x, here.x0))
        attempt += 1
    return x


def _sigma(time: Tensor) -> Tensor:
    return time.neg().exp()


def _time_range(sigmas: Sequence[float]) -> tuple[Tensor, Tensor]:
    last = sigmas[-1] if sigmas[-1] != 0.0 else sigmas[-2]
    return -scalar(sigmas[0]).log(), -scalar(last).log()


def _ancestral_time(now: Tensor, after: Tensor, end: Tensor, eta: float) -> tuple[Tensor, float]:
    """Return the time to step to and the standard deviation of the noise that leads back to `after`."""
    down, _ = ancestral(float(_sigma(now)), float(_sigma(after)), eta)
    target = torch.minimum(end, -scalar(down).log())
    return target, root(float(_sigma(after) ** 2 - _sigma(target) ** 2))


def _error(low: Tensor, high: Tensor, previous: Tensor, rtol: float, atol: float) -> float:
    tolerance = (torch.maximum(low.abs(), previous.abs()) * rtol).clamp(min=atol)
    return float(torch.linalg.norm((low - high) / tolerance)) / math.sqrt(low.numel())


class _Origin:
    """A state of the ODE from which steps of several orders are tried; evaluations are shared among them."""

    def __init__(self, denoise: Denoiser, x: Tensor, time: Tensor) -> None:
        self._denoise = denoise
        self._x = x
        self._time = time
        self._eps = self._noise_at(x, time)
        self._stages: dict[float, Tensor] = {}

    @property
    def x0(self) -> Tensor:
        """The clean latent that the first evaluation points at."""
        return self._x - self._eps * _sigma(self._time)

    def step(self, time: Tensor, order: int, first: float | None = None) -> Tensor:
        """Return the state at `time` by a step of `order`, whose first inner stage is at the share `first`."""
        width = time - self._time
        sigma, growth = _sigma(time), width.expm1()
        straight = self._x - self._eps * (sigma * growth)
        if order == 1:
            return straight
        if order == 2:
            share = 1 / 2 if first is None else first
            stage = self._stage(share, width) - self._eps
            return straight - stage * (sigma / (2 * share) * growth)
        stage = self._second_stage(width) - self._eps
        return straight - stage * (sigma / (2 / 3) * (growth / width - 1))

    def _stage(self, share: float, width: Tensor) -> Tensor:
        # Every step from here that shares its stages has the same width.
        if share not in self._stages:
            time = self._time + share * width
            inner = self._x - self._eps * (_sigma(time) * (share * width).expm1())
            self._stages[share] = self._noise_at(inner, time)
        return self._stages[share]

    def _second_stage(self, width: Tensor) -> Tensor:
        share = 2 / 3
        time = self._time + share * width
        sigma, growth = _sigma(time), (share * width).expm1()
        change = self._stage(1 / 3, width) - self._eps
        inner = self._x - self._eps * (sigma * growth) - change * (sigma * 2 * (growth / (share * width) - 1))
        return self._noise_at(inner, time)

    def _noise_at(self, x: Tensor, time: Tensor) -> Tensor:
        sigma = float(_sigma(time))
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
