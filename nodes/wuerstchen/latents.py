"""Latents of Würstchen's stages: empty ones for a picture's size, a picture compressed, Stage C's result for Stage B."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph.node import UNKNOWN, Context, Forecast, Memory, NodeError, Range, Runtime, Widget, node
from nodes import estimates
from nodes.forms import ConditioningForm, ImageForm, LatentForm
from nodes.models.coding import coding
from nodes.models.pool import ModelPool
from nodes.resize import MAX_SIZE
from nodes.values import Conditioning, Image, Latent, Vae

SEMANTIC_CHANNELS = 16
SEMANTIC_FORMATS = ("wuerstchen_c", "cascade_c")
COMPRESSION = 42.67
"""Pixels of the picture to one of Stage C's latent, in each direction, as models are made for."""
EXPANSION = 10.67
"""Pixels of Stage B's latent to one of Stage C's, in each direction."""
STAGE_B_DOWNSCALE = 4
SMALLEST = 128
"""The least width and height, three of Stage C's pixels: below, there is nothing left to compose."""
Size = Annotated[int, Range(SMALLEST, MAX_SIZE, step=8)]


class StageLatents(NamedTuple):
    """Latents to start Stage C and Stage B from."""

    stage_c: Latent
    stage_b: Latent


def _foresee_empty(width: object, height: object, batch_size: object) -> Forecast:
    count = batch_size if isinstance(batch_size, int) else None
    rows, columns = (cells(side) if isinstance(side, int) else None for side in (height, width))
    stage_c = LatentForm(count, SEMANTIC_CHANNELS, rows, columns, empty=True, downscale=COMPRESSION)
    return Forecast((stage_c, empty_b_form(count, expanded(rows), expanded(columns))))


def _foresee_stage_b(conditioning: object, stage_c: object) -> Forecast:
    return Forecast((form_with_stage_c(conditioning, stage_c),))


def _foresee_image(image: object, vae: object, runtime: Runtime) -> Forecast:
    form = image if isinstance(image, ImageForm) else ImageForm()
    if form.height is not None and form.width is not None:
        check_size(form.height, form.width)
    rows, columns = (None if side is None else cells(side) for side in (form.height, form.width))
    stage_b = empty_b_form(form.batch, expanded(rows), expanded(columns))
    outputs = (compressed_form(form, vae, rows, columns), stage_b)
    return Forecast(outputs, compressing(runtime, vae, rows, columns))


@node(
    "WuerstchenEmptyLatents",
    category="latent/wuerstchen",
    display_name="Empty Latents (Würstchen)",
    foresee=_foresee_empty,
)
def wuerstchen_empty_latents(
    width: Annotated[Size, Widget(tooltip="Width of the pictures in pixels.")] = 1024,
    height: Annotated[Size, Widget(tooltip="Height of the pictures in pixels.")] = 1024,
    batch_size: Annotated[int, Range(1, 4096), Widget(tooltip="How many pictures to make at once.")] = 1,
) -> StageLatents:
    """Empty latents for Stage C and Stage B of Würstchen v2.

    Stage C's are (batch, 16, height / 42.67, width / 42.67), rounded up, Stage B's (batch, 4, ...) 10.67 times as many,
    rounded down, as the published pipelines do. Pictures have four times the pixels a side of Stage B's latents, which
    is width x height where these are multiples of 128.
    """
    rows, columns = cells(height), cells(width)
    return StageLatents(
        _of_c(torch.zeros(batch_size, SEMANTIC_CHANNELS, rows, columns)),
        empty_b(batch_size, int(rows * EXPANSION), int(columns * EXPANSION)),
    )


@node(
    "WuerstchenStageBConditioning",
    category="conditioning/wuerstchen",
    display_name="Stage B Conditioning (Würstchen)",
    foresee=_foresee_stage_b,
)
def wuerstchen_stage_b_conditioning(*, conditioning: Conditioning, stage_c: Latent) -> Conditioning:
    """Hands Stage C's result to Stage B beside the prompt.

    The negative prompt needs none: it is read with zeros in its place, as the published pipelines do.
    """
    return with_stage_c(conditioning, stage_c)


@node(
    "WuerstchenImageEncode",
    category="latent/wuerstchen",
    display_name="Image Encode (Würstchen)",
    lane="device",
    foresee=_foresee_image,
)
def wuerstchen_image_encode(*, ctx: Context, image: Image, vae: Vae) -> StageLatents:
    """Compresses pictures as Stage C's results look, for Stage B to make variations of, with Stage B's empty latents.

    Pictures are resized so that each 32 pixels, a pixel of the compressor's, stand for 42.67 of their own. Raises
    NodeError where `vae` is no compressor, or a picture is smaller than 128 pixels a side.
    """
    height, width = image.pixels.shape[1:3]
    check_size(height, width)
    rows, columns = cells(height), cells(width)
    step = check_compressor(vae)
    pictures = _shrunk(image.pixels[..., :3].movedim(-1, 1), rows * step, columns * step)
    with ctx.resource(ModelPool).vae(vae) as compressor:
        samples = compressor.encode(pictures.movedim(1, -1))
    return StageLatents(
        _of_c(samples), empty_b(samples.shape[0], int(rows * EXPANSION), int(columns * EXPANSION))
    )


