"""Architectures of the networks between pictures and semantic latents, read off the names and shapes of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodes.models.ldm_keys import count_keys
from nodes.values import Architecture

Shapes = Mapping[str, tuple[int, ...]]
Hints = Mapping[str, Any]

_PUBLISHED_STRIDES = (1, 2, 2, 2, 1, 2)
"""Of EfficientNetV2's stages; shapes do not show them."""


def efficientnet_architecture(shapes: Shapes, hints: Hints) -> Architecture:
    """Return the compressor whose parameters have these shapes.

    Hints: `stages`, as the network takes them; without it strides are the published ones, or two after the first
    stage where there are not six. Raises KeyError where the shapes are not of such a network.
    """
    count = count_keys(shapes, r"backbone\.(\d+)\.") - 2
    strides = _PUBLISHED_STRIDES if count == len(_PUBLISHED_STRIDES) else (1, *[2] * (count - 1))
    read = (_stage(shapes, index + 1, stride) for index, stride in enumerate(strides))
    given = hints.get("stages")
    latent_channels, last_channels = shapes["mapper.0.weight"][:2]
    arguments: dict[str, Any] = {
        "stages": tuple(read) if given is None else tuple(tuple(stage) for stage in given),
        "last_channels": last_channels,
        "latent_channels": latent_channels,
    }
    return Architecture("efficientnet", tuple(arguments.items()))


def _stage(shapes: Shapes, stage: int, stride: int) -> tuple[str, int, int, int, int, int]:
    """(kind, expansion, stride, channels in, channels out, blocks) of the stage."""
    first = f"backbone.{stage}.0.block"
    blocks = count_keys(shapes, rf"backbone\.{stage}\.(\d+)\.")
    expanded, inner, side = shapes[f"{first}.0.0.weight"][:3]
    parts = count_keys(shapes, rf"backbone\.{stage}\.0\.block\.(\d+)\.")
    outer = shapes[f"{first}.{parts - 1}.0.weight"][0]
    kind = "fused" if side == 3 and parts <= 2 else "mb"
    if kind == "mb" and side == 3:
        # Nothing expands: the first convolution is the depthwise one already.
        return kind, 1, stride, expanded, outer, blocks
    return kind, 1 if parts == 1 else expanded // inner, stride, inner, outer, blocks


def stage_c_previewer_architecture(shapes: Shapes, hints: Hints) -> Architecture:
    """Return the previewer of Stage C whose parameters have these shapes; nothing of the hints is read.

    Raises KeyError where the shapes are not of such a network.
    """
    channels, latent_channels = shapes["blocks.0.weight"][:2]
    arguments = {
        "latent_channels": latent_channels,
        "channels": channels,
        "picture_channels": shapes["blocks.24.weight"][0],
    }
    return Architecture("stage_c_previewer", tuple(arguments.items()))


def stage_c_coder_architecture(shapes: Shapes, hints: Hints) -> Architecture:
    """Return compressor and previewer of a Stage C checkpoint, under `encoder.` and `previewer.`; hints: `stages`.

    Raises KeyError where the shapes are not of such networks.
    """
    encoder = efficientnet_architecture(_under(shapes, "encoder."), hints)
    previewer = stage_c_previewer_architecture(_under(shapes, "previewer."), hints)
    arguments = (("encoder", encoder.arguments), ("previewer", previewer.arguments))
    return Architecture("stage_c_coder", arguments)


def _under(shapes: Shapes, prefix: str) -> Shapes:
    return {key[len(prefix) :]: shape for key, shape in shapes.items() if key.startswith(prefix)}
