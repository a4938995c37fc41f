"""Stable Cascade's U-Net against diffusers' module, from the names of folders, of the original files and of ComfyUI's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models import StableCascadeUNet
from torch import Tensor, nn

from nodes.models.ldm_keys import wuerstchen_sources
from nodes.models.networks.hooks import Hooks, Place
from nodes.models.wuerstchen_architecture import stable_cascade_architecture
from tests.nodes.models.wuerstchen import built_shapes, load, randomise, relative

LAYER = {"C": "SDCascadeResBlock", "T": "SDCascadeTimestepBlock", "A": "SDCascadeAttnBlock"}
C_FULL: dict[str, Any] = {
    "conditioning_dim": 2048,
    "block_out_channels": [2048, 2048],
    "num_attention_heads": [32, 32],
    "down_num_layers_per_block": [8, 24],
    "up_num_layers_per_block": [24, 8],
    "down_blocks_repeat_mappers": [1, 1],
    "up_blocks_repeat_mappers": [1, 1],
    "block_types_per_layer": [[LAYER[kind] for kind in "CTA"]] * 2,
    "clip_text_in_channels": 1280,
    "clip_text_pooled_in_channels": 1280,
    "clip_image_in_channels": 768,
    "switch_level": [False],
}
C_LITE = {
    **C_FULL,
    "conditioning_dim": 1536,
    "block_out_channels": [1536, 1536],
    "num_attention_heads": [24, 24],
    "down_num_layers_per_block": [4, 12],
    "up_num_layers_per_block": [12, 4],
}
B_FULL: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "patch_size": 2,
    "conditioning_dim": 1280,
    "block_out_channels": [320, 640, 1280, 1280],
    "num_attention_heads": [0, 0, 20, 20],
    "down_num_layers_per_block": [2, 6, 28, 6],
    "up_num_layers_per_block": [6, 28, 6, 2],
    "down_blocks_repeat_mappers": [1, 1, 1, 1],
    "up_blocks_repeat_mappers": [3, 3, 2, 2],
    "block_types_per_layer": [[LAYER[kind] for kind in kinds] for kinds in ("CT", "CT", "CTA", "CTA")],
    "clip_text_pooled_in_channels": 1280,
    "effnet_in_channels": 16,
    "pixel_mapper_in_channels": 3,
    "dropout": [0.0, 0.0, 0.1, 0.1],
    "timestep_conditioning_type": ["sca"],
}
B_LITE = {
    **B_FULL,
    "block_out_channels": [320, 576, 1152, 1152],
    "num_attention_heads": [0, 9, 18, 18],
    "down_num_layers_per_block": [2, 4, 14, 4],
    "up_num_layers_per_block": [4, 14, 4, 2],
    "up_blocks_repeat_mappers": [2, 2, 2, 2],
}
C_TINY = {
    **C_FULL,
    "timestep_ratio_embedding_dim": 18,
    "conditioning_dim": 40,
    "block_out_channels": [32, 48],
    "num_attention_heads": [2, 4],
    "down_num_layers_per_block": [1, 2],
    "up_num_layers_per_block": [2, 1],
    "clip_text_in_channels": 24,
    "clip_text_pooled_in_channels": 20,
    "clip_image_in_channels": 12,
}
B_TINY = {
    **B_FULL,
    "timestep_ratio_embedding_dim": 18,
    "conditioning_dim": 40,
    "block_out_channels": [16, 32, 48],
    "num_attention_heads": [0, 4, 4],
    "down_num_layers_per_block": [1, 2, 1],
    "up_num_layers_per_block": [1, 3, 1],
    "down_blocks_repeat_mappers": [1, 2, 1],
    "up_blocks_repeat_mappers": [3, 2, 1],
    "block_types_per_layer": [[LAYER[kind] for kind in kinds] for kinds in ("CT", "CTA", "CTA")],
    "clip_text_pooled_in_channels": 20,
    "dropout": [0.0, 0.0, 0.0],
}
TINY: dict[str, dict[str, Any]] = {
    "stage C": C_TINY,
    "stage C that changes size": {**C_TINY, "switch_level": [True], "self_attn": [False, True]},
    "stage B": B_TINY,
    "stage B with more tokens": {**B_TINY, "clip_seq": 2, "kernel_size": 5},
}


def oracle_of(config: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return randomise(StableCascadeUNet(**config))


def original(tensors: dict[str, Tensor], attention: str = "packed") -> dict[str, Tensor]:
    """The tensors under the names of the original files, or of files that ComfyUI saved."""
    renamed: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = key if any("clip_txt_mapper" in other for other in tensors) else key.replace("txt_pooled_", "")
        name = name.replace(".attention.to_out.0.", ".attention.attn.out_proj.")
        if ".attention.to_q." in name and attention == "packed":
            parts = [tensors[key.replace(".to_q.", f".to_{part}.")] for part in "qkv"]
            renamed[name.replace("to_q.", "attn.in_proj_")] = torch.cat(parts)
        elif ".attention.to_" not in name or attention != "packed":
            renamed[name.replace(".attention.to_", ".attention.attn.to_")] = tensor
    return renamed


def hints_of(config: dict[str, Any], single_file: bool) -> dict[str, Any]:
    """What a folder says of itself, or the little that a tiny single file cannot do without."""
    kept = ("num_attention_heads", "self_attn", "switch_level", "clip_seq")
    return {key: value for key, value in config.items() if not single_file or key in kept}


def inputs(config: dict[str, Any], size: tuple[int, int]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What the published module and what ours is called with."""
    torch.manual_seed(1)
    x = torch.randn(2, config.get("in_channels", 16), *size)
    ratio, pooled = torch.tensor([0.02, 0.98]), torch.randn(2, 1, 20)
    published = {"sample": x, "timestep_ratio": ratio, "clip_text_pooled": pooled}
    context = torch.randn(2, 7, 24)
    ours: dict[str, Any] = {"x": x, "timestep": ratio, "context": context, "pooled": pooled[:, 0]}
    if "clip_text_in_channels" in config:
        images = torch.randn(2, 2, 12)
        published |= {"clip_text": context, "clip_img": images}
        ours["extras"] = {"clip_img": images}
    else:
        effnet, pixels = torch.randn(2, 16, 3, 2), torch.randn(2, 3, 5, 4)
        published |= {"effnet": effnet, "pixels": pixels}
        ours["extras"] = {"effnet": effnet, "pixels": pixels}
    return published, ours


