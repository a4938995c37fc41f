"""Parametrisations: what a network is given at a noise level and how its output becomes x0."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from nodes.diffusion.time_scale import (
    ALWAYS,
    Parametrisation,
    Prediction,
    Table,
    TimeScale,
    VarianceType,
    float32,
)

__all__ = [
    "ALWAYS",
    "BetaSchedule",
    "ContinuousEDM",
    "ContinuousV",
    "Discrete",
    "Distilled",
    "Flow",
    "Parametrisation",
    "Prediction",
    "VarianceType",
]

BetaSchedule = Literal["scaled_linear", "linear", "squaredcos_cap_v2"]

# A terminal alpha_bar of exactly zero would be an infinite sigma; this one is about 4,518.
_ZERO_SNR_ALPHA_BAR = 4.8973451890853435e-08

# The cosine schedule ends in all but pure noise: its betas stop here.
_LARGEST_BETA = 0.999


@dataclass(frozen=True)
class Discrete(Table):
    """The discrete time of DDPM (https://arxiv.org/abs/2006.11239), as Stable Diffusion uses it.

    `sigma = sqrt((1 - alpha_bar) / alpha_bar)`, with alpha_bar from betas linear in the square root
    ("scaled_linear") or linear, a squared cosine of time ("squaredcos_cap_v2",
    https://arxiv.org/abs/2102.09672, equation 17), or given as `alphas_cumprod`. `zero_terminal_snr` rescales the table so that
    the last level is all but pure noise (https://arxiv.org/abs/2305.08891).
    """

    beta_schedule: BetaSchedule = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    timesteps: int = 1000
    zero_terminal_snr: bool = False
    alphas_cumprod: tuple[float, ...] | None = None

    @cached_property
    def _exact_sigmas(self) -> Tensor:
        alpha_bar = self._alphas_cumprod()
        sigmas = ((1 - alpha_bar) / alpha_bar).sqrt()
        return _rescale_to_zero_terminal_snr(sigmas) if self.zero_terminal_snr else sigmas

    def _alphas_cumprod(self) -> Tensor:
        if self.alphas_cumprod is not None:
            return torch.tensor(self.alphas_cumprod, dtype=torch.float64)
        if self.beta_schedule == "squaredcos_cap_v2":
            time = torch.arange(self.timesteps + 1, dtype=torch.float64) / self.timesteps
            alpha_bar = ((time + 0.008) / 1.008 * (math.pi / 2)).cos() ** 2
            return torch.cumprod((alpha_bar[1:] / alpha_bar[:-1]).clamp(min=1 - _LARGEST_BETA), dim=0)
        power = 0.5 if self.beta_schedule == "scaled_linear" else 1.0
        roots = torch.linspace(
            self.beta_start**power, self.beta_end**power, self.timesteps, dtype=torch.float64
        )
        return torch.cumprod(1 - roots ** (1 / power), dim=0)


@dataclass(frozen=True)
class Distilled(Discrete):
    """The discrete time of a model distilled to every twentieth step: latent consistency models.

    Fifty of the thousand levels are valid (https://arxiv.org/abs/2310.04378).
    """

    prediction: Prediction = "lcm"
    valid_steps: int = 50

    @property
    def _stride(self) -> int:
        return self.timesteps // self.valid_steps

    @property
    def last_timestep(self) -> int:
        """The timestep of the largest noise level."""
        return self.timesteps - 1

    @cached_property
    def _exact_sigmas(self) -> Tensor:
        full = super()._exact_sigmas.float()
        first = len(full) - 1 - (self.valid_steps - 1) * self._stride
        return full[first :: self._stride]

    def timestep(self, sigma: float) -> float:
        """Return the valid timestep whose log sigma is nearest."""
        return float(self._nearest(sigma) * self._stride + self._stride - 1)

    def sigma(self, timestep: float) -> float:
        """Return the noise level at `timestep`, interpolated in log sigma between valid steps."""
        return self._interpolate(float((float32(timestep) - (self._stride - 1)) / self._stride))


def _rescale_to_zero_terminal_snr(sigmas: Tensor) -> Tensor:
    root = (1 / (sigmas**2 + 1)).sqrt()
    first, last = root[0], root[-1]
    alpha_bar = ((root - last) * (first / (first - last))) ** 2
    alpha_bar[-1] = _ZERO_SNR_ALPHA_BAR
    return ((1 - alpha_bar) / alpha_bar).sqrt()


class _LogUniform(TimeScale):
    """A continuous time scale; its table is 1,000 levels evenly spaced in log sigma."""

    lowest: float
    highest: float

    @cached_property
    def sigmas(self) -> Tensor:
        """A thousand noise levels, ascending, float32 on the CPU. Read only."""
        return torch.linspace(math.log(self.lowest), math.log(self.highest), 1000).exp()

    def percent_to_sigma(self, percent: float) -> float:
        """Return the noise level at `percent` (0 at the start of sampling, 1 at its end)."""
        if percent <= 0.0:
            return ALWAYS
        if percent >= 1.0:
            return 0.0
        low, high = math.log(self.sigma_min), math.log(self.sigma_max)
        return math.exp((high - low) * (1.0 - percent) + low)


@dataclass(frozen=True)
class ContinuousEDM(_LogUniform):
    """The continuous time of EDM, `log(sigma) / 4` (https://arxiv.org/abs/2206.00364).

    `prediction` is eps, v_prediction, edm (sigma_data 0.5) or cosmos_rflow, whose time is
    `sigma / (sigma + 1)`.
    """

    prediction: Prediction = "v_prediction"
    lowest: float = 0.002
    highest: float = 120.0

    def timestep(self, sigma: float) -> float:
        """Return `log(sigma) / 4`."""
        level = float32(sigma)
        return float(level / (level + 1) if self.prediction == "cosmos_rflow" else 0.25 * level.log())

    def sigma(self, timestep: float) -> float:
        """Return `exp(4 * timestep)`."""
        if self.prediction != "cosmos_rflow":
            return float((float32(timestep) / 0.25).exp())
        high, time = float32(self.sigma_max), float32(timestep)
        return float(high if time >= high / (high + 1) else time / (1 - time))


@dataclass(frozen=True)
class ContinuousV(_LogUniform):
    """The continuous time of v-diffusion: the noise's share as an angle, 1 at pure noise."""

    prediction: Prediction = "v_prediction"
    lowest: float = 0.03
    highest: float = 500.0

    def timestep(self, sigma: float) -> float:
        """Return the angle whose tangent is `sigma`, in units of a right angle."""
        return float(float32(sigma).atan() / math.pi * 2)

    def sigma(self, timestep: float) -> float:
        """Return the tangent of `timestep` right angles."""
        return float((float32(timestep) * math.pi / 2).tan())


@dataclass(frozen=True)
class Flow(TimeScale):
    """Rectified flow with the time shift of Stable Diffusion 3 (https://arxiv.org/abs/2403.03206).

    `multiplier` is the range of the time that the network is given: 1,000, or 1 for AuraFlow.
    """

    prediction: Prediction = "flow"
    shift: float = 1.0
    multiplier: float = 1000.0

    @cached_property
    def sigmas(self) -> Tensor:
        """A thousand noise levels, ascending, float32 on the CPU. Read only."""
        return self._at(torch.arange(1, 1001) / 1000 * self.multiplier)

    def _at(self, timestep: Tensor) -> Tensor:
        time = timestep / self.multiplier
        return time if self.shift == 1.0 else self.shift * time / (1 + (self.shift - 1) * time)

    def timestep(self, sigma: float) -> float:
        """Return `sigma * multiplier`."""
        return float(float32(sigma) * self.multiplier)

    def sigma(self, timestep: float) -> float:
        """Return the shifted noise level at `timestep`."""
        return float(self._at(float32(timestep)))

    def percent_to_sigma(self, percent: float) -> float:
        """Return the noise level at `percent` (0 at the start of sampling, 1 at its end)."""
        if percent <= 0.0:
            return 1.0
        time = max(1.0 - percent, 0.0)
        return self.shift * time / (1.0 + (self.shift - 1.0) * time)
