"""Clipping of x0 to the range of the data, for diffusion in pixel space."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nodes.diffusion.denoiser import Denoiser
from nodes.diffusion.parametrisation import Parametrisation


@dataclass(frozen=True, eq=False)
class Clipped:
    """A denoiser whose guided x0 is clipped to -`limit`..`limit`, in the network's units.

    Clipping comes after guidance, which may leave the range where neither of its estimates does.
    """

    denoise: Denoiser
    limit: float

    @property
    def parametrisation(self) -> Parametrisation:
        """The parametrisation of the denoiser within."""
        return self.denoise.parametrisation

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the clipped x0."""
        return self.with_unclipped(x, sigma)[0]

    def with_unclipped(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Return the clipped x0 and the x0 that it was clipped from; for DDIM."""
        x0 = self.denoise(x, sigma)
        return x0.clamp(-self.limit, self.limit), x0

    def with_uncond(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Return the clipped x0 and the unconditional x0, which only gives a direction and is not clipped."""
        x0, uncond = self.denoise.with_uncond(x, sigma)
        return x0.clamp(-self.limit, self.limit), uncond
