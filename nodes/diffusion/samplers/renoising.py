"""Samplers that go to x0 or to the posterior and add fresh noise: DDPM, LCM, LCM that grows the latent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nodes.diffusion.denoiser import Denoiser, OnStep
from nodes.diffusion.noise import StepNoise
from nodes.diffusion.samplers.steps import derivative, evaluate, intervals, scalar
from nodes.resize import resize


def ddpm(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep) -> Tensor:
    """Draw from the posterior of the variance-preserving process (https://arxiv.org/abs/2006.11239, algorithm 2).

    Its variance is the posterior's or that of the forward step, as the model's parametrisation says.
    """
    fixed_large = denoise.parametrisation.variance_type == "fixed_large"
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        if sigma_next == 0.0:
            x = x0
            continue
        alpha_bar, alpha_bar_next = scalar(1 / (sigma**2 + 1)), scalar(1 / (sigma_next**2 + 1))
        alpha = alpha_bar / alpha_bar_next
        eps = derivative(x, sigma, x0) * (1 - alpha) / (1 - alpha_bar).sqrt()
        x = (x / (1 + scalar(sigma) ** 2).sqrt() - eps) * (1 / alpha).sqrt()
        variance = 1 - alpha if fixed_large else (1 - alpha) * (1 - alpha_bar_next) / (1 - alpha_bar)
        x = (x + noise(sigma, sigma_next) * variance.sqrt()) * (1 + scalar(sigma_next) ** 2).sqrt()
    return x


def lcm(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep) -> Tensor:
    """Noise each x0 anew to the next level (https://arxiv.org/abs/2310.04378, multistep sampling)."""
    for index, sigma, sigma_next in intervals(sigmas):
        x = evaluate(denoise, x, sigmas, index, on_step)
        if sigma_next > 0.0:
            x = denoise.parametrisation.noise_scaling(sigma_next, noise(sigma, sigma_next), x)
    return x


def lcm_upscale(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    scale_ratio: float = 1.0,
    scale_steps: int = -1,
    upscale_method: str = "bislerp",
) -> Tensor:
    """Grow each x0 evenly to `scale_ratio` times the size over the first steps, and noise it anew.

    `scale_steps` is the number of those steps, -1 for half of all; `upscale_method` is one of resize's. Returns
    a latent of the new height and width.
    """
    count = min(scale_steps, len(sigmas)) if scale_steps >= 0 else max(len(sigmas) // 2, 1)
    ratios = np.linspace(1.0, scale_ratio, count + 1)[1:].tolist()
    height, width = x.shape[-2:]
    # Noise is drawn in memory order, and the known bislerp leaves channels last from its first use on.
    channels_last = upscale_method == "bislerp" and len(ratios) > 0
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for index, sigma, sigma_next in intervals(sigmas):
        x = evaluate(denoise, x, sigmas, index, on_step)
        if index < len(ratios):
            x = resize(x, round(width * ratios[index]), round(height * ratios[index]), upscale_method)
        if sigma_next > 0.0:
            x = x.contiguous(memory_format=layout)
            x = x + noise(sigma, sigma_next, like=x) * sigma_next
    return x
