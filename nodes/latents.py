"""Nodes that make, resize, move and mix latents."""

from __future__ import annotations

from typing import Annotated

import torch

from nodegraph.node import Range, Widget, node
from nodes.values import Latent

MAX_SIZE = 16384


@node("EmptyLatentImage", category="latent", display_name="Empty Latent Image")
def empty_latent_image(
    width: Annotated[
        int, Range(16, MAX_SIZE, step=8), Widget(tooltip="Width of the pictures in pixels.")
    ] = 512,
    height: Annotated[
        int, Range(16, MAX_SIZE, step=8), Widget(tooltip="Height of the pictures in pixels.")
    ] = 512,
    batch_size: Annotated[int, Range(1, 4096), Widget(tooltip="How many pictures to make at once.")] = 1,
) -> Latent:
    """A batch of empty latents: what a sampler starts from to make pictures out of text alone.

    Returns samples (batch, 4, height / 8, width / 8), all zero, float32.
    """
    return Latent(torch.zeros(batch_size, 4, height // 8, width // 8))
