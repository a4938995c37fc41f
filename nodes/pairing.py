"""Which values go together, and what is said of those that do not: by a node's call, and before anything runs."""

from __future__ import annotations

from collections.abc import Mapping

from nodegraph.node import NodeError
from nodes.models.coding import Coding
from nodes.values import LatentFormat, Model

FORMATS: Mapping[str, str] = {
    "sd1": "Stable Diffusion 1.x and 2.x",
    "pixels": "models that work on pixels",
    "wuerstchen_c": "Stage C of Würstchen",
    "wuerstchen_b": "Stage B of Würstchen",
    "cascade_c": "Stage C of Stable Cascade",
    "cascade_b": "Stage B of Stable Cascade",
}
"""What latents are of, by the name of their format."""


def described(name: str | None, channels: int | None) -> str:
    """Latents in words: whose they are, as far as that is known, and how many channels they have."""
    whose = "" if name is None else f" of {FORMATS[name]} ({name})" if name in FORMATS else f" of {name}"
    width = "" if channels is None else f", {channels} channels" if whose else f" with {channels} channels"
    return f"latents{whose}{width}"


def empty_side(side: int, downscale: float, wanted: LatentFormat) -> int:
    """Return the side that an empty latent has for a model of the format `wanted`.

    It stands for pictures of `side * downscale` pixels, whichever model it was made for.
    """
    return max(1, round(side * downscale / wanted.downscale))


def wrong_latent(model: Model, found: str, allowed: str | None = None) -> NodeError:
    """Return the error of a latent that is not of the kind that the model works on."""
    channels = model.latent_format.channels
    return NodeError(
        f"the latent does not fit the model: {model.family} works on latents with {channels} channels.",
        code="wrong_latent",
        input="latent_image",
        found=found,
        allowed=allowed or f"(batch, {channels}, height, width)",
        hint="Encode the picture with the VAE of this model.",
    )


def wrong_latent_for_vae(coding: Coding, found: str, allowed: str | None = None) -> NodeError:
    """Return the error of a latent that the autoencoder cannot decode."""
    return NodeError(
        "the latent does not fit the VAE.",
        code="wrong_latent",
        input="samples",
        found=found,
        allowed=allowed or f"(batch, {coding.latent_channels}, height, width)",
        hint="Decode it with the VAE of the model that it comes from.",
    )


def unlike_latents(input: str | None, first: str, second: str) -> NodeError:
    """Return the error of two latents that cannot be mixed."""
    return NodeError(
        "the two latents belong to different kinds of models.",
        code="wrong_latent",
        input=input,
        found=f"{first} and {second}",
    )


def format_of(latent_format: LatentFormat) -> str:
    """The latents of a format, in words."""
    return described(latent_format.name, latent_format.channels)


def check_decoder(coding: Coding) -> None:
    """Raise NodeError where the autoencoder has no decoder."""
    if coding.decode is None:
        raise NodeError("this VAE file holds an encoder only: it cannot decode.", input="vae")


def check_picture(coding: Coding, shape: tuple[int | None, ...]) -> None:
    """Raise NodeError for pictures (batch, H, W, channels) that cannot be encoded; None is what is not known."""
    if coding.encode is None:
        raise NodeError("this VAE file holds a decoder only: it cannot encode.", input="vae")
    step = coding.encode_step
    low = any(side is not None and side < step for side in shape[1:3])
    grey = len(shape) != 4 or (shape[3] is not None and shape[3] < 3)
    if low or grey:
        raise NodeError(
            f"the picture does not fit the VAE: it needs colour and at least {step} pixels a side.",
            code="wrong_picture",
            input="pixels",
            found=f"pixels of shape {shape}",
        )
