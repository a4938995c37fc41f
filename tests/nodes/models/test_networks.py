"""The networks against diffusers' and transformers' modules, from both forms of a model, on the same weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from nodes.models.architecture import unet_architecture
from nodes.models.diffusers_folder import read_folder
from nodes.models.ldm_keys import unet_to_diffusers, vae_to_diffusers
from nodes.models.loading import empty_module
from nodes.models.networks.autoencoder_kl import AttnBlock
from nodes.models.networks.hooks import AttentionPlace, Hooks, Place
from nodes.models.networks.layers import attend
from nodes.models.pool import ModelPool
from nodes.models.prompt import chunks
from nodes.models.tokenizer import END, START
from nodes.stable_diffusion.loaders import load_checkpoint
from nodes.values import Clip, Model, Vae

Recipes = tuple[Model, Clip, Vae]


def _recipes(tiny: Any, form: str) -> Recipes:
    if form == "folder":
        return read_folder(tiny.folder)
    return tuple(load_checkpoint(tiny.file))  # type: ignore[return-value]


@pytest.fixture(params=["first-file", "first-folder", "second-file", "second-folder"])
def case(request: pytest.FixtureRequest) -> tuple[Any, Recipes]:
    """A tiny model and its recipes."""
    name, _, form = str(request.param).partition("-")
    tiny = request.getfixturevalue(name)
    return tiny, _recipes(tiny, form)


def relative(found: Tensor, wanted: Tensor) -> float:
    """The largest difference over the largest magnitude."""
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("size", [(8, 8), (16, 12), (12, 20)])
def test_the_unet_is_diffusers_unet(
    case: tuple[Any, Recipes], pool: ModelPool, size: tuple[int, int]
) -> None:
    tiny, (model, _, _) = case
    torch.manual_seed(0)
    x, context = torch.randn(2, 4, *size), torch.randn(2, 77, 32)
    timestep = torch.tensor([3.0, 987.0])
    with pool.network(model) as network, torch.no_grad():
        found = network(x, timestep, context)
        wanted = tiny.unet(x, timestep, context).sample
    assert relative(found, wanted) < 1e-5


def test_the_unet_takes_sides_that_do_not_halve(case: tuple[Any, Recipes], pool: ModelPool) -> None:
    _, (model, _, _) = case
    x = torch.randn(1, 4, 9, 7)
    with pool.network(model) as network:
        assert network(x, torch.tensor([1.0]), torch.randn(1, 77, 32)).shape == x.shape


def test_the_autoencoder_is_diffusers_autoencoder(case: tuple[Any, Recipes], pool: ModelPool) -> None:
    tiny, (_, _, vae) = case
    torch.manual_seed(0)
    pictures, latents = torch.rand(2, 32, 40, 3), torch.randn(2, 4, 4, 5)
    with pool.vae(vae) as autoencoder, torch.no_grad():
        encoded = autoencoder.encode(pictures)
        decoded = autoencoder.decode(latents)
        mean = tiny.vae.encode(pictures.movedim(-1, 1) * 2 - 1).latent_dist.mean
        sample = (tiny.vae.decode(latents).sample / 2 + 0.5).clamp(0, 1).movedim(1, -1)
    assert relative(encoded, mean) < 1e-5
    assert relative(decoded, sample) < 1e-5
    assert 0.0 < float(decoded.mean()) < 1.0


@pytest.mark.parametrize("form", ["file", "folder"])
@pytest.mark.parametrize("stop", [None, -1, -2, -3])
def test_the_text_encoder_is_transformers_encoder(
    first: Any, pool: ModelPool, form: str, stop: int | None
) -> None:
    tiny, (_, clip, _) = first, _recipes(first, form)
    part = chunks([([320, 736, 7117], 1.0)], 77, START, END, END)
    with pool.text_encoder(replace(clip, stop_layer=stop)) as encoder, torch.no_grad():
        hidden, pooled = encoder.encode_chunks(part)
        wanted = tiny.text(torch.tensor([part[0].tokens]), output_hidden_states=True)
    layer = wanted.hidden_states[stop if stop is not None else -1]
    norm = getattr(tiny.text, "text_model", tiny.text).final_layer_norm
    assert relative(hidden, norm(layer)) < 1e-5
    assert relative(pooled, wanted.pooler_output) < 1e-5


def test_open_clip_names_give_the_same_encoder(second: Any, pool: ModelPool) -> None:
    part = chunks([([320, 736, 7117], 1.0)], 77, START, END, 0)
    with pool.text_encoder(load_checkpoint(second.file).CLIP) as encoder, torch.no_grad():
        assert encoder.clip.family == "sd2"
        hidden, _ = encoder.encode_chunks(part)
        wanted = second.text(torch.tensor([part[0].tokens]), output_hidden_states=True)
    norm = getattr(second.text, "text_model", second.text).final_layer_norm
    # 2.x reads the last layer but one.
    assert relative(hidden, norm(wanted.hidden_states[-2])) < 1e-5


@pytest.mark.parametrize("name", ["first", "second"])
def test_the_maps_to_diffusers_name_every_parameter(name: str, request: pytest.FixtureRequest) -> None:
    tiny = request.getfixturevalue(name)
    model, _, vae = read_folder(tiny.folder)
    for recipe, module, to_diffusers in (
        (model, tiny.unet, unet_to_diffusers),
        (vae, tiny.vae, vae_to_diffusers),
    ):
        keys = empty_module(recipe.architecture).state_dict()
        named = to_diffusers(recipe.architecture, keys)
        assert named.keys() == keys.keys()
        assert set(named.values()) == set(module.state_dict())


def test_hooks_see_and_change_one_call_only(first: Any, pool: ModelPool) -> None:
    model = load_checkpoint(first.file).MODEL
    x, t, context = torch.randn(1, 4, 8, 8), torch.tensor([5.0]), torch.randn(1, 77, 32)
    blocks: list[Place] = []
    attentions: list[AttentionPlace] = []

    def block(place: Place, hidden: Tensor) -> Tensor:
        blocks.append(place)
        return hidden

    def attention(place: AttentionPlace, q: Tensor, k: Tensor, v: Tensor) -> Tensor | None:
        attentions.append(place)
        return attend(q, k, v, place.heads) if place.cross else None

    def no_skip(place: Place, hidden: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        return hidden, torch.zeros_like(skip)

    with pool.network(model) as network, torch.no_grad():
        plain = network(x, t, context)
        watched = network.module(x, t, context, hooks=Hooks(block=(block,), attention=(attention,)))
        cut = network.module(x, t, context, hooks=Hooks(skip=(no_skip,)))
        again = network(x, t, context)
    # Three levels of two blocks: nine on the way down with the first convolution, nine up.
    assert [p.index for p in blocks if p.stage == "input"] == list(range(9))
    assert [p.index for p in blocks if p.stage == "output"] == list(range(9))
    assert {a.block for a in attentions} == {
        *(Place("input", i) for i in (1, 2, 4, 5)),
        Place("middle", 0),
        *(Place("output", i) for i in range(3, 9)),
    }
    assert torch.equal(watched, plain)
    assert torch.equal(again, plain)
    assert not torch.allclose(cut, plain)


def test_the_real_models_architecture_is_read_off_its_shapes() -> None:
    path = Path(__file__).parents[2] / "data" / "parity" / "sd15_keys.json"
    prefix = "model.diffusion_model."
    shapes = {
        key[len(prefix) :]: tuple(shape)
        for key, shape in json.loads(path.read_text()).items()
        if key.startswith(prefix)
    }
    found = unet_architecture(shapes, {})
    assert found["channel_mult"] == (1, 2, 4, 4)
    assert found["num_heads"] == 8
    module = empty_module(found)
    assert {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()} == shapes
    assert sum(tensor.numel() for tensor in module.state_dict().values()) == 859_520_964


def test_the_autoencoders_attention_does_not_hold_its_matrix() -> None:
    block = AttnBlock(8, groups=4).requires_grad_(False)
    x = torch.randn(1, 8, 64, 64)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        block(x)
    matrix = 4096 * 4096 * x.element_size()
    # Each thread has a part of it of its own.
    assert 0 < max(event.cpu_memory_usage for event in seen.events()) < matrix / 2
