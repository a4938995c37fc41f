"""Whole runs of Würstchen v2 and Stable Cascade through the nodes against the published pipelines.

The step noise of the nodes starts from a sampler's seed anew, as a pipeline's does that is given its first latents.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.schedulers import scheduling_ddpm_wuerstchen
from torch import Tensor

from nodes.clip_vision import unclip_conditioning
from nodes.custom_sampling import sampler_custom
from nodes.models.embedded import wuerstchen_modules as published
from nodes.published_schedules import wuerstchen_scheduler
from nodes.sampling import ksampler
from nodes.stable_diffusion.text import clip_text_encode
from nodes.stable_diffusion.vae import vae_decode
from nodes.values import ClipVisionOutput, Conditioning, Latent, Model, Sampler
from nodes.wuerstchen.latents import wuerstchen_empty_latents, wuerstchen_stage_b_conditioning
from nodes.wuerstchen.loaders import wuerstchen_decoder_loader, wuerstchen_prior_loader
from tests.nodes.conftest import DirectContext, MakeContext
from tests.nodes.models.wuerstchen import relative
from tests.nodes.wuerstchen.tiny import IMAGE_WIDTH, Published

SIZES = [(128, 128), (256, 128)]
PROMPT, NEGATIVE = "a small yellow star on a black background", "blurry"
SEED = 11
STEPS = 6


@pytest.fixture
def linked(make_context: MakeContext) -> Any:
    """Makes a context whose diffusers folder holds the two folders of a published model."""

    def make(model: Published, **options: Any) -> Any:
        context = make_context(**options)
        place = context.folders.models[0] / "diffusers"
        place.mkdir(parents=True, exist_ok=True)
        for name, folder in (("prior", model.prior_folder), ("decoder", model.decoder_folder)):
            if not (place / name).exists():
                (place / name).symlink_to(folder)
        return context

    return make


def drawn(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


def prior_of(model: Published, size: tuple[int, int], scale: float, noise: Tensor, **options: Any) -> Tensor:
    found: Tensor = model.prior(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        width=size[0],
        height=size[1],
        guidance_scale=scale,
        num_images_per_prompt=len(noise),
        latents=noise,
        generator=torch.Generator().manual_seed(SEED),
        **options,
    ).image_embeddings
    return found


def decoder_of(model: Published, stage_c: Tensor, scale: float, noise: Tensor, output: str) -> Tensor:
    found: Tensor = model.decoder(
        image_embeddings=stage_c,
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        num_inference_steps=STEPS,
        guidance_scale=scale,
        latents=noise,
        generator=torch.Generator().manual_seed(SEED),
        output_type=output,
    ).images
    return found


def encoded(context: Any, clip: Any) -> tuple[Conditioning, Conditioning]:
    positive, negative = (clip_text_encode(ctx=context, text=text, clip=clip) for text in (PROMPT, NEGATIVE))
    return positive, negative


def sampled(
    context: Any,
    model: Model,
    scale: float,
    positive: Conditioning,
    negative: Conditioning,
    latent: Latent,
    timesteps: str = "linspace",
    steps: int = STEPS,
) -> Latent:
    return sampler_custom(
        ctx=context,
        model=model,
        noise_seed=SEED,
        cfg=scale,
        positive=positive,
        negative=negative,
        sampler=Sampler("ddpm"),
        sigmas=wuerstchen_scheduler(model=model, steps=steps, timesteps=timesteps),
        latent_image=latent,
    ).output


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("kind", ["tiny_wuerstchen", "tiny_cascade", "embedded_wuerstchen"])
def test_all_stages_equal_the_published_pipelines(
    request: pytest.FixtureRequest, linked: Any, kind: str, scale: float, size: tuple[int, int]
) -> None:
    model: Published = request.getfixturevalue(kind)
    context = linked(model)
    empty = wuerstchen_empty_latents(*size, 2)
    prior = wuerstchen_prior_loader(ctx=context, model_path="prior")
    decoder = wuerstchen_decoder_loader(ctx=context, model_path="decoder")

    positive, negative = encoded(context, prior.CLIP)
    stage_c = sampled(context, prior.MODEL, scale, positive, negative, empty.stage_c)
    noise = drawn(empty.stage_c.samples, SEED)
    wanted_c = prior_of(model, size, scale, noise, num_inference_steps=STEPS)
    assert relative(stage_c.samples, wanted_c) < 1e-4

    # Both go on from the same result: trained networks enlarge what little the two differ in.
    stage_c = replace(stage_c, samples=wanted_c)
    positive, negative = encoded(context, decoder.CLIP)
    positive = wuerstchen_stage_b_conditioning(conditioning=positive, stage_c=stage_c)
    stage_b = sampled(context, decoder.MODEL, scale, positive, negative, empty.stage_b)
    noise = drawn(empty.stage_b.samples, SEED)
    factor = model.decoder.vqgan.config.scale_factor
    assert relative(stage_b.samples / factor, decoder_of(model, wanted_c, scale, noise, "latent")) < 1e-4

    picture = vae_decode(ctx=context, samples=stage_b, vae=decoder.VAE).pixels
    wanted = decoder_of(model, wanted_c, scale, noise, "pt").movedim(1, -1)
    assert picture.shape == (2, size[1], size[0], 3)
    assert relative(picture, wanted) < 1e-4
    assert float(wanted.std()) > 0.01


@pytest.mark.parametrize("scheduler", ["simple", "normal", "sgm_uniform"])
def test_a_plain_ksampler_visits_the_published_ratios(
    tiny_wuerstchen: Published, linked: Any, scheduler: str
) -> None:
    context = linked(tiny_wuerstchen)
    prior = wuerstchen_prior_loader(ctx=context, model_path="prior")
    positive, negative = encoded(context, prior.CLIP)
    empty = wuerstchen_empty_latents(128, 128, 2).stage_c
    found = ksampler(
        ctx=context,
        model=prior.MODEL,
        seed=SEED,
        steps=STEPS,
        cfg=4.0,
        sampler_name="ddpm",
        scheduler=scheduler,
        positive=positive,
        negative=negative,
        latent_image=empty,
    )
    noise = drawn(empty.samples, SEED)
    wanted = prior_of(tiny_wuerstchen, (128, 128), 4.0, noise, num_inference_steps=STEPS)
    assert relative(found.samples, wanted) < 1e-4


def test_the_published_timesteps_of_stage_c(tiny_wuerstchen: Published, linked: Any) -> None:
    context = linked(tiny_wuerstchen)
    prior = wuerstchen_prior_loader(ctx=context, model_path="prior")
    positive, negative = encoded(context, prior.CLIP)
    empty = wuerstchen_empty_latents(128, 128, 2).stage_c
    found = sampled(context, prior.MODEL, 4.0, positive, negative, empty, "stage_c", 29)
    wanted = prior_of(
        tiny_wuerstchen,
        (128, 128),
        4.0,
        drawn(empty.samples, SEED),
        timesteps=published.DEFAULT_STAGE_C_TIMESTEPS,
    )
    assert relative(found.samples, wanted) < 1e-4


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_pictures_beside_the_prompt_equal_the_published_pipeline(
    tiny_cascade: Published, linked: Any, scale: float
) -> None:
    context = linked(tiny_cascade)
    prior = wuerstchen_prior_loader(ctx=context, model_path="prior")
    positive, negative = encoded(context, prior.CLIP)
    torch.manual_seed(9)
    embeds = torch.randn(2, IMAGE_WIDTH)
    states = torch.zeros(2, 5, 8)
    positive = unclip_conditioning(
        conditioning=positive, clip_vision_output=ClipVisionOutput(embeds, states, states)
    )
    empty = wuerstchen_empty_latents(128, 128, 2).stage_c
    found = sampled(context, prior.MODEL, scale, positive, negative, empty)
    noise = drawn(empty.samples, SEED)
    wanted = prior_of(
        tiny_cascade, (128, 128), scale, noise, num_inference_steps=STEPS, image_embeds=embeds[None]
    )
    assert relative(found.samples, wanted) < 1e-4
    plain = prior_of(tiny_cascade, (128, 128), scale, noise, num_inference_steps=STEPS)
    assert relative(found.samples, plain) > 5e-3


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("kind", ["tiny_wuerstchen", "tiny_cascade", "embedded_wuerstchen"])
def test_half_precision_is_no_further_off_than_the_published_pipelines(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, linked: Any, kind: str, scale: float
) -> None:
    model: Published = request.getfixturevalue(kind)
    half = replace(
        model,
        prior=copy.deepcopy(model.prior).to(torch.bfloat16),
        decoder=copy.deepcopy(model.decoder).to(torch.bfloat16),
    )
    context = linked(model)
    context = DirectContext(replace(context.runtime, dtype="bf16"), {})
    # Normal numbers drawn in half precision are others than those drawn in float32: both pipelines get the latter.
    monkeypatch.setattr(scheduling_ddpm_wuerstchen, "randn_tensor", float32_noise)
    empty = wuerstchen_empty_latents(128, 128, 2)
    prior = wuerstchen_prior_loader(ctx=context, model_path="prior")
    decoder = wuerstchen_decoder_loader(ctx=context, model_path="decoder")

    positive, negative = encoded(context, prior.CLIP)
    stage_c = sampled(context, prior.MODEL, scale, positive, negative, empty.stage_c)
    noise = drawn(empty.stage_c.samples, SEED)
    exact_c = prior_of(model, (128, 128), scale, noise, num_inference_steps=STEPS)
    half_c = prior_of(half, (128, 128), scale, noise.bfloat16(), num_inference_steps=STEPS).float()
    assert 0 < distance(stage_c.samples, exact_c) <= distance(half_c, exact_c)

    positive, negative = encoded(context, decoder.CLIP)
    positive = wuerstchen_stage_b_conditioning(conditioning=positive, stage_c=Latent(exact_c))
    stage_b = sampled(context, decoder.MODEL, scale, positive, negative, empty.stage_b)
    noise = drawn(empty.stage_b.samples, SEED)
    exact_b = decoder_of(model, exact_c, scale, noise, "pt")
    half_b = decoder_of(half, exact_c.bfloat16(), scale, noise.bfloat16(), "pt").float()
    picture = vae_decode(ctx=context, samples=stage_b, vae=decoder.VAE).pixels.movedim(-1, 1)
    assert 0 < distance(picture, exact_b) <= distance(half_b, exact_b)


def float32_noise(
    shape: tuple[int, ...],
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    return torch.randn(shape, generator=generator).to(device, dtype)


def distance(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).square().mean().sqrt())
