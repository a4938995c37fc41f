"""Nodes that load LoRAs: a recipe with one more patch."""

from __future__ import annotations

import logging
from typing import Annotated, NamedTuple

from nodegraph.node import Choice, Context, NodeError, Range, node
from nodes.models.adapters import AdapterFile, matched, read_adapters
from nodes.models.loading import parameter_shapes
from nodes.models.patches.lora import lora_patch
from nodes.models.tensor_file import read_header
from nodes.values import Architecture, Clip, Model

_log = logging.getLogger(__name__)
_Lora = Annotated[str, Choice(files="loras")]
_Strength = Annotated[float, Range(-100.0, 100.0, step=0.01)]


class Patched(NamedTuple):
    """Both networks with the LoRA."""

    MODEL: Model
    CLIP: Clip


@node("LoraLoader", category="loaders", display_name="Load LoRA", lane="io", ahead=True)
def lora_loader(
    *,
    ctx: Context,
    model: Model,
    clip: Clip,
    lora_name: _Lora,
    strength_model: _Strength = 1.0,
    strength_clip: _Strength = 1.0,
) -> Patched:
    """Changes the model and its text encoder by a LoRA, LoCon, LoHa, LoKr or DoRA, or by differences of weights.

    A strength of 0 leaves that network as it is, and a negative one goes the other way. Raises NodeError where the file
    was made for another model family.
    """
    path = ctx.folders.find("loras", lora_name)
    file = read_adapters(read_header(path))
    of_model = _used(file, model.architecture)
    of_clip = _used(file, clip.architecture)
    wanted = f"the {model.family} model or its text encoder"
    if not of_model | of_clip:
        raise _unused(file, wanted)
    left = [
        *(adapter.name for adapter in file.adapters if adapter.name not in of_model | of_clip),
        *file.others,
    ]
    if left:
        _log.warning(
            "%s: %d entries are for no part of %s: %s", file.name, len(left), wanted, ", ".join(left[:3])
        )
    if of_model and strength_model:
        model = model.patched(lora_patch(path, strength_model))
    if of_clip and strength_clip:
        clip = clip.patched(lora_patch(path, strength_clip))
    return Patched(model, clip)


@node("LoraLoaderModelOnly", category="loaders", display_name="Load LoRA (Model)", lane="io", ahead=True)
def lora_loader_model_only(
    *, ctx: Context, model: Model, lora_name: _Lora, strength_model: _Strength = 1.0
) -> Model:
    """Changes the model alone by a LoRA or one of its kin; what the file has for a text encoder is left out.

    A strength of 0 leaves the model as it is. Raises NodeError where the file has nothing for it.
    """
    path = ctx.folders.find("loras", lora_name)
    file = read_adapters(read_header(path))
    used = _used(file, model.architecture)
    if not used:
        raise _unused(file, f"the {model.family} model")
    return model.patched(lora_patch(path, strength_model)) if strength_model else model


def _used(file: AdapterFile, architecture: Architecture) -> set[str]:
    """What the file has for a network, by the file's names. Raises NodeError where something is of another shape."""
    return {adapter.name for adapter in matched(file, architecture, parameter_shapes(architecture)).values()}


def _unused(file: AdapterFile, wanted: str) -> NodeError:
    made_for = file.made_for()
    return NodeError(
        f"{file.name} has nothing for {wanted}.",
        code="wrong_lora",
        input="lora_name",
        found=f"a LoRA of {made_for}" if made_for else f"entries such as {file.adapters[0].name!r}",
        hint="Choose a LoRA that was trained for this model's family.",
    )
