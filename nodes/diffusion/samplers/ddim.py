"""DDIM with the noise of its paper, and with the clipping of x0 that pixel-space models use."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nodes.diffusion.clipping import Clipped
from nodes.diffusion.denoiser import Denoiser, OnStep, Step
from nodes.diffusion.noise import StepNoise
from nodes.diffusion.samplers.euler import euler, euler_ancestral
from nodes.diffusion.samplers.steps import ancestral, derivative, intervals


def ddim(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    eta: float = 0.0,
) -> Tensor:
    """Go to x0 and back along the predicted noise (https://arxiv.org/abs/2010.02502, equation 12).

    `eta` is the share of the posterior's noise: 0 is Euler's method on these levels, 1 draws as DDPM does. Where
    x0 is clipped, the noise stays the one that the network predicted.
    """
    if denoise.parametrisation.is_flow:
        return euler_ancestral(denoise, x, sigmas, noise, on_step, eta=eta)
    if not isinstance(denoise, Clipped) and eta == 0.0:
        return euler(denoise, x, sigmas, noise, on_step)
    for index, sigma, sigma_next in intervals(sigmas):
        if isinstance(denoise, Clipped):
            x0, predicted = denoise.with_unclipped(x, sigma)
        else:
            x0 = predicted = denoise(x, sigma)
        on_step(Step(index, len(sigmas) - 1, sigma, x, x0))
        down, up = ancestral(sigma, sigma_next, eta)
        x = x0 + derivative(x, sigma, predicted) * down
        if up > 0.0:
            x = x + noise(sigma, sigma_next) * up
    return x
