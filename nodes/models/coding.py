"""What each kind of autoencoder does: which way it goes, its channels and steps, and the range of its pictures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from nodes.models.networks.steps import Steps
from nodes.values import Architecture

Mapped = Callable[[Any, Tensor], Tensor]
"""(module, pictures or latents (batch, channels, height, width)) -> the other."""


@dataclass(frozen=True, slots=True)
class Coding:
    """How an autoencoder network is used; `encode` or `decode` is None where it does not go that way."""

    latent_channels: int
    encode: Mapped | None
    decode: Mapped | None
    encode_step: int
    """Pixels of the picture to one of the latent, in each direction, where it encodes."""
    decode_step: int
    """The same where it decodes: a previewer makes smaller pictures than were encoded."""
    signed: bool = False
    """Whether the network's pictures are -1..1; else they are 0..1."""
    picture_channels: int = 3
    steps: Callable[[Any], Steps] | None = None
    """(module) -> its decoder in steps, for decoding in tiles without a seam; None where it has no such form."""
    encode_peak: float = 0.0
    """Numbers that encoding holds at once, beside the parameters, to a pixel of the picture; 0 where it is not known."""

    def into_network(self, pictures: Tensor) -> Tensor:
        """Return pictures of 0..1 in the network's range."""
        return pictures * 2.0 - 1.0 if self.signed else pictures

    def out_of_network(self, pictures: Tensor) -> Tensor:
        """Return the network's pictures in 0..1, clipped."""
        return ((pictures + 1.0) / 2.0 if self.signed else pictures).clamp(0.0, 1.0)


def coding(architecture: Architecture) -> Coding:
    """Return how the autoencoder of `architecture` is used. Raises KeyError for a network that is none."""
    if architecture.name not in CODINGS:
        raise KeyError(f"no autoencoder is called {architecture.name!r}")
    return CODINGS[architecture.name](dict(architecture.arguments))


def _encode(module: Any, pictures: Tensor) -> Tensor:
    latents: Tensor = module.encode(pictures)
    return latents


def _decode(module: Any, latents: Tensor) -> Tensor:
    pictures: Tensor = module.decode(latents)
    return pictures


def _steps(module: Any) -> Steps:
    steps: Steps = module.steps()
    return steps


def _autoencoder_kl(arguments: Mapping[str, Any]) -> Coding:
    step = 2 ** (len(arguments["channel_mult"]) - 1)
    return Coding(
        latent_channels=arguments["latent_channels"],
        encode=_encode if arguments.get("encoder", True) else None,
        decode=_decode if arguments.get("decoder", True) else None,
        encode_step=step,
        decode_step=step,
        signed=True,
        picture_channels=arguments.get("picture_channels", 3),
        steps=_steps,
        encode_peak=_encode_peak(arguments["channels"], arguments["channel_mult"]),
    )


def _encode_peak(channels: int, mult: tuple[int, ...]) -> float:
    """Of the residual blocks: their input, and the larger of a convolution's two maps and the second's three."""
    widths = [channels, *(channels * factor for factor in mult)]
    peaks: list[float] = []
    for level, (wide, out) in enumerate(itertools.pairwise(widths)):
        peaks.append((wide + max(wide + out, 3 * out)) / 4**level)
    return max(peaks)


def _pixels(arguments: Mapping[str, Any]) -> Coding:
    return Coding(arguments["channels"], _encode, _decode, encode_step=1, decode_step=1, signed=True)


def _paella_vq(arguments: Mapping[str, Any]) -> Coding:
    step = arguments["patch_size"] * 2 ** (arguments["levels"] - 1)
    return Coding(
        arguments["latent_channels"],
        _encode,
        _decode,
        encode_step=step,
        decode_step=step,
        picture_channels=arguments["picture_channels"],
        steps=_steps,
    )


_PREVIEWED = 8
"""Pixels a side that the previewer makes of one of Stage C's."""


def _efficientnet(arguments: Mapping[str, Any]) -> Coding:
    # The first layer halves the picture before the stages do.
    step = 2 * math.prod(stride for _, _, stride, *_ in arguments["stages"])
    return Coding(arguments["latent_channels"], _encode, None, encode_step=step, decode_step=step)


def _stage_c_previewer(arguments: Mapping[str, Any]) -> Coding:
    return Coding(arguments["latent_channels"], None, _decode, encode_step=_PREVIEWED, decode_step=_PREVIEWED)


def _stage_c_coder(arguments: Mapping[str, Any]) -> Coding:
    encoder = _efficientnet(dict(arguments["encoder"]))
    return replace(encoder, decode=_decode, decode_step=_PREVIEWED)


CODINGS: Mapping[str, Callable[[Mapping[str, Any]], Coding]] = {
    "autoencoder_kl": _autoencoder_kl,
    "pixels": _pixels,
    "paella_vq": _paella_vq,
    "efficientnet": _efficientnet,
    "stage_c_previewer": _stage_c_previewer,
    "stage_c_coder": _stage_c_coder,
}
"""By the architecture's name, from its arguments."""