@pytest.mark.parametrize("size", [(16, 16), (24, 8)])
@pytest.mark.parametrize("form", ["folder", "original", "ComfyUI"])
@pytest.mark.parametrize("config", TINY.values(), ids=TINY)
def test_the_network_is_diffusers_network(
    config: dict[str, Any], form: str, size: tuple[int, int], tmp_path: Path
) -> None:
    oracle = oracle_of(config)
    tensors = oracle.state_dict()
    if form != "folder":
        tensors = original(tensors, "packed" if form == "original" else "apart")
        assert tensors.keys() != oracle.state_dict().keys()
    network = load(tensors, stable_cascade_architecture, tmp_path, hints_of(config, form != "folder"))
    published, ours = inputs(config, size)
    with torch.no_grad():
        wanted = oracle(**published).sample
        assert relative(network(**ours), wanted) < 1e-5


@pytest.mark.parametrize("config", [C_TINY, B_TINY], ids=["stage C", "stage B"])
def test_what_is_absent_is_zeros(config: dict[str, Any], tmp_path: Path) -> None:
    network = load(oracle_of(config).state_dict(), stable_cascade_architecture, tmp_path, config)
    _, ours = inputs(config, (16, 16))
    zeros = {name: torch.zeros_like(tensor[:, :1]) for name, tensor in ours["extras"].items()}
    if "effnet" in zeros:
        zeros = {name: torch.zeros_like(tensor) for name, tensor in ours["extras"].items()}
    with torch.no_grad():
        absent = network(ours["x"], ours["timestep"], ours["context"])
        given = network(**{**ours, "pooled": torch.zeros(2, 20), "extras": zeros})
        assert relative(absent, given) < 1e-5
        assert relative(network(**ours), given) > 1e-4


def test_stage_b_takes_sides_that_do_not_halve(tmp_path: Path) -> None:
    network = load(oracle_of(B_TINY).state_dict(), stable_cascade_architecture, tmp_path, B_TINY)
    _, ours = inputs(B_TINY, (17, 13))
    with torch.no_grad():
        found = network(**ours)
    assert found.shape == ours["x"].shape
    assert torch.isfinite(found).all()


