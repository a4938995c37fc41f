"""What a denoising network reads beside the noisy latent, told by its architecture alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nodegraph.node import NodeError
from nodes.values import Architecture, Cond, Guider, Model

_EXTRAS: Mapping[str, str] = {
    "effnet": "effnet_channels",
    "pixels": "pixel_channels",
    "clip_img": "clip_image_width",
}
"""By the name in a conditioning's extras, the argument of the architecture that says how wide it is."""
_JOINED = ("wuerstchen_prior", "wuerstchen_decoder", "stable_cascade")
"""Networks whose attention sees the picture's own tokens beside those of the context."""


@dataclass(frozen=True, slots=True)
class Reads:
    """The widths of what a network reads; None, or absent, for what it does not."""

    context: int | None
    """Of the encodings that attention reads."""
    pooled: int | None
    extras: Mapping[str, int]
    """By name: channels of pictures and latents, the width of vectors. What is not given is taken for zeros."""
    cross: bool
    """Whether attention to the context is to it alone, so that repeating it changes nothing."""
    classes: int | None = None
    """How many classes there are to choose from, in place of a prompt."""


def reads(architecture: Architecture) -> Reads:
    """Return what the network of `architecture` reads."""
    arguments = dict(architecture.arguments)
    widths = {name: arguments.get(argument) for name, argument in _EXTRAS.items()}
    return Reads(
        context=0 if architecture.name == "unet2d" else arguments.get("cross_attention_dim"),
        pooled=arguments.get("vector_width", arguments.get("pooled_width")),
        extras={name: width for name, width in widths.items() if width is not None},
        cross=architecture.name not in _JOINED,
        classes=arguments.get("classes"),
    )


def blank_extras(guider: Guider, wanted: Reads) -> dict[str, Tensor]:
    """Return zeros for each extra that the model reads and only some conditionings of the guider carry.

    It is what the network takes for an absent one, and lets all of them be evaluated in one batch.
    """
    found: dict[str, Tensor] = {}
    for _, conditioning in guider.conditionings:
        for cond in conditioning.entries:
            for name in wanted.extras.keys() & cond.extras.keys():
                found.setdefault(name, torch.zeros_like(cond.extras[name]))
    return found


@dataclass(frozen=True, slots=True)
class CondForm:
    """What there is in one prompt's encoding, by its shapes; None is what is not known."""

    width: int | None = None
    pooled: int | None = None
    extras: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    """The shape of each extra that is a tensor, by name."""
    label: int | None = None
    """The number of the class, the largest where there are several."""
    tokens: int | None = None

    @classmethod
    def of(cls, cond: Cond) -> CondForm:
        """Describe a conditioning's entry."""
        shapes = {
            name: tuple(extra.shape) for name, extra in cond.extras.items() if isinstance(extra, Tensor)
        }
        pooled = None if cond.pooled is None else cond.pooled.shape[-1]
        labels: Tensor | None = cond.extras.get("class_labels")
        label = None if labels is None else int(labels.max())
        return cls(cond.context.shape[-1], pooled, shapes, label, cond.context.shape[1])


def check_reads(guider: Guider) -> None:
    """Raise NodeError where a conditioning is not what the guider's model reads."""
    conditionings = ((role, item.entries) for role, item in guider.conditionings)
    check_forms(
        guider.model, [(role, [CondForm.of(cond) for cond in entries]) for role, entries in conditionings]
    )


def check_forms(model: Model, given: Sequence[tuple[str, Sequence[CondForm] | None]]) -> None:
    """Raise NodeError where what is given, by role or input, is not what the model reads; None is not known."""
    wanted = reads(model.architecture)
    for role, forms in given:
        for form in forms or ():
            _check_width(model, role, wanted.context, form.width, "encodings", "prompt")
            _check_width(model, role, wanted.pooled, form.pooled, "pooled encodings", "prompt")
            _check_extras(model, role, wanted, form)
            _check_class(role, wanted, form)
    known = [forms for _, forms in given if forms is not None]
    carried = any("effnet" in form.extras for forms in known for form in forms)
    if "effnet" in wanted.extras and given and len(known) == len(given) and not carried:
        raise NodeError(
            f"the model is a Stage B ({model.family}) and is given no result of Stage C.",
            code="wrong_conditioning",
            input=given[0][0],
            found="a prompt alone",
            hint="Put WuerstchenStageBConditioning or StableCascade_StageB_Conditioning before it; "
            "a Stage C model takes the prompt as it is.",
        )


def _check_width(
    model: Model, role: str, wanted: int | None, found: int | None, what: str, made_of: str
) -> None:
    if wanted is None or found is None or found == wanted:
        return
    if wanted == 0:
        raise NodeError(
            f"the conditioning does not fit the model: {model.family} reads no text.",
            code="wrong_conditioning",
            input=role,
            found="an encoded prompt",
            hint="Use ClassConditioning or EmptyConditioning.",
        )
    raise NodeError(
        f"the conditioning does not fit the model: {model.family} reads {what} {wanted} numbers wide.",
        code="wrong_conditioning",
        input=role,
        found=f"{what} {found} numbers wide",
        hint=f"Encode the {made_of} with the CLIP of the same checkpoint.",
    )


def _check_extras(model: Model, role: str, wanted: Reads, form: CondForm) -> None:
    if "effnet" in form.extras and "effnet" not in wanted.extras:
        raise NodeError(
            f"the conditioning is for a Stage B, and the model is none: it is {model.family}.",
            code="wrong_conditioning",
            input=role,
            found="a result of Stage C beside the prompt",
            hint="Give the Stage B model to this sampler, or the prompt without the Stage B conditioning.",
        )
    for name, channels in wanted.extras.items():
        shape = form.extras.get(name)
        width = None if shape is None else shape[1] if len(shape) == 4 else shape[-1]
        if width is not None and width != channels:
            raise NodeError(
                f"the conditioning does not fit the model: {model.family} reads {name} with {channels} channels.",
                code="wrong_conditioning",
                input=role,
                found=f"{name} of shape {shape}",
                hint="The Stage B conditioning takes the latent of Stage C." if name == "effnet" else None,
            )


def _check_class(role: str, wanted: Reads, form: CondForm) -> None:
    classes, told = wanted.classes, "class_labels" in form.extras
    if classes is None and told:
        why, found = "it knows no classes", "a class"
    elif classes is not None and not told:
        why, found = f"it draws one of {classes} classes", "no class"
    elif classes is not None and form.label is not None and form.label >= classes:
        why, found = f"it has {classes} classes, from 0 on", f"class {form.label}"
    else:
        return
    raise NodeError(
        f"the conditioning does not fit the model: {why}.",
        code="wrong_conditioning",
        input=role,
        found=found,
        hint="Use EmptyConditioning." if classes is None else "Choose a class with ClassConditioning.",
    )
