"""The trained networks as one safetensors file under the names of Stable Diffusion 1.x checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from nodes.models.embedded.architecture import NORM_GROUPS, TEXT_HEADS, UNET_HEADS
from nodes.models.ldm_keys import (
    CLIP_PREFIX,
    UNET_PREFIX,
    VAE_PREFIX,
    Source,
    clip_from_transformers,
    unet_from_diffusers,
    vae_from_diffusers,
)

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

MAX_BYTES: Final = 16_000_000
METADATA: Final = {
    "title": "nodegraph shapes",
    "description": "Coloured shapes on coloured backgrounds, 128x128",
    "license": "Apache-2.0",
    "prediction_type": "eps",
    "picture_size": 128,
    "unet": {"num_heads": UNET_HEADS, "norm_groups": NORM_GROUPS},
    "vae": {"norm_groups": NORM_GROUPS},
    "text_encoder": {"heads": TEXT_HEADS},
}
"""What keys and shapes do not show; the file carries it as JSON under the metadata key `nodegraph`."""


def checkpoint_tensors(
    vae: AutoencoderKL, unet: UNet2DConditionModel, text: CLIPTextModel
) -> dict[str, Tensor]:
    """All parameters in float16 under LDM names."""
    tensors: dict[str, Tensor] = {}
    for prefix, model, rename in (
        (UNET_PREFIX, unet, unet_from_diffusers),
        (VAE_PREFIX, vae, vae_from_diffusers),
        (CLIP_PREFIX, text, clip_from_transformers),
    ):
        parameters = dict(model.named_parameters())
        renamed: Mapping[str, Source] = rename(parameters)
        if len(renamed) != len(parameters):
            raise ValueError(f"{len(parameters) - len(renamed)} parameters under {prefix} have no LDM name.")
        for name, source in renamed.items():
            value = parameters[source.key].detach().cpu()
            if prefix == VAE_PREFIX and ".attn_1." in name and name.endswith("weight") and value.ndim == 2:
                value = value[:, :, None, None]
            tensors[prefix + name] = value.to(torch.float16).contiguous()
    return tensors


def write_checkpoint(file: Path, tensors: Mapping[str, Tensor]) -> int:
    """Write the file in one step; returns its size in bytes.

    Raises ValueError where it would exceed MAX_BYTES.
    """
    from safetensors.torch import save

    data = save(dict(tensors), {"nodegraph": json.dumps(METADATA)})
    if len(data) > MAX_BYTES:
        raise ValueError(f"The checkpoint has {len(data):,} bytes; at most {MAX_BYTES:,} are allowed.")
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_bytes(data)
    partial.replace(file)
    return len(data)
