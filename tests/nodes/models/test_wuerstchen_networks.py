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
from nodes.models.networks.paella_vq import PaellaVQ
from nodes.models.wuerstchen_architecture import (
    paella_vq_architecture,
    wuerstchen_decoder_architecture,
    wuerstchen_prior_architecture,
)
from tests.nodes.models.wuerstchen import built_shapes, load, parameter_count, randomise, relative

SIZES = [(6, 6), (8, 5)]
DECODERS: dict[str, dict[str, Any]] = {
    "as published": {},
    "effnet everywhere": {"inject_effnet": [True, True, True], "effnet_embd": 5},
    "effnet nowhere": {"inject_effnet": [False, False, False]},
    "no attention": {"level_config": ["C", "CT", "CT"], "nhead": [-1, -1, -1]},
    "one pixel a patch": {"patch_size": 1, "kernel_size": 5, "nhead": [-1, 2, 8]},
    "two levels": {
        "c_hidden": [32, 48],
        "nhead": [-1, 6],
        "blocks": [1, 1],
        "level_config": ["CT", "CTA"],
        "inject_effnet": [False, True],
    },
}
PRIOR = {"c_in": 16, "c": 64, "c_cond": 32, "c_r": 17, "depth": 3, "nhead": 4}


class Decoder(published.WuerstchenDiffNeXt):  # type: ignore[misc]
    """The published decoder without the start of its training, which goes over all layers once for each."""

    def _init_weights(self, module: torch.nn.Module) -> None:
        return


def prior(**changes: Any) -> Any:
    torch.manual_seed(0)
    return randomise(published.WuerstchenPrior(**{**PRIOR, **changes}), damped="out.")


def decoder(**changes: Any) -> Any:
    torch.manual_seed(0)
    oracle = Decoder(
        **{
            "c_r": 18,
            "c_cond": 40,
            "c_hidden": [32, 48, 64],
            "nhead": [-1, 4, 4],
            "blocks": [1, 2, 3],
            "level_config": ["CT", "CTA", "CTA"],
            "inject_effnet": [False, True, True],
            "effnet_embd": 16,
            "clip_embd": 24,
            **changes,
        }
    )
    return randomise(oracle, damped="clf.")


def hints_of(oracle: Any) -> dict[str, Any]:
    """What the configuration of a folder says."""
    return dict(oracle.config)


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


@pytest.mark.parametrize("size", [(16, 16), (24, 8)])
@pytest.mark.parametrize("changes", DECODERS.values(), ids=DECODERS)
def test_stage_b_is_the_published_decoder(
    changes: dict[str, Any], size: tuple[int, int], tmp_path: Path
) -> None:
    oracle = decoder(**changes)
    network = load(oracle.state_dict(), wuerstchen_decoder_architecture, tmp_path, hints_of(oracle))
    x, ratio, context = inputs(4, size, 24)
    effnet = torch.randn(2, changes.get("effnet_embd", 16), 3, 2)
    with torch.no_grad():
        for given in (effnet, torch.zeros_like(effnet)):
            wanted = oracle(x, ratio, given, context)
            assert relative(network(x, ratio, context, extras={"effnet": given}), wanted) < 1e-5
        # Without a semantic latent it is as if it were zero.
        assert relative(network(x, ratio, context), wanted) < 1e-5


def test_stage_b_reads_the_semantic_latent_and_the_context(tmp_path: Path) -> None:
    oracle = decoder()
    network = load(oracle.state_dict(), wuerstchen_decoder_architecture, tmp_path, hints_of(oracle))
    x, ratio, context = inputs(4, (16, 16), 24)
    effnet = torch.randn(2, 16, 3, 2)
    with torch.no_grad():
        found = network(x, ratio, context, extras={"effnet": effnet})
        assert relative(network(x, ratio, context), found) > 1e-4
        assert relative(network(x, ratio, context * 2, extras={"effnet": effnet}), found) > 1e-4


def test_stage_b_gives_the_same_with_and_without_gradients(tmp_path: Path) -> None:
    network = load(decoder().state_dict(), wuerstchen_decoder_architecture, tmp_path, hints_of(decoder()))
    x, ratio, context = inputs(4, (16, 16), 24)
    given = x.clone()
    plain = network(x.requires_grad_(), ratio, context)
    with torch.no_grad():
        assert torch.equal(network(x, ratio, context), plain)
    assert torch.equal(x, given)
    plain.sum().backward()
    assert x.grad is not None and float(x.grad.abs().max()) > 0


@pytest.mark.parametrize("size", [(17, 13), (10, 22)])
def test_stage_b_takes_sides_that_do_not_halve(size: tuple[int, int], tmp_path: Path) -> None:
    oracle = decoder()
    network = load(oracle.state_dict(), wuerstchen_decoder_architecture, tmp_path, hints_of(oracle))
    x, ratio, context = inputs(4, size, 24)
    with torch.no_grad():
        found = network(x, ratio, context, extras={"effnet": torch.randn(2, 16, 3, 2)})
    assert found.shape == x.shape
    assert torch.isfinite(found).all()


def test_stage_b_in_bfloat16_is_as_near_as_the_published_one(tmp_path: Path) -> None:
    oracle = decoder()
    network = load(oracle.state_dict(), wuerstchen_decoder_architecture, tmp_path, hints_of(oracle))
    x, ratio, context = inputs(4, (16, 16), 24)
    effnet = torch.randn(2, 16, 3, 2)
    with torch.no_grad():
        exact = oracle(x, ratio, effnet, context)
        network, low = network.bfloat16(), oracle.bfloat16()
        found = network(x.bfloat16(), ratio, context.bfloat16(), extras={"effnet": effnet.bfloat16()})
        wanted = low(x.bfloat16(), ratio.bfloat16(), effnet.bfloat16(), context.bfloat16())
    assert found.dtype == torch.bfloat16
    assert relative(found.float(), exact) <= relative(wanted.float(), exact)


