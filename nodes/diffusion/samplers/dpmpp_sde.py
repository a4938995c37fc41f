"""DPM-Solver++ for the reverse SDE (https://arxiv.org/abs/2211.01095), driven by a Brownian path.

Time is the half log signal-to-noise ratio `lambda = log(alpha / sigma)`. `eta` 0 is the ODE, 1 the reverse SDE
of the papers; `s_noise` scales the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from nodes.diffusion.denoiser import Denoiser, OnStep
from nodes.diffusion.noise import StepNoise
from nodes.diffusion.samplers.steps import (
    ancestral,
    evaluate,
    half_log_snr,
    intervals,
    noise_to_signal,
    scalar,
    sigma_between,
    signal_scale,
    within_snr_range,
)


def dpmpp_sde(
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
    """Take one-step steps of second order with an inner stage at the share `r` of the step."""
    scheme = denoise.parametrisation
    sigmas = within_snr_range(sigmas, scheme)
    noisy = eta > 0 and s_noise > 0

    def step(x: Tensor, x0: Tensor, sigma: float, sigma_next: float) -> Tensor:
        scale, scale_next = signal_scale(sigma, scheme), signal_scale(sigma_next, scheme)
        ratio = noise_to_signal(sigma, scheme)
        down, up = ancestral(ratio, noise_to_signal(sigma_next, scheme), eta)
        left = down / ratio
        x = x * (scale_next / scale * left) + x0 * (scale_next * (1.0 - left))
        return x + noise(sigma, sigma_next) * (scale_next * s_noise * up) if noisy else x

    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        if sigma_next == 0.0:
            x = x0
            continue
        middle = sigma_between(sigma, sigma_next, r, scheme)
        inner = denoise(step(x, x0, sigma, middle), middle)
        weight = 1 / (2 * r)
        x = step(x, x0 * (1.0 - weight) + inner * weight, sigma, sigma_next)
    return x


def dpmpp_2m_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    solver_type: Literal["midpoint", "heun"] = "midpoint",
) -> Tensor:
    """Take multistep steps of second order; `solver_type` weighs the change of x0.

    Raises ValueError for another `solver_type`.
    """
    if solver_type not in ("midpoint", "heun"):
        raise ValueError(f"dpmpp_2m_sde takes solver_type midpoint or heun, not {solver_type!r}.")
    sigmas = within_snr_range(sigmas, denoise.parametrisation)
    previous: Tensor | None = None
    last_width = scalar(0.0)
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        if sigma_next == 0.0:
            x = x0
            continue
        step = _SDEStep(denoise, sigma, sigma_next, eta)
        x = step.first_order(x, x0)
        if previous is not None:
            weight = step.phi_2 if solver_type == "heun" else 0.5 * step.phi_1
            x = x + (x0 - previous) * (step.scale * weight * (1 / (last_width / step.width)))
        x = step.renoised(x, noise, s_noise)
        previous, last_width = x0, step.width
    return x


def dpmpp_2m_sde_heun(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    solver_type: Literal["midpoint", "heun"] = "heun",
) -> Tensor:
    """Take the steps of `dpmpp_2m_sde` with Heun's weights."""
    return dpmpp_2m_sde(denoise, x, sigmas, noise, on_step, eta=eta, s_noise=s_noise, solver_type=solver_type)


def dpmpp_3m_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Take multistep steps of third order, of lower order at the start."""
    sigmas = within_snr_range(sigmas, denoise.parametrisation)
    known: list[Tensor] = []
    widths: list[Tensor] = []
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        if sigma_next == 0.0:
            x = x0
            continue
        step = _SDEStep(denoise, sigma, sigma_next, eta)
        x = step.first_order(x, x0)
        ratios = [width / step.width for width in widths]
        if len(known) == 1:
            x = x + (x0 - known[0]) * (step.scale * step.phi_2 / ratios[0])
        elif len(known) == 2:
            near, far = (x0 - known[0]) / ratios[0], (known[0] - known[1]) / ratios[1]
            bend = (near - far) / (ratios[0] + ratios[1])
            x = x + (near + bend * ratios[0]) * (step.scale * step.phi_2) - bend * (step.scale * step.phi_3)
        x = step.renoised(x, noise, s_noise)
        known, widths = [x0, *known][:2], [step.width, *widths][:2]
    return x


class _SDEStep:
    """The coefficients of one step of the reverse SDE, as float32 scalars."""

    def __init__(self, denoise: Denoiser, sigma: float, sigma_next: float, eta: float) -> None:
        scheme = denoise.parametrisation
        start, end = scalar(half_log_snr(sigma, scheme)), scalar(half_log_snr(sigma_next, scheme))
        self.width = end - start
        self.scale = scalar(sigma_next) * end.exp()
        self._sigma, self._sigma_next, self._eta = sigma, sigma_next, eta
        self._stretched = self.width * (eta + 1)

    @property
    def phi_1(self) -> Tensor:
        return -(-self._stretched).expm1()

    @property
    def phi_2(self) -> Tensor:
        return (-self._stretched).expm1() / self._stretched + 1

    @property
    def phi_3(self) -> Tensor:
        return self.phi_2 / self._stretched - 0.5

    def first_order(self, x: Tensor, x0: Tensor) -> Tensor:
        decay = scalar(self._sigma_next) / scalar(self._sigma) * (-self.width * self._eta).exp()
        return x * decay + x0 * (self.scale * self.phi_1)

    def renoised(self, x: Tensor, noise: StepNoise, s_noise: float) -> Tensor:
        if self._eta <= 0 or s_noise <= 0:
            return x
        up = (-(-2 * self.width * self._eta).expm1()).clamp(min=0).sqrt()
        return x + noise(self._sigma, self._sigma_next) * self._sigma_next * up * s_noise
