"""CLIP's vision encoder against transformers', and pictures as prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from nodegraph.node import NodeError
from nodes.clip_vision import clip_vision_encode, clip_vision_loader, unclip_conditioning
from nodes.models.architecture import clip_vision_architecture
from nodes.models.loading import empty_module
from nodes.models.vision_encoder import prepared
from nodes.values import Architecture, ClipVisionOutput, Cond, Conditioning, Image
from tests.nodes.models.conftest import randomise

CONFIG = CLIPVisionConfig(
    hidden_size=32,
    intermediate_size=48,
    projection_dim=12,
    num_hidden_layers=3,
    num_attention_heads=4,
    image_size=32,
    patch_size=8,
    hidden_act="quick_gelu",
)


@pytest.fixture(scope="module")
def oracle() -> Any:
    torch.manual_seed(8)
    return randomise(CLIPVisionModelWithProjection(CONFIG))


@pytest.fixture
def vision(oracle: Any, context: Any) -> Any:
    """The recipe of the tiny encoder, from a file."""
    place = context.folders.models[0] / "clip_vision"
    place.mkdir(parents=True)
    oracle.save_pretrained(place / "saved")
    hints = json.dumps({"clip_vision": {"heads": 4}})
    save_file(
        load_file(place / "saved" / "model.safetensors"),
        place / "v.safetensors",
        metadata={"nodegraph": hints},
    )
    return clip_vision_loader(ctx=context, clip_name="v.safetensors")


def test_encodings_are_those_of_transformers(oracle: Any, vision: Any, context: Any) -> None:
    pixels = torch.randint(0, 256, (2, 32, 32, 3)) / 255
    found = clip_vision_encode(ctx=context, clip_vision=vision, image=Image(pixels), crop="center")
    processed = prepared(pixels, 32, True)
    wanted = oracle(processed, output_hidden_states=True)
    torch.testing.assert_close(found.embeds, wanted.image_embeds, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.last, wanted.hidden_states[-1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.penultimate, wanted.hidden_states[-2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (80, 50)])
def test_pictures_are_prepared_as_transformers_does(size: tuple[int, int]) -> None:
    # Smooth: what resampling in 8 bits rounds away is then below a level.
    rows, columns = torch.meshgrid(
        torch.linspace(0, 1, size[0]), torch.linspace(0, 1, size[1]), indexing="ij"
    )
    levels = (torch.stack([rows, columns, (rows + columns) / 2], dim=-1) * 255).round()
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    wanted = processor(levels.byte().numpy(), return_tensors="pt").pixel_values
    found = prepared(levels[None] / 255, 32, True)
    assert found.shape == (1, 3, 32, 32)
    # One of 256 levels, after normalisation.
    assert float((found - wanted).abs().max()) < 1.01 / 255 / 0.26


def test_without_cropping_all_of_the_picture_is_seen() -> None:
    picture = torch.zeros(1, 32, 96, 3)
    picture[:, :, 90:] = 1.0
    inside, whole = prepared(picture, 32, True), prepared(picture, 32, False)
    assert float(inside.std(dim=(2, 3)).max()) == 0.0
    assert float(whole.std(dim=(2, 3)).max()) > 0.1


def test_pictures_stand_beside_the_prompt_and_add_up() -> None:
    entries = (Cond(torch.zeros(1, 77, 8), extras={"other": 1}), Cond(torch.ones(1, 77, 8)))
    first, second = (
        ClipVisionOutput(torch.randn(count, 12), torch.zeros(count, 5, 8), torch.zeros(count, 5, 8))
        for count in (1, 2)
    )
    once = unclip_conditioning(conditioning=Conditioning(entries), clip_vision_output=first, strength=0.5)
    twice = unclip_conditioning(conditioning=once, clip_vision_output=second)
    for entry in twice.entries:
        wanted = torch.cat([first.embeds * 0.5, second.embeds])[None]
        torch.testing.assert_close(entry.extras["clip_img"], wanted)
    assert twice.entries[0].extras["other"] == 1
    other = ClipVisionOutput(torch.zeros(1, 7), torch.zeros(1, 5, 8), torch.zeros(1, 5, 8))
    with pytest.raises(NodeError, match="different CLIP vision encoders") as caught:
        unclip_conditioning(conditioning=twice, clip_vision_output=other)
    assert caught.value.found == "12 and 7 numbers wide"


@pytest.mark.parametrize(
    ("name", "width", "patch", "size", "layers", "projection", "heads", "activation"),
    [
        ("ViT-L/14", 1024, 14, 224, 24, 768, 16, "quick_gelu"),
        ("ViT-H/14", 1280, 14, 224, 32, 1024, 16, "gelu"),
        ("ViT-bigG/14", 1664, 14, 224, 48, 1280, 16, "gelu"),
    ],
)
def test_the_published_encoders_are_told_by_their_shapes(
    name: str, width: int, patch: int, size: int, layers: int, projection: int, heads: int, activation: str
) -> None:
    wanted = {
        "size": size,
        "patch": patch,
        "width": width,
        "layers": layers,
        "heads": heads,
        "inner": width * 4,
        "activation": activation,
        "projection": projection,
    }
    module = empty_module(Architecture("clip_vision", tuple(wanted.items())))
    shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    assert dict(clip_vision_architecture(shapes, {}).arguments) == wanted, name


def test_another_file_is_named(context: Any, tmp_path: Path) -> None:
    place = context.folders.models[0] / "clip_vision"
    place.mkdir(parents=True)
    save_file({"vquantizer.codebook.weight": torch.zeros(8, 4)}, place / "v.safetensors")
    with pytest.raises(NodeError, match="it is Stage A of Würstchen or Stable Cascade"):
        clip_vision_loader(ctx=context, clip_name="v.safetensors")
