"""DPM-Solver++ (https://arxiv.org/abs/2211.01095): exponential integrators of x0 in log sigma."""

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
    scalar,
)

# The first inner stage of a flow that starts from pure noise, whose logarithm has no middle.
_FLOW_FIRST_STAGE = 0.9999


def dpmpp_2s_ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Step down beyond the next level by the second-order one-step method and add noise up to it.

    `eta` is the share of the posterior's noise, `s_noise` scales what is added.
    """
    if denoise.parametrisation.is_flow:
        return _dpmpp_2s_ancestral_flow(denoise, x, sigmas, noise, on_step, eta=eta, s_noise=s_noise)
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        down, up = ancestral(sigma, sigma_next, eta)
        if down == 0.0:
            x = x + derivative(x, sigma, x0) * (down - sigma)
        else:
            start, end = _time(sigma), _time(down)
            middle = start + 0.5 * (end - start)
            x0 = denoise(_towards(x, x0, start, middle), float(middle.neg().exp()))
            x = _towards(x, x0, start, end)
        if sigma_next > 0.0:
            x = x + noise(sigma, sigma_next) * (s_noise * up)
    return x


def _dpmpp_2s_ancestral_flow(
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
            x = x + derivative(x, sigma, x0) * (sigma_next - sigma)
            continue
        down, scale, renoise = flow_ancestral(sigma, sigma_next, eta)
        middle = _flow_middle(sigma, down)
        x0 = denoise(_flow_towards(x, x0, middle / scalar(sigma)), float(middle))
        x = _flow_towards(x, x0, scalar(down) / scalar(sigma))
        if eta > 0:
            x = x * scale + noise(sigma, sigma_next) * (s_noise * renoise)
    return x


def _flow_middle(sigma: float, down: float) -> Tensor:
    """Return the level half way in the logarithm of the signal-to-noise ratio."""
    if sigma == 1.0:
        return scalar(_FLOW_FIRST_STAGE)
    start, end = (((1 - level) / level).log() for level in (scalar(sigma), scalar(down)))
    return 1 / ((start + 0.5 * (end - start)).exp() + 1)


def dpmpp_2s_ancestral_cfg_pp(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Take `dpmpp_2s_ancestral` steps from the guided x0 along the unconditional noise.

    Source: https://arxiv.org/abs/2406.08070. `eta` is the share of the posterior's noise, `s_noise` scales what
    is added. Shared pictures rest on a shift from the inner stage's unconditional x0 to the first stage's guided one.
    So without guidance it still takes back half of the step's change of x0, and however many steps there are,
    they do not end where the probability flow does.
    """
    for index, sigma, sigma_next in intervals(sigmas):
        x0, uncond = evaluate_with_uncond(denoise, x, sigmas, index, on_step)
        down, up = ancestral(sigma, sigma_next, eta)
        if down == 0.0:
            x = x0 + derivative(x, sigma, uncond) * down
        else:
            start, end = _time(sigma), _time(down)
            middle = start + 0.5 * (end - start)
            inner = _towards(x + (x0 - uncond), x0, start, middle)
            x0_middle, uncond = denoise.with_uncond(inner, float(middle.neg().exp()))
            # The shift pairs the first guided x0 with the inner stage's unconditional one.
            x = _towards(x + (x0 - uncond), x0_middle, start, end)
        if sigma_next > 0.0:
            x = x + noise(sigma, sigma_next) * (s_noise * up)
    return x


def dpmpp_2m(
    denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep
) -> Tensor:
    """Take second-order multistep steps, of first order at either end."""
    previous: Tensor | None = None
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        target = x0
        if previous is not None and sigma_next != 0.0:
            weight = _extrapolation(sigmas[index - 1], sigma, sigma_next)
            target = x0 * (1 + weight) - previous * weight
        x = _towards(x, target, _time(sigma), _time(sigma_next))
        previous = x0
    return x


def dpmpp_2m_cfg_pp(
    denoise: Denoiser, x: Tensor, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep
) -> Tensor:
    """Take `dpmpp_2m` steps from the guided x0 along the unconditional noise (https://arxiv.org/abs/2406.08070)."""
    previous: Tensor | None = None
    for index, sigma, sigma_next in intervals(sigmas):
        x0, uncond = evaluate_with_uncond(denoise, x, sigmas, index, on_step)
        back = _time(sigma) - _time(sigma_next)
        shift = uncond * -back.exp()
        if previous is not None and sigma_next != 0.0:
            weight = _extrapolation(sigmas[index - 1], sigma, sigma_next)
            shift = shift - (x0 - previous) * (back.expm1() * weight)
        x = x0 + shift + x * back.exp()
        previous = uncond
    return x


def _time(sigma: float) -> Tensor:
    return scalar(sigma).log().neg()


def _towards(x: Tensor, x0: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return the state on the line from `x` to `x0` that belongs to the time `end`, minus log sigma."""
    return x * (end.neg().exp() / start.neg().exp()) - x0 * (start - end).expm1()


def _flow_towards(x: Tensor, x0: Tensor, ratio: Tensor) -> Tensor:
    """Return the state on the line from `x` to `x0` where `ratio` of the noise is left."""
    return x * ratio + x0 * (1 - ratio)


def _extrapolation(before: float, sigma: float, sigma_next: float) -> Tensor:
    """Return the weight of the last change of x0: half this step's width over the last's, in log sigma."""
    last, width = _time(sigma) - _time(before), _time(sigma_next) - _time(sigma)
    return 1 / (2 * (last / width))
