"""Tiny random Stable Diffusion models, made by diffusers and transformers, as a folder and as a single file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nodegraph.node import Folders, Runtime
from nodes.models.detection import find
from nodes.models.ldm_keys import CLIP_PREFIX, OPEN_CLIP_PREFIX, UNET_PREFIX, VAE_PREFIX
from nodes.models.pool import ModelPool
from nodes.models.tensor_file import read_header


@dataclass(frozen=True)
class Tiny:
    """A tiny model: the modules that are the oracle, the diffusers folder and the single file."""

    unet: Any
    vae: Any
    text: Any
    folder: Path
    file: Path


def tiny_unet(second: bool) -> Any:
    """A U-Net of 1.x's or 2.x's kind: two levels, attention on the first."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        block_out_channels=(32, 64, 64),
        layers_per_block=2,
        cross_attention_dim=32,
        attention_head_dim=[2, 4, 4] if second else 4,
        use_linear_projection=second,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=16,
    )


def tiny_vae() -> Any:
    """An autoencoder of factor 8."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        scaling_factor=0.5,
    )


def tiny_text(second: bool) -> Any:
    """A text encoder of three layers on the whole vocabulary."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=32,
        intermediate_size=64,
        projection_dim=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=77,
        hidden_act="gelu" if second else "quick_gelu",
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
    )
    return CLIPTextModel(config)


def randomise(module: Any) -> Any:
    """Give every parameter a size that matters: freshly made norms and biases would hide a mix-up."""
    for name, parameter in module.named_parameters():
        noise = torch.randn_like(parameter)
        scale = 0.3 / max(1.0, parameter[0].numel() ** 0.5) if parameter.ndim > 1 else 0.1
        parameter.data = noise * scale * 3 + (1.0 if parameter.ndim == 1 and "norm" in name else 0.0)
    return module.eval().requires_grad_(False)


def ldm_tensors(folder: Path, second: bool) -> dict[str, Tensor]:
    """The folder's tensors under the names of a single file, by the maps that are themselves under test elsewhere."""
    tensors: dict[str, Tensor] = {}
    from safetensors.torch import load_file

    for part, prefix in (("unet", UNET_PREFIX), ("vae", VAE_PREFIX), ("text_encoder", CLIP_PREFIX)):
        path = next((folder / part).glob("*.safetensors"))
        stored = load_file(path)
        found = find(read_header(path), part)  # type: ignore[arg-type]
        assert found is not None
        for key, source in found.sources.items():
            tensors[prefix + key] = stored[source.key]
    for key in [key for key in tensors if re.search(r"mid\.attn_1\.(q|k|v|proj_out)\.weight", key)]:
        tensors[key] = tensors[key][:, :, None, None]
    return open_clip_named(tensors) if second else tensors


def open_clip_named(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with the text encoder under OpenCLIP's names, q, k and v joined."""
    named: dict[str, Tensor] = {}
    head = CLIP_PREFIX + "text_model."
    outer = {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    inner = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }
    for key, tensor in tensors.items():
        if not key.startswith(head):
            named[key] = tensor
            continue
        rest = key[len(head) :]
        if rest in outer:
            named[OPEN_CLIP_PREFIX + outer[rest]] = tensor
            continue
        match = re.fullmatch(r"encoder\.layers\.(\d+)\.(.*)\.(weight|bias)", rest)
        assert match is not None
        layer, module, kind = match.groups()
        block = f"{OPEN_CLIP_PREFIX}transformer.resblocks.{layer}."
        if module in inner:
            named[f"{block}{inner[module]}.{kind}"] = tensor
        elif module == "self_attn.q_proj":
            parts = [tensors[f"{head}encoder.layers.{layer}.self_attn.{x}_proj.{kind}"] for x in "qkv"]
            named[f"{block}attn.in_proj_{kind}"] = torch.cat(parts)
    named[OPEN_CLIP_PREFIX + "text_projection"] = torch.randn(32, 32)
    return named


def make_tiny(place: Path, second: bool) -> Tiny:
    """Build the modules and write both forms of them."""
    torch.manual_seed(2 if second else 1)
    unet, vae, text = randomise(tiny_unet(second)), randomise(tiny_vae()), randomise(tiny_text(second))
    folder = place / ("second" if second else "first")
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    text.save_pretrained(folder / "text_encoder")
    (folder / "model_index.json").write_text("{}")
    (folder / "scheduler").mkdir()
    config = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    config["prediction_type"] = "v_prediction" if second else "epsilon"
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    unet_hints = {"head_width": 16, "norm_groups": 16} if second else {"num_heads": 4, "norm_groups": 16}
    hints = {
        "prediction_type": config["prediction_type"],
        "unet": unet_hints,
        "vae": {"norm_groups": 8},
        "text_encoder": {"heads": 4, "activation": "gelu" if second else "quick_gelu"},
    }
    file = place / ("second.safetensors" if second else "first.safetensors")
    tensors = {key: tensor.contiguous() for key, tensor in ldm_tensors(folder, second).items()}
    save_file(tensors, file, metadata={"nodegraph": json.dumps(hints)})
    return Tiny(unet, vae, text, folder, file)


@pytest.fixture(scope="session")
def tiny_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny models lie."""
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="session")
def first(tiny_place: Path) -> Tiny:
    """A tiny Stable Diffusion 1.x."""
    return make_tiny(tiny_place, second=False)


@pytest.fixture(scope="session")
def second(tiny_place: Path) -> Tiny:
    """A tiny Stable Diffusion 2.x: linear projections, OpenCLIP's names in the single file, v-prediction."""
    return make_tiny(tiny_place, second=True)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Empty folders."""
    return Folders((tmp_path / "models",), tmp_path / "input", tmp_path / "output", tmp_path / "temp")


@pytest.fixture
def pool(folders: Folders) -> ModelPool:
    """An empty pool on the CPU in float32."""
    return ModelPool.open(Runtime(folders, device="cpu", dtype="fp32"))
