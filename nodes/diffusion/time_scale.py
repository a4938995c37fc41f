"""What every parametrisation is: a time scale, and the algebra of what the network predicts.

All of them speak sigma. For the variance-preserving and variance-exploding families the noisy latent is
`x = x0 + sigma * noise`; for rectified flow it is `x = (1 - sigma) * x0 + sigma * noise`. The time scales are
computed on the host in float32, so that a timestep never costs a device synchronisation and never depends on
the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor

Prediction = Literal["eps", "v_prediction", "x0", "edm", "img_to_img", "lcm", "flow", "cosmos_rflow"]
VarianceType = Literal["fixed_small", "fixed_large"]

ALWAYS = 999999999.9
"""The sigma that stands for "from the very start": above every noise level of every table."""

# Constants of the consistency boundary condition of latent consistency models.
_LCM_SIGMA_DATA = 0.5
_LCM_TIMESTEP_SCALING = 10.0


class Parametrisation(Protocol):
    """A time scale and a prediction type."""

    @property
    def sigmas(self) -> Tensor:
        """The noise levels, ascending, float32 on the CPU; 1,000 of them for continuous scales. Read only."""

    @property
    def sigma_min(self) -> float:
        """The smallest noise level of the table."""

    @property
    def sigma_max(self) -> float:
        """The largest noise level of the table."""

    @property
    def is_flow(self) -> bool:
        """Whether the noisy latent is `(1 - sigma) * x0 + sigma * noise`."""

    @property
    def clip_range(self) -> float | None:
        """The largest magnitude of the guided x0, which is clipped to it; None for no limit."""

    @property
    def variance_type(self) -> VarianceType:
        """The variance of DDPM's step noise: the posterior's (fixed_small) or the forward step's (fixed_large)."""

    def timestep(self, sigma: float) -> float:
        """Return the time that the network is given for `sigma`."""

    def sigma(self, timestep: float) -> float:
        """Return the noise level at `timestep`, which may be fractional."""

    def percent_to_sigma(self, percent: float) -> float:
        """Return the noise level at `percent` (0 at the start of sampling, 1 at its end)."""

    def scale_input(self, x: Tensor, sigma: float) -> Tensor:
        """Return what the network is given for the latent `x`."""

    def to_x0(self, output: Tensor, x: Tensor, sigma: float) -> Tensor:
        """Return the estimate of the clean latent from the network's `output` at the unscaled latent `x`."""

    def noise_scaling(self, sigma: float, noise: Tensor, latent: Tensor, max_denoise: bool = False) -> Tensor:
        """Return `latent` noised to `sigma`; `max_denoise` where sampling starts at the largest level."""

    def inverse_noise_scaling(self, sigma: float, latent: Tensor) -> Tensor:
        """Undo the scale that noising to `sigma` put on the clean latent."""


def float32(value: float) -> Tensor:
    """Return `value` as a float32 scalar on the CPU."""
    return torch.tensor(value, dtype=torch.float32)


