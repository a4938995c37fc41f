"""Architectures of Würstchen's and Stable Cascade's networks, read off the names and shapes of parameters.

What shapes do not show comes from `hints`, entries named as in the diffusers configuration (`config.json`), and is as
in the published models otherwise: attention heads 64 wide, a patch of 2 before Stage B.
"""

from __future__ import annotations

import re
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


def wuerstchen_decoder_architecture(shapes: Shapes, hints: Hints) -> Architecture:
    """Return the Stage B of Würstchen v2 whose parameters have these shapes; hints: `nhead`, `patch_size`.

    Raises KeyError where the shapes are not of such a network.
    """
    levels = range(count_keys(shapes, r"down_blocks\.(\d+)\."))
    widths = tuple(shapes[f"up_blocks.{level}.0.depthwise.weight"][0] for level in reversed(levels))
    layouts = [_layers(_kinds(shapes, f"down_blocks.{level}")) for level in levels]
    injected = tuple(f"effnet_mappers.{level}.weight" in shapes for level in levels)
    cond_width, clip_width = shapes["clip_mapper.weight"]
    patch = hints.get("patch_size", 2)
    arguments: dict[str, Any] = {
        "in_channels": shapes["embedding.1.weight"][1] // patch**2,
        "out_channels": shapes["clf.1.weight"][0] // (2 * patch**2),
        "ratio_width": _ratio_width(shapes),
        "patch_size": patch,
        "cond_width": cond_width,
        "channels": widths,
        "num_heads": tuple(hints.get("nhead", [_heads(width) for width in widths])),
        "blocks": tuple(count for _, count in layouts),
        "level_config": tuple(kinds for kinds, _ in layouts),
        "inject_effnet": injected,
        "effnet_channels": _effnet_channels(shapes),
        "cross_attention_dim": clip_width,
        "kernel_size": shapes["up_blocks.0.0.depthwise.weight"][-1],
    }
    return Architecture("wuerstchen_decoder", tuple(arguments.items()))


def stable_cascade_architecture(shapes: Shapes, hints: Hints) -> Architecture:
    """Return the U-Net of Stable Cascade, Stage C or B, whose parameters have these shapes.

    Hints: `num_attention_heads`, `self_attn`, `patch_size`, `switch_level`, `clip_seq`. Raises KeyError where the
    shapes are not of such a network.
    """
    levels = range(count_keys(shapes, r"down_blocks\.(\d+)\."))
    widths = tuple(shapes[f"down_blocks.{level}.0.depthwise.weight"][0] for level in levels)
    down = [_layers(_kinds(shapes, f"down_blocks.{level}")) for level in levels]
    tokens = hints.get("clip_seq", 4)
    effnet = shapes.get("effnet_mapper.0.weight")
    patch = hints.get("patch_size", 1 if effnet is None else 2)
    self_attn = hints.get("self_attn", True)
    conds = {key.rpartition(".mapper_")[2].partition(".")[0] for key in shapes if ".mapper_" in key}
    arguments: dict[str, Any] = {
        "in_channels": shapes["embedding.1.weight"][1] // patch**2,
        "out_channels": shapes["clf.1.weight"][0] // patch**2,
        "ratio_width": _ratio_width(shapes),
        "patch_size": patch,
        "cond_width": shapes["clip_txt_pooled_mapper.weight"][0] // tokens,
        "channels": widths,
        "num_heads": tuple(hints.get("num_attention_heads", [_heads(width) for width in widths])),
        "layers_down": tuple(count for _, count in down),
        "layers_up": tuple(_layers(_kinds(shapes, f"up_blocks.{place}"))[1] for place in levels),
        "repeats_down": _repeats(shapes, "down_repeat_mappers", levels),
        "repeats_up": _repeats(shapes, "up_repeat_mappers", levels),
        "level_config": tuple(kinds for kinds, _ in down),
        "self_attn": (self_attn,) * len(levels) if isinstance(self_attn, bool) else tuple(self_attn),
        "cross_attention_dim": _inputs(shapes, "clip_txt_mapper.weight"),
        "pooled_width": shapes["clip_txt_pooled_mapper.weight"][1],
        "clip_image_width": _inputs(shapes, "clip_img_mapper.weight"),
        "clip_tokens": tokens,
        "effnet_channels": _inputs(shapes, "effnet_mapper.0.weight"),
        "pixel_channels": _inputs(shapes, "pixels_mapper.0.weight"),
        "kernel_size": shapes["down_blocks.0.0.depthwise.weight"][-1],
        # Both are zero wherever the network is used, so that their order does not matter.
        "conds": tuple(sorted(conds, reverse=True)),
        "switch_level": None,
    }
    if "down_downscalers.1.1.blocks.0.weight" in shapes:
        arguments["switch_level"] = tuple(hints.get("switch_level") or [False] * (len(levels) - 1))
    return Architecture("stable_cascade", tuple(arguments.items()))


def _inputs(shapes: Shapes, key: str) -> int | None:
    return shapes[key][1] if key in shapes else None


def _repeats(shapes: Shapes, mappers: str, levels: range) -> tuple[int, ...]:
    return tuple(1 + count_keys(shapes, rf"{mappers}\.{level}\.(\d+)\.") for level in levels)


def paella_vq_architecture(shapes: Shapes, hints: Hints) -> Architecture:
    """Return the Stage A whose parameters have these shapes; hints: `up_down_scale_factor`.

    Raises KeyError where the shapes are not of such a network.
    """
    codebook, latent_channels = shapes["vquantizer.embedding.weight"]
    width, channels = shapes["in_block.1.weight"][0], shapes["up_blocks.0.0.weight"][0]
    patch = hints.get("up_down_scale_factor", 2)
    bottleneck = 0
    while f"up_blocks.{bottleneck + 1}.gammas" in shapes:
        bottleneck += 1
    arguments: dict[str, Any] = {
        "picture_channels": shapes["in_block.1.weight"][1] // patch**2,
        "latent_channels": latent_channels,
        "channels": channels,
        "levels": (channels // width).bit_length(),
        "bottleneck_blocks": bottleneck,
        "codebook_size": codebook,
        "patch_size": patch,
    }
    return Architecture("paella_vq", tuple(arguments.items()))


def _effnet_channels(shapes: Shapes) -> int:
    found = [shape[1] for key, shape in shapes.items() if re.fullmatch(r"effnet_mappers\.\d+\.weight", key)]
    return found[0] if found else 16


def _ratio_width(shapes: Shapes) -> int:
    return next(shape[1] for key, shape in shapes.items() if key.endswith(".mapper.weight"))


_SIGNS = {"depthwise": "C", "mapper": "T", "attention": "A"}


def _kinds(shapes: Shapes, stack: str) -> str:
    """The kinds of the blocks in a level, in order; those that change the size are left out."""
    found: dict[int, str] = {}
    for key in shapes:
        match = re.match(re.escape(stack) + r"\.(\d+)\.(depthwise|mapper|attention)\.", key)
        if match is not None:
            found[int(match[1])] = _SIGNS[match[2]]
    return "".join(found[index] for index in sorted(found))


def _layers(kinds: str) -> tuple[str, int]:
    """The shortest layer that, repeated, gives these blocks, and how often."""
    size = next(size for size in range(1, len(kinds) + 1) if kinds == kinds[:size] * (len(kinds) // size))
    return kinds[:size], len(kinds) // size


def _heads(channels: int) -> int:
    return max(1, channels // _HEAD_WIDTH)
