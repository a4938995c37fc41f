"""The pixel-space U-Net against diffusers' UNet2DModel, from folders of both layouts, and what folders are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nodegraph.node import NodeError
from nodes.diffusion.parametrisation import Discrete
from nodes.models.diffusers_folder import read_folder
from nodes.models.loading import empty_module
from nodes.models.networks.hooks import AttentionPlace, Hooks, Place
from nodes.models.networks.layers import attend
from nodes.models.pixel_folder import pixel_parametrisation, read_pixel_folder, unet2d_architecture
from nodes.models.pool import ModelPool
from nodes.stable_diffusion.loaders import unet_loader
from tests.nodes.pixel_models import CIFAR, FACES, LINEAR, TINY, PixelModel, make_pixel_model, tiny_like

NO_TEXT = torch.zeros(2, 1, 0)
CASES: dict[str, dict[str, Any]] = {
    "cifar": tiny_like(CIFAR),
    "faces": tiny_like(FACES),
    "classes": {**TINY, "num_class_embeds": 67},
    "scale_shift": {
        **TINY,
        "resnet_time_scale_shift": "scale_shift",
        "add_attention": False,
        "attention_head_dim": 16,
    },
    "grey": {**TINY, "in_channels": 1, "out_channels": 1, "layers_per_block": 2},
}
SIZES = {"cifar": (8, 24), "faces": (32, 64), "classes": (16, 8), "scale_shift": (16, 8), "grey": (4, 6)}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, PixelModel]:
    name = str(request.param)
    return name, make_pixel_model(tmp_path_factory.mktemp(name) / name, CASES[name], flat=name == "cifar")


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.abs().max())


def test_it_is_diffusers_network(case: tuple[str, PixelModel], pool: ModelPool) -> None:
    name, made = case
    model = read_pixel_folder(made.folder)
    channels = model.latent_format.channels
    labels = torch.tensor([66, 3]) if name == "classes" else None
    timestep = torch.tensor([7.0, 996.0])
    with pool.network(model) as network:
        for height, width in (SIZES[name], SIZES[name][::-1]):
            x = torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(height))
            extras = {} if labels is None else {"class_labels": labels}
            found = network(x, timestep, NO_TEXT, extras=extras)
            with torch.no_grad():
                wanted = made.unet(x, timestep, labels).sample
            assert relative(found, wanted) < 1e-5
            if labels is not None:
                other = network(x, timestep, NO_TEXT, extras={"class_labels": labels.flip(0)})
                assert relative(other, wanted) > 1e-3, "the class is read"


def test_half_precision_is_no_further_off_than_diffusers(tmp_path: Path, pool: ModelPool) -> None:
    made = make_pixel_model(tmp_path / "half", tiny_like(CIFAR))
    model = replace(read_pixel_folder(made.folder), dtype="bf16")
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    timestep = torch.linspace(1.0, 999.0, 8)
    with pool.network(model) as network, torch.no_grad():
        assert next(network.module.parameters()).dtype == torch.bfloat16
        found = network(x, timestep, NO_TEXT)
        exact = made.unet(x, timestep).sample
        theirs = made.unet.bfloat16()(x.bfloat16(), timestep).sample.float()
    assert float((found - exact).norm()) < 1.05 * float((theirs - exact).norm())


@pytest.mark.parametrize(("config", "parameters"), [(CIFAR, 35_746_307), (FACES, 113_673_219)])
def test_the_published_models_have_these_parameters(config: dict[str, Any], parameters: int) -> None:
    from diffusers import UNet2DModel

    with torch.device("meta"):
        theirs = {key: tuple(tensor.shape) for key, tensor in UNet2DModel(**config).state_dict().items()}
    found = empty_module(unet2d_architecture(theirs, config, "published")).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in found.items()} == theirs
    assert sum(tensor.numel() for tensor in found.values()) == parameters


def test_sides_that_do_not_halve_are_made_up_for(pool: ModelPool, tmp_path: Path) -> None:
    model = read_pixel_folder(make_pixel_model(tmp_path / "odd").folder)
    with pool.network(model) as network:
        x = torch.randn(2, 3, 9, 7)
        assert network(x, torch.tensor([1.0, 2.0]), NO_TEXT).shape == x.shape


def test_attention_under_its_old_names_is_found(pool: ModelPool, tmp_path: Path) -> None:
    made = make_pixel_model(tmp_path / "old")
    file = made.folder / "unet" / "diffusion_pytorch_model.safetensors"
    x, timestep = torch.randn(2, 3, 8, 8), torch.tensor([1.0, 500.0])
    with pool.network(read_pixel_folder(made.folder)) as network:
        wanted = network(x, timestep, NO_TEXT)
    tensors = load_file(file)
    for now, before in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        tensors = {key.replace(f".{now}.", f".{before}."): tensor for key, tensor in tensors.items()}
    assert "mid_block.attentions.0.proj_attn.weight" in tensors
    save_file(tensors, file)
    with pool.network(read_pixel_folder(made.folder)) as network:
        assert torch.equal(network(x, timestep, NO_TEXT), wanted)


def test_hooks_reach_every_block_and_attention(pool: ModelPool, tmp_path: Path) -> None:
    model = read_pixel_folder(make_pixel_model(tmp_path / "hooked").folder)
    blocks: list[Place] = []
    attentions: list[AttentionPlace] = []

    def block(place: Place, h: torch.Tensor) -> torch.Tensor:
        blocks.append(place)
        return h

    def attention(place: AttentionPlace, q: Any, k: Any, v: Any) -> torch.Tensor:
        attentions.append(place)
        return attend(q, k, v, place.heads)

    def no_skip(place: Place, h: torch.Tensor, skip: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return h, torch.zeros_like(skip)

    x, timestep = torch.randn(2, 3, 8, 8), torch.tensor([1.0, 500.0])
    with pool.network(model) as network, torch.no_grad():
        plain = network(x, timestep, NO_TEXT)
        hooks = Hooks(block=(block,), attention=(attention,))
        assert torch.equal(network.module(x, timestep, NO_TEXT, hooks=hooks), plain)
        cut = network.module(x, timestep, NO_TEXT, hooks=Hooks(skip=(no_skip,)))
        assert not torch.allclose(cut, plain)
    # Two levels of one block: the first convolution, block, way down, block; two blocks a level on the way up.
    assert [place.index for place in blocks if place.stage == "input"] == [0, 1, 2, 3]
    assert [place.index for place in blocks if place.stage == "output"] == [0, 1, 2, 3]
    found = [attention.block for attention in attentions]
    assert found == [Place("input", 3), Place("middle", 0), Place("output", 0), Place("output", 1)]
    assert all(attention.heads == 4 and not attention.cross for attention in attentions)


def test_the_folder_says_the_classes(tmp_path: Path) -> None:
    names = ["red circle", "blue circle"]
    made = make_pixel_model(tmp_path / "named", {**TINY, "num_class_embeds": 3}, class_names=names)
    model = read_pixel_folder(made.folder)
    assert model.class_names == tuple(names)
    assert model.architecture["classes"] == 3


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({}, {}),
        (
            {"clip_sample": False, "variance_type": "fixed_large"},
            {"clip_range": None, "variance_type": "fixed_large"},
        ),
        ({"clip_sample_range": 2.0, "prediction_type": "sample"}, {"clip_range": 2.0, "prediction": "x0"}),
        ({"beta_schedule": "squaredcos_cap_v2"}, {"beta_schedule": "squaredcos_cap_v2"}),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "num_train_timesteps": 50},
            {"clip_range": None, "timesteps": 50},
        ),
    ],
)
def test_the_folder_says_the_schedule(tmp_path: Path, said: dict[str, Any], meant: dict[str, Any]) -> None:
    base = Discrete(beta_schedule="linear", beta_start=0.0001, beta_end=0.02, clip_range=1.0)
    (tmp_path / "scheduler_config.json").write_text(json.dumps({**LINEAR, **said}))
    assert pixel_parametrisation(tmp_path, "folder") == replace(base, **meant)
    (tmp_path / "scheduler_config.json").unlink()
    assert pixel_parametrisation(tmp_path, "folder") == base, "DDPM's own"


def changed(folder: Path, name: str, **changes: Any) -> None:
    """Change entries of a JSON file; None takes one out."""
    config = {**json.loads((folder / name).read_text()), **changes}
    kept = {key: value for key, value in config.items() if value is not None}
    (folder / name).write_text(json.dumps(kept))


@pytest.mark.parametrize(
    ("file", "changes", "match"),
    [
        ("config.json", {"time_embedding_type": "fourier"}, "time_embedding_type 'fourier'"),
        ("config.json", {"down_block_types": ["SkipDownBlock2D"] * 2}, "blocks of type SkipDownBlock2D"),
        (
            "config.json",
            {"block_out_channels": None},
            r"does not describe its U-Net \('block_out_channels'\)",
        ),
        ("config.json", {"block_out_channels": [16, 48]}, "should have"),
        ("config.json", {"layers_per_block": 2}, "tensors of .* are missing"),
        ("config.json", {"add_attention": False}, "leaves out 10 tensors"),
        ("config.json", {"norm_num_groups": 7}, "unknown make"),
        ("config.json", {"_class_name": "UNet2DConditionModel"}, "is a UNet2DConditionModel"),
        ("model_index.json", {"class_names": ["a", "b"]}, "class names of folder do not fit"),
        ("scheduler_config.json", {"beta_schedule": "sigmoid"}, "beta schedule 'sigmoid'"),
        ("scheduler_config.json", {"thresholding": True}, "dynamic thresholding"),
        ("scheduler_config.json", {"variance_type": "learned"}, "the variance 'learned'"),
    ],
)
def test_what_it_cannot_be_is_refused(tmp_path: Path, file: str, changes: dict[str, Any], match: str) -> None:
    made = make_pixel_model(tmp_path / "folder", flat=True)
    changed(made.folder, file, **changes)
    with pytest.raises(NodeError, match=match):
        read_pixel_folder(made.folder)


def test_other_loaders_name_the_right_one(tmp_path: Path, first: Any, make_context: Any) -> None:
    made = make_pixel_model(tmp_path / "ddpm")
    with pytest.raises(NodeError, match="holds a pixel-space model") as caught:
        read_folder(made.folder)
    assert caught.value.hint == "Load it with PixelModelLoader."
    with pytest.raises(NodeError, match="first is not a pixel-space model") as caught:
        read_pixel_folder(first.folder)
    assert "DiffusersLoader" in str(caught.value.hint)
    (tmp_path / "none").mkdir()
    with pytest.raises(NodeError, match=r"none lacks the config\.json"):
        read_pixel_folder(tmp_path / "none")
    context = make_context()
    place = context.folders.models[0] / "diffusion_models"
    place.mkdir(parents=True)
    (made.folder / "unet" / "diffusion_pytorch_model.safetensors").rename(place / "ddpm.safetensors")
    with pytest.raises(NodeError, match="it is a pixel-space U-Net") as caught:
        unet_loader(ctx=context, unet_name="ddpm.safetensors", weight_dtype="default")
    assert "PixelModelLoader" in str(caught.value.hint)
