"""Parametrisations against their definitions and against diffusers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nodes.diffusion.parametrisation import (
    ALWAYS,
    ContinuousEDM,
    ContinuousV,
    Discrete,
    Distilled,
    Flow,
    Parametrisation,
)
from tests.nodes.diffusion.mixture import largest_difference

EVERY: tuple[Parametrisation, ...] = (
    Discrete(),
    Discrete(prediction="v_prediction", zero_terminal_snr=True),
    Discrete(beta_schedule="squaredcos_cap_v2"),
    Discrete(beta_schedule="linear", beta_end=0.2, timesteps=100),
    Distilled(),
    ContinuousEDM(),
    ContinuousEDM(prediction="cosmos_rflow"),
    ContinuousV(),
    Flow(),
    Flow(shift=3.0),
    Flow(shift=1.73, multiplier=1.0),
)


def diffusers_alphas(**options: object) -> Tensor:
    from diffusers import DDIMScheduler

    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    alphas = DDIMScheduler(**{**betas, **options}).alphas_cumprod
    assert isinstance(alphas, Tensor)
    return alphas


def sigmas_of(alphas_cumprod: Tensor) -> Tensor:
    return ((1 - alphas_cumprod) / alphas_cumprod).sqrt()


@pytest.mark.parametrize("beta_schedule", ["scaled_linear", "linear"])
def test_discrete_table_is_that_of_diffusers(beta_schedule: str) -> None:
    scheme = Discrete(beta_schedule="linear") if beta_schedule == "linear" else Discrete()
    expected = sigmas_of(diffusers_alphas(beta_schedule=beta_schedule))
    assert largest_difference(scheme.sigmas, expected) < 1e-5


@pytest.mark.parametrize("timesteps", [20, 1000])
def test_cosine_table_is_that_of_diffusers(timesteps: int) -> None:
    scheme = Discrete(beta_schedule="squaredcos_cap_v2", timesteps=timesteps)
    alphas = diffusers_alphas(beta_schedule="squaredcos_cap_v2", num_train_timesteps=timesteps)
    # It computes in float32, which rounds the first levels off: their alphas are close to 1.
    assert torch.allclose(scheme.sigmas, sigmas_of(alphas), rtol=2e-5, atol=3e-6)
    assert len(scheme.sigmas) == timesteps


def test_percent_spans_tables_of_any_length() -> None:
    scheme = Discrete(timesteps=50)
    assert math.isclose(scheme.percent_to_sigma(1 / 49), float(scheme.sigmas[48]), rel_tol=1e-5)


def test_stable_diffusion_range() -> None:
    assert math.isclose(Discrete().sigma_min, 0.0291671, rel_tol=1e-5)
    assert math.isclose(Discrete().sigma_max, 14.614641, rel_tol=1e-6)


def test_zero_terminal_snr_rescales_all_levels_but_the_last() -> None:
    scheme = Discrete(zero_terminal_snr=True)
    expected = sigmas_of(diffusers_alphas(rescale_betas_zero_snr=True))
    assert largest_difference(scheme.sigmas[:-1], expected[:-1]) < 1e-3
    assert 4500 < scheme.sigma_max < 4540


def test_alphas_cumprod_can_be_given() -> None:
    given_ones = Discrete(alphas_cumprod=tuple(diffusers_alphas().double().tolist()))
    assert largest_difference(given_ones.sigmas, Discrete().sigmas) < 1e-5
    assert given_ones != Discrete()


# A flow's shift lies between its schedule and its levels, and the network is given the level itself.
UNSHIFTED = [scheme for scheme in EVERY if getattr(scheme, "shift", 1.0) == 1.0]


@pytest.mark.parametrize("scheme", UNSHIFTED, ids=repr)
def test_time_and_sigma_are_inverse_on_the_table(scheme: Parametrisation) -> None:
    assert torch.equal(scheme.sigmas, scheme.sigmas.sort().values)
    for sigma in scheme.sigmas[:: len(scheme.sigmas) // 20].tolist():
        assert math.isclose(scheme.sigma(scheme.timestep(sigma)), sigma, rel_tol=1e-4)


@pytest.mark.parametrize("scheme", EVERY, ids=repr)
def test_percent_runs_from_the_start_of_sampling_to_its_end(scheme: Parametrisation) -> None:
    assert scheme.percent_to_sigma(0.0) == (1.0 if scheme.is_flow else ALWAYS)
    assert scheme.percent_to_sigma(1.0) == 0.0
    inner = [scheme.percent_to_sigma(percent / 10) for percent in range(1, 10)]
    assert inner == sorted(inner, reverse=True)
    assert scheme.sigma_min <= inner[-1] and inner[0] <= scheme.sigma_max


def test_discrete_timestep_is_a_whole_index_and_sigma_interpolates_its_logarithm() -> None:
    scheme = Discrete()
    low, high = scheme.sigmas[400:402].tolist()
    assert math.isclose(scheme.sigma(400.5), math.sqrt(low * high), rel_tol=1e-6)
    assert scheme.timestep(low * 1.0001) == 400.0
    assert scheme.timestep(1e6) == 999.0


def test_distilled_levels_are_every_twentieth() -> None:
    full, few = Discrete(), Distilled()
    assert torch.equal(few.sigmas, full.sigmas[19::20])
    assert few.timestep(few.sigma_max) == 999.0
    assert few.timestep(few.sigma_min) == 19.0


def test_flow_shift_moves_the_middle_of_the_run() -> None:
    assert math.isclose(Flow(shift=3.0).percent_to_sigma(0.5), 0.75)
    assert math.isclose(Flow(shift=3.0).sigma(500.0), 0.75)
    assert Flow().timestep(0.25) == 250.0


def network_target(prediction: str, x0: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """What a perfect network answers, from the definition of each prediction."""
    alpha, std = 1 / math.sqrt(sigma**2 + 1), sigma / math.sqrt(sigma**2 + 1)
    match prediction:
        case "eps":
            return noise
        case "v_prediction":
            return alpha * noise - std * x0
        case "x0" | "img_to_img":
            return x0
        case "flow":
            return noise - x0
        case "edm":
            total = math.sqrt(sigma**2 + 0.25)
            return (x0 - 0.25 / total**2 * (x0 + sigma * noise)) * total / (0.5 * sigma)
        case "cosmos_rflow":
            return noise - x0
    raise AssertionError(prediction)


@pytest.mark.parametrize(
    "scheme",
    [
        Discrete(),
        Discrete(prediction="v_prediction"),
        Discrete(prediction="x0"),
        Discrete(prediction="img_to_img"),
        ContinuousEDM(prediction="edm"),
        ContinuousEDM(prediction="cosmos_rflow"),
        Flow(shift=3.0),
    ],
    ids=repr,
)
@given(share=st.floats(0.1, 0.9), seed=st.integers(0, 1000))
def test_a_perfect_network_gives_x0_back(scheme: Discrete | Flow, share: float, seed: int) -> None:
    sigma = scheme.percent_to_sigma(share)
    generator = torch.Generator().manual_seed(seed)
    x0, noise = torch.randn(2, 1, 4, 4, 4, generator=generator, dtype=torch.float64)
    x = scheme.noise_scaling(sigma, noise, x0)
    output = network_target(scheme.prediction, x0, noise, sigma)
    assert torch.allclose(scheme.to_x0(output, x, sigma), x0, rtol=1e-6, atol=1e-6 * max(sigma, 1.0))


@pytest.mark.parametrize("prediction", ["eps", "v_prediction"])
def test_the_network_sees_unit_variance(prediction: str) -> None:
    scheme = Discrete(prediction="v_prediction") if prediction == "v_prediction" else Discrete()
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 100_000, generator=generator)
    x = scheme.scale_input(scheme.noise_scaling(3.0, noise, x0), 3.0)
    assert math.isclose(float(x.std()), 1.0, abs_tol=0.01)


def test_lcm_keeps_x_at_time_zero_and_trusts_the_network_later() -> None:
    scheme = Distilled()
    x, output = torch.ones(1), torch.full((1,), 0.5)
    sigma = scheme.sigma_max
    assert torch.allclose(scheme.to_x0(output, x, sigma), x - output * sigma, rtol=1e-4)


def test_first_noise_is_scaled_to_the_total_variance_at_the_largest_level_only() -> None:
    noise, latent = torch.ones(1), torch.full((1,), 2.0)
    assert float(Discrete().noise_scaling(3.0, noise, latent, True)) == pytest.approx(10**0.5 + 2.0)
    assert float(Discrete().noise_scaling(3.0, noise, latent)) == 5.0
    assert float(Flow().noise_scaling(0.25, noise, latent, True)) == 1.75
    assert float(Flow().inverse_noise_scaling(0.25, torch.full((1,), 1.5))) == 2.0


def test_parametrisations_are_values() -> None:
    assert len({Flow(), Flow(shift=1.0), Flow(shift=3.0), Discrete(), Distilled()}) == 4
