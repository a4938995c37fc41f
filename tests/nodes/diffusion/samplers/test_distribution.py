"""The stochastic samplers turn noise into samples of the data's distribution."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nodes.diffusion.parametrisation import Discrete, Flow, Parametrisation
from nodes.diffusion.samplers import SAMPLERS, Option, run
from nodes.diffusion.schedules import sigmas
from tests.nodes.diffusion.mixture import Mixture

STOCHASTIC: list[tuple[str, dict[str, Option]]] = [
    ("euler_ancestral", {}),
    ("euler_ancestral", {"eta": 0.5}),
    ("euler_ancestral_cfg_pp", {}),
    ("dpm_2_ancestral", {}),
    ("dpmpp_2s_ancestral", {}),
    ("dpmpp_sde", {}),
    ("dpmpp_2m_sde", {}),
    ("dpmpp_2m_sde_heun", {"eta": 0.5}),
    ("dpmpp_3m_sde", {}),
    ("er_sde", {}),
    ("er_sde", {"solver_type": "Reverse-time SDE", "eta": 0.5}),
    ("seeds_2", {}),
    ("seeds_3", {"eta": 0.5}),
    ("sa_solver", {}),
    ("sa_solver_pece", {}),
    ("dpm_adaptive", {"eta": 0.5, "rtol": 0.02}),
    ("ddim", {"eta": 1.0}),
    ("res_multistep_ancestral", {}),
    ("res_multistep_ancestral_cfg_pp", {}),
]
VARIANCE_EXPLODING_ONLY: list[tuple[str, dict[str, Option]]] = [("ddpm", {})]


def moments_after(name: str, options: dict[str, Option], scheme: Parametrisation) -> tuple[float, float]:
    denoise = Mixture(means=(0.7,), weights=(1.0,), spread=0.5, parametrisation=scheme)
    # An increment of a Brownian path takes longer than all else in a step; who uses it is of second order.
    steps = 30 if SAMPLERS[name].noise == "brownian" else 120
    levels = sigmas("karras" if not scheme.is_flow else "sgm_uniform", steps, scheme)
    noise = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    x = scheme.noise_scaling(float(levels[0]), noise, torch.zeros_like(noise), True)
    ended = run(name, denoise, x, levels, seed=2, options=options)
    return float(ended.mean()), float(ended.std())


@pytest.mark.parametrize(("name", "options"), STOCHASTIC + VARIANCE_EXPLODING_ONLY)
def test_mean_and_spread_are_those_of_the_data(name: str, options: dict[str, Option]) -> None:
    mean, spread = moments_after(name, options, Discrete())
    assert mean == pytest.approx(0.7, abs=0.03)
    assert spread == pytest.approx(0.5, abs=0.03)


# The rest split their noise as for a variance-exploding process, on a flow too.
FLOW = [case for case in STOCHASTIC if not case[0].startswith(("dpm_adaptive", "res_multistep_ancestral"))]


@pytest.mark.parametrize(("name", "options"), FLOW)
def test_mean_and_spread_of_a_flow_are_those_of_the_data(name: str, options: dict[str, Option]) -> None:
    mean, spread = moments_after(name, options, Flow())
    assert mean == pytest.approx(0.7, abs=0.03)
    assert spread == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("scheme", [Discrete(), Flow()], ids=repr)
@pytest.mark.parametrize("name", ["lcm"])
def test_variance_is_that_of_the_chain_of_x0(name: str, scheme: Parametrisation) -> None:
    levels = sigmas("simple", 4, scheme)
    noise = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(1))
    x = scheme.noise_scaling(float(levels[0]), noise, torch.zeros_like(noise))
    ended = run(name, Mixture((0.0,), (1.0,), 0.5, parametrisation=scheme), x, levels, seed=2)

    variance = float(levels[0]) ** 2
    for sigma, following in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
        alpha = 1.0 - sigma if scheme.is_flow else 1.0
        variance *= (alpha * 0.25 / (alpha**2 * 0.25 + sigma**2)) ** 2
        variance = variance * (1.0 - following if scheme.is_flow else 1.0) ** 2 + following**2
    assert float(ended.std()) == pytest.approx(variance**0.5, rel=0.03)


def test_noise_scale_of_zero_is_deterministic() -> None:
    def ended(seed: int) -> Tensor:
        x = torch.ones(1, 4, 4, 4) * 5
        levels = sigmas("karras", 6, Discrete())
        return run("euler_ancestral", Mixture(), x, levels, seed=seed, options={"s_noise": 0.0})

    assert torch.equal(ended(1), ended(2))
