"""Samplers that are another one in a special case: without guidance or noise, at a lower order, on the same device."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nodes.diffusion.noise import initial_noise
from nodes.diffusion.parametrisation import Discrete, Flow
from nodes.diffusion.samplers import SAMPLERS, Option, run
from nodes.diffusion.schedules import sigmas
from tests.nodes.diffusion.mixture import Mixture, largest_difference

Options = dict[str, Option]

LEVELS = sigmas("karras", 6, Discrete())


def noised(sigma: float) -> Tensor:
    return initial_noise(torch.zeros(2, 4, 4, 4), 1) * sigma


SAME: list[tuple[str, Options, str, Options]] = [
    ("ddim", {}, "euler", {}),
    ("euler_ancestral", {"eta": 0.0}, "euler", {}),
    ("lms", {"order": 1}, "euler", {}),
    ("gradient_estimation", {"ge_gamma": 1.0}, "euler", {}),
    ("er_sde", {"solver_type": "ODE", "max_stage": 1}, "euler", {}),
    ("sa_solver", {"eta": 0.0, "predictor_order": 1, "corrector_order": 0}, "euler", {}),
    ("ddim", {"eta": 1.0}, "euler_ancestral", {}),
    ("ddpm", {}, "euler_ancestral", {}),
    ("dpm_2_ancestral", {"eta": 0.0}, "dpm_2", {}),
    ("dpmpp_sde", {"eta": 0.0}, "dpmpp_2s_ancestral", {"eta": 0.0}),
    ("seeds_2", {"eta": 0.0}, "dpmpp_2s_ancestral", {"eta": 0.0}),
    ("dpmpp_2m_sde", {"eta": 0.0}, "dpmpp_2m", {}),
    ("dpmpp_2m_sde_heun", {"eta": 0.0}, "res_multistep", {}),
    ("res_multistep_ancestral", {"eta": 0.0}, "res_multistep", {}),
]


@pytest.mark.parametrize(("name", "options", "other", "other_options"), SAME)
def test_same_in_a_special_case(name: str, options: Options, other: str, other_options: Options) -> None:
    x = noised(float(LEVELS[0]))
    expected = run(other, Mixture(), x, LEVELS, seed=1, options=other_options)
    assert largest_difference(run(name, Mixture(), x, LEVELS, seed=1, options=options), expected) < 2e-5


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("euler_cfg_pp", "euler"),
        ("euler_ancestral_cfg_pp", "euler_ancestral"),
        ("dpmpp_2m_cfg_pp", "dpmpp_2m"),
        ("res_multistep_cfg_pp", "res_multistep"),
        ("res_multistep_ancestral_cfg_pp", "res_multistep_ancestral"),
        ("gradient_estimation_cfg_pp", "gradient_estimation"),
    ],
)
def test_cfg_pp_without_guidance_is_the_plain_sampler(name: str, plain: str) -> None:
    x = noised(float(LEVELS[0]))
    same = run(plain, Mixture(), x, LEVELS, seed=1)
    assert largest_difference(run(name, Mixture(), x, LEVELS, seed=1), same) < 1e-5
    assert largest_difference(run(name, Mixture(uncond=0.5), x, LEVELS, seed=1), same) > 1e-3
    assert SAMPLERS[name].needs_uncond and not SAMPLERS[plain].needs_uncond


@pytest.mark.parametrize(
    "name", ["euler_cfg_pp", "dpmpp_2m_cfg_pp", "res_multistep_cfg_pp", "gradient_estimation_cfg_pp"]
)
def test_cfg_pp_steps_from_the_guided_along_the_unconditional(name: str) -> None:
    # One step of https://arxiv.org/abs/2406.08070, equation 12, in terms of sigma.
    denoise, x = Mixture(uncond=0.5), torch.tensor([2.0, -3.0])
    x0, uncond = denoise.with_uncond(x, 4.0)
    ended = run(name, denoise, x, torch.tensor([4.0, 1.0]), seed=1)
    assert torch.allclose(ended, x0 + (x - uncond) / 4.0)


@pytest.mark.parametrize("name", ["dpmpp_2s_ancestral_cfg_pp"])
def test_two_stages_of_cfg_pp_without_a_shift_are_the_plain_sampler(name: str) -> None:
    class Unshifted(Mixture):
        """Has the guided x0 of a step's first stage stand for the unconditional one of both."""

        def with_uncond(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
            x0 = self(x, sigma)
            if pending:
                return x0, pending.pop()
            pending.append(x0)
            return x0, x0

    pending: list[Tensor] = []
    x = noised(float(LEVELS[0]))
    ended = run(name, Unshifted(), x, LEVELS, seed=1)
    assert largest_difference(ended, run("dpmpp_2s_ancestral", Mixture(), x, LEVELS, seed=1)) < 1e-5


@pytest.mark.parametrize("scheme", [Discrete(), Flow()], ids=repr)
@pytest.mark.parametrize(
    ("name", "on_cpu"),
    [
        ("dpmpp_sde_gpu", "dpmpp_sde"),
        ("dpmpp_2m_sde_gpu", "dpmpp_2m_sde"),
        ("dpmpp_2m_sde_heun_gpu", "dpmpp_2m_sde_heun"),
        ("dpmpp_3m_sde_gpu", "dpmpp_3m_sde"),
    ],
)
def test_gpu_names_differ_in_where_they_draw(name: str, on_cpu: str, scheme: Discrete | Flow) -> None:
    levels = sigmas("sgm_uniform", 5, scheme)
    denoise, x = Mixture(parametrisation=scheme), noised(float(levels[0]))
    assert torch.equal(run(name, denoise, x, levels, seed=1), run(on_cpu, denoise, x, levels, seed=1))
    assert (SAMPLERS[name].noise, SAMPLERS[on_cpu].noise) == ("brownian_device", "brownian")
