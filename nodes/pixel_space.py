"""Nodes for diffusion models that work on the pixels themselves: loading, empty starts, classes in place of prompts."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch

from nodegraph.node import Choice, Context, Forecast, NodeError, Range, Widget, did_you_mean, node
from nodes.diffusion.reads import CondForm, reads
from nodes.forms import ConditioningForm, LatentForm
from nodes.models.pixel_folder import pixel_vae, read_pixel_folder
from nodes.resize import MAX_SIZE
from nodes.values import Cond, Conditioning, Latent, Model, Vae, no_text

Side = Annotated[int, Range(8, MAX_SIZE, step=1)]


class PixelModel(NamedTuple):
    """A pixel-space model, and the autoencoder that goes with it."""

    MODEL: Model
    VAE: Vae


@node("PixelModelLoader", category="loaders", display_name="Load Pixel-Space Model", lane="io", ahead=True)
def pixel_model_loader(*, ctx: Context, model_path: Annotated[str, Choice(files="diffusers")]) -> PixelModel:
    """Loads a DDPM folder in diffusers' layout: a UNet2DModel with its config.json, and the scheduler's configuration.

    Both layouts are read: unet and scheduler in sub-folders, or their files at the folder's top. What the network
    predicts, its noise schedule and the range that estimates are clipped to are the scheduler's. VAE is the one that
    only changes the range of values, so that the nodes for latents work. Raises NodeError for other kinds of models.
    """
    model = read_pixel_folder(ctx.folders.find("diffusers", model_path))
    return PixelModel(model, pixel_vae(model.latent_format.channels))


def _foresee_latent(width: object, height: object, batch_size: object) -> Forecast:
    sides = (side if isinstance(side, int) else None for side in (batch_size, height, width))
    batch, rows, columns = sides
    return Forecast((LatentForm(batch, 3, rows, columns, empty=True, downscale=1),))


@node("EmptyPixelLatent", category="latent", display_name="Empty Pixel-Space Latent", foresee=_foresee_latent)
def empty_pixel_latent(
    width: Side = 32,
    height: Side = 32,
    batch_size: Annotated[int, Range(1, 4096), Widget(tooltip="How many pictures to make at once.")] = 1,
) -> Latent:
    """A batch of empty latents for pixel-space models, in which a latent pixel is a pixel of the picture.

    Returns samples (batch, 3, height, width), all zero, float32.
    """
    return Latent(torch.zeros(batch_size, 3, height, width), downscale=1)


def _foresee_class(model: object, class_name: object) -> Forecast:
    if not isinstance(model, Model):
        return Forecast()
    label = class_label(model, class_name) if isinstance(class_name, str) else None
    return Forecast((ConditioningForm((CondForm(0, None, {"class_labels": (1,)}, label),)),))


@node("ClassConditioning", category="conditioning", display_name="Class Conditioning", foresee=_foresee_class)
def class_conditioning(
    model: Model,
    class_name: Annotated[
        str, Widget(tooltip="A name that the model has for the class, or its number.")
    ] = "0",
) -> Conditioning:
    """What a class-conditional model shall draw: one of its classes, by name or by number (0 is the first).

    Guide away from another class by giving it as the negative conditioning; models that were trained to be guided
    have one that stands for any. Raises NodeError where the model has no classes, or none of that name.
    """
    label = torch.tensor([class_label(model, class_name)])
    return Conditioning((Cond(no_text(), extras={"class_labels": label}),))


def _foresee_empty() -> Forecast:
    return Forecast((ConditioningForm((CondForm(width=0),)),))


@node("EmptyConditioning", category="conditioning", display_name="Empty Conditioning", foresee=_foresee_empty)
def empty_conditioning() -> Conditioning:
    """A conditioning that says nothing, for models that take neither text nor class."""
    return Conditioning((Cond(no_text()),))


def class_label(model: Model, name: str) -> int:
    """Return the number of the model's class called `name`, whatever its case and spacing, or of that number.

    Raises NodeError where the model has no classes, or none of that name.
    """
    classes = reads(model.architecture).classes
    if classes is None:
        raise NodeError(
            "the model knows no classes.",
            input="model",
            found=f"a model of the family {model.family}",
            hint="Use EmptyConditioning for pixel-space models without classes, CLIPTextEncode for those that read text.",
        )
    wanted = " ".join(name.casefold().split())
    known = [" ".join(one.casefold().split()) for one in model.class_names]
    if wanted in known:
        return known.index(wanted)
    if wanted.isdecimal() and int(wanted) < classes:
        return int(wanted)
    listed = ", ".join(model.class_names[:12])
    more = f" and {len(known) - 12} more" if len(known) > 12 else ""
    raise NodeError(
        f"the model has no class {name[:200]!r}.",
        input="class_name",
        allowed=f"0 to {classes - 1}" + (f", or {listed}{more}" if known else ""),
        hint=did_you_mean(wanted, known),
    )
