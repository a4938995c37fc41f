"""Pixel-space models through the nodes against diffusers' pipelines, from the folders that those save."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nodes.custom_sampling import sampler_custom
from nodes.pixel_space import class_conditioning, empty_conditioning, empty_pixel_latent, pixel_model_loader
from nodes.published_schedules import timestep_scheduler
from nodes.sampler_options import ksampler_select
from nodes.stable_diffusion.vae import vae_decode
from nodes.values import Conditioning
from tests.nodes.pixel_models import CIFAR, TINY, damped_unet, tiny_like

# Its pipelines announce their own changes.
pytestmark = pytest.mark.filterwarnings("ignore")

SEED, STEPS = 5, 6
TOLERANCE = 1e-4
SIZES = [(16, 16), (8, 24)]
"""(height, width)"""
EMBEDDED = Path(__file__).parents[2] / "nodes" / "models" / "embedded" / "diffusers" / "ddpm-shapes"


def save(place: Path, config: dict[str, Any], **scheduler: Any) -> Any:
    """A damped random network, in the folder that its pipeline writes."""
    from diffusers import DDPMPipeline, DDPMScheduler

    unet = damped_unet(config)
    DDPMPipeline(unet, DDPMScheduler(**scheduler)).save_pretrained(place)
    return unet


def ours(
    context: Any, name: str, sampler: str, size: tuple[int, int], classes: tuple[str, str] | None, cfg: float
) -> Tensor:
    """Two pictures (2, height, width, 3) by the nodes."""
    model, vae = pixel_model_loader(ctx=context, model_path=name)
    positive: Conditioning = empty_conditioning()
    negative = positive
    if classes is not None:
        positive, negative = (class_conditioning(model=model, class_name=label) for label in classes)
    sigmas = timestep_scheduler(model=model, steps=STEPS, spacing="leading", final_sigma="zero")
    made = sampler_custom(
        ctx=context,
        model=model,
        noise_seed=SEED,
        cfg=cfg,
        positive=positive,
        negative=negative,
        sampler=ksampler_select(sampler),
        sigmas=sigmas,
        latent_image=empty_pixel_latent(size[1], size[0], 2),
    )
    return vae_decode(ctx=context, samples=made.output, vae=vae).pixels


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        ("small", {}),
        ("large", {"variance_type": "fixed_large", "beta_schedule": "squaredcos_cap_v2"}),
        ("v", {"prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"}),
    ],
)
def test_pictures_are_those_of_the_pipelines(
    context: Any, name: str, scheduler: dict[str, Any], size: tuple[int, int]
) -> None:
    from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler

    unet = save(context.folders.models[0] / "diffusers" / name, tiny_like(CIFAR), **scheduler)
    unet.register_to_config(sample_size=size)
    options = {"num_inference_steps": STEPS, "output_type": "pt"}
    made = DDIMPipeline(unet, DDIMScheduler.from_config(DDPMScheduler(**scheduler).config))
    wanted = made(2, torch.Generator().manual_seed(SEED), **options).images.movedim(1, -1)
    assert float((ours(context, name, "ddim", size, None, 1.0) - wanted).abs().max()) < TOLERANCE

    made = DDPMPipeline(unet, DDPMScheduler(**scheduler))
    step = made.scheduler.step

    def replayed(output: Tensor, timestep: Tensor, x: Tensor, generator: torch.Generator) -> Any:
        # The pipeline goes on with the generator of its first noise; a run here begins the steps' own anew.
        if timestep == made.scheduler.timesteps[0]:
            generator.manual_seed(SEED)
        return step(output, timestep, x, generator=generator)

    made.scheduler.step = replayed
    wanted = made(2, torch.Generator().manual_seed(SEED), **options).images.movedim(1, -1)
    assert float((ours(context, name, "ddpm", size, None, 1.0) - wanted).abs().max()) < TOLERANCE
    assert float(wanted.std()) > 0.05


def guided(unet: Any, scheduler: Any, size: tuple[int, int], classes: tuple[int, int], cfg: float) -> Tensor:
    """Two pictures by the network and its scheduler, guided from one class to another."""
    scheduler.set_timesteps(STEPS)
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(SEED))
    steps = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for timestep in scheduler.timesteps:
            positive, negative = (unet(x, timestep, torch.tensor([label] * 2)).sample for label in classes)
            found = torch.lerp(negative, positive, cfg)
            x = scheduler.step(found, timestep, x, generator=steps).prev_sample
    return (x / 2 + 0.5).clamp(0, 1).movedim(1, -1)


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_the_model_that_ships_draws_as_the_published_schedulers_do(
    context: Any, size: tuple[int, int], cfg: float, sampler: str
) -> None:
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

    place = context.folders.models[0] / "diffusers"
    place.mkdir(parents=True)
    (place / "ddpm-shapes").symlink_to(EMBEDDED)
    unet = UNet2DModel.from_pretrained(EMBEDDED / "unet", torch_dtype=torch.float32).eval()
    published = DDIMScheduler if sampler == "ddim" else DDPMScheduler
    scheduler = published.from_pretrained(EMBEDDED / "scheduler")
    names = json.loads((EMBEDDED / "model_index.json").read_text("utf-8"))["class_names"]
    labels = (names.index("blue square"), names.index("anything"))
    wanted = guided(unet, scheduler, size, labels, cfg)
    found = ours(context, "ddpm-shapes", sampler, size, ("blue square", "anything"), cfg)
    assert float((found - wanted).abs().max()) < TOLERANCE
    assert float(wanted.std()) > 0.05


@pytest.mark.parametrize("size", SIZES)
def test_guidance_between_classes_is_that_of_the_published_scheduler(
    context: Any, size: tuple[int, int]
) -> None:
    from diffusers import DDIMScheduler

    unet = save(context.folders.models[0] / "diffusers" / "classes", {**TINY, "num_class_embeds": 5})
    wanted = guided(unet, DDIMScheduler(), size, (3, 4), 4.0)
    found = ours(context, "classes", "ddim", size, ("3", "4"), 4.0)
    assert float((found - wanted).abs().max()) < TOLERANCE
    assert float((ours(context, "classes", "ddim", size, ("3", "4"), 1.0) - wanted).abs().max()) > 0.01