@dataclass(frozen=True)
class TimeScale:
    """What all time scales share: the ends of the table and the algebra of a prediction type.

    `clip_range` limits the magnitude of the guided x0, in the network's units; `variance_type` is that of DDPM's
    step noise (https://arxiv.org/abs/2006.11239, section 3.2).
    """

    prediction: Prediction = "eps"
    clip_range: float | None = None
    variance_type: VarianceType = "fixed_small"

    @cached_property
    def sigmas(self) -> Tensor:
        """The noise levels, ascending, float32 on the CPU. Read only."""
        raise NotImplementedError

    @cached_property
    def sigma_min(self) -> float:
        """The smallest noise level of the table."""
        return float(self.sigmas[0])

    @cached_property
    def sigma_max(self) -> float:
        """The largest noise level of the table."""
        return float(self.sigmas[-1])

    @property
    def sigma_data(self) -> float:
        """The standard deviation that the network assumes of clean latents."""
        return 0.5 if self.prediction == "edm" else 1.0

    @property
    def is_flow(self) -> bool:
        """Whether the noisy latent is `(1 - sigma) * x0 + sigma * noise`."""
        return self.prediction == "flow"

    def timestep(self, sigma: float) -> float:
        """Return the time that the network is given for `sigma`."""
        raise NotImplementedError

    def scale_input(self, x: Tensor, sigma: float) -> Tensor:
        """Return what the network is given for the latent `x`."""
        match self.prediction:
            case "flow" | "img_to_img":
                return x
            case "cosmos_rflow":
                return x * (1.0 - sigma / (sigma + 1.0))
        return x / math.sqrt(sigma**2 + self.sigma_data**2)

    def to_x0(self, output: Tensor, x: Tensor, sigma: float) -> Tensor:
        """Return the estimate of the clean latent from the network's `output` at the unscaled latent `x`."""
        data = self.sigma_data
        match self.prediction:
            case "eps" | "flow":
                return x - output * sigma
            case "x0" | "img_to_img":
                return output
            case "v_prediction" | "edm":
                total = sigma**2 + data**2
                sign = -1.0 if self.prediction == "v_prediction" else 1.0
                return x * (data**2 / total) + output * (sign * sigma * data / math.sqrt(total))
            case "lcm":
                time = self.timestep(sigma) * _LCM_TIMESTEP_SCALING
                total = time**2 + _LCM_SIGMA_DATA**2
                return (x - output * sigma) * (time / math.sqrt(total)) + x * (_LCM_SIGMA_DATA**2 / total)
            case "cosmos_rflow":
                time = sigma / (sigma + 1.0)
                return x * (1.0 - time) - output * time

    def noise_scaling(self, sigma: float, noise: Tensor, latent: Tensor, max_denoise: bool = False) -> Tensor:
        """Return `latent` noised to `sigma`; `max_denoise` where sampling starts at the largest level."""
        if self.is_flow:
            return noise * sigma + latent * (1.0 - sigma)
        # At the largest noise level the latent is taken for pure noise of the total variance.
        if max_denoise and self.prediction != "cosmos_rflow":
            return noise * math.sqrt(1.0 + sigma**2) + latent
        return noise * sigma + latent

    def inverse_noise_scaling(self, sigma: float, latent: Tensor) -> Tensor:
        """Undo the scale that noising to `sigma` put on the clean latent."""
        return latent / (1.0 - sigma) if self.is_flow else latent


class Table(TimeScale):
    """A time scale given by a table of sigmas with a log-linear interpolation between its entries."""

    @cached_property
    def _exact_sigmas(self) -> Tensor:
        raise NotImplementedError

    @cached_property
    def sigmas(self) -> Tensor:
        """The noise levels, ascending, float32 on the CPU. Read only."""
        return self._exact_sigmas.float()

    @cached_property
    def log_sigmas(self) -> Tensor:
        """The natural logarithms of the noise levels, float32 on the CPU. Read only."""
        return self._exact_sigmas.log().float()

    def _nearest(self, sigma: float) -> int:
        # float32 throughout: a sigma interpolated half-way between two entries is a tie up to rounding.
        return int((float32(sigma).log() - self.log_sigmas).abs().argmin())

    def _interpolate(self, index: float) -> float:
        position = float32(index).clamp(0, len(self.log_sigmas) - 1)
        low, high = self.log_sigmas[int(position.floor())], self.log_sigmas[int(position.ceil())]
        weight = position.frac()
        return float(((1 - weight) * low + weight * high).exp())

    def percent_to_sigma(self, percent: float) -> float:
        """Return the noise level at `percent` (0 at the start of sampling, 1 at its end)."""
        if percent <= 0.0:
            return ALWAYS
        return 0.0 if percent >= 1.0 else self.sigma((1.0 - percent) * self.last_timestep)

    @property
    def last_timestep(self) -> int:
        """The timestep of the largest noise level."""
        return len(self.sigmas) - 1

    def sigma(self, timestep: float) -> float:
        """Return the noise level at `timestep`, interpolated in log sigma."""
        return self._interpolate(timestep)

    def timestep(self, sigma: float) -> float:
        """Return the index of the nearest log sigma of the table."""
        return float(self._nearest(sigma))