def test_even_sides_that_do_not_halve_are_resized_as_published(tmp_path: Path) -> None:
    oracle = oracle_of(B_TINY)
    network = load(oracle.state_dict(), stable_cascade_architecture, tmp_path, B_TINY)
    published, ours = inputs(B_TINY, (18, 14))
    with torch.no_grad():
        assert relative(network(**ours), oracle(**published).sample) < 1e-5


@pytest.mark.parametrize("config", [C_TINY, B_TINY], ids=["stage C", "stage B"])
def test_it_computes_in_what_its_input_has(config: dict[str, Any], tmp_path: Path) -> None:
    oracle: nn.Module = oracle_of(config)
    exact = oracle.half().float()
    half = load(
        {key: tensor.half() for key, tensor in exact.state_dict().items()},
        stable_cascade_architecture,
        tmp_path,
        config,
    )
    published, ours = inputs(config, (16, 16))
    with torch.no_grad():
        wanted = exact(**published).sample
        # Float32 sums over half-precision weights.
        assert relative(half(**ours), wanted) < 1e-5
        low = exact.bfloat16()
        lowered = low(**{name: tensor.bfloat16() for name, tensor in published.items()}).sample
        extras = {name: tensor.bfloat16() for name, tensor in ours["extras"].items()}
        rest = {name: ours[name].bfloat16() for name in ("x", "context", "pooled")}
        found = half.bfloat16()(timestep=ours["timestep"], extras=extras, **rest)
    assert found.dtype == torch.bfloat16
    assert relative(found.float(), wanted) <= relative(lowered.float(), wanted)


@pytest.mark.parametrize(
    ("config", "count"),
    [(C_FULL, 3_589_103_632), (C_LITE, 1_030_785_040), (B_FULL, 1_562_941_136), (B_LITE, 699_471_248)],
    ids=["stage C", "stage C lite", "stage B", "stage B lite"],
)
def test_the_published_networks_are_read_off_their_shapes(config: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        oracle = StableCascadeUNet(**config)
    shapes = {key: tuple(tensor.shape) for key, tensor in oracle.state_dict().items()}
    found = stable_cascade_architecture(shapes, {})
    assert built_shapes(found) == shapes
    assert sum(math.prod(shape) for shape in shapes.values()) == count
    heads = zip(found["num_heads"], config["num_attention_heads"], found["level_config"], strict=True)
    assert all(own == published for own, published, kinds in heads if "A" in kinds)
    assert found["conds"] == tuple(config.get("timestep_conditioning_type", ("sca", "crp")))
    assert found["switch_level"] == (None if "effnet_in_channels" in config else (False,))
    packed = original(oracle.state_dict())
    named = wuerstchen_sources(packed)
    assert named.keys() == shapes.keys()
    assert {source.key for source in named.values()} == packed.keys()


def test_hooks_reach_the_layers_and_skips_of_every_repeat(tmp_path: Path) -> None:
    network = load(oracle_of(B_TINY).state_dict(), stable_cascade_architecture, tmp_path, B_TINY)
    _, ours = inputs(B_TINY, (16, 16))
    blocks: list[Place] = []
    joined: list[Place] = []

    def block(place: Place, hidden: Tensor) -> Tensor:
        blocks.append(place)
        return hidden

    def skip(place: Place, hidden: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        joined.append(place)
        return hidden, torch.zeros_like(other)

    with torch.no_grad():
        plain = network(**ours)
        watched = network(**ours, hooks=Hooks(block=(block,)))
        cut = network(**ours, hooks=Hooks(skip=(skip,)))
    down = [place.index for place in blocks if place.stage == "input"]
    up = [place.index for place in blocks if place.stage == "output"]
    # The second level down runs twice; up, the first runs three times and the second twice.
    assert down == [0, 1, 2, 1, 2, 3]
    assert up == [0, 0, 0, 1, 2, 3, 1, 2, 3, 4]
    assert joined == [Place("output", 1), Place("output", 1), Place("output", 4)]
    assert torch.equal(watched, plain)
    assert relative(cut, plain) > 1e-4
