"""Second-order multistep methods that steer by the last change: RES and gradient estimation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from nodes.diffusion.denoiser import Denoiser, OnStep
from nodes.diffusion.noise import StepNoise
from nodes.diffusion.samplers.steps import (
    ancestral,
    derivative,
    evaluate,
    evaluate_with_uncond,
    intervals,
)


def res_multistep(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    s_noise: float = 1.0,
) -> Tensor:
    """Take the refined exponential solver's multistep steps (https://arxiv.org/abs/2308.02157)."""
    return res_multistep_ancestral(denoise, x, sigmas, noise, on_step, eta=0.0, s_noise=s_noise)


def res_multistep_ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Step down beyond the next level as `res_multistep` does and add noise up to it.

    `eta` is the share of the posterior's noise, `s_noise` scales what is added.
    """
    previous: Tensor | None = None
    last_down = 0.0
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        down, up = ancestral(sigma, sigma_next, eta)
        if down == 0.0 or previous is None:
            x = x + derivative(x, sigma, x0) * (down - sigma)
        else:
            newer, older = _weights(sigmas[index - 1], last_down, sigma, down)
            x = x * (down / sigma) + x0 * newer + previous * older
        if sigma_next > 0.0:
            x = x + noise(sigma, sigma_next) * (s_noise * up)
        previous, last_down = x0, down
    return x


def res_multistep_cfg_pp(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    s_noise: float = 1.0,
) -> Tensor:
    """Take `res_multistep` steps from the guided x0 along the unconditional noise."""
    return res_multistep_ancestral_cfg_pp(denoise, x, sigmas, noise, on_step, eta=0.0, s_noise=s_noise)


def res_multistep_ancestral_cfg_pp(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Take `res_multistep_ancestral` steps from the guided x0 along the unconditional noise.

    `eta` is the share of the posterior's noise, `s_noise` scales what is added.
    """
    previous: Tensor | None = None
    last_down = 0.0
    for index, sigma, sigma_next in intervals(sigmas):
        x0, uncond = evaluate_with_uncond(denoise, x, sigmas, index, on_step)
        down, up = ancestral(sigma, sigma_next, eta)
        if down == 0.0 or previous is None:
            x = x0 + derivative(x, sigma, uncond) * down
        else:
            newer, older = _weights(sigmas[index - 1], last_down, sigma, down)
            x = (x + (x0 - uncond)) * (down / sigma) + uncond * newer + previous * older
        if sigma_next > 0.0:
            x = x + noise(sigma, sigma_next) * (s_noise * up)
        previous, last_down = uncond, down
    return x


def _weights(before: float, last_down: float, sigma: float, down: float) -> tuple[float, float]:
    """Return the weights of this x0 and the last."""
    width = math.log(sigma / down)
    # The last x0 lies this many widths back, measured from the level that the last step went down to.
    back = math.log(last_down / before) / width
    phi_1 = -math.expm1(-width) / width
    phi_2 = (phi_1 - 1.0) / -width
    if back == 0.0:
        return 0.0, 0.0
    return width * (phi_1 - phi_2 / back), width * (phi_2 / back)


def gradient_estimation(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    ge_gamma: float = 2.0,
) -> Tensor:
    """Take Euler steps along a slope extrapolated from the last (https://openreview.net/pdf?id=o2ND9v0CeK).

    `ge_gamma` is the weight of the new slope; the old one has `1 - ge_gamma`.
    """
    previous: Tensor | None = None
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        slope = derivative(x, sigma, x0)
        width = sigma_next - sigma
        x = x0 if sigma_next == 0.0 else x + slope * width
        if sigma_next != 0.0 and previous is not None:
            x = x + (slope - previous) * (ge_gamma - 1.0) * width
        previous = slope
    return x


def gradient_estimation_cfg_pp(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    ge_gamma: float = 2.0,
) -> Tensor:
    """Take `gradient_estimation` steps from the guided x0 along the unconditional slope."""
    previous: Tensor | None = None
    for index, sigma, sigma_next in intervals(sigmas):
        x0, uncond = evaluate_with_uncond(denoise, x, sigmas, index, on_step)
        slope = derivative(x, sigma, uncond)
        if sigma_next == 0.0:
            x = x0
        else:
            x = x0 + slope * sigma_next
            if previous is not None:
                x = x + (slope - previous) * ((ge_gamma - 1.0) * (sigma_next - sigma))
        previous = slope
    return x
