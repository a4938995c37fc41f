"""Euler steps: plain, ancestral, and with the unconditional direction of CFG++."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nodes.diffusion.denoiser import Denoiser, OnStep
from nodes.diffusion.noise import StepNoise
from nodes.diffusion.samplers.steps import (
    ancestral,
    derivative,
    evaluate,
    evaluate_with_uncond,
    flow_ancestral,
    intervals,
    noise_to_signal,
    signal_scale,
)


def euler(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep) -> Tensor:
    """Follow the probability flow ODE by Euler steps; on these sigmas DDIM is the same.

    Sources: https://arxiv.org/abs/2206.00364, algorithm 2 without churn; https://arxiv.org/abs/2010.02502.
    """
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        x = x + derivative(x, sigma, x0) * (sigma_next - sigma)
    return x


def euler_ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Step down beyond the next level by Euler and add noise up to it (https://arxiv.org/abs/2006.11239).

    `eta` is the share of the posterior's noise, `s_noise` scales what is added.
    """
    if denoise.parametrisation.is_flow:
        return _euler_ancestral_flow(denoise, x, sigmas, noise, on_step, eta=eta, s_noise=s_noise)
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        down, up = ancestral(sigma, sigma_next, eta)
        if down == 0.0:
            x = x0
            continue
        x = x + derivative(x, sigma, x0) * (down - sigma) + noise(sigma, sigma_next) * (s_noise * up)
    return x


def _euler_ancestral_flow(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    eta: float,
    s_noise: float,
) -> Tensor:
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        if sigma_next == 0.0:
            x = x0
            continue
        down, scale, renoise = flow_ancestral(sigma, sigma_next, eta)
        x = x * (down / sigma) + x0 * (1.0 - down / sigma)
        if eta > 0:
            x = x * scale + noise(sigma, sigma_next) * (s_noise * renoise)
    return x


def euler_cfg_pp(
    denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep
) -> Tensor:
    """Take Euler steps from the guided x0 along the unconditional noise (https://arxiv.org/abs/2406.08070)."""
    return euler_ancestral_cfg_pp(denoise, x, sigmas, noise, on_step, eta=0.0, s_noise=0.0)


def euler_ancestral_cfg_pp(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Take ancestral steps from the guided x0 along the unconditional noise (https://arxiv.org/abs/2406.08070).

    `eta` is the share of the posterior's noise, `s_noise` scales what is added.
    """
    scheme = denoise.parametrisation
    for index, sigma, sigma_next in intervals(sigmas):
        x0, uncond = evaluate_with_uncond(denoise, x, sigmas, index, on_step)
        if sigma_next == 0.0:
            x = x0
            continue
        scale, scale_next = signal_scale(sigma, scheme), signal_scale(sigma_next, scheme)
        down, up = ancestral(noise_to_signal(sigma, scheme), noise_to_signal(sigma_next, scheme), eta)
        x = x0 * scale_next + derivative(x, sigma, uncond * scale) * (scale_next * down)
        if eta > 0 and s_noise > 0:
            x = x + noise(sigma, sigma_next) * (scale_next * s_noise * up)
    return x
