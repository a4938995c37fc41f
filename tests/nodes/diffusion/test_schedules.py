"""Schedules against reference values, diffusers and their definitions."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nodegraph.node import NodeError
from nodes.diffusion import schedules
from nodes.diffusion.parametrisation import ContinuousEDM, Discrete, Flow, Parametrisation
from nodes.diffusion.schedules import SCHEDULES, ksampler_sigmas, partial_sigmas, sigmas
from tests.nodes.diffusion.mixture import largest_difference

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    return load_file(DATA / "sigmas_and_noise.safetensors")


def test_names_are_the_choices_of_ksampler_in_order() -> None:
    declared = json.loads((DATA / "comfyui_nodes.json").read_text())["KSampler"]["inputs"]["scheduler"][
        "options"
    ]
    assert list(SCHEDULES) == declared


@pytest.mark.parametrize("name", SCHEDULES)
def test_eight_steps_are_the_reference_values(name: str, reference: dict[str, Tensor]) -> None:
    levels = sigmas(name, 8, Discrete())
    assert levels.dtype == torch.float32 and levels.device.type == "cpu"
    assert largest_difference(levels, reference[f"sigmas8_{name}"]) < 1e-7


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("scheme", [Discrete(), Flow(shift=3.0), ContinuousEDM()], ids=repr)
@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_levels_descend_to_zero(name: str, scheme: Parametrisation, steps: int) -> None:
    levels = sigmas(name, steps, scheme).tolist()
    assert levels[-1] == 0.0
    assert all(above > below for above, below in pairwise(levels))
    if name not in ("ddim_uniform", "beta"):
        assert len(levels) == steps + 1
        assert levels[0] == pytest.approx(scheme.sigma_max, rel=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_karras_is_that_of_diffusers() -> None:
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", use_karras_sigmas=True
    )
    scheduler.set_timesteps(12)
    assert largest_difference(sigmas("karras", 12, Discrete()), scheduler.sigmas) < 1e-5


def test_unknown_name_is_named_with_the_known() -> None:
    with pytest.raises(ValueError, match=r"'karas'.*karras"):
        sigmas("karas", 8, Discrete())


@pytest.mark.parametrize("sampler", ["euler", "dpm_2", "uni_pc"])
def test_partial_denoise_takes_the_last_steps_of_a_longer_schedule(sampler: str) -> None:
    whole = ksampler_sigmas(sampler, "normal", 16, 1.0, Discrete()).values
    assert torch.equal(ksampler_sigmas(sampler, "normal", 8, 0.5, Discrete()).values, whole[-9:])
    assert len(ksampler_sigmas(sampler, "normal", 8, 0.0, Discrete()).values) == 0


def test_some_samplers_get_a_step_more_and_lose_the_last_but_one_level() -> None:
    longer = sigmas("karras", 9, Discrete())
    shorter = ksampler_sigmas("dpm_2_ancestral", "karras", 8, 1.0, Discrete()).values
    assert torch.equal(shorter, torch.cat([longer[:8], longer[9:]]))
    assert torch.equal(
        ksampler_sigmas("euler", "karras", 8, 1.0, Discrete()).values, sigmas("karras", 8, Discrete())
    )


def test_partial_sigmas_ignores_the_sampler() -> None:
    assert torch.equal(
        partial_sigmas("simple", 5, 0.5, Discrete()).values, sigmas("simple", 10, Discrete())[-6:]
    )
    assert torch.equal(partial_sigmas("simple", 5, 1.0, Discrete()).values, sigmas("simple", 5, Discrete()))
    assert len(partial_sigmas("simple", 5, 0.0, Discrete()).values) == 0


def test_karras_and_polyexponential_are_even_in_their_own_scale() -> None:
    roots = schedules.karras(9, 0.1, 10.0, rho=5.0)[:-1] ** 0.2
    assert torch.allclose(roots.diff(), roots.diff().mean(), rtol=1e-4)
    logs = schedules.polyexponential(9, 0.1, 10.0)[:-1].log()
    assert torch.allclose(logs.diff(), logs.diff().mean(), rtol=1e-4)
    assert torch.allclose(
        schedules.polyexponential(9, 0.1, 10.0), schedules.exponential(9, 0.1, 10.0), rtol=1e-5
    )


def test_vp_starts_at_the_sigma_of_time_one() -> None:
    levels = schedules.vp(5)
    assert float(levels[0]) == pytest.approx(math.sqrt(math.exp(19.9 / 2 + 0.1) - 1), rel=1e-5)
    assert len(levels) == 6 and float(levels[-1]) == 0.0


def test_laplace_is_symmetric_about_its_mean_and_clamped() -> None:
    levels = schedules.laplace(11, 0.03, 14.6, mu=0.0, beta=0.5)
    assert len(levels) == 11
    assert float(levels[5]) == pytest.approx(1.0, abs=1e-4)
    assert torch.allclose((levels * levels.flip(0))[1:-1], torch.ones(9), atol=1e-3)
    assert levels[[0, -1]].tolist() == pytest.approx([14.6, 0.03])
    assert float(schedules.laplace(11, 0.5, 2.0).min()) == 0.5


def test_align_your_steps_gives_the_published_levels_at_ten_steps() -> None:
    levels = schedules.align_your_steps("SD1", 10)
    assert float(levels[1]) == pytest.approx(6.4745760956)
    assert len(levels) == 11 and float(levels[-1]) == 0.0
    longer = schedules.align_your_steps("SDXL", 20)
    assert len(longer) == 21
    assert float(longer[2]) == pytest.approx(6.3184485287, rel=1e-5)
    assert torch.equal(schedules.align_your_steps("SD1", 10, 0.3), levels[-4:])
    assert len(schedules.align_your_steps("SD1", 10, 0.0)) == 0


def test_sd_turbo_starts_at_a_tenth_of_the_timesteps() -> None:
    scheme = Discrete()
    assert schedules.sd_turbo(1, 1.0, scheme).tolist() == pytest.approx([scheme.sigma_max, 0.0])
    later = schedules.sd_turbo(2, 0.5, scheme)
    assert later.tolist() == pytest.approx([scheme.sigma(499.0), scheme.sigma(399.0), 0.0])


def test_beta_with_even_weights_is_evenly_spaced_in_the_table() -> None:
    table = Discrete().sigmas
    levels = schedules.beta(4, Discrete(), alpha=1.0, beta=1.0)
    assert torch.equal(levels[:-1], table[[999, 749, 500, 250]])
    assert len(schedules.beta(5000, Discrete())) <= 1001


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_beta_refuses_a_shape_of_zero(name: str) -> None:
    with pytest.raises(NodeError, match="above 0"):
        schedules.beta(8, Discrete(), **{name: 0.0})
