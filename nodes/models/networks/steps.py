"""A network as a row of steps that each see only a little way around a pixel, so that it can run in tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from nodes.models.networks.layers import GroupNorm

Norm = Callable[[GroupNorm, Tensor], Tensor]
"""How a normalisation over the whole picture is made: the layer and its input to its output."""


def of_input(layer: GroupNorm, x: Tensor) -> Tensor:
    """Normalise by the statistics of what is given, as the layer does by itself."""
    return layer(x)


def local(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Norm], Tensor]:
    """A step in which nothing is normalised over the whole picture."""
    return lambda x, norm: function(x)


@dataclass(frozen=True)
class Step:
    """A part of a network between two feature maps (batch, channels, height, width)."""

    run: Callable[[Tensor, Norm], Tensor]
    radius: int
    """How far an output pixel sees, in pixels of the input."""
    channels: int
    """Of the output."""
    peak: float
    """Numbers held at once, beside the parameters, to a pixel of the output."""
    strips: tuple[tuple[float, int], ...] = ()
    """The same where large maps are computed in strips, at each moment that matters: to a pixel, and in a strip."""
    scale: int = 1
    """Pixels of the output to one of the input, in each direction."""
    norms: int = 0
    """Normalisations over the whole picture, in the order in which `run` comes to them."""

    def numbers(self, pixels: float) -> float:
        """Numbers held at once for so many pixels of the output."""
        most = self.peak * pixels
        return min(most, max((each * pixels + strip for each, strip in self.strips), default=most))

    def pixels(self, numbers: float) -> float:
        """Pixels of the output that so many numbers held at once suffice for."""
        least = numbers / self.peak
        return max(least, min(((numbers - strip) / each for each, strip in self.strips), default=least))


@dataclass(frozen=True)
class Steps:
    """What a decoder does: `head` on the whole latent, at its own size, then the steps."""

    head: Callable[[Tensor], Tensor]
    head_channels: int
    head_peak: float
    """Numbers held at once to a pixel of the latent."""
    steps: tuple[Step, ...]
