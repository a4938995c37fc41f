"""The one contract between samplers and diffusion models: `denoise(x, sigma) -> x0`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from nodes.diffusion.parametrisation import Parametrisation


class Denoiser(Protocol):
    """A model, its conditioning and its guidance, seen as an estimate of the clean latent."""

    @property
    def parametrisation(self) -> Parametrisation:
        """How the model's noise levels are laid out; some samplers take another form for flow models."""

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the guided estimate x0 of the clean latent, shaped as `x`, at noise level `sigma`."""

    def with_uncond(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Return the guided x0 and the unconditional x0, both shaped as `x`; for the CFG++ samplers."""


@dataclass(frozen=True)
class Step:
    """What a sampler knows after one step's first evaluation of the model.

    `index` counts from 0 to `total` - 1; `x` is the latent at noise level `sigma`, `x0` the estimate from it.
    """

    index: int
    total: int
    sigma: float
    x: Tensor
    x0: Tensor


OnStep = Callable[[Step], None]
"""Called once a step. What it raises ends the run and reaches the caller."""
