"""Clipping of x0, and the two samplers that pixel-space models are published with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nodes.diffusion.clipping import Clipped
from nodes.diffusion.parametrisation import Discrete, VarianceType
from nodes.diffusion.samplers import run
from tests.nodes.diffusion.mixture import Mixture, Point, largest_difference

LINEAR = Discrete(beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
# x0 leaves this range at every level, so that clipping takes part.
LIMIT = 0.5


def test_guided_estimate_is_clipped_and_directions_are_not() -> None:
    x = torch.linspace(-3.0, 3.0, 8)
    mixture = Mixture(uncond=-1.0)
    clipped = Clipped(mixture, LIMIT)
    guided, uncond = mixture.with_uncond(x, 0.5)
    assert torch.equal(clipped(x, 0.5), guided.clamp(-LIMIT, LIMIT)) and guided.abs().max() > LIMIT
    assert torch.equal(clipped.with_unclipped(x, 0.5)[1], guided)
    assert torch.equal(clipped.with_uncond(x, 0.5)[0], guided.clamp(-LIMIT, LIMIT))
    assert torch.equal(clipped.with_uncond(x, 0.5)[1], uncond)
    assert clipped.parametrisation is mixture.parametrisation


@pytest.mark.parametrize("name", ["euler", "ddim", "ddpm", "dpmpp_2m"])
def test_what_is_sampled_stays_within_the_range(name: str) -> None:
    x = torch.full((1, 3, 4, 4), 5.0)
    levels = torch.tensor([10.0, 5.0, 1.0, 0.0])
    found = run(name, Clipped(Point(3.0), LIMIT), x, levels, seed=1)
    assert torch.allclose(found, torch.full_like(x, LIMIT), atol=1e-5)


class Walk:
    """A published scheduler that steps with an exact network, in its own units of the latent."""

    def __init__(self, scheduler: Any, steps: int) -> None:
        scheduler.set_timesteps(steps)
        self.scheduler = scheduler
        alphas = scheduler.alphas_cumprod[scheduler.timesteps]
        self.levels = torch.cat([((1 - alphas) / alphas).sqrt(), torch.zeros(1)])
        self.noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))
        self.first = self.noise * (1 + self.levels[0] ** 2).sqrt()

    def __call__(self, **options: object) -> Tensor:
        x, denoise = self.noise, Mixture()
        for timestep, sigma in zip(self.scheduler.timesteps, self.levels.tolist(), strict=False):
            scaled = x * (sigma**2 + 1) ** 0.5
            eps = (scaled - denoise(scaled, sigma)) / sigma
            x = self.scheduler.step(eps, timestep, x, **options).prev_sample
        return x


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_is_that_of_diffusers(clip: bool, eta: float) -> None:
    from diffusers import DDIMScheduler

    walk = Walk(DDIMScheduler(clip_sample=clip, clip_sample_range=LIMIT), 20)
    denoise = Clipped(Mixture(), LIMIT) if clip else Mixture()
    ours = run("ddim", denoise, walk.first, walk.levels, seed=5, options={"eta": eta})
    theirs = walk(eta=eta, generator=torch.Generator().manual_seed(5))
    assert largest_difference(ours, theirs) < 1e-5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_ddpm_is_that_of_diffusers(clip: bool, variance_type: VarianceType) -> None:
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(clip_sample=clip, clip_sample_range=LIMIT, variance_type=variance_type)
    walk = Walk(scheduler, 20)
    mixture = Mixture(parametrisation=replace(LINEAR, variance_type=variance_type))
    denoise = Clipped(mixture, LIMIT) if clip else mixture
    ours = run("ddpm", denoise, walk.first, walk.levels, seed=5)
    assert largest_difference(ours, walk(generator=torch.Generator().manual_seed(5))) < 1e-5


def test_ddim_without_noise_or_clipping_is_euler() -> None:
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 10
    levels = torch.tensor([10.0, 5.0, 1.0, 0.0])
    assert torch.equal(run("ddim", Mixture(), x, levels, seed=1), run("euler", Mixture(), x, levels, seed=1))
