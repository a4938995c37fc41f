"""Training learns, resumes where it stopped, and keeps what it promises; a few tiny steps of each stage."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from nodes.models.embedded.architecture import LATENT_SCALE, PICTURE_SIZE, build_text_encoder, build_vae
from nodes.models.embedded.captions import caption
from nodes.models.embedded.decoder_training import polish_decoder
from nodes.models.embedded.latents import Encoded, encoded_scenes
from nodes.models.embedded.shapes import held_out, random_scene
from nodes.models.embedded.text_training import CLASSES, labels
from nodes.models.embedded.train import caption_tokens
from nodes.models.embedded.unet_training import (
    Networks,
    Plan,
    alphas_cumprod,
    rate_at,
    train_unet,
    training_networks,
)
from nodes.models.embedded.vae_training import picture_batch, rescale, to_tensor

CPU = torch.device("cpu")


def test_pictures_reach_minus_one_and_one() -> None:
    tensor = to_tensor(np.array([[[[0, 255, 0]]]], dtype=np.uint8))
    assert tensor.flatten().tolist() == [-1.0, 1.0, -1.0]


@pytest.mark.parametrize("size", [PICTURE_SIZE // 2, PICTURE_SIZE])
def test_cuts_for_the_autoencoder_show_something(size: int) -> None:
    pictures = picture_batch(np.random.default_rng(0), 24, size)
    assert pictures.shape == (24, 3, size, size)
    spread = pictures.flatten(2).std(dim=2).amax(dim=1)
    assert (spread > 0.02).float().mean() > 0.9


def test_rescaling_gives_unit_variance_and_changes_no_picture() -> None:
    torch.manual_seed(0)
    vae = build_vae().eval()
    pictures = picture_batch(np.random.default_rng(1), 4, PICTURE_SIZE)
    with torch.no_grad():
        before = vae.decode(vae.encode(pictures).latent_dist.mean).sample
        rescale(vae, CPU, count=8)
        latents = vae.encode(picture_batch(np.random.default_rng(7), 8, PICTURE_SIZE)).latent_dist.mean
        after = vae.decode(vae.encode(pictures).latent_dist.mean).sample
    assert float(latents.std()) * LATENT_SCALE == pytest.approx(1.0, rel=1e-3)
    assert torch.allclose(before, after, atol=1e-4)


def test_labels_leave_out_what_a_caption_leaves_out() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        scene = random_scene(rng)
        text = caption(scene, rng)
        found = labels(scene, text)
        assert len(found) == len(CLASSES)
        assert all(label < count for label, count in zip(found, CLASSES, strict=True))
        if scene.layout != "empty" and scene.background not in text.replace("grey", "gray").replace(
            "violet", "purple"
        ):
            assert found[2] < 0, text


def test_latents_are_kept_and_read_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = build_vae().eval()
    first = encoded_scenes(tmp_path, vae, 3, (8, 4), 5, CPU)
    assert first.latents.shape == (3, 4, 4, 8)
    assert not any(map(held_out, first.scenes))
    (kept,) = tmp_path.iterdir()
    again = encoded_scenes(tmp_path, build_vae(), 3, (8, 4), 5, CPU)
    assert kept.exists()
    assert torch.equal(first.latents, again.latents)
    assert first.scenes == again.scenes


def test_alphas_are_those_of_stable_diffusion() -> None:
    alphas = alphas_cumprod()
    sigmas = ((1 - alphas) / alphas).sqrt()
    assert float(sigmas[0]) == pytest.approx(0.0291671, rel=1e-4)
    assert float(sigmas[-1]) == pytest.approx(14.6146, rel=1e-4)


def test_the_rate_rises_stays_and_falls() -> None:
    plan = Plan(steps=6000)
    rates = [rate_at(step, plan) for step in range(plan.steps)]
    assert rates[0] < 0.02
    assert max(rates) == 1.0 == rates[3000]
    assert rates[-1] <= 0.02
    assert all(later <= earlier for earlier, later in pairwise(rates[300:]))


def test_the_noise_predictor_trains_and_resumes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(3)
    scenes = [random_scene(rng) for _ in range(8)]
    main, wide = (Encoded(scenes, torch.randn(8, 4, 8, width).half()) for width in (8, 16))
    seen: list[int] = []

    def preview(networks: Networks, step: int) -> None:
        seen.append(step)

    def run(steps: int) -> Networks:
        networks = training_networks(build_text_encoder(), CPU)
        plan = Plan(steps=steps, batch=8, save_every=1)
        return train_unet(tmp_path, plan, networks, main, [wide], caption_tokens(), CPU, preview)

    run(2)
    assert seen == [1, 2]
    kept = torch.load(tmp_path / "unet.pt", weights_only=True)["unet"]
    after = run(3)
    assert seen == [1, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["unet.pt"]
    moved = torch.load(tmp_path / "unet.pt", weights_only=True)["unet"]
    assert any(not torch.equal(kept[name], moved[name]) for name in kept)
    assert all(torch.isfinite(value).all() for value in after.unet.state_dict().values())


def test_polishing_changes_the_decoder_and_nothing_else(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = build_vae().eval().requires_grad_(False)
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    polish_decoder(tmp_path, vae, 2, 2, CPU)
    changed = {
        name.split(".")[0] for name, value in vae.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"decoder", "post_quant_conv"}
    again = build_vae()
    again.load_state_dict(before)
    polish_decoder(tmp_path, again, 2, 2, CPU)
    assert torch.equal(again.decoder.conv_out.weight, vae.decoder.conv_out.weight)
