"""Architectures read off the names and shapes of parameters, in this project's (LDM) naming.

What shapes do not show (heads, the groups of normalisations) follows the family's convention unless `hints` say
otherwise; hints come from a file's own metadata or from a diffusers configuration.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from nodes.models.ldm_keys import count_keys
from nodes.values import Architecture

Shapes = Mapping[str, tuple[int, ...]]
Hints = Mapping[str, Any]


def unet_architecture(shapes: Shapes, hints: Hints) -> Architecture:
    """Return the U-Net whose parameters have these shapes.

    Hints: `num_heads`, `head_width`, `norm_groups`. Raises KeyError where the shapes are not of such a U-Net.
    """
    model_channels, in_channels = shapes["input_blocks.0.0.weight"][:2]
    widths: list[int] = []
    counts = [0]
    depth_in: list[int] = []
    for block in range(1, count_keys(shapes, r"input_blocks\.(\d+)\.")):
        if f"input_blocks.{block}.0.op.weight" in shapes:
            counts.append(0)
            continue
        if not counts[-1]:
            widths.append(shapes[f"input_blocks.{block}.0.in_layers.2.weight"][0])
        counts[-1] += 1
        depth_in.append(_depth(shapes, f"input_blocks.{block}.1"))
    blocks_out = count_keys(shapes, r"output_blocks\.(\d+)\.")
    depth_out = [_depth(shapes, f"output_blocks.{block}.1") for block in range(blocks_out)]
    attention = next(key for key in shapes if key.endswith("attn2.to_k.weight"))
    linear = len(shapes[re.sub(r"transformer_blocks\..*", "proj_in.weight", attention)]) == 2
    vector = shapes.get("label_emb.0.0.weight")
    arguments: dict[str, Any] = {
        "in_channels": in_channels,
        "out_channels": shapes["out.2.weight"][0],
        "model_channels": model_channels,
        "channel_mult": tuple(width // model_channels for width in widths),
        "num_res_blocks": tuple(counts),
        "depth_in": tuple(depth_in),
        "depth_middle": _depth(shapes, "middle_block.1"),
        "depth_out": tuple(depth_out),
        "cross_attention_dim": shapes[attention][1],
        "linear": linear,
    }
    if "num_heads" in hints or "head_width" in hints:
        arguments.update({name: hints[name] for name in ("num_heads", "head_width") if name in hints})
    else:
        # 1.x has eight heads everywhere; 2.x, whose projections are linear layers, has heads 64 wide.
        arguments.update({"head_width": 64} if linear else {"num_heads": 8})
    if vector is not None:
        arguments["vector_width"] = vector[1]
    if hints.get("norm_groups", 32) != 32:
        arguments["norm_groups"] = hints["norm_groups"]
    return Architecture("unet", tuple(arguments.items()))


def _depth(shapes: Shapes, transformer: str) -> int:
    return count_keys(shapes, re.escape(transformer) + r"\.transformer_blocks\.(\d+)\.")


def vae_architecture(shapes: Shapes, hints: Hints) -> Architecture:
    """Return the autoencoder whose parameters have these shapes; hints: `norm_groups`.

    Raises KeyError where the shapes are not of such an autoencoder.
    """
    encoder, decoder = "encoder.conv_in.weight" in shapes, "decoder.conv_in.weight" in shapes
    side, stem = ("decoder", "decoder.up") if decoder else ("encoder", "encoder.down")
    levels = count_keys(shapes, re.escape(stem) + r"\.(\d+)\.")
    blocks = count_keys(shapes, re.escape(stem) + r"\.0\.block\.(\d+)\.")
    channels = shapes["decoder.conv_out.weight"][1] if decoder else shapes["encoder.conv_in.weight"][0]
    widths = [shapes[f"{stem}.{level}.block.0.conv2.weight"][0] for level in range(levels)]
    arguments: dict[str, Any] = {
        "channels": channels,
        "channel_mult": tuple(width // channels for width in widths),
        "num_res_blocks": blocks - 1 if decoder else blocks,
        "z_channels": shapes["decoder.conv_in.weight"][1]
        if decoder
        else shapes["encoder.conv_out.weight"][0] // 2,
        "latent_channels": shapes["post_quant_conv.weight"][1]
        if decoder
        else shapes["quant_conv.weight"][0] // 2,
    }
    pictures = (
        shapes["decoder.conv_out.weight"][0] if side == "decoder" else shapes["encoder.conv_in.weight"][1]
    )
    if pictures != 3:
        arguments["picture_channels"] = pictures
    if not encoder:
        arguments["encoder"] = False
    if not decoder:
        arguments["decoder"] = False
    if hints.get("norm_groups", 32) != 32:
        arguments["norm_groups"] = hints["norm_groups"]
    return Architecture("autoencoder_kl", tuple(arguments.items()))


def clip_vision_architecture(shapes: Shapes, hints: Hints) -> Architecture:
    """Return the CLIP vision encoder whose parameters have these shapes; hints: `heads`, `activation`.

    Raises KeyError where the shapes are not of such an encoder.
    """
    head = "vision_model.embeddings"
    width, _, patch, _ = shapes[f"{head}.patch_embedding.weight"]
    inner = shapes["vision_model.encoder.layers.0.mlp.fc1.weight"][0]
    # OpenAI's models have the quick one; OpenCLIP's, from 1,280 wide on, the exact one, and heads 80 wide or wider.
    large = width >= 1280
    arguments: dict[str, Any] = {
        "size": patch * math.isqrt(shapes[f"{head}.position_embedding.weight"][0] - 1),
        "patch": patch,
        "width": width,
        "layers": count_keys(shapes, r"vision_model\.encoder\.layers\.(\d+)\."),
        "heads": hints.get("heads", 16 if large else max(1, width // 64)),
        "inner": inner,
        "activation": hints.get("activation", "gelu" if large else "quick_gelu"),
        "projection": shapes["visual_projection.weight"][0],
    }
    return Architecture("clip_vision", tuple(arguments.items()))


def clip_architecture(shapes: Shapes, hints: Hints, projection: bool = False) -> Architecture:
    """Return the CLIP text encoder whose parameters have these shapes.

    Hints: `heads`, `activation`. `projection` keeps the projection of the pooled state where there is one. Raises
    KeyError where the shapes are not of such an encoder.
    """
    vocabulary, width = shapes["text_model.embeddings.token_embedding.weight"]
    arguments: dict[str, Any] = {
        "vocabulary": vocabulary,
        "positions": shapes["text_model.embeddings.position_embedding.weight"][0],
        "width": width,
        "layers": count_keys(shapes, r"text_model\.encoder\.layers\.(\d+)\."),
        "heads": hints.get("heads", max(1, width // 64)),
        "inner": shapes["text_model.encoder.layers.0.mlp.fc1.weight"][0],
        # OpenAI's model, 768 wide, has the quick one; OpenCLIP's, 1,024 wide and more, the exact one.
        "activation": hints.get("activation", "gelu" if width >= 1024 else "quick_gelu"),
    }
    if projection and "text_projection.weight" in shapes:
        arguments["projection"] = shapes["text_projection.weight"][0]
    return Architecture("clip_text", tuple(arguments.items()))