def test_the_published_stage_b_is_read_off_its_shapes() -> None:
    with torch.device("meta"):
        oracle = Decoder()
    shapes = {key: tuple(tensor.shape) for key, tensor in oracle.state_dict().items()}
    found = wuerstchen_decoder_architecture(shapes, {})
    assert dict(found.arguments) == {
        "in_channels": 4,
        "out_channels": 4,
        "ratio_width": 64,
        "patch_size": 2,
        "cond_width": 1024,
        "channels": (320, 640, 1280, 1280),
        # The first level has no attention to count heads of.
        "num_heads": (5, 10, 20, 20),
        "blocks": (4, 4, 14, 4),
        "level_config": ("CT", "CTA", "CTA", "CTA"),
        "inject_effnet": (False, True, True, True),
        "effnet_channels": 16,
        "cross_attention_dim": 1024,
        "kernel_size": 3,
    }
    assert built_shapes(found) == shapes
    assert parameter_count(found) == 1_055_365_280


def test_hooks_reach_the_layers_and_skips_of_stage_b(tmp_path: Path) -> None:
    oracle = decoder()
    network = load(oracle.state_dict(), wuerstchen_decoder_architecture, tmp_path, hints_of(oracle))
    x, ratio, context = inputs(4, (16, 16), 24)
    blocks: list[Place] = []
    joined: list[Place] = []

    def block(place: Place, hidden: Tensor) -> Tensor:
        blocks.append(place)
        return hidden

    def skip(place: Place, hidden: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        joined.append(place)
        return hidden, torch.zeros_like(other)

    with torch.no_grad():
        plain = network(x, ratio, context)
        watched = network(x, ratio, context, hooks=Hooks(block=(block,)))
        cut = network(x, ratio, context, hooks=Hooks(skip=(skip,)))
    assert blocks == [Place(stage, index) for stage in ("input", "output") for index in range(6)]
    assert joined == [Place("output", 3), Place("output", 5)]
    assert torch.equal(watched, plain)
    assert relative(cut, plain) > 1e-4


VQ: dict[str, dict[str, Any]] = {
    "two levels": {},
    "three levels": {"levels": 3, "bottleneck_blocks": 1},
    "one level": {"levels": 1, "up_down_scale_factor": 4},
    "one channel": {"in_channels": 1, "out_channels": 1, "latent_channels": 3},
}


def vq(**changes: Any) -> Any:
    torch.manual_seed(0)
    given = {"embed_dim": 24, "bottleneck_blocks": 2, "num_vq_embeddings": 32, **changes}
    return randomise(published.PaellaVQModel(**given))


@pytest.mark.parametrize("size", [(16, 16), (32, 24)])
@pytest.mark.parametrize("changes", VQ.values(), ids=VQ)
def test_stage_a_is_the_published_vqgan(
    changes: dict[str, Any], size: tuple[int, int], tmp_path: Path
) -> None:
    oracle = vq(**changes)
    network = load(oracle.state_dict(), paella_vq_architecture, tmp_path, hints_of(oracle))
    assert isinstance(network, PaellaVQ)
    pictures = torch.rand(2, oracle.config.in_channels, *size)
    with torch.no_grad():
        latents = oracle.encode(pictures).latents
        assert (size[0] // network.downscale, size[1] // network.downscale) == latents.shape[2:]
        assert relative(network.encode(pictures), latents) < 1e-5
        assert relative(network.decode(latents), oracle.decode(latents).sample) < 1e-5
        quantised = oracle.decode(latents, force_not_quantize=False).sample
        assert relative(network.decode(latents, quantize=True), quantised) < 1e-5
        assert relative(network.decode(network.encode(pictures, quantize=True)), quantised) < 1e-5
        assert relative(quantised, oracle.decode(latents).sample) > 1e-3


def test_stage_a_in_strips_is_stage_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = vq()
    network = load(oracle.state_dict(), paella_vq_architecture, tmp_path, hints_of(oracle))
    assert isinstance(network, PaellaVQ)
    latents = torch.randn(2, 4, 7, 5)
    with torch.no_grad():
        whole = network.decode(latents)
        monkeypatch.setattr("nodes.models.networks.paella_vq._AT_ONCE", 2000)
        assert relative(network.decode(latents), whole) < 1e-6


def test_stage_a_of_single_files_is_the_same(tmp_path: Path) -> None:
    tensors = {
        key.replace("vquantizer.embedding.", "vquantizer.codebook."): tensor
        for key, tensor in vq().state_dict().items()
    }
    network = load(tensors, paella_vq_architecture, tmp_path, {})
    assert isinstance(network, PaellaVQ)
    latents = torch.randn(1, 4, 4, 4)
    with torch.no_grad():
        assert relative(network.decode(latents), vq().decode(latents).sample) < 1e-5


def test_the_published_stage_a_is_read_off_its_shapes() -> None:
    with torch.device("meta"):
        oracle = published.PaellaVQModel()
    shapes = {
        key: tuple(tensor.shape)
        for key, tensor in oracle.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    found = paella_vq_architecture(shapes, {})
    assert dict(found.arguments) == {
        "picture_channels": 3,
        "latent_channels": 4,
        "channels": 384,
        "levels": 2,
        "bottleneck_blocks": 12,
        "codebook_size": 8192,
        "patch_size": 2,
    }
    assert built_shapes(found) == shapes
    assert parameter_count(found) == 18_406_894
