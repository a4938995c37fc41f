"""Pictures as prompts: CLIP's vision encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, NamedTuple

import torch

from nodegraph.node import UNKNOWN, Choice, Context, Forecast, NodeError, Range, Runtime, node
from nodes import estimates
from nodes.forms import ConditioningForm
from nodes.models.detection import hints_of, need
from nodes.models.pool import ModelPool
from nodes.models.recipes import clip_vision_recipe
from nodes.models.tensor_file import read_header
from nodes.stable_diffusion.loaders import load_checkpoint
from nodes.values import Clip, ClipVision, ClipVisionOutput, Conditioning, Image, Model, Vae


class CheckpointWithVision(NamedTuple):
    """The networks of a checkpoint that holds a vision encoder."""

    MODEL: Model
    CLIP: Clip
    VAE: Vae
    CLIP_VISION: ClipVision


@node("CLIPVisionLoader", category="loaders", display_name="Load CLIP Vision", lane="io", ahead=True)
def clip_vision_loader(*, ctx: Context, clip_name: Annotated[str, Choice(files="clip_vision")]) -> ClipVision:
    """Loads a CLIP vision encoder, which makes a prompt of a picture. Raises NodeError for another kind of file."""
    header = read_header(ctx.folders.find("clip_vision", clip_name))
    return clip_vision_recipe(need(header, "clip_vision"), hints_of(header))


@node(
    "unCLIPCheckpointLoader", category="loaders", display_name="unCLIPCheckpointLoader", lane="io", ahead=True
)
def unclip_checkpoint_loader(
    *, ctx: Context, ckpt_name: Annotated[str, Choice(files="checkpoints")]
) -> CheckpointWithVision:
    """Loads a checkpoint with the CLIP vision encoder in it, such as Stage C of Stable Cascade.

    Raises NodeError where it holds none.
    """
    path = ctx.folders.find("checkpoints", ckpt_name)
    header = read_header(path)
    vision = clip_vision_recipe(need(header, "clip_vision"), hints_of(header))
    return CheckpointWithVision(*load_checkpoint(path), vision)


def _foresee_encode(clip_vision: object, image: object, runtime: Runtime) -> Forecast:
    return Forecast((), estimates.seeing(runtime, clip_vision, image))


@node(
    "CLIPVisionEncode",
    category="conditioning",
    display_name="CLIP Vision Encode",
    lane="device",
    foresee=_foresee_encode,
)
def clip_vision_encode(
    *, ctx: Context, clip_vision: ClipVision, image: Image, crop: Annotated[str, Choice(("center", "none"))]
) -> ClipVisionOutput:
    """Encodes pictures as CLIP sees them: their middle square, or (crop none) all of it squeezed into a square."""
    with ctx.resource(ModelPool).clip_vision(clip_vision) as encoder:
        return ClipVisionOutput(*encoder.encode(image.pixels, crop == "center"))


def _foresee(conditioning: object) -> Forecast:
    if not isinstance(conditioning, ConditioningForm):
        return Forecast((UNKNOWN,))
    entries = (
        replace(entry, extras={**entry.extras, "clip_img": (1, None, None)}) for entry in conditioning.entries
    )
    return Forecast((ConditioningForm(tuple(entries)),))


@node("unCLIPConditioning", category="conditioning", foresee=_foresee)
def unclip_conditioning(
    *,
    conditioning: Conditioning,
    clip_vision_output: ClipVisionOutput,
    strength: Annotated[float, Range(-10.0, 10.0, step=0.01)] = 1.0,
    noise_augmentation: Annotated[float, Range(0.0, 1.0, step=0.01)] = 0.0,
) -> Conditioning:
    """Adds pictures to a prompt, for Stage C of Stable Cascade; several add up.

    `strength` weighs them against the words. `noise_augmentation` is for other models and changes nothing here.
    """
    embeds = clip_vision_output.embeds[None] * strength
    entries = []
    for entry in conditioning.entries:
        before = entry.extras.get("clip_img")
        if before is not None and before.shape[-1] != embeds.shape[-1]:
            raise NodeError(
                "the pictures were encoded with different CLIP vision encoders.",
                input="clip_vision_output",
                found=f"{before.shape[-1]} and {embeds.shape[-1]} numbers wide",
            )
        joined = embeds if before is None else torch.cat([before, embeds], dim=1)
        entries.append(replace(entry, extras={**entry.extras, "clip_img": joined}))
    return Conditioning(tuple(entries))
