"""What the samplers share: stepping through noise levels, ancestral splits, the half log signal-to-noise ratio.

Where a coefficient is a small difference of large numbers, float64 and float32 disagree beyond the tolerance to
which shared pictures are reproduced. Those are computed as float32 scalars, as everywhere else, on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nodes.diffusion.denoiser import Denoiser, OnStep, Step
from nodes.diffusion.parametrisation import Parametrisation

# The first level of a flow schedule is pure noise, where the signal-to-noise ratio is zero; the samplers that
# work in its logarithm start this share of the way in.
_FLOW_START_PERCENT = 1e-4


def intervals(sigmas: Sequence[float]) -> Iterator[tuple[int, float, float]]:
    """Yield the index, the level and the next level of each step."""
    for index in range(len(sigmas) - 1):
        yield index, sigmas[index], sigmas[index + 1]


def evaluate(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], index: int, on_step: OnStep) -> Tensor:
    """Return x0 at the `index`-th level and report the step."""
    x0 = denoise(x, sigmas[index])
    on_step(Step(index, len(sigmas) - 1, sigmas[index], x, x0))
    return x0


def evaluate_with_uncond(
    denoise: Denoiser, x: Tensor, sigmas: Sequence[float], index: int, on_step: OnStep
) -> tuple[Tensor, Tensor]:
    """Return the guided and the unconditional x0 at the `index`-th level and report the step."""
    x0, uncond = denoise.with_uncond(x, sigmas[index])
    on_step(Step(index, len(sigmas) - 1, sigmas[index], x, x0))
    return x0, uncond


def derivative(x: Tensor, sigma: float, x0: Tensor) -> Tensor:
    """Return dx/dsigma of the probability flow ODE (https://arxiv.org/abs/2206.00364, equation 3)."""
    return (x - x0) / sigma


def ancestral(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """Split a step into the level to go down to and the standard deviation of the noise to add after it.

    The noise is `eta` times that of the DDPM posterior, and never more than `sigma_next`.
    """
    if not eta:
        return sigma_next, 0.0
    if math.isinf(sigma):
        return 0.0, sigma_next
    start, end = scalar(sigma), scalar(sigma_next)
    posterior = (end**2 * (start**2 - end**2) / start**2).clamp(min=0).sqrt()
    up = torch.minimum(end, eta * posterior)
    return float((end**2 - up**2).sqrt()), float(up)


def flow_ancestral(sigma: float, sigma_next: float, eta: float) -> tuple[float, float, float]:
    """Split a step of a flow: the level to go down to, the scale of what arrives there, the noise to add.

    The scale and the noise bring level and signal back to those of `sigma_next`.
    """
    if not eta:
        # Of the difference below the rounding would be left, whose root is no longer small.
        return sigma_next, 1.0, 0.0
    start, end = scalar(sigma), scalar(sigma_next)
    down = end * (1 + (end / start - 1) * eta)
    kept, kept_down = 1 - end, 1 - down
    renoise = (end**2 - down**2 * kept**2 / kept_down**2).clamp(min=0).sqrt()
    return float(down), float(kept / kept_down), float(renoise)


def scalar(value: float) -> Tensor:
    """Return `value` as a float32 scalar on the CPU."""
    return torch.tensor(value, dtype=torch.float32)


def root(value: float) -> float:
    """Return the square root, taking what is below zero, by rounding or by an eta above 1, for zero."""
    return math.sqrt(max(value, 0.0))


def half_log_snr(sigma: float, parametrisation: Parametrisation) -> float:
    """Return `log(alpha / sigma)`, where alpha is the scale of the signal; infinite at 0."""
    return -float(_log_ratio(sigma, parametrisation))


def signal_scale(sigma: float, parametrisation: Parametrisation) -> float:
    """Return alpha, the scale of the clean latent within the noisy one."""
    return 1.0 - sigma if parametrisation.is_flow else 1.0


def noise_to_signal(sigma: float, parametrisation: Parametrisation) -> float:
    """Return `sigma / alpha`, by way of its logarithm in float32; infinite at pure noise."""
    return float(_log_ratio(sigma, parametrisation).exp())


def _log_ratio(sigma: float, parametrisation: Parametrisation) -> Tensor:
    return scalar(sigma).logit() if parametrisation.is_flow else scalar(sigma).log()


def sigma_between(sigma: float, sigma_next: float, share: float, parametrisation: Parametrisation) -> float:
    """Return the level `share` of the way in half log signal-to-noise ratio.

    Computed in float32: Brownian noise is drawn for the interval that ends here, and it is rough enough to tell
    two levels apart that differ in the last digit.
    """
    start, end = _log_ratio(sigma, parametrisation), _log_ratio(sigma_next, parametrisation)
    place = start + share * (end - start)
    return float(place.sigmoid() if parametrisation.is_flow else place.exp())


def within_snr_range(sigmas: Sequence[float], parametrisation: Parametrisation) -> Sequence[float]:
    """Return the levels with a first one of pure noise moved to where its signal-to-noise ratio is positive."""
    if len(sigmas) > 1 and parametrisation.is_flow and sigmas[0] >= 1.0:
        # Levels are float32, and so near 1 the rounding is most of the signal.
        first = scalar(parametrisation.percent_to_sigma(_FLOW_START_PERCENT))
        return [float(first), *sigmas[1:]]
    return sigmas
