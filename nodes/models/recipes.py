"""Recipes of the networks in a file: a denoising network, a text encoder, an autoencoder."""

from __future__ import annotations

from nodes.diffusion.parametrisation import Discrete, Prediction
from nodes.models.architecture import (
    clip_architecture,
    clip_vision_architecture,
    unet_architecture,
    vae_architecture,
)
from nodes.models.detection import Found, Hints, check_complete, read_architecture, unsupported
from nodes.models.tensor_file import TensorReader
from nodes.models.wuerstchen_recipes import stage_recipe, stage_vae_recipe
from nodes.values import Architecture, Clip, ClipVision, LatentFormat, Model, Vae

SD1_LATENT = LatentFormat("sd1", channels=4, scale=0.18215)


def model_recipe(found: Found, hints: Hints) -> Model:
    """Return the recipe of a denoising network. Raises NodeError for families that are not supported yet."""
    stage = stage_recipe(found, hints)
    if stage is not None:
        return stage
    architecture = read_architecture(found, lambda: unet_architecture(found.shapes, hints.unet))
    if "vector_width" in dict(architecture.arguments):
        raise unsupported(found.header, "a Stable Diffusion XL or unCLIP model")
    if architecture["in_channels"] not in (4, 8, 9):
        raise unsupported(found.header, f"a U-Net with {architecture['in_channels']} input channels")
    check_complete(found, architecture)
    family = "sd2" if architecture["linear"] else "sd1"
    parametrisation = hints.parametrisation or Discrete(
        prediction=hints.prediction or _probe_prediction(found, family, architecture),
        zero_terminal_snr="ztsnr" in found.header.tensors,
    )
    latent = SD1_LATENT
    if hints.latent_scale is not None:
        latent = LatentFormat(latent.name, latent.channels, hints.latent_scale)
    return Model(found.weights(), architecture, parametrisation, latent, family)


def clip_recipe(found: Found, hints: Hints, family: str | None = None) -> Clip:
    """Return the recipe of a text encoder for models of `family`, Stable Diffusion's where it is None."""
    # Stable Diffusion 1.x and Würstchen take the pooled state as it is, the others projected.
    width = found.shapes.get("text_model.embeddings.token_embedding.weight", (0, 0))[1]
    own = "sd2" if found.layout == "open_clip" or width == 1024 else "sd1"
    reader = family or own
    architecture = read_architecture(
        found,
        lambda: clip_architecture(found.shapes, hints.text_encoder, projection=reader in ("sd2", "cascade")),
    )
    if family is None and architecture["width"] == 1280:
        raise unsupported(found.header, "the second text encoder of Stable Diffusion XL")
    check_complete(found, architecture)
    return Clip(found.weights(), architecture, reader)


def clip_vision_recipe(found: Found, hints: Hints) -> ClipVision:
    """Return the recipe of a vision encoder."""
    architecture = read_architecture(found, lambda: clip_vision_architecture(found.shapes, hints.clip_vision))
    check_complete(found, architecture)
    return ClipVision(found.weights(), architecture)


def vae_recipe(found: Found, hints: Hints) -> Vae:
    """Return the recipe of an autoencoder, or of what takes its place in models of several stages."""
    stage = stage_vae_recipe(found, hints)
    if stage is not None:
        return stage
    architecture = read_architecture(found, lambda: vae_architecture(found.shapes, hints.vae))
    if architecture["latent_channels"] != 4:
        raise unsupported(
            found.header, f"an autoencoder with {architecture['latent_channels']} latent channels"
        )
    check_complete(found, architecture)
    latent = SD1_LATENT
    levels = len(architecture["channel_mult"])
    if hints.latent_scale is not None or levels != 4:
        latent = LatentFormat(
            latent.name, latent.channels, hints.latent_scale or latent.scale, downscale=2 ** (levels - 1)
        )
    return Vae(found.weights(), architecture, latent)


_PROBED = "output_blocks.11.1.transformer_blocks.0.norm1.bias"


def _probe_prediction(found: Found, family: str, architecture: Architecture) -> Prediction:
    """Tell v-prediction from eps in Stable Diffusion 2.x, which shapes do not show.

    The two published base models differ plainly in the spread of this bias; fine-tuned ones inherit it.
    """
    if family != "sd2" or architecture["in_channels"] != 4 or _PROBED not in found.sources:
        return "eps"
    with TensorReader(found.header) as reader:
        bias = reader.read(found.prefix + found.sources[_PROBED].key).float()
    return "v_prediction" if float(bias.std(correction=0)) > 0.09 else "eps"
