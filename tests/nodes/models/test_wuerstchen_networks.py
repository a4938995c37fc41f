"""Würstchen v2's networks against diffusers' modules, on the same weights, through a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nodes.models.embedded import wuerstchen_modules as published
from nodes.models.networks.denoising import DenoisingModule
from nodes.models.networks.hooks import AttentionPlace, Hooks, Place
from nodes.models.networks.layers import attend
from nodes.models.wuerstchen_architecture import wuerstchen_prior_architecture
from tests.nodes.models.wuerstchen import built_shapes, load, parameter_count, randomise, relative

SIZES = [(6, 6), (8, 5)]
PRIOR = {"c_in": 16, "c": 64, "c_cond": 32, "c_r": 17, "depth": 3, "nhead": 4}


def prior(**changes: Any) -> Any:
    torch.manual_seed(0)
    return randomise(published.WuerstchenPrior(**{**PRIOR, **changes}), damped="out.")


def inputs(channels: int, size: tuple[int, int], width: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, channels, *size), torch.tensor([0.03, 0.97]), torch.randn(2, 7, width)


@pytest.mark.parametrize("size", SIZES)
def test_stage_c_is_the_published_prior(size: tuple[int, int], tmp_path: Path) -> None:
    oracle = prior()
    network = load(oracle.state_dict(), wuerstchen_prior_architecture, tmp_path, {"nhead": 4})
    x, ratio, context = inputs(16, size, 32)
    with torch.no_grad():
        wanted = oracle(x, ratio, context)
        assert relative(network(x, ratio, context), wanted) < 1e-5
        # The weights matter: what comes out is not what went in.
        assert relative(x, wanted) > 0.01


def test_stage_c_computes_in_float32_over_half_precision_weights(tmp_path: Path) -> None:
    oracle = prior().half()
    network = load(oracle.state_dict(), wuerstchen_prior_architecture, tmp_path, {"nhead": 4})
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float16}
    x, ratio, context = inputs(16, (6, 6), 32)
    with torch.no_grad():
        assert relative(network(x, ratio, context), oracle.float()(x, ratio, context)) < 1e-5


def test_stage_c_in_bfloat16_is_as_near_as_the_published_one(tmp_path: Path) -> None:
    oracle = prior()
    network = load(oracle.state_dict(), wuerstchen_prior_architecture, tmp_path, {"nhead": 4})
    x, ratio, context = inputs(16, (6, 6), 32)
    with torch.no_grad():
        exact = oracle(x, ratio, context)
        network, low = network.bfloat16(), oracle.bfloat16()
        found = network(x.bfloat16(), ratio, context.bfloat16())
        wanted = low(x.bfloat16(), ratio.bfloat16(), context.bfloat16())
    assert found.dtype == torch.bfloat16
    assert relative(found.float(), exact) <= relative(wanted.float(), exact)


def test_the_published_stage_c_is_read_off_its_shapes() -> None:
    with torch.device("meta"):
        oracle = published.WuerstchenPrior(c_in=16, c=1536, c_cond=1280, c_r=64, depth=32, nhead=24)
    shapes = {key: tuple(tensor.shape) for key, tensor in oracle.state_dict().items()}
    found = wuerstchen_prior_architecture(shapes, {})
    assert dict(found.arguments) == {
        "in_channels": 16,
        "channels": 1536,
        "cross_attention_dim": 1280,
        "ratio_width": 64,
        "depth": 32,
        "num_heads": 24,
    }
    assert built_shapes(found) == shapes
    assert parameter_count(found) == 993_636_896


def test_another_networks_shapes_are_no_prior() -> None:
    with pytest.raises(KeyError):
        wuerstchen_prior_architecture({"conv_in.weight": (4, 4, 3, 3)}, {})


def test_hooks_reach_every_layer_of_stage_c(tmp_path: Path) -> None:
    network = load(prior().state_dict(), wuerstchen_prior_architecture, tmp_path, {"nhead": 4})
    assert isinstance(network, DenoisingModule)
    x, ratio, context = inputs(16, (6, 6), 32)
    blocks: list[Place] = []
    attentions: list[AttentionPlace] = []

    def block(place: Place, hidden: Tensor) -> Tensor:
        blocks.append(place)
        return hidden

    def attention(place: AttentionPlace, q: Tensor, k: Tensor, v: Tensor) -> Tensor | None:
        attentions.append(place)
        assert (q.shape[1], k.shape[1]) == (36, 36 + 7)
        return attend(q, k, v, place.heads) if place.block.index else None

    def ignore(place: AttentionPlace, q: Tensor, k: Tensor, v: Tensor) -> Tensor | None:
        return torch.zeros_like(q)

    with torch.no_grad():
        plain = network(x, ratio, context)
        watched = network(x, ratio, context, hooks=Hooks(block=(block,), attention=(attention,)))
        cut = network(x, ratio, context, hooks=Hooks(attention=(ignore,)))
    places = [Place("middle", index) for index in range(3)]
    assert blocks == places
    assert attentions == [AttentionPlace(place, 0, True, 4) for place in places]
    assert torch.equal(watched, plain)
    assert relative(cut, plain) > 1e-4
