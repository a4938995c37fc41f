"""One-step solvers of second order in sigma: Heun, Heun++, and DPM-Solver-2 with and without ancestral noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nodes.diffusion.denoiser import Denoiser, OnStep
from nodes.diffusion.noise import StepNoise
from nodes.diffusion.samplers.steps import ancestral, derivative, evaluate, flow_ancestral, intervals, scalar


def heun(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep) -> Tensor:
    """Average the slopes at both ends of each step (https://arxiv.org/abs/2206.00364, algorithm 1)."""
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        slope = derivative(x, sigma, x0)
        width = sigma_next - sigma
        if sigma_next != 0.0:
            ahead = x + slope * width
            slope = (slope + derivative(ahead, sigma_next, denoise(ahead, sigma_next))) / 2
        x = x + slope * width
    return x


def heunpp2(
    denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep
) -> Tensor:
    """Average the slopes at up to three levels, each weighted by its share of the first level.

    Source: the "Heun++ 2" method of https://github.com/Carzit/sd-webui-samplers-scheduler.
    """
    last = sigmas[-1]
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        slopes = [derivative(x, sigma, x0)]
        place, level = x, sigma
        reached = 0 if sigma_next == last else 1 if sigmas[index + 2] == last else 2
        for ahead in sigmas[index + 1 : index + 1 + reached]:
            place, level = place + slopes[-1] * (ahead - level), ahead
            slopes.append(derivative(place, level, denoise(place, level)))
        whole = len(slopes) * scalar(sigmas[0])
        weights = [scalar(ahead) / whole for ahead in sigmas[index + 1 : index + 1 + reached]]
        first = scalar(1.0)
        for weight in weights:
            first = first - weight
        slope = slopes[0] * first
        for weight, other in zip(weights, slopes[1:], strict=True):
            slope = slope + other * weight
        x = x + slope * (sigma_next - sigma)
    return x


def dpm_2(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep) -> Tensor:
    """Step by the slope at the geometric mean of both ends (https://arxiv.org/abs/2206.00927)."""
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        x = _midpoint_step(denoise, x, x0, sigma, sigma_next)
    return x


def dpm_2_ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Step down beyond the next level as `dpm_2` does and add noise up to it.

    `eta` is the share of the posterior's noise, `s_noise` scales what is added.
    """
    is_flow = denoise.parametrisation.is_flow
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        if is_flow:
            down, scale, up = flow_ancestral(sigma, sigma_next, eta)
        else:
            (down, up), scale = ancestral(sigma, sigma_next, eta), 1.0
        x = _midpoint_step(denoise, x, x0, sigma, down)
        if down != 0.0:
            x = x * scale + noise(sigma, sigma_next) * (s_noise * up)
    return x


def _midpoint_step(denoise: Denoiser, x: Tensor, x0: Tensor, sigma: float, sigma_next: float) -> Tensor:
    slope = derivative(x, sigma, x0)
    if sigma_next != 0.0:
        middle = float(torch.lerp(scalar(sigma).log(), scalar(sigma_next).log(), 0.5).exp())
        half = x + slope * (middle - sigma)
        slope = derivative(half, middle, denoise(half, middle))
    return x + slope * (sigma_next - sigma)
