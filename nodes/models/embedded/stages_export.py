"""The trained stages as one folder in diffusers' layout; prior and decoder share the text encoder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from nodes.models.embedded.export import MAX_BYTES
from nodes.models.embedded.stages import COMPRESSOR_LAST, COMPRESSOR_STAGES, SEMANTIC_CHANNELS
from nodes.models.networks.efficientnet import EfficientNetEncoder

if TYPE_CHECKING:
    from transformers import CLIPTextModel

    from nodes.models.embedded.wuerstchen_modules import PaellaVQModel, WuerstchenDiffNeXt, WuerstchenPrior

INDEX: Final[Mapping[str, Any]] = {
    "_class_name": "WuerstchenDecoderPipeline",
    "title": "nodegraph shapes",
    "license": "Apache-2.0",
    "picture_size": 128,
    # The compressor's latents have unit variance as they are.
    "latent_mean": 1.0,
    "latent_std": 0.0,
    "resolution_multiple": 42.67,
    "latent_dim_scale": 10.67,
    "decoder": ["wuerstchen", "WuerstchenDiffNeXt"],
    "prior": ["wuerstchen", "WuerstchenPrior"],
    "scheduler": ["diffusers", "DDPMWuerstchenScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "vqgan": ["wuerstchen", "PaellaVQModel"],
}


def export(
    folder: Path,
    prior: WuerstchenPrior,
    decoder: WuerstchenDiffNeXt,
    vqgan: PaellaVQModel,
    text: CLIPTextModel,
    compressor: EfficientNetEncoder,
) -> int:
    """Write the folder, all weights in float16; returns their bytes. Raises ValueError where they exceed MAX_BYTES."""
    size = 0
    for name, module in (("prior", prior), ("decoder", decoder), ("vqgan", vqgan)):
        module.save_config(folder / name)
        size += _write(module, folder / name / "diffusion_pytorch_model.safetensors")
    text.config.save_pretrained(folder / "text_encoder")
    size += _write(text, folder / "text_encoder" / "model.safetensors")
    size += _write(compressor, folder / "image_encoder" / "diffusion_pytorch_model.safetensors")
    config = {
        "_class_name": "EfficientNetEncoder",
        "stages": [list(stage) for stage in COMPRESSOR_STAGES],
        "last_channels": COMPRESSOR_LAST,
        "latent_channels": SEMANTIC_CHANNELS,
    }
    _write_json(folder / "image_encoder" / "config.json", config)
    _write_json(
        folder / "scheduler" / "scheduler_config.json",
        {"_class_name": "DDPMWuerstchenScheduler", "s": 0.008, "scaler": 1.0},
    )
    _write_json(folder / "model_index.json", INDEX)
    if size > MAX_BYTES:
        raise ValueError(f"The weights have {size:,} bytes; at most {MAX_BYTES:,} are allowed.")
    return size


def _write(module: nn.Module, file: Path) -> int:
    from safetensors.torch import save

    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.detach().cpu().to(torch.float16).contiguous()
        for name, value in module.state_dict().items()
        if value.is_floating_point()
    }
    data = save(tensors, {"format": "pt"})
    file.write_bytes(data)
    return len(data)


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
