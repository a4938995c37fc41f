"""Nodes that combine conditionings and say where, when and how strongly they apply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph.node import Choice, Context, Forecast, NodeError, Range, Runtime, Widget, node
from nodes import estimates
from nodes.forms import ConditioningForm, encoded, same
from nodes.latents import PIXELS
from nodes.resize import MAX_SIZE, resize_mask
from nodes.values import AREA_UNIT, Area, Cond, Conditioning, Image, Latent, Mask, Vae

Strength = Annotated[float, Range(0.0, 10.0, step=0.01)]
Fraction = Annotated[float, Range(0.0, 1.0, step=0.01)]
Pixels = Annotated[int, Range(0, MAX_SIZE, step=8, floor=True)]
Percent = Annotated[float, Range(0.0, 1.0, step=0.001)]


class EditConditioning(NamedTuple):
    """Outputs of the nodes that condition on a picture."""

    positive: Conditioning
    negative: Conditioning
    latent: Latent


def _foresee_combined(conditioning_1: object, conditioning_2: object) -> Forecast:
    if isinstance(conditioning_1, ConditioningForm) and isinstance(conditioning_2, ConditioningForm):
        return Forecast((ConditioningForm(conditioning_1.entries + conditioning_2.entries),))
    return Forecast()


def _foresee_mixed(conditioning_to: object, conditioning_from: object) -> Forecast:
    if isinstance(conditioning_to, ConditioningForm) and isinstance(conditioning_from, ConditioningForm):
        for entry in conditioning_to.entries:
            _check_widths(conditioning_from.entries[0].width, entry.width)
    return Forecast((conditioning_to,))


def _foresee_edit(
    positive: object, negative: object, pixels: object, vae: object, runtime: Runtime
) -> Forecast:
    outputs = (positive, negative, encoded(pixels, vae))
    return Forecast(outputs, estimates.encoding(runtime, vae, pixels))


@node(
    "ConditioningCombine",
    category="conditioning",
    display_name="Conditioning (Combine)",
    foresee=_foresee_combined,
)
def conditioning_combine(conditioning_1: Conditioning, conditioning_2: Conditioning) -> Conditioning:
    """Both conditionings at once: the model's predictions for each are averaged, weighted where they have areas."""
    return Conditioning(conditioning_1.entries + conditioning_2.entries)


@node(
    "ConditioningAverage",
    category="conditioning",
    display_name="Conditioning (Average)",
    foresee=_foresee_mixed,
)
def conditioning_average(
    conditioning_to: Conditioning,
    conditioning_from: Conditioning,
    conditioning_to_strength: Annotated[float, Range(0.0, 1.0, step=0.01)] = 1.0,
) -> Conditioning:
    """Mixes the text encodings themselves: from `conditioning_from` (strength 0) to `conditioning_to` (1).

    Only the first prompt of `conditioning_from` counts; it is cut or filled with zeros to the other's length.
    """
    source = _first(conditioning_from, "conditioning_from")
    weight = conditioning_to_strength

    def mix(entry: Cond) -> Cond:
        missing = entry.context.shape[1] - source.context.shape[1]
        other = F.pad(source.context, (0, 0, 0, missing))
        pooled = entry.pooled
        if source.pooled is not None:
            pooled = source.pooled if pooled is None else pooled * weight + source.pooled * (1.0 - weight)
        return replace(entry, context=entry.context * weight + other * (1.0 - weight), pooled=pooled)

    _same_width(conditioning_to, source)
    return _each(conditioning_to, mix)


@node(
    "ConditioningConcat",
    category="conditioning",
    display_name="Conditioning (Concat)",
    foresee=_foresee_mixed,
)
def conditioning_concat(conditioning_to: Conditioning, conditioning_from: Conditioning) -> Conditioning:
    """Puts the first prompt of `conditioning_from` behind each of `conditioning_to`, as one longer prompt."""
    source = _first(conditioning_from, "conditioning_from")
    _same_width(conditioning_to, source)
    return _each(
        conditioning_to, lambda entry: replace(entry, context=torch.cat((entry.context, source.context), 1))
    )


