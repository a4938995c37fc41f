"""Encoded pictures, kept in memory, so that the noise predictor's training never runs the autoencoder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from nodes.models.embedded.architecture import LATENT_SCALE
from nodes.models.embedded.checkpoints_io import save
from nodes.models.embedded.shapes import Scene, draw, random_scene
from nodes.models.embedded.vae_training import to_tensor

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

_log = logging.getLogger(__name__)
OTHER_SIZES: Final = ((24, 24), (32, 32), (24, 16), (16, 24), (8, 16), (16, 8))
"""Latent sizes (width, height) beside 16x16: latent upscales, wide and tall pictures, halves of a picture."""


@dataclass(frozen=True)
class Encoded:
    """Scenes and their latents (count, 4, height, width), scaled to about unit variance."""

    scenes: Sequence[Scene]
    latents: Tensor


def encode_scenes(
    vae: AutoencoderKL, scenes: Sequence[Scene], width: int, height: int, device: torch.device
) -> Tensor:
    """Draw scenes at (width, height) latent cells and encode them: (count, 4, height, width) float16, scaled."""
    parts = []
    for start in range(0, len(scenes), 32):
        pictures = np.stack([draw(scene, width * 8, height * 8) for scene in scenes[start : start + 32]])
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            mean = vae.encode(to_tensor(pictures).to(device)).latent_dist.mean
        parts.append((mean.float() * LATENT_SCALE).to("cpu", torch.float16))
    return torch.cat(parts)


def encoded_scenes(
    work: Path, vae: AutoencoderKL, count: int, size: tuple[int, int], seed: int, device: torch.device
) -> Encoded:
    """Random training scenes of one size, encoded; kept in `work` and read from there later."""
    width, height = size
    file = work / f"latents-{width}x{height}-{count}-{seed}.pt"
    rng = np.random.default_rng([seed, width, height])
    aspect = width / height
    # A thin strip is half of a picture: pairs would not fit into it.
    layouts = (0.06, 0.94, 0.0, 0.0) if max(aspect, 1 / aspect) >= 2 else (0.03, 0.62, 0.20, 0.15)
    scenes = [random_scene(rng, layouts=layouts, aspect=aspect) for _ in range(count)]
    if file.exists():
        return Encoded(scenes, torch.load(file, weights_only=True)["latents"])
    latents = encode_scenes(vae, scenes, width, height, device)
    save(file, {"latents": latents})
    _log.info(
        "encoded %d pictures of %dx%d, std %.3f", count, width * 8, height * 8, float(latents.float().std())
    )
    return Encoded(scenes, latents)
