"""What a denoising network reads beside the noisy latent, told by its architecture alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nodegraph.node import NodeError
from nodes.values import Architecture, Cond, Guider

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


def reads(architecture: Architecture) -> Reads:
    """Return what the network of `architecture` reads."""
    arguments = dict(architecture.arguments)
    widths = {name: arguments.get(argument) for name, argument in _EXTRAS.items()}
    return Reads(
        context=arguments.get("cross_attention_dim"),
        pooled=arguments.get("vector_width", arguments.get("pooled_width")),
        extras={name: width for name, width in widths.items() if width is not None},
        cross=architecture.name not in _JOINED,
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


def check_reads(guider: Guider) -> None:
    """Raise NodeError where a conditioning is not what the guider's model reads."""
    wanted = reads(guider.model.architecture)
    for role, conditioning in guider.conditionings:
        for cond in conditioning.entries:
            _check_width(guider, role, wanted.context, cond.context, "encodings", "prompt")
            if wanted.pooled is not None and cond.pooled is not None:
                _check_width(guider, role, wanted.pooled, cond.pooled, "pooled encodings", "prompt")
            _check_extras(guider, role, wanted, cond)
    given = [cond for _, conditioning in guider.conditionings for cond in conditioning.entries]
    if "effnet" in wanted.extras and not any("effnet" in cond.extras for cond in given):
        raise NodeError(
            f"the model is a Stage B ({guider.model.family}) and is given no result of Stage C.",
            input=guider.conditionings[0][0],
            found="a prompt alone",
            hint="Put WuerstchenStageBConditioning or StableCascade_StageB_Conditioning before it; "
            "a Stage C model takes the prompt as it is.",
        )


def _check_width(
    guider: Guider, role: str, wanted: int | None, given: Tensor, what: str, made_of: str
) -> None:
    if wanted is None or given.shape[-1] == wanted:
        return
    raise NodeError(
        f"the conditioning does not fit the model: {guider.model.family} reads {what} {wanted} numbers wide.",
        input=role,
        found=f"{what} {given.shape[-1]} numbers wide",
        hint=f"Encode the {made_of} with the CLIP of the same checkpoint.",
    )


def _check_extras(guider: Guider, role: str, wanted: Reads, cond: Cond) -> None:
    given = cond.extras.get("effnet")
    if given is not None and "effnet" not in wanted.extras:
        raise NodeError(
            f"the conditioning is for a Stage B, and the model is none: it is {guider.model.family}.",
            input=role,
            found="a result of Stage C beside the prompt",
            hint="Give the Stage B model to this sampler, or the prompt without the Stage B conditioning.",
        )
    for name, channels in wanted.extras.items():
        extra = cond.extras.get(name)
        width = None if extra is None else extra.shape[1] if extra.ndim == 4 else extra.shape[-1]
        if width is not None and width != channels:
            raise NodeError(
                f"the conditioning does not fit the model: {guider.model.family} reads {name} "
                f"with {channels} channels.",
                input=role,
                found=f"{name} of shape {tuple(cond.extras[name].shape)}",
                hint="The Stage B conditioning takes the latent of Stage C." if name == "effnet" else None,
            )
