"""Adapter files of every naming, on networks that diffusers and transformers compute with the weights merged."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nodegraph.node import NodeError
from nodes.models.adapters import read_adapters
from nodes.models.ldm_keys import unet_to_diffusers
from nodes.models.patches.lora import lora_patch
from nodes.models.pool import ModelPool
from nodes.models.tensor_file import read_header
from nodes.stable_diffusion.loaders import Checkpoint, load_checkpoint

Namer = Callable[[str, str], tuple[str, str]]
"""(diffusers' name of a module, LDM's) -> the keys of up and down."""


def flat(name: str) -> str:
    return name.replace(".", "_")


def processors(published: str, _: str) -> tuple[str, str]:
    block, _, layer = published.replace("to_out.0", "to_out").rpartition(".")
    return (
        f"unet.{block}.processor.{layer}_lora.up.weight",
        f"unet.{block}.processor.{layer}_lora.down.weight",
    )


NAMERS: dict[str, Namer] = {
    "kohya": lambda d, _: (f"lora_unet_{flat(d)}.lora_up.weight", f"lora_unet_{flat(d)}.lora_down.weight"),
    "kohya, LDM": lambda _, m: (
        f"lora_unet_{flat(m)}.lora_up.weight",
        f"lora_unet_{flat(m)}.lora_down.weight",
    ),
    "peft": lambda d, _: (f"unet.{d}.lora_B.weight", f"unet.{d}.lora_A.weight"),
    "diffusers": lambda d, _: (f"unet.{d}.lora.up.weight", f"unet.{d}.lora.down.weight"),
    "LDM": lambda _, m: (f"diffusion_model.{m}.lora_up.weight", f"diffusion_model.{m}.lora_down.weight"),
}


def factors_of(module: nn.Module) -> tuple[Tensor, Tensor]:
    weight = module.weight
    assert isinstance(weight, Tensor)
    rank = 2
    up = torch.randn(weight.shape[0], rank, *(1 for _ in weight.shape[2:])) * 0.3
    return up, torch.randn(rank, *weight.shape[1:]) * 0.3


def merged(module: nn.Module, chosen: dict[str, tuple[Tensor, Tensor]], strength: float) -> nn.Module:
    """A copy with W + strength * up down in place of W."""
    found = copy.deepcopy(module)
    for name, (up, down) in chosen.items():
        weight = found.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        weight.data += strength * torch.einsum("or,r...->o...", up.flatten(1), down)
    return found


def layers(module: nn.Module, only: str = "") -> list[str]:
    return [
        name
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear | nn.Conv2d) and only in name
    ]


def recipe(tiny: Any) -> Checkpoint:
    return load_checkpoint(tiny.file)


@pytest.mark.parametrize("which", ["first", "second"])
@pytest.mark.parametrize("naming", [*NAMERS, "processors"])
def test_every_naming_reaches_the_layers_that_it_means(
    which: str, naming: str, pool: ModelPool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    tiny = request.getfixturevalue(which)
    torch.manual_seed(5)
    # Processors held attention's projections alone.
    names = layers(tiny.unet, ".attn" if naming == "processors" else "")
    chosen = {name: factors_of(tiny.unet.get_submodule(name)) for name in names}
    model = recipe(tiny).MODEL
    with pool.network(model) as network:
        ours = unet_to_diffusers(model.architecture, network.module.state_dict())
    inverse = {
        d.removesuffix(".weight"): m.removesuffix(".weight") for m, d in ours.items() if m.endswith(".weight")
    }
    tensors = {}
    for name, both in chosen.items():
        keys = NAMERS.get(naming, processors)(name, inverse[name])
        tensors.update({key: part.contiguous() for key, part in zip(keys, both, strict=True)})
    file = tmp_path / "x.safetensors"
    save_file(tensors, file)
    x, t, c = torch.randn(2, 4, 8, 8), torch.tensor([9.0, 600.0]), torch.randn(2, 7, 32)
    with torch.no_grad():
        right = merged(tiny.unet, chosen, 0.7)(x, t, encoder_hidden_states=c).sample
        plain = tiny.unet(x, t, encoder_hidden_states=c).sample
    with pool.network(model.patched(lora_patch(file, 0.7))) as network:
        found = network(x, t, c)
    assert (right - plain).abs().max() > 0.05 * plain.abs().max()
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4 * float(right.abs().max()))


@pytest.mark.parametrize("which", ["first", "second"])
@pytest.mark.parametrize(
    ("module", "up", "down"),
    [
        ("lora_te_{flat}", ".lora_up.weight", ".lora_down.weight"),
        ("text_encoder.{dotted}", ".lora_B.weight", ".lora_A.weight"),
        ("lora_te1_{flat}", ".lora_up.weight", ".lora_down.weight"),
        ("text_encoder.{dotted}", ".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight"),
    ],
)
def test_text_encoders_are_reached_too(
    which: str,
    module: str,
    up: str,
    down: str,
    pool: ModelPool,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    tiny = request.getfixturevalue(which)
    torch.manual_seed(6)
    names = layers(tiny.text, "encoder.layers")
    chosen = {name: factors_of(tiny.text.get_submodule(name)) for name in names}
    tensors = {}
    for name, both in chosen.items():
        whole = name if name.startswith("text_model.") else f"text_model.{name}"
        called = module.format(flat=flat(whole), dotted=whole)
        tensors.update({called + end: part.contiguous() for end, part in zip((up, down), both, strict=True)})
    file = tmp_path / "x.safetensors"
    save_file(tensors, file)
    clip = recipe(tiny).CLIP
    ids = torch.tensor([[49406, 320, 736, 4989, 49407, *[49407] * 72]])
    with torch.no_grad():
        states = merged(tiny.text, chosen, 1.5)(ids, output_hidden_states=True).hidden_states
    with pool.text_encoder(clip.patched(lora_patch(file, 1.5))) as encoder:
        text: Any = encoder.module
        embedded = text.text_model["embeddings"]["token_embedding"].weight[ids]
        found, _ = text(embedded, torch.tensor([4]), 3, normed=False)
    torch.testing.assert_close(found, states[-1], rtol=1e-4, atol=1e-4)


def test_alpha_strength_and_order_count(first: Any, pool: ModelPool, tmp_path: Path) -> None:
    model = recipe(first).MODEL
    up, down = torch.randn(4, 2, 1, 1), torch.randn(2, 32, 3, 3)
    file = tmp_path / "x.safetensors"
    stem = "lora_unet_conv_out"
    save_file(
        {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down, f"{stem}.alpha": torch.tensor(1.0)},
        file,
    )
    twice = model.patched(lora_patch(file, 2.0)).patched(lora_patch(file, -0.5))
    with pool.network(model) as base, pool.network(twice) as other:
        difference = other.module.state_dict()["out.2.weight"] - base.module.state_dict()["out.2.weight"]
    torch.testing.assert_close(difference, 1.5 * 0.5 * torch.einsum("or,rikl->oikl", up[..., 0, 0], down))


def test_differences_change_weights_and_biases(first: Any, pool: ModelPool, tmp_path: Path) -> None:
    model = recipe(first).MODEL
    file = tmp_path / "x.safetensors"
    tensors = {
        "lora_unet_conv_out.diff": torch.randn(4, 32, 3, 3),
        "lora_unet_conv_out.diff_b": torch.randn(4),
        "lora_unet_conv_norm_out.w_norm": torch.randn(32),
        "lora_unet_conv_norm_out.b_norm": torch.randn(32),
        "lora_unet_conv_in.diff_b": torch.randn(32),
    }
    save_file(tensors, file)
    names = ("out.2.weight", "out.2.bias", "out.0.weight", "out.0.bias", "input_blocks.0.0.bias")
    with pool.network(model) as base, pool.network(model.patched(lora_patch(file, 0.5))) as other:
        one, two = base.module.state_dict(), other.module.state_dict()
        changed = [name for name in one if not torch.equal(one[name], two[name])]
    assert sorted(changed) == sorted(names)
    for name, tensor in zip(names, tensors.values(), strict=True):
        torch.testing.assert_close(two[name], one[name] + 0.5 * tensor)


def test_a_file_that_changes_after_loading_is_refused(first: Any, pool: ModelPool, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file({"lora_unet_conv_out.diff_b": torch.ones(4)}, file)
    model = recipe(first).MODEL.patched(lora_patch(file, 1.0))
    save_file({"lora_unet_conv_out.diff_b": torch.ones(4) * 2, "more": torch.ones(3)}, file)
    with pytest.raises(NodeError, match=r"x\.safetensors has changed since"), pool.network(model):
        pass
    file.unlink()
    with pytest.raises(NodeError, match=r"x\.safetensors is gone"), pool.network(model):
        pass


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"model.weight": (2, 2)}, "is not a LoRA"),
        ({"lora_unet_conv_in.lora_up.weight": (2, 2)}, "not complete"),
        ({"lora_unet_conv_in.alpha": ()}, "not complete"),
        ({"lora_unet_conv_in.hada_w1_a": (2, 2), "lora_unet_conv_in.hada_w1_b": (2, 2)}, "not complete"),
    ],
)
def test_what_is_no_adapter_is_refused(
    tensors: dict[str, tuple[int, ...]], says: str, tmp_path: Path
) -> None:
    file = tmp_path / "x.safetensors"
    save_file({key: torch.zeros(shape) for key, shape in tensors.items()}, file)
    with pytest.raises(NodeError, match=says):
        read_adapters(read_header(file))
