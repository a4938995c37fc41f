"""Samplers that go to x0 or to the posterior and add fresh noise: DDPM, LCM."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from nodes.diffusion.denoiser import Denoiser, OnStep
from nodes.diffusion.noise import StepNoise
from nodes.diffusion.samplers.steps import derivative, evaluate, intervals, scalar


def ddpm(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep) -> Tensor:
    """Draw from the posterior of the variance-preserving process (https://arxiv.org/abs/2006.11239, algorithm 2)."""
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        alpha_bar, alpha_bar_next = 1 / (scalar(sigma) ** 2 + 1), 1 / (scalar(sigma_next) ** 2 + 1)
        alpha = alpha_bar / alpha_bar_next
        eps = derivative(x, sigma, x0) * float((1 - alpha) / (1 - alpha_bar).sqrt())
        x = (x / math.sqrt(1 + sigma**2) - eps) * float((1 / alpha).sqrt())
        if sigma_next > 0.0:
            spread = float(((1 - alpha) * (1 - alpha_bar_next) / (1 - alpha_bar)).sqrt())
            x = (x + noise(sigma, sigma_next) * spread) * math.sqrt(1 + sigma_next**2)
    return x


def lcm(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep) -> Tensor:
    """Noise each x0 anew to the next level (https://arxiv.org/abs/2310.04378, multistep sampling)."""
    for index, sigma, sigma_next in intervals(sigmas):
        x = evaluate(denoise, x, sigmas, index, on_step)
        if sigma_next > 0.0:
            x = denoise.parametrisation.noise_scaling(sigma_next, noise(sigma, sigma_next), x)
    return x
