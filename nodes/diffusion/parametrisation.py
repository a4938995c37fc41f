"""Parametrisations: what a network is given at a noise level and how its output becomes x0.

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
BetaSchedule = Literal["scaled_linear", "linear"]

ALWAYS = 999999999.9
"""The sigma that stands for "from the very start": above every noise level of every table."""

# A terminal alpha_bar of exactly zero would be an infinite sigma; this one is about 4,518.
_ZERO_SNR_ALPHA_BAR = 4.8973451890853435e-08

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


def _float32(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float32)


@dataclass(frozen=True)
class _TimeScale:
    """What all time scales share: the ends of the table and the algebra of a prediction type."""

    prediction: Prediction = "eps"

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


class _Table(_TimeScale):
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
        return int((_float32(sigma).log() - self.log_sigmas).abs().argmin())

    def _interpolate(self, index: float) -> float:
        position = _float32(index).clamp(0, len(self.log_sigmas) - 1)
        low, high = self.log_sigmas[int(position.floor())], self.log_sigmas[int(position.ceil())]
        weight = position.frac()
        return float(((1 - weight) * low + weight * high).exp())

    def percent_to_sigma(self, percent: float) -> float:
        """Return the noise level at `percent` (0 at the start of sampling, 1 at its end)."""
        if percent <= 0.0:
            return ALWAYS
        return 0.0 if percent >= 1.0 else self.sigma((1.0 - percent) * 999.0)

    def sigma(self, timestep: float) -> float:
        """Return the noise level at `timestep`, interpolated in log sigma."""
        return self._interpolate(timestep)

    def timestep(self, sigma: float) -> float:
        """Return the index of the nearest log sigma of the table."""
        return float(self._nearest(sigma))


@dataclass(frozen=True)
class Discrete(_Table):
    """The discrete time of DDPM (https://arxiv.org/abs/2006.11239), as Stable Diffusion uses it.

    `sigma = sqrt((1 - alpha_bar) / alpha_bar)`, with alpha_bar from betas linear in the square root
    ("scaled_linear") or linear, or given as `alphas_cumprod`. `zero_terminal_snr` rescales the table so that
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
        return self._interpolate(float((_float32(timestep) - (self._stride - 1)) / self._stride))


def _rescale_to_zero_terminal_snr(sigmas: Tensor) -> Tensor:
    root = (1 / (sigmas**2 + 1)).sqrt()
    first, last = root[0], root[-1]
    alpha_bar = ((root - last) * (first / (first - last))) ** 2
    alpha_bar[-1] = _ZERO_SNR_ALPHA_BAR
    return ((1 - alpha_bar) / alpha_bar).sqrt()


class _LogUniform(_TimeScale):
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
        level = _float32(sigma)
        return float(level / (level + 1) if self.prediction == "cosmos_rflow" else 0.25 * level.log())

    def sigma(self, timestep: float) -> float:
        """Return `exp(4 * timestep)`."""
        if self.prediction != "cosmos_rflow":
            return float((_float32(timestep) / 0.25).exp())
        high, time = _float32(self.sigma_max), _float32(timestep)
        return float(high if time >= high / (high + 1) else time / (1 - time))


@dataclass(frozen=True)
class ContinuousV(_LogUniform):
    """The continuous time of v-diffusion: the noise's share as an angle, 1 at pure noise."""

    prediction: Prediction = "v_prediction"
    lowest: float = 0.03
    highest: float = 500.0

    def timestep(self, sigma: float) -> float:
        """Return the angle whose tangent is `sigma`, in units of a right angle."""
        return float(_float32(sigma).atan() / math.pi * 2)

    def sigma(self, timestep: float) -> float:
        """Return the tangent of `timestep` right angles."""
        return float((_float32(timestep) * math.pi / 2).tan())


@dataclass(frozen=True)
class Flow(_TimeScale):
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
        return float(_float32(sigma) * self.multiplier)

    def sigma(self, timestep: float) -> float:
        """Return the shifted noise level at `timestep`."""
        return float(self._at(_float32(timestep)))

    def percent_to_sigma(self, percent: float) -> float:
        """Return the noise level at `percent` (0 at the start of sampling, 1 at its end)."""
        if percent <= 0.0:
            return 1.0
        time = max(1.0 - percent, 0.0)
        return self.shift * time / (1.0 + (self.shift - 1.0) * time)