def cells(pixels: int) -> int:
    """Return the pixels of Stage C's latent that stand for so many of the picture."""
    return math.ceil(pixels / COMPRESSION)


def expanded(side: int | None) -> int | None:
    """Return the pixels of Stage B's latent for so many of Stage C's; None where they are not known."""
    return None if side is None else int(side * EXPANSION)


def check_size(height: int, width: int) -> None:
    """Raise NodeError for a picture that is too small to be compressed."""
    if min(height, width) < SMALLEST:
        raise NodeError(
            "the picture is too small to be compressed.",
            code="wrong_picture",
            input="image",
            found=f"{width}x{height}",
            allowed=f"{SMALLEST} pixels a side and more",
            hint="Enlarge it with ImageScale.",
        )


def empty_b_form(batch: int | None, rows: int | None, columns: int | None) -> LatentForm:
    """Return what is known beforehand of an empty latent of Stage B."""
    return LatentForm(batch, 4, rows, columns, empty=True, downscale=STAGE_B_DOWNSCALE)


def empty_b(batch: int, rows: int, columns: int) -> Latent:
    """Return an empty latent of Stage B."""
    return Latent(torch.zeros(batch, 4, rows, columns), downscale=STAGE_B_DOWNSCALE)


def with_stage_c(conditioning: Conditioning, stage_c: Latent) -> Conditioning:
    """Return the conditioning with Stage C's result in every entry. Raises NodeError for another latent."""
    samples = stage_c.samples
    if samples.ndim != 4 or samples.shape[1] != SEMANTIC_CHANNELS or 0 in samples.shape:
        raise _no_result(f"samples of shape {tuple(samples.shape)}")
    entries = (replace(entry, extras={**entry.extras, "effnet": samples}) for entry in conditioning.entries)
    return Conditioning(tuple(entries))


def form_with_stage_c(conditioning: object, stage_c: object) -> object:
    """Return what is known beforehand of the conditioning with Stage C's result. Raises NodeError for another latent."""
    form = stage_c if isinstance(stage_c, LatentForm) else LatentForm()
    if form.format not in (None, *SEMANTIC_FORMATS) or form.channels not in (None, SEMANTIC_CHANNELS):
        raise _no_result(form.words())
    if not isinstance(conditioning, ConditioningForm):
        return UNKNOWN
    shape = (form.batch, SEMANTIC_CHANNELS, form.height, form.width)
    return ConditioningForm(
        tuple(replace(entry, extras={**entry.extras, "effnet": shape}) for entry in conditioning.entries)
    )


def compressed_form(pictures: ImageForm, vae: object, rows: int | None, columns: int | None) -> LatentForm:
    """Return what is known beforehand of compressed pictures. Raises NodeError where `vae` is no compressor."""
    name = None
    if isinstance(vae, Vae):
        check_compressor(vae)
        name = vae.latent_format.name
    return LatentForm(pictures.batch, SEMANTIC_CHANNELS, rows, columns, name, downscale=COMPRESSION)


def compressing(
    runtime: Runtime, vae: object, rows: int | None, columns: int | None
) -> Callable[[], Memory] | None:
    """Return what compressing pictures into so many pixels takes."""
    if not isinstance(vae, Vae):
        return None
    step = check_compressor(vae)
    height, width = (None if side is None else side * step for side in (rows, columns))
    return estimates.encoding(runtime, vae, ImageForm(1, height, width, 3))


def _no_result(found: str) -> NodeError:
    return NodeError(
        "the latent is no result of Stage C.",
        code="wrong_latent",
        input="stage_c",
        found=found,
        allowed=f"(batch, {SEMANTIC_CHANNELS}, height, width)",
        hint="Sample it with a Stage C model, or encode a picture with the compressor.",
    )


def check_compressor(vae: Vae) -> int:
    """Return the compressor's pixels to one of its latent. Raises NodeError where `vae` is none."""
    found = coding(vae.architecture)
    if found.encode is None or found.latent_channels != SEMANTIC_CHANNELS:
        raise NodeError(
            "the VAE does not compress pictures for Stage C.",
            code="wrong_vae",
            input="vae",
            found=f"{vae.architecture.name}, {found.latent_channels} channels",
            allowed=f"an EfficientNet encoder, {SEMANTIC_CHANNELS} channels",
            hint="Load one with WuerstchenCompressorLoader, a checkpoint of Stage C, or VAELoader (effnet_encoder).",
        )
    return found.encode_step


def _of_c(samples: Tensor) -> Latent:
    return Latent(samples, downscale=COMPRESSION)


def _shrunk(pictures: Tensor, height: int, width: int) -> Tensor:
    """Pictures (batch, 3, H, W) of another size, their middle where proportions differ; anti-aliased."""
    aspect = width / height
    rows, columns = pictures.shape[-2:]
    kept = (min(rows, round(columns / aspect)), min(columns, round(rows * aspect)))
    top, left = (rows - kept[0]) // 2, (columns - kept[1]) // 2
    cut = pictures[..., top : top + kept[0], left : left + kept[1]]
    return F.interpolate(cut, size=(height, width), mode="bicubic", antialias=True).clamp(0.0, 1.0)
