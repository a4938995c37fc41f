"""Latents of the stages: their sizes against the published pipelines', and what hands results on."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from nodegraph.node import NodeError
from nodes.models.networks.efficientnet import EfficientNetEncoder
from nodes.values import Architecture, Cond, Conditioning, Image, Latent, LatentFormat, Vae, Weights
from nodes.wuerstchen.latents import (
    check_compressor,
    wuerstchen_empty_latents,
    wuerstchen_image_encode,
    wuerstchen_stage_b_conditioning,
)
from nodes.wuerstchen.loaders import wuerstchen_compressor_loader
from nodes.wuerstchen.stable_cascade import (
    model_sampling_stable_cascade,
    stable_cascade_empty_latent_image,
    stable_cascade_stage_c_vae_encode,
    stable_cascade_super_resolution_controlnet,
)
from tests.nodes.wuerstchen.tiny import COMPRESSOR


@pytest.mark.parametrize("width", [128, 136, 512, 1024, 1536, 2000])
@pytest.mark.parametrize("height", [128, 1024, 1528])
def test_empty_latents_have_the_published_sizes(width: int, height: int) -> None:
    stage_c, stage_b = wuerstchen_empty_latents(width, height, 3)
    rows, columns = math.ceil(height / 42.67), math.ceil(width / 42.67)
    assert stage_c.samples.shape == (3, 16, rows, columns)
    assert stage_b.samples.shape == (3, 4, int(rows * 10.67), int(columns * 10.67))
    assert not stage_c.samples.any() and not stage_b.samples.any()
    assert (stage_c.downscale, stage_b.downscale) == (42.67, 4)


def test_pictures_are_as_large_as_asked_for_in_multiples_of_128() -> None:
    for size in range(128, 2049, 128):
        assert wuerstchen_empty_latents(size, size).stage_b.samples.shape[-1] * 4 == size


def test_stable_cascades_latents_follow_the_compression() -> None:
    stage_c, stage_b = stable_cascade_empty_latent_image(1024, 1536, 42, 2)
    assert stage_c.samples.shape == (2, 16, 36, 24)
    assert stage_b.samples.shape == (2, 4, 384, 256)
    assert stable_cascade_empty_latent_image(1024, 1024, 32).stage_c.samples.shape[-2:] == (32, 32)


def test_stage_b_is_handed_the_result_in_every_entry() -> None:
    entries = (Cond(torch.zeros(1, 77, 8), extras={"other": 1}), Cond(torch.ones(1, 77, 8), strength=0.5))
    result = Latent(torch.randn(2, 16, 3, 3))
    found = wuerstchen_stage_b_conditioning(conditioning=Conditioning(entries), stage_c=result)
    assert [entry.extras["effnet"] is result.samples for entry in found.entries] == [True, True]
    assert (found.entries[0].extras["other"], found.entries[1].strength) == (1, 0.5)
    assert "effnet" not in entries[0].extras


def test_another_latent_is_no_result_of_stage_c() -> None:
    with pytest.raises(NodeError, match="no result of Stage C") as caught:
        wuerstchen_stage_b_conditioning(
            conditioning=Conditioning(()), stage_c=Latent(torch.zeros(1, 4, 8, 8))
        )
    assert caught.value.input == "stage_c"
    assert caught.value.found == "samples of shape (1, 4, 8, 8)"


@pytest.fixture
def compressor(context: Any, diffusers: Any) -> Vae:
    """A random compressor in a diffusers folder."""
    import json

    from safetensors.torch import save_file

    torch.manual_seed(5)
    place = diffusers / "compressor" / "image_encoder"
    place.mkdir(parents=True)
    save_file(EfficientNetEncoder(COMPRESSOR, 24, 16).state_dict(), place / "model.safetensors")
    (place / "config.json").write_text(json.dumps({"stages": COMPRESSOR}))
    (place.parent / "model_index.json").write_text(json.dumps({"latent_mean": 2.0, "latent_std": 0.5}))
    return wuerstchen_compressor_loader(ctx=context, model_path="compressor")


def test_a_compressed_picture_has_the_size_of_stage_cs_results(context: Any, compressor: Vae) -> None:
    pixels = torch.rand(2, 150, 300, 4)
    stage_c, stage_b = wuerstchen_image_encode(ctx=context, image=Image(pixels), vae=compressor)
    wanted = wuerstchen_empty_latents(300, 150, 2)
    assert stage_c.samples.shape == wanted.stage_c.samples.shape == (2, 16, 4, 8)
    assert stage_b.samples.shape == wanted.stage_b.samples.shape
    assert compressor.latent_format == LatentFormat("wuerstchen_c", 16, 0.5, 42.67, -0.5)
    assert not torch.allclose(stage_c.samples[0], stage_c.samples[1])


def test_a_picture_keeps_its_proportions(context: Any, compressor: Vae) -> None:
    """What does not fit the proportions of the cells is cut away, not squeezed."""
    picture = torch.zeros(1, 256, 300, 3)
    picture[:, :, 22:278] = 1.0
    wide = wuerstchen_image_encode(ctx=context, image=Image(picture), vae=compressor).stage_c
    assert wide.samples.shape[-2:] == (6, 8)
    cut = torch.rand(1, 256, 300, 3)
    left = (300 - round(256 * 8 / 6)) // 2 if 300 > 256 * 8 / 6 else 0
    whole = wuerstchen_image_encode(ctx=context, image=Image(cut), vae=compressor).stage_c
    top = (256 - round(300 * 6 / 8)) // 2
    inner = cut[:, top : top + 225, left:]
    again = wuerstchen_image_encode(ctx=context, image=Image(inner), vae=compressor).stage_c
    assert torch.equal(whole.samples, again.samples)


def test_a_picture_too_small_is_refused(context: Any, compressor: Vae) -> None:
    with pytest.raises(NodeError, match="too small") as caught:
        wuerstchen_image_encode(ctx=context, image=Image(torch.rand(1, 127, 400, 3)), vae=compressor)
    assert caught.value.found == "400x127"


def test_another_vae_is_no_compressor() -> None:
    arguments = (("channels", 128), ("channel_mult", (1, 2, 4, 4)), ("latent_channels", 4))
    vae = Vae(
        Weights("x", "vae", "ldm"),
        Architecture("autoencoder_kl", arguments),
        LatentFormat("sd1", 4, 0.18215),
    )
    with pytest.raises(NodeError, match="does not compress") as caught:
        check_compressor(vae)
    assert caught.value.input == "vae"
    assert caught.value.found == "autoencoder_kl, 4 channels"


def test_stable_cascade_encodes_so_many_pixels_into_one(context: Any, compressor: Vae) -> None:
    image = Image(torch.rand(1, 256, 300, 3))
    stage_c, stage_b = stable_cascade_stage_c_vae_encode(
        ctx=context, image=image, vae=compressor, compression=64
    )
    assert stage_c.samples.shape == (1, 16, 4, 4)
    assert stage_b.samples.shape == (1, 4, 64, 74)


def test_super_resolution_gives_the_latent_as_a_picture(context: Any, compressor: Vae) -> None:
    image = Image(torch.rand(2, 128, 96, 3))
    found = stable_cascade_super_resolution_controlnet(ctx=context, image=image, vae=compressor)
    assert found.controlnet_input.pixels.shape == (2, 4, 3, 16)
    assert found.stage_c.samples.shape == (2, 16, 8, 6)
    assert found.stage_b.samples.shape == (2, 4, 64, 48)


def test_model_sampling_shifts_the_levels(tiny_cascade: Any, context: Any, diffusers: Any) -> None:
    from nodes.wuerstchen.loaders import wuerstchen_prior_loader

    (diffusers / "prior").symlink_to(tiny_cascade.prior_folder)
    model = wuerstchen_prior_loader(ctx=context, model_path="prior").MODEL
    shifted = model_sampling_stable_cascade(model=model, shift=2.0)
    assert shifted.weights == model.weights
    half = 0.5
    assert shifted.parametrisation.sigma(half) == pytest.approx(
        2 * model.parametrisation.sigma(half), rel=1e-5
    )
