"""Recipes of Würstchen's and Stable Cascade's networks: Stage C, Stage B, Stage A and the compressor.

Which of them a file holds shows in its keys, in whatever layout it comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from nodes.diffusion.cosine_ratio import CosineRatio
from nodes.models.compressor_architecture import (
    efficientnet_architecture,
    stage_c_coder_architecture,
    stage_c_previewer_architecture,
)
from nodes.models.detection import Found, Hints, check_complete, read_architecture
from nodes.models.wuerstchen_architecture import (
    paella_vq_architecture,
    stable_cascade_architecture,
    wuerstchen_decoder_architecture,
    wuerstchen_prior_architecture,
)
from nodes.values import Architecture, LatentFormat, Model, Vae

WUERSTCHEN_C = LatentFormat("wuerstchen_c", channels=16, scale=1 / 42, downscale=42.67, shift=-1.0)
"""The semantic latent of Würstchen v2: on links as the compressor makes it."""
WUERSTCHEN_B = LatentFormat("wuerstchen_b", channels=4, scale=1 / 0.3764, downscale=4)
"""The latent of Würstchen v2's Stage A: on links as the VQGAN makes it."""
CASCADE_C = LatentFormat("cascade_c", channels=16, scale=1.0, downscale=42.67)
CASCADE_B = LatentFormat("cascade_b", channels=4, scale=1 / 0.43, downscale=4)


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a family: how its network is read off the shapes, what its latents are and what its time."""

    family: str
    sign: str
    """How a parameter's name begins that no stage listed after this one has."""
    read: Callable[..., Architecture]
    latent_format: LatentFormat
    parametrisation: CosineRatio


STAGES = (
    Stage(
        "wuerstchen_c",
        "cond_mapper.",
        wuerstchen_prior_architecture,
        WUERSTCHEN_C,
        CosineRatio(published_ratios=True),
    ),
    Stage(
        "wuerstchen_b",
        "clip_mapper.",
        wuerstchen_decoder_architecture,
        WUERSTCHEN_B,
        CosineRatio(published_ratios=True),
    ),
    Stage("cascade_c", "clip_txt_mapper.", stable_cascade_architecture, CASCADE_C, CosineRatio(shift=2.0)),
    Stage("cascade_b", "clip_txt_pooled_mapper.", stable_cascade_architecture, CASCADE_B, CosineRatio()),
)


_SEMANTIC: tuple[tuple[str, Callable[..., Architecture]], ...] = (
    ("encoder.mapper.0.weight", stage_c_coder_architecture),
    ("mapper.0.weight", efficientnet_architecture),
    ("blocks.24.weight", stage_c_previewer_architecture),
)
"""What goes between pictures and semantic latents, by a parameter of each."""


def stage_recipe(found: Found, hints: Hints) -> Model | None:
    """Return the recipe of a Stage C or Stage B, None where `found` is neither.

    `hints.unet` is named as in the diffusers configuration; `hints.latent_scale` is the family's own where it is None.
    """
    stage = next((one for one in STAGES if any(key.startswith(one.sign) for key in found.shapes)), None)
    if stage is None:
        return None
    architecture = read_architecture(found, lambda: stage.read(found.shapes, hints.unet))
    check_complete(found, architecture)
    latent = stage.latent_format
    if hints.latent_scale is not None:
        latent = replace(latent, scale=hints.latent_scale)
    parametrisation = hints.parametrisation or stage.parametrisation
    return Model(found.weights(), architecture, parametrisation, latent, stage.family)


def stage_vae_recipe(found: Found, hints: Hints) -> Vae | None:
    """Return the recipe of a Stage A, or of the compressor or the previewer of Stage C; None where `found` is none.

    A file does not say whether it goes with Würstchen or with Stable Cascade, so that the latter's format is given.
    """
    if "vquantizer.embedding.weight" in found.shapes:
        architecture = read_architecture(found, lambda: paella_vq_architecture(found.shapes, hints.vae))
        latent = CASCADE_B
        if hints.latent_scale is not None:
            latent = replace(latent, scale=hints.latent_scale)
    else:
        read = next((read for sign, read in _SEMANTIC if sign in found.shapes), None)
        if read is None:
            return None
        architecture = read_architecture(found, lambda: read(found.shapes, hints.vae))
        latent = CASCADE_C
    check_complete(found, architecture)
    return Vae(found.weights(), architecture, latent)
