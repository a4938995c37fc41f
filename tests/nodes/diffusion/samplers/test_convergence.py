"""The deterministic samplers converge on the probability flow ODE at the order that their papers state."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nodes.diffusion.parametrisation import Flow
from nodes.diffusion.samplers import Option, run
from tests.nodes.diffusion.mixture import Mixture, geometric

Options = dict[str, Option]

ORDERS: list[tuple[str, Options, float]] = [
    ("euler", {}, 1),
    ("ddim", {}, 1),
    ("heun", {}, 2),
    ("heunpp2", {}, 1),
    ("dpm_2", {}, 2),
    ("lms", {}, 2),
    ("lms", {"order": 1}, 1),
    ("lms", {"order": 2}, 2),
    ("dpm_fast", {}, 1.5),
    ("dpmpp_2m", {}, 1.6),
    ("ipndm", {}, 2),
    ("ipndm_v", {}, 2),
    ("deis", {}, 2),
    ("res_multistep", {}, 2),
    ("gradient_estimation", {}, 1),
    ("uni_pc", {}, 2),
    ("uni_pc_bh2", {}, 2),
    ("euler_ancestral", {"eta": 0.0}, 1),
    ("dpm_2_ancestral", {"eta": 0.0}, 2),
    ("dpmpp_2s_ancestral", {"eta": 0.0}, 2),
    ("dpmpp_sde", {"eta": 0.0}, 2),
    ("dpmpp_2m_sde", {"eta": 0.0}, 1.6),
    ("dpmpp_2m_sde_heun", {"eta": 0.0}, 2),
    ("dpmpp_3m_sde", {"eta": 0.0}, 2.5),
    ("seeds_2", {"eta": 0.0}, 2),
    ("seeds_3", {"eta": 0.0}, 3),
    ("er_sde", {"solver_type": "ODE", "max_stage": 1}, 1),
    ("er_sde", {"solver_type": "ODE", "max_stage": 2}, 2),
    ("er_sde", {"solver_type": "ODE"}, 2),
    ("sa_solver", {"eta": 0.0}, 3),
    ("sa_solver_pece", {"eta": 0.0}, 3),
    ("sa_solver", {"eta": 0.0, "predictor_order": 1, "corrector_order": 0}, 1),
]


def start(scale: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 1, 4, 4, generator=generator, dtype=torch.float64) * scale


def error(name: str, options: Options, denoise: Mixture, x: Tensor, sigmas: Tensor) -> float:
    # The stochastic Adams solver returns its last corrected state, a level before the last.
    end = float(sigmas[-2 if name.startswith("sa_solver") else -1])
    expected = denoise.transported(x, float(sigmas[0]), end)
    return float((run(name, denoise, x, sigmas, seed=0, options=options) - expected).abs().max())


@pytest.mark.parametrize(("name", "options", "order"), ORDERS)
def test_order_of_convergence(name: str, options: Options, order: float) -> None:
    coarse, fine = (
        error(name, options, Mixture(), start(8.0), geometric(steps, 8.0, 0.4)) for steps in (18, 36)
    )
    measured = math.log2(coarse / fine)
    assert measured > order - 0.25, f"errors {coarse:.1e}, {fine:.1e}"


FLOW_ORDERS: list[tuple[str, Options, float]] = [
    ("euler", {}, 1),
    ("heun", {}, 2),
    ("dpmpp_2m", {}, 2),
    ("uni_pc", {}, 2),
    ("euler_ancestral", {"eta": 0.0}, 1),
    ("dpm_2_ancestral", {"eta": 0.0}, 2),
    ("dpmpp_2s_ancestral", {"eta": 0.0}, 2),
    ("dpmpp_sde", {"eta": 0.0}, 2),
    ("dpmpp_2m_sde", {"eta": 0.0}, 1.8),
    ("dpmpp_3m_sde", {"eta": 0.0}, 2),
    ("seeds_2", {"eta": 0.0}, 2),
    ("seeds_3", {"eta": 0.0}, 3),
    ("er_sde", {"solver_type": "ODE"}, 1.8),
    ("sa_solver", {"eta": 0.0}, 2),
]


@pytest.mark.parametrize(("name", "options", "order"), FLOW_ORDERS)
def test_order_of_convergence_on_a_flow(name: str, options: Options, order: float) -> None:
    denoise = Mixture(parametrisation=Flow())
    coarse, fine = (
        error(name, options, denoise, start(1.0), geometric(steps, 0.95, 0.1)) for steps in (18, 36)
    )
    measured = math.log2(coarse / fine)
    assert measured > order - 0.25, f"errors {coarse:.1e}, {fine:.1e}"


def test_adaptive_steps_keep_the_tolerance() -> None:
    denoise, x, sigmas = Mixture(), start(8.0), geometric(2, 8.0, 0.4)
    expected = denoise.transported(x, 8.0, 0.4)
    errors = []
    for tolerance in (0.05, 0.005, 0.0005):
        options: Options = {"rtol": tolerance, "atol": tolerance / 6}
        ended = run("dpm_adaptive", denoise, x, sigmas, seed=0, options=options)
        errors.append(float((ended - expected).abs().max()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.002


def test_adaptive_steps_run_backwards() -> None:
    denoise, x = Mixture(), start(1.0)
    options: Options = {"rtol": 0.001, "atol": 0.0002}
    noised = run("dpm_adaptive", denoise, x, geometric(2, 0.5, 8.0), seed=0, options=options)
    assert torch.allclose(noised, denoise.transported(x, 0.5, 8.0), atol=0.01)
