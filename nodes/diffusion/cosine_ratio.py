"""The time of Würstchen and Stable Cascade: a ratio in 0..1 whose signal falls as a squared cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nodes.diffusion.time_scale import ALWAYS, TimeScale, float32

_TABLE = 10_000
_LOWEST, _HIGHEST = 0.0001, 0.9999


@dataclass(frozen=True)
class CosineRatio(TimeScale):
    """Würstchen's time, a ratio r from 0 (clean) to 1 (noise), which its networks are given as it is.

    `alpha_bar = cos^2((r + s) / (1 + s) pi / 2) / cos^2(s / (1 + s) pi / 2)`, clamped to 0.0001..0.9999, and
    `sigma = sqrt((1 - alpha_bar) / alpha_bar)`, about 0.01..100 (https://arxiv.org/abs/2306.00637). `shift` divides
    the signal-to-noise ratio of the levels by its square, while the network is told the ratio of the level without
    it (Stable Cascade: 2 for Stage C). `scaler` bends the ratio before the cosine. With `published_ratios`, as
    Würstchen v2 is published, the schedules of a KSampler that are even in time visit ratios spaced evenly from 1 to
    0, and `ddpm` ends at the level of ratio 0.

    The clamp gives all ratios near 0, and all near 1, one sigma; `timestep` returns the one at which the clamp
    begins. A schedule that carries times besides its levels tells them apart.
    """

    shift: float = 1.0
    scaler: float = 1.0
    s: float = 0.008
    published_ratios: bool = False

    @cached_property
    def sigmas(self) -> Tensor:
        """Ten thousand noise levels, of the ratios 0.0001 to 1, ascending, float32 on the CPU. Read only."""
        return self._at((torch.arange(1, _TABLE + 1, dtype=torch.float64) / _TABLE).float())

    def _at(self, ratio: Tensor) -> Tensor:
        # float32 and this order of operations, as everywhere: near ratio 0 the rounding of alpha_bar shows in sigma.
        if self.scaler > 1:
            ratio = 1 - (1 - ratio) ** self.scaler
        elif self.scaler < 1:
            ratio = ratio**self.scaler
        s = float32(self.s)
        alpha_bar = torch.cos((ratio + s) / (1 + s) * math.pi * 0.5) ** 2 / self._at_zero
        if self.shift != 1.0:
            log_snr = (alpha_bar / (1 - alpha_bar)).log() + 2 * (1.0 / float32(self.shift)).log()
            alpha_bar = log_snr.sigmoid()
        alpha_bar = alpha_bar.clamp(_LOWEST, _HIGHEST)
        return ((1 - alpha_bar) / alpha_bar) ** 0.5

    @cached_property
    def _at_zero(self) -> Tensor:
        s = float32(self.s)
        return torch.cos(s / (1 + s) * math.pi * 0.5) ** 2

    def sigma(self, timestep: float) -> float:
        """Return the noise level at the ratio `timestep`."""
        return float(self._at(float32(timestep)))

    def timestep(self, sigma: float) -> float:
        """Return the ratio that the network is told at `sigma`: that of a schedule without shift."""
        level, s = float32(sigma), float32(self.s)
        alpha_bar = (1 / (level * level + 1)).clamp(0, 1)
        ratio = ((alpha_bar * self._at_zero) ** 0.5).acos() / (math.pi * 0.5) * (1 + s) - s
        if self.scaler > 1:
            ratio = 1 - (1 - ratio).clamp(0, 1) ** (1 / self.scaler)
        elif self.scaler < 1:
            ratio = ratio.clamp(0, 1) ** (1 / self.scaler)
        return float(ratio)

    def percent_to_sigma(self, percent: float) -> float:
        """Return the noise level at `percent` (0 at the start of sampling, 1 at its end)."""
        if percent <= 0.0:
            return ALWAYS
        return 0.0 if percent >= 1.0 else self.sigma(1.0 - percent)
