"""Extended reverse-time SDE solvers (https://arxiv.org/abs/2309.06169)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from nodes.diffusion.denoiser import Denoiser, OnStep
from nodes.diffusion.noise import StepNoise
from nodes.diffusion.samplers.steps import (
    evaluate,
    intervals,
    noise_to_signal,
    scalar,
    signal_scale,
    within_snr_range,
)

_Scaler = Callable[[Tensor], Tensor]

# The points of the left Riemann sums that stand for the solver's integrals.
_POINTS = 200


def er_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    solver_type: Literal["ER-SDE", "Reverse-time SDE", "ODE"] = "ER-SDE",
    max_stage: int = 3,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Take multistep steps of up to order `max_stage` (1 to 3) in the noise-to-signal ratio.

    `solver_type` picks how much noise the SDE carries: the paper's own choice, the reverse SDE with its noise
    scaled by `eta`, or none. Raises ValueError for another `solver_type`.
    """
    if solver_type == "ODE":
        eta = 0.0
    if solver_type != "ER-SDE" and eta == 0.0:
        s_noise = 0.0
    scaler = _noise_scaler(solver_type, eta)
    scheme = denoise.parametrisation
    sigmas = within_snr_range(sigmas, scheme)
    ratios = [scalar(noise_to_signal(sigma, scheme)) for sigma in sigmas]
    previous: Tensor | None = None
    previous_slope: Tensor | None = None
    for index, sigma, sigma_next in intervals(sigmas):
        x0 = evaluate(denoise, x, sigmas, index, on_step)
        if sigma_next == 0.0:
            x = x0
            continue
        start, end = ratios[index], ratios[index + 1]
        scale, scale_next = signal_scale(sigma, scheme), signal_scale(sigma_next, scheme)
        kept = scaler(end) / scaler(start)
        x = x * (scale_next / scale * kept) + x0 * (scale_next * (1 - kept))
        if max_stage >= 2 and previous is not None:
            second, third = _integrals(scaler, start, end)
            slope = (x0 - previous) / (start - ratios[index - 1])
            x = x + slope * (scale_next * second)
            if max_stage >= 3 and previous_slope is not None:
                bend = (slope - previous_slope) / ((start - ratios[index - 2]) / 2)
                x = x + bend * (scale_next * third)
            previous_slope = slope
        if s_noise > 0:
            up = (end**2 - start**2 * kept**2).clamp(min=0).sqrt()
            x = x + noise(sigma, sigma_next) * (scale_next * s_noise * up)
        previous = x0
    return x


def _noise_scaler(solver_type: str, eta: float) -> _Scaler:
    match solver_type:
        case "ER-SDE":
            return lambda ratio: ratio * ((ratio**0.3).exp() + 10.0)
        case "Reverse-time SDE" | "ODE":
            return lambda ratio: ratio ** (eta + 1.0)
    raise ValueError(f"er_sde takes solver_type ER-SDE, Reverse-time SDE or ODE, not {solver_type!r}.")


def _integrals(scaler: _Scaler, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights of the slope and of the bend of x0 over the step from `start` to `end`."""
    width = end - start
    spacing = -width / _POINTS
    places = end + torch.arange(_POINTS, dtype=torch.float32) * spacing
    scaled = scaler(places)
    second = width + (1 / scaled).sum() * spacing * scaler(end)
    third = width**2 / 2 + ((places - start) / scaled).sum() * spacing * scaler(end)
    return second, third