@node(
    "ConditioningSetArea",
    category="conditioning",
    display_name="Conditioning (Set Area)",
    foresee=same("conditioning"),
)
def conditioning_set_area(
    conditioning: Conditioning,
    width: Annotated[int, Range(64, MAX_SIZE, step=8, floor=True)] = 64,
    height: Annotated[int, Range(64, MAX_SIZE, step=8, floor=True)] = 64,
    x: Pixels = 0,
    y: Pixels = 0,
    strength: Strength = 1.0,
) -> Conditioning:
    """Limits a conditioning to width x height pixels of the picture, from (x, y) on."""
    area = Area(height // AREA_UNIT, width // AREA_UNIT, y // AREA_UNIT, x // AREA_UNIT)
    return _each(conditioning, lambda entry: replace(entry, area=area, strength=strength, mask_bounds=False))


@node(
    "ConditioningSetAreaPercentage",
    category="conditioning",
    display_name="Conditioning (Set Area with Percentage)",
    foresee=same("conditioning"),
)
def conditioning_set_area_percentage(
    conditioning: Conditioning,
    width: Fraction = 1.0,
    height: Fraction = 1.0,
    x: Fraction = 0,
    y: Fraction = 0,
    strength: Strength = 1.0,
) -> Conditioning:
    """Limits a conditioning to a part of the picture, in fractions of its width and height."""
    area = Area(height, width, y, x, fraction=True)
    return _each(conditioning, lambda entry: replace(entry, area=area, strength=strength, mask_bounds=False))


@node(
    "ConditioningSetAreaStrength",
    category="conditioning",
    display_name="ConditioningSetAreaStrength",
    foresee=same("conditioning"),
)
def conditioning_set_area_strength(conditioning: Conditioning, strength: Strength = 1.0) -> Conditioning:
    """Sets how much a conditioning weighs against the others where they overlap."""
    return _each(conditioning, lambda entry: replace(entry, strength=strength))


@node(
    "ConditioningSetMask",
    category="conditioning",
    display_name="Conditioning (Set Mask)",
    foresee=same("conditioning"),
)
def conditioning_set_mask(
    conditioning: Conditioning,
    mask: Mask,
    strength: Strength = 1.0,
    *,
    set_cond_area: Annotated[str, Choice(("default", "mask bounds"))],
) -> Conditioning:
    """Limits a conditioning to where a mask is 1; `mask bounds` also shows the model only that part of the picture."""
    return _each(
        conditioning,
        lambda entry: replace(
            entry, mask=mask.values, mask_strength=strength, mask_bounds=set_cond_area == "mask bounds"
        ),
    )


@node("ConditioningZeroOut", category="advanced/conditioning", foresee=same("conditioning"))
def conditioning_zero_out(conditioning: Conditioning) -> Conditioning:
    """The same conditioning with encodings of zeros: says nothing about the picture."""
    return _each(
        conditioning,
        lambda entry: replace(
            entry,
            context=torch.zeros_like(entry.context),
            pooled=None if entry.pooled is None else torch.zeros_like(entry.pooled),
        ),
    )


@node("ConditioningSetTimestepRange", category="advanced/conditioning", foresee=same("conditioning"))
def conditioning_set_timestep_range(
    conditioning: Conditioning, start: Percent = 0.0, end: Percent = 1.0
) -> Conditioning:
    """Limits a conditioning to a part of the sampling: from 0 (pure noise) to 1 (the finished picture)."""
    return _each(conditioning, lambda entry: replace(entry, start_percent=start, end_percent=end))


@node("InpaintModelConditioning", category="conditioning/inpaint", lane="device", foresee=_foresee_edit)
def inpaint_model_conditioning(
    positive: Conditioning,
    negative: Conditioning,
    vae: Vae,
    pixels: Image,
    mask: Mask,
    ctx: Context,
    noise_mask: Annotated[
        bool, Widget(tooltip="Sample only within the mask. May help or hurt, by model.")
    ] = True,
) -> EditConditioning:
    """Shows an inpainting model the picture with the masked part greyed out, and the mask.

    `latent` is the whole picture's, with the mask as its noise mask where `noise_mask` is on. Sizes are cut to
    multiples of 8 in the middle.
    """
    original = _whole_cells(pixels.pixels, 1, 2)
    size = pixels.pixels.shape
    masks = _whole_cells(resize_mask(mask.values, size[2], size[1]), 2, 3)
    keep = 1.0 - masks.round().movedim(1, -1)
    greyed = (original[..., :3] - 0.5) * keep + 0.5
    hidden = _encoded(ctx, vae, greyed)
    latent = Latent(_encoded(ctx, vae, original), masks if noise_mask else None)

    def show(entry: Cond) -> Cond:
        return replace(entry, concat_latent=hidden, concat_mask=masks)

    return EditConditioning(_each(positive, show), _each(negative, show), latent)


@node(
    "InstructPixToPixConditioning",
    category="conditioning/instructpix2pix",
    lane="device",
    foresee=_foresee_edit,
)
def instruct_pix_to_pix_conditioning(
    positive: Conditioning, negative: Conditioning, vae: Vae, pixels: Image, ctx: Context
) -> EditConditioning:
    """Shows an editing model the picture to edit; `latent` is empty and of its size, for the sampler to start from.

    Sizes are cut to multiples of 8 in the middle.
    """
    shown = _encoded(ctx, vae, _whole_cells(pixels.pixels, 1, 2))

    def show(entry: Cond) -> Cond:
        return replace(entry, concat_latent=shown)

    return EditConditioning(_each(positive, show), _each(negative, show), Latent(torch.zeros_like(shown)))


def _each(conditioning: Conditioning, change: Callable[[Cond], Cond]) -> Conditioning:
    return Conditioning(tuple(change(entry) for entry in conditioning.entries))


def _first(conditioning: Conditioning, name: str) -> Cond:
    if not conditioning.entries:
        raise NodeError("the conditioning is empty.", input=name)
    return conditioning.entries[0]


def _same_width(conditioning: Conditioning, source: Cond) -> None:
    for entry in conditioning.entries:
        _check_widths(source.context.shape[2], entry.context.shape[2])


def _check_widths(source: int | None, other: int | None) -> None:
    if None not in (source, other) and source != other:
        raise NodeError(
            "the two prompts were encoded by different kinds of text encoders.",
            input="conditioning_from",
            found=f"{source} and {other} numbers a token",
        )


def _whole_cells(tensor: Tensor, *axes: int) -> Tensor:
    """The middle part whose size along `axes` is a multiple of PIXELS."""
    for axis in axes:
        rest = tensor.shape[axis] % PIXELS
        tensor = tensor.narrow(axis, rest // 2, tensor.shape[axis] - rest)
    if 0 in tensor.shape:
        raise NodeError("the picture is smaller than 8x8 pixels.", input="pixels")
    return tensor


def _encoded(ctx: Context, vae: Vae, pixels: Tensor) -> Tensor:
    from nodes.models.pool import ModelPool

    with ctx.resource(ModelPool).vae(vae) as autoencoder:
        samples: Tensor = autoencoder.encode(pixels[..., :3])
    return samples
