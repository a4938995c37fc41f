"""What each kind of autoencoder does: which way it goes, its channels and steps, and the range of its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

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
    )


def _pixels(arguments: Mapping[str, Any]) -> Coding:
    return Coding(arguments["channels"], _encode, _decode, encode_step=1, decode_step=1, signed=True)


CODINGS: Mapping[str, Callable[[Mapping[str, Any]], Coding]] = {
    "autoencoder_kl": _autoencoder_kl,
    "pixels": _pixels,
}
"""By the architecture's name, from its arguments."""
