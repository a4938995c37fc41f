"""Architectures of Würstchen's and Stable Cascade's networks, read off the names and shapes of parameters.

What shapes do not show comes from `hints`, entries named as in the diffusers configuration (`config.json`), and is as
in the published models otherwise: attention heads 64 wide, a patch of 2 before Stage B.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodes.models.ldm_keys import count_keys
from nodes.values import Architecture

Shapes = Mapping[str, tuple[int, ...]]
Hints = Mapping[str, Any]

_HEAD_WIDTH = 64


def wuerstchen_prior_architecture(shapes: Shapes, hints: Hints) -> Architecture:
    """Return the Stage C of Würstchen v2 whose parameters have these shapes; hints: `nhead`.

    Raises KeyError where the shapes are not of such a network.
    """
    channels, in_channels = shapes["projection.weight"][:2]
    arguments: dict[str, Any] = {
        "in_channels": in_channels,
        "channels": channels,
        "cross_attention_dim": shapes["cond_mapper.0.weight"][1],
        "ratio_width": shapes["blocks.1.mapper.weight"][1],
        "depth": count_keys(shapes, r"blocks\.(\d+)\.") // 3,
        "num_heads": hints.get("nhead", _heads(channels)),
    }
    return Architecture("wuerstchen_prior", tuple(arguments.items()))


def _heads(channels: int) -> int:
    return max(1, channels // _HEAD_WIDTH)
