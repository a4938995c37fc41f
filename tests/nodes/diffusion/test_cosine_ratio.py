"""The time of Würstchen and Stable Cascade against its definition and the published scheduler."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import beta
from torch import Tensor

from nodes.diffusion.cosine_ratio import CosineRatio
from nodes.diffusion.parametrisation import ALWAYS
from nodes.diffusion.samplers import SAMPLERS, run
from nodes.diffusion.schedules import SCHEDULES, ksampler_sigmas, sigmas
from tests.nodes.diffusion.mixture import Mixture

SHIFTED = CosineRatio(shift=2.0)


def exact(ratio: float, shift: float = 1.0) -> float:
    """The noise level by its definition, in double precision."""
    angle = math.pi / 2 / 1.008
    alpha_bar = (math.cos((ratio + 0.008) * angle) / math.cos(0.008 * angle)) ** 2
    snr = alpha_bar / (1 - alpha_bar) / shift**2 if alpha_bar < 1 else math.inf
    alpha_bar = min(max(1 / (1 + 1 / snr), 0.0001), 0.9999)
    return math.sqrt((1 - alpha_bar) / alpha_bar)


@pytest.mark.parametrize("scheme", [CosineRatio(), SHIFTED, CosineRatio(shift=0.5)], ids=repr)
def test_table_holds_ten_thousand_levels_of_the_definition(scheme: CosineRatio) -> None:
    assert scheme.sigmas.shape == (10_000,) and scheme.sigmas.dtype == torch.float32
    assert bool((scheme.sigmas.diff() >= 0).all())
    for place in (0, 1, 49, 999, 4999, 9000, 9899, 9949, 9999):
        ratio = (place + 1) / 10_000
        # In float32 alpha_bar is known to 6e-8, which near 1 is much of 1 - alpha_bar.
        assert float(scheme.sigmas[place]) == pytest.approx(exact(ratio, scheme.shift), rel=3e-4), ratio
        assert scheme.sigma(ratio) == pytest.approx(float(scheme.sigmas[place]), rel=1e-5)


def test_levels_reach_from_a_hundredth_to_a_hundred() -> None:
    for scheme in (CosineRatio(), SHIFTED):
        assert scheme.sigma_min == pytest.approx(0.0100013297, rel=1e-7)
        assert scheme.sigma_max == pytest.approx(99.9950027, rel=1e-7)
        assert scheme.sigma(0.0) == scheme.sigma_min and scheme.sigma(1.0) == scheme.sigma_max
        assert not scheme.is_flow


def test_shift_halves_the_signal_and_leaves_the_network_the_ratio_of_the_level() -> None:
    assert SHIFTED.sigma(0.5) == pytest.approx(2 * CosineRatio().sigma(0.5), rel=1e-5)
    level = SHIFTED.sigma(0.5)
    assert SHIFTED.timestep(level) == pytest.approx(CosineRatio().timestep(level))
    assert CosineRatio().sigma(SHIFTED.timestep(level)) == pytest.approx(level, rel=1e-5)


@pytest.mark.parametrize(
    "scheme", [CosineRatio(), CosineRatio(scaler=2.0), CosineRatio(scaler=0.6)], ids=repr
)
def test_ratio_and_sigma_are_inverse_between_the_clamps(scheme: CosineRatio) -> None:
    for ratio in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert scheme.timestep(scheme.sigma(ratio)) == pytest.approx(ratio, abs=1e-5)


def test_the_clamp_gives_the_ends_one_ratio_each() -> None:
    scheme = CosineRatio()
    assert scheme.sigma(0.0) == scheme.sigma(0.001) and scheme.sigma(1.0) == scheme.sigma(0.995)
    assert scheme.timestep(scheme.sigma(1.0)) == pytest.approx(0.99358, abs=1e-5)
    assert scheme.timestep(scheme.sigma(0.0)) == pytest.approx(0.00226, abs=1e-5)


@pytest.mark.parametrize("scaler", [1.0, 2.0, 0.6])
def test_levels_are_those_of_the_published_scheduler(scaler: float) -> None:
    from diffusers import DDPMWuerstchenScheduler

    ratios = torch.linspace(1.0, 0.0, 61)
    alphas = DDPMWuerstchenScheduler(scaler=scaler)._alpha_cumprod(ratios, torch.device("cpu"))
    scheme = CosineRatio(scaler=scaler)
    ours = torch.tensor([scheme.sigma(ratio) for ratio in ratios.tolist()])
    assert torch.allclose(ours, ((1 - alphas) / alphas).sqrt(), rtol=5e-6)


def test_percent_is_the_shifted_level_of_what_is_left() -> None:
    for scheme in (CosineRatio(), SHIFTED):
        assert scheme.percent_to_sigma(0.0) == ALWAYS and scheme.percent_to_sigma(1.0) == 0.0
        assert scheme.percent_to_sigma(0.25) == scheme.sigma(0.75)


def test_network_sees_unit_variance_and_predicts_the_noise() -> None:
    scheme = CosineRatio()
    x0, noise = torch.randn(2, 50_000, generator=torch.Generator().manual_seed(0))
    sigma = scheme.sigma(0.7)
    x = scheme.noise_scaling(sigma, noise, x0)
    alpha_bar = 1 / (1 + sigma**2)
    given = math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * noise
    assert torch.allclose(scheme.scale_input(x, sigma), given, atol=1e-5)
    assert torch.allclose(scheme.to_x0(noise, x, sigma), x0, atol=1e-5)


# What the known formulas give at 6 steps: a table of 10,000 levels, and times that leave the shift out.
SIX_STEPS = {
    "simple": [ratio / 10_000 for ratio in (10_000, 8334, 6667, 5000, 3334, 1667)],
    "ddim_uniform": [(1666 * step + 2) / 10_000 for step in range(6, -1, -1)],
    "beta": [
        (round(9999 * quantile) + 1) / 10_000
        for quantile in beta.ppf([1 - i / 6 for i in range(6)], 0.6, 0.6)
    ],
}


@pytest.mark.parametrize("name", SIX_STEPS)
@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_schedules_pick_their_levels_from_the_long_table(name: str, shift: float) -> None:
    expected = [*(exact(ratio, shift) for ratio in SIX_STEPS[name]), 0.0]
    assert sigmas(name, 6, CosineRatio(shift=shift)).tolist() == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_schedules_even_in_time_space_the_ratios_of_the_unshifted_levels(shift: float) -> None:
    scheme = CosineRatio(shift=shift)
    # Where the clamp begins: the times of the largest and the smallest level.
    start, end = 0.9935832, 0.0022568
    normal = [exact(start + (end - start) * step / 5, shift) for step in range(6)]
    assert sigmas("normal", 6, scheme).tolist() == pytest.approx([*normal, 0.0], rel=1e-3)
    uniform = [exact(start + (end - start) * step / 6, shift) for step in range(6)]
    assert sigmas("sgm_uniform", 6, scheme).tolist() == pytest.approx([*uniform, 0.0], rel=1e-3)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 4, 20, 50])
def test_every_schedule_falls_from_the_top_to_zero(name: str, steps: int) -> None:
    levels = sigmas(name, steps, SHIFTED)
    assert float(levels[-1]) == 0.0 and bool((levels.diff() <= 0).all())
    if name != "ddim_uniform":
        assert float(levels[0]) == pytest.approx(SHIFTED.sigma_max, rel=1e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_passes_levels_that_coincide_in_the_clamp(name: str) -> None:
    levels = ksampler_sigmas(name, "beta", 20, 1.0, SHIFTED).values
    assert bool((levels.diff() == 0).any()), "the case that this test is about"
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * SHIFTED.sigma_max
    found: Tensor = run(name, Mixture(parametrisation=SHIFTED), x, levels, seed=1)
    assert bool(found.isfinite().all()) and float(found.abs().max()) < 6.0
