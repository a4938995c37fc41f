"""Loaders of Würstchen's and Stable Cascade's diffusers folders. They read headers only."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from nodegraph.node import Choice, Context, Widget, node
from nodes.models.wuerstchen_folder import read_compressor_folder, read_decoder_folder, read_prior_folder
from nodes.values import Clip, Model, Vae

Folder = Annotated[str, Choice(files="diffusers")]
Variant = Annotated[
    str,
    Choice(("full", "lite")),
    Widget(tooltip="Stable Cascade's folders hold a smaller network, lite, too."),
]


class Prior(NamedTuple):
    """Stage C and the text encoder that it reads."""

    MODEL: Model
    CLIP: Clip


class Decoder(NamedTuple):
    """Stage B, the text encoder that it reads, and Stage A."""

    MODEL: Model
    CLIP: Clip
    VAE: Vae


@node(
    "WuerstchenPriorLoader",
    category="loaders",
    display_name="Load Würstchen Prior (Stage C)",
    lane="io",
    ahead=True,
)
def wuerstchen_prior_loader(*, ctx: Context, model_path: Folder, variant: Variant = "full") -> Prior:
    """Loads Stage C, which makes a 42 times compressed semantic latent of a prompt, and its text encoder.

    The folder is one of Würstchen v2 or Stable Cascade in diffusers' layout: prior and text_encoder, or prior_prior and
    prior_text_encoder where both stages share a folder. Noise levels are those of diffusers' pipelines: for Stable
    Cascade's usual ones add ModelSamplingStableCascade. Raises NodeError where a part is missing.
    """
    return Prior(*read_prior_folder(ctx.folders.find("diffusers", model_path), variant == "lite"))


@node(
    "WuerstchenDecoderLoader",
    category="loaders",
    display_name="Load Würstchen Decoder (Stage B, A)",
    lane="io",
    ahead=True,
)
def wuerstchen_decoder_loader(*, ctx: Context, model_path: Folder, variant: Variant = "full") -> Decoder:
    """Loads Stage B, which makes latents of Stage C's result, its text encoder, and Stage A, which decodes them.

    The folder is one of Würstchen v2 or Stable Cascade in diffusers' layout: decoder, text_encoder and vqgan. Raises
    NodeError where a part is missing.
    """
    return Decoder(*read_decoder_folder(ctx.folders.find("diffusers", model_path), variant == "lite"))


@node(
    "WuerstchenCompressorLoader",
    category="loaders",
    display_name="Load Würstchen Compressor",
    lane="io",
    ahead=True,
)
def wuerstchen_compressor_loader(*, ctx: Context, model_path: Folder) -> Vae:
    """Loads the semantic compressor, an EfficientNet in the folder's image_encoder, for variations of a picture.

    It encodes only. Stable Cascade's, a file of its own, is loaded by VAELoader.
    """
    return read_compressor_folder(ctx.folders.find("diffusers", model_path))
