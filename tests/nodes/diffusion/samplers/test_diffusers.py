"""Samplers against diffusers' schedulers where both follow the same convention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nodes.diffusion.samplers import run
from tests.nodes.diffusion.mixture import Mixture, largest_difference

# Its schedulers announce their own changes and those of numpy.
pytestmark = pytest.mark.filterwarnings("ignore")

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def first(sigma: float) -> Tensor:
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3)) * sigma


def walk(scheduler: Any, x: Tensor, **options: object) -> Tensor:
    """Let a scheduler step from `x` with an exact network, in its own units of the latent."""
    denoise = Mixture()
    for timestep in scheduler.timesteps:
        if scheduler.step_index is None:
            scheduler._init_step_index(timestep)
        sigma = float(scheduler.sigmas[scheduler.step_index])
        scaled = x * (sigma**2 + 1) ** 0.5 if is_vp(scheduler) else x
        eps = (scaled - denoise(scaled, sigma)) / sigma
        x = scheduler.step(eps, timestep, x, **options).prev_sample
    return x


def is_vp(scheduler: Any) -> bool:
    return type(scheduler).__name__ in ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler")


def test_euler() -> None:
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(**BETAS, use_karras_sigmas=True)
    scheduler.set_timesteps(10)
    x = first(float(scheduler.sigmas[0]))
    assert largest_difference(run("euler", Mixture(), x, scheduler.sigmas, seed=0), walk(scheduler, x)) < 1e-5


def test_euler_ancestral() -> None:
    from diffusers import EulerAncestralDiscreteScheduler

    scheduler = EulerAncestralDiscreteScheduler(**BETAS, timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    x = first(float(scheduler.sigmas[0]))
    ours = run("euler_ancestral", Mixture(), x, scheduler.sigmas, seed=11)
    theirs = walk(scheduler, x, generator=torch.Generator().manual_seed(11))
    assert largest_difference(ours, theirs) < 1e-5


def test_heun() -> None:
    from diffusers import HeunDiscreteScheduler

    scheduler = HeunDiscreteScheduler(**BETAS, use_karras_sigmas=True)
    scheduler.set_timesteps(10)
    # Its table holds the inner levels of each step twice.
    levels = torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1::2]])
    x = first(float(levels[0]))
    assert largest_difference(run("heun", Mixture(), x, levels, seed=0), walk(scheduler, x)) < 1e-5


def test_lms() -> None:
    from diffusers import LMSDiscreteScheduler

    scheduler = LMSDiscreteScheduler(**BETAS, use_karras_sigmas=True)
    scheduler.set_timesteps(10)
    x = first(float(scheduler.sigmas[0]))
    levels = scheduler.sigmas.float()
    ours = run("lms", Mixture(), x, levels[:-1], seed=0)
    scheduler.timesteps = scheduler.timesteps[:-1]
    assert largest_difference(ours, walk(scheduler, x)) < 2e-5


@pytest.mark.parametrize(
    ("name", "solver_order", "algorithm"), [("dpmpp_2m", 2, "dpmsolver++"), ("euler", 1, "dpmsolver++")]
)
def test_dpmpp(name: str, solver_order: int, algorithm: str) -> None:
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        **BETAS,
        use_karras_sigmas=True,
        solver_order=solver_order,
        algorithm_type=algorithm,
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(10)
    x = first(float(scheduler.sigmas[0]))
    vp = (float(scheduler.sigmas[0]) ** 2 + 1) ** 0.5
    ours = run(name, Mixture(), x, scheduler.sigmas, seed=0)
    assert largest_difference(ours, walk(scheduler, x / vp)) < 1e-5


@pytest.mark.parametrize(("name", "solver_type"), [("uni_pc", "bh1"), ("uni_pc_bh2", "bh2")])
def test_uni_pc(name: str, solver_type: str) -> None:
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler(
        **BETAS,
        use_karras_sigmas=True,
        solver_order=3,
        solver_type=solver_type,
        final_sigmas_type="sigma_min",
    )
    scheduler.set_timesteps(10)
    levels = scheduler.sigmas
    x = first(float(levels[0]))
    ended = walk(scheduler, x / (float(levels[0]) ** 2 + 1) ** 0.5)
    theirs = ended * (float(levels[-1]) ** 2 + 1) ** 0.5
    assert largest_difference(run(name, Mixture(), x, levels, seed=0), theirs) < 1e-4
