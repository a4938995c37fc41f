"""Nodes of Stable Cascade, Würstchen's successor, with the names and sizes that shared workflows rely on."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, NamedTuple

import torch

from nodegraph.node import Context, Forecast, Range, Runtime, node
from nodes import estimates
from nodes.diffusion.cosine_ratio import CosineRatio
from nodes.forms import ImageForm, LatentForm
from nodes.models.pool import ModelPool
from nodes.resize import MAX_SIZE, resize
from nodes.values import Conditioning, Image, Latent, Model, Vae
from nodes.wuerstchen.latents import (
    COMPRESSION,
    SEMANTIC_CHANNELS,
    StageLatents,
    check_compressor,
    compressed_form,
    compressing,
    empty_b,
    empty_b_form,
    form_with_stage_c,
    with_stage_c,
)

Size = Annotated[int, Range(256, MAX_SIZE, step=8)]
Compression = Annotated[int, Range(4, 128, step=1)]


class ControlLatents(NamedTuple):
    """What a ControlNet reads, and latents to start Stage C and Stage B from."""

    controlnet_input: Image
    stage_c: Latent
    stage_b: Latent


def _foresee_empty(width: object, height: object, compression: object, batch_size: object) -> Forecast:
    count = batch_size if isinstance(batch_size, int) else None
    rows, columns = _divided(height, compression), _divided(width, compression)
    stage_c = LatentForm(count, SEMANTIC_CHANNELS, rows, columns, empty=True, downscale=COMPRESSION)
    return Forecast((stage_c, empty_b_form(count, _divided(height, 4), _divided(width, 4))))


def _foresee_stage_b(conditioning: object, stage_c: object) -> Forecast:
    return Forecast((form_with_stage_c(conditioning, stage_c),))


def _foresee_encode(image: object, vae: object, compression: object, runtime: Runtime) -> Forecast:
    form = image if isinstance(image, ImageForm) else ImageForm()
    rows, columns = (_divided(side, compression) for side in (form.height, form.width))
    high, wide = (None if side is None else side // 8 * 2 for side in (form.height, form.width))
    outputs = (compressed_form(form, vae, rows, columns), empty_b_form(form.batch, high, wide))
    return Forecast(outputs, compressing(runtime, vae, rows, columns))


def _foresee_control(image: object, vae: object, runtime: Runtime) -> Forecast:
    return Forecast((), estimates.encoding(runtime, vae, image))


def _divided(pixels: object, by: object) -> int | None:
    return pixels // by if isinstance(pixels, int) and isinstance(by, int) else None


@node("StableCascade_EmptyLatentImage", category="latent/stable_cascade", foresee=_foresee_empty)
def stable_cascade_empty_latent_image(
    width: Size = 1024,
    height: Size = 1024,
    compression: Compression = 42,
    batch_size: Annotated[int, Range(1, 4096)] = 1,
) -> StageLatents:
    """Empty latents for Stage C and Stage B of Stable Cascade.

    Stage C's have `compression` pixels of the picture to one of theirs, rounded down, Stage B's four.
    """
    stage_c = torch.zeros(batch_size, SEMANTIC_CHANNELS, height // compression, width // compression)
    return StageLatents(Latent(stage_c, downscale=COMPRESSION), empty_b(batch_size, height // 4, width // 4))


@node(
    "StableCascade_StageB_Conditioning",
    category="conditioning/stable_cascade",
    foresee=_foresee_stage_b,
)
def stable_cascade_stage_b_conditioning(*, conditioning: Conditioning, stage_c: Latent) -> Conditioning:
    """Hands Stage C's result to Stage B beside the prompt; a conditioning without one is read with zeros in its place."""
    return with_stage_c(conditioning, stage_c)


@node(
    "StableCascade_StageC_VAEEncode",
    category="latent/stable_cascade",
    lane="device",
    foresee=_foresee_encode,
)
def stable_cascade_stage_c_vae_encode(
    *, ctx: Context, image: Image, vae: Vae, compression: Compression = 42
) -> StageLatents:
    """Compresses pictures as Stage C's results look, with Stage B's empty latents for their size.

    Each `compression` pixels of a picture become one of the latent. Raises NodeError where `vae` is no compressor.
    """
    step = check_compressor(vae)
    height, width = image.pixels.shape[1:3]
    wide, high = width // compression * step, height // compression * step
    pictures = resize(image.pixels.movedim(-1, 1), wide, high, "bicubic", "center")
    with ctx.resource(ModelPool).vae(vae) as compressor:
        samples = compressor.encode(pictures[:, :3].movedim(1, -1))
    return StageLatents(
        Latent(samples, downscale=COMPRESSION), empty_b(samples.shape[0], height // 8 * 2, width // 8 * 2)
    )


@node(
    "StableCascade_SuperResolutionControlnet",
    category="_for_testing/stable_cascade",
    lane="device",
    foresee=_foresee_control,
)
def stable_cascade_super_resolution_controlnet(*, ctx: Context, image: Image, vae: Vae) -> ControlLatents:
    """Encodes small pictures for the super-resolution ControlNet, with empty latents for twice their size.

    What the ControlNet reads is the VAE's latent, its channels last.
    """
    count, height, width = image.pixels.shape[:3]
    with ctx.resource(ModelPool).vae(vae) as autoencoder:
        encoded = autoencoder.encode(image.pixels[..., :3])
    stage_c = torch.zeros(count, SEMANTIC_CHANNELS, height // 16, width // 16)
    return ControlLatents(
        Image(encoded.movedim(1, -1)),
        Latent(stage_c, downscale=COMPRESSION),
        empty_b(count, height // 2, width // 2),
    )


@node("ModelSamplingStableCascade", category="advanced/model", ahead=True)
def model_sampling_stable_cascade(
    *, model: Model, shift: Annotated[float, Range(0.0, 100.0, step=0.01)] = 2.0
) -> Model:
    """Shifts the noise levels of Stable Cascade's stages: more of them are high where `shift` is above 1."""
    base = model.parametrisation if isinstance(model.parametrisation, CosineRatio) else CosineRatio()
    return replace(model, parametrisation=replace(base, shift=shift))
