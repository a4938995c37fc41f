"""Tiny random pixel-space models, made by diffusers, as folders of both layouts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.nodes.models.conftest import randomise

CIFAR: dict[str, Any] = {
    "sample_size": 32,
    "block_out_channels": (128, 256, 256, 256),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "attention_head_dim": None,
    "downsample_padding": 0,
    "freq_shift": 1,
    "flip_sin_to_cos": False,
    "norm_eps": 1e-6,
}
"""The configuration of google/ddpm-cifar10-32."""
FACES: dict[str, Any] = {
    **CIFAR,
    "sample_size": 256,
    "block_out_channels": (128, 128, 256, 256, 512, 512),
    "down_block_types": (*("DownBlock2D",) * 4, "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", *("UpBlock2D",) * 4),
}
"""The configuration of google/ddpm-celebahq-256 and google/ddpm-cat-256."""
TINY: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (16, 32),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
"""The least that has every kind of block; for the rest as UNet2DModel is made where nothing is said."""
LINEAR: dict[str, Any] = {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}


def tiny_like(published: dict[str, Any]) -> dict[str, Any]:
    """A configuration of the same structure, sixteen times as narrow."""
    widths = tuple(width // 16 for width in published["block_out_channels"])
    return {**published, "block_out_channels": widths, "norm_num_groups": 4, "sample_size": 32}


@dataclass(frozen=True)
class PixelModel:
    """A tiny model: the module that is the oracle, and its folder."""

    unet: Any
    folder: Path


def damped_unet(config: dict[str, Any], seed: int = 1) -> Any:
    """A random network that predicts little: an undamped one makes sampling chaotic, and no two sums would agree."""
    from diffusers import UNet2DModel

    torch.manual_seed(seed)
    unet = randomise(UNet2DModel(**config))
    unet.conv_out.weight.data *= 0.05
    return unet


def make_pixel_model(
    folder: Path,
    config: dict[str, Any] = TINY,
    scheduler: dict[str, Any] = LINEAR,
    flat: bool = False,
    class_names: list[str] | None = None,
) -> PixelModel:
    """Build a damped random network and write its folder, with sub-folders or `flat`."""
    unet = damped_unet(config)
    unet.save_pretrained(folder if flat else folder / "unet")
    place = folder if flat else folder / "scheduler"
    place.mkdir(parents=True, exist_ok=True)
    (place / "scheduler_config.json").write_text(json.dumps(scheduler))
    index: dict[str, Any] = {"_class_name": "DDPMPipeline"}
    if class_names is not None:
        index["class_names"] = class_names
    (folder / "model_index.json").write_text(json.dumps(index))
    return PixelModel(unet, folder)
