"""Sampling by ratios, against the scheduler that Würstchen and Stable Cascade are published with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nodegraph.node import NodeError
from nodes.diffusion.cosine_ratio import CosineRatio
from nodes.diffusion.parametrisation import Discrete
from nodes.diffusion.sampling import sample, sampled_levels
from nodes.diffusion.schedules import partial_sigmas
from nodes.diffusion.timed_schedules import EVEN_IN_TIME, wuerstchen
from nodes.values import Cond, Conditioning, Guider, Latent, Patch, Sampler, Sigmas
from tests.nodes.diffusion.mixture import largest_difference
from tests.nodes.diffusion.toy_network import WIDTH, model

# Its scheduler announces its own changes.
pytestmark = pytest.mark.filterwarnings("ignore")

NOISE = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(3))
PUBLISHED = CosineRatio(published_ratios=True)
Kind = Literal["exact", "random"]


class RatioNetwork:
    """Predicts the noise at a ratio: exactly, of normally distributed data, or near to it by random weights.

    The random network listens to the ratio itself, so that it can tell levels of one sigma apart.
    """

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, kind: Kind) -> None:
        generator = torch.Generator().manual_seed(1)
        self.kind = kind
        self.first = torch.randn(16, 4, 3, 3, generator=generator) / 6
        self.last = torch.randn(4, 16, 3, 3, generator=generator) / 12
        self.frequencies = 30 * torch.randn(1, 16, 1, 1, generator=generator)
        self.told: list[float] = []

    def __call__(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None = None,
        *,
        pooled: Tensor | None = None,
        concat: Tensor | None = None,
        patches: tuple[Patch, ...] = (),
        extras: Mapping[str, Any] | None = None,
    ) -> Tensor:
        self.told.append(float(timestep[0]))
        ratio = timestep.view(-1, 1, 1, 1)
        if self.kind == "exact":
            return self._exact(x, ratio)
        hidden = torch.tanh(functional.conv2d(x, self.first, padding=1) + (ratio * self.frequencies).sin())
        return x + 0.05 * functional.conv2d(hidden, self.last, padding=1)

    def _exact(self, x: Tensor, ratio: Tensor, mean: float = 0.5, variance: float = 0.36) -> Tensor:
        angle = math.pi / 2 / 1.008
        alpha_bar = ((ratio + 0.008) * angle).cos() ** 2 / math.cos(0.008 * angle) ** 2
        alpha_bar = alpha_bar.clamp(0.0001, 0.9999)
        total = alpha_bar * variance + 1 - alpha_bar
        x0 = (mean * (1 - alpha_bar) + alpha_bar.sqrt() * variance * x) / total
        return (x - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()


def published(kind: Kind, steps: int = 0, timesteps: list[float] | None = None, **config: float) -> Tensor:
    from diffusers import DDPMWuerstchenScheduler

    scheduler, network = DDPMWuerstchenScheduler(**config), RatioNetwork(kind)
    scheduler.set_timesteps(None if timesteps else steps, timesteps=timesteps)
    x, generator = NOISE, torch.Generator().manual_seed(7)
    for time in scheduler.timesteps[:-1]:
        ratio = time.expand(len(x))
        x = scheduler.step(network(x, ratio), ratio, x, generator=generator).prev_sample
    return x


def ours(
    kind: Kind | RatioNetwork,
    schedule: Sigmas,
    scheme: CosineRatio = PUBLISHED,
    sampler: str = "ddpm",
    noise: Tensor = NOISE,
    start: Tensor | None = None,
) -> Tensor:
    recipe = replace(model(scheme), latent_format=replace(model().latent_format, scale=1.0))
    guider = Guider("basic", recipe, (("positive", Conditioning((Cond(torch.zeros(1, 1, WIDTH)),))),))
    network = kind if isinstance(kind, RatioNetwork) else RatioNetwork(kind)
    latent = Latent(torch.zeros_like(NOISE) if start is None else start)
    return sample(network, guider, noise, 7, Sampler(sampler), schedule, latent)[0].samples


@pytest.mark.parametrize("kind", ["exact", "random"])
@pytest.mark.parametrize("steps", [12, 30, 60])
def test_evenly_spaced_ratios_are_those_of_the_published_scheduler(kind: Kind, steps: int) -> None:
    expected = published(kind, steps)
    assert largest_difference(ours(kind, wuerstchen(steps, PUBLISHED)), expected) < 2e-6


@pytest.mark.parametrize("kind", ["exact", "random"])
def test_stage_c_steps_are_the_published_ones(kind: Kind) -> None:
    from diffusers.pipelines.deprecated.wuerstchen.pipeline_wuerstchen_prior import DEFAULT_STAGE_C_TIMESTEPS

    schedule = wuerstchen(29, PUBLISHED, "stage_c")
    assert schedule.times is not None
    assert torch.equal(schedule.times, torch.tensor(DEFAULT_STAGE_C_TIMESTEPS, dtype=torch.float32))
    expected = published(kind, timesteps=DEFAULT_STAGE_C_TIMESTEPS)
    assert largest_difference(ours(kind, schedule), expected) < 2e-6


def test_stage_c_steps_of_another_number_follow_the_same_curve() -> None:
    times = wuerstchen(58, PUBLISHED, "stage_c").times
    shorter = wuerstchen(29, PUBLISHED, "stage_c").times
    assert times is not None and shorter is not None
    assert torch.allclose(times[::2], shorter, atol=1e-6) and float(times[38]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("scaler", [0.5, 2.0])
def test_scaler_bends_the_ratios(scaler: float) -> None:
    scheme = CosineRatio(scaler=scaler)
    expected = published("random", 20, scaler=scaler)
    assert largest_difference(ours("random", wuerstchen(20, scheme), scheme), expected) < 2e-6


def test_without_pinned_times_or_the_last_step_it_is_another_picture() -> None:
    schedule, expected = wuerstchen(12, PUBLISHED), published("random", 12)
    for incomplete in (replace(schedule, times=None), replace(schedule, to_clean=False)):
        assert 2e-3 < largest_difference(ours("random", incomplete), expected) < 5e-2


@pytest.mark.parametrize("scheduler", sorted(EVEN_IN_TIME))
def test_ksampler_of_a_published_model_follows_its_scheduler(scheduler: str) -> None:
    schedule = sampled_levels(model(PUBLISHED), "ddpm", scheduler, 12)
    assert largest_difference(ours("random", schedule), published("random", 12)) < 2e-6
    node = partial_sigmas(scheduler, 12, 1.0, PUBLISHED)
    assert torch.equal(node.values, schedule.values) and node.to_clean


@pytest.mark.parametrize(
    "sampler", ["euler", "euler_ancestral", "heun", "dpmpp_2m", "uni_pc", "sa_solver", "ddpm"]
)
def test_samplers_find_the_data(sampler: str) -> None:
    found = ours("exact", sampled_levels(model(PUBLISHED), sampler, "simple", 20), sampler=sampler)
    # Normal with mean 0.5 and deviation 0.6; 20 steps and 288 elements leave some play.
    assert float(found.mean()) == pytest.approx(0.5, abs=0.12)
    assert float(found.std()) == pytest.approx(0.6, abs=0.15)


def test_network_is_told_the_ratios_and_not_those_of_the_clamped_levels() -> None:
    ratios = [1.0, 0.9975, 0.995, 0.5, 0.00125, 0.0]
    values = torch.tensor([PUBLISHED.sigma(ratio) for ratio in ratios])
    assert values[0] == values[1] == values[2] and values[4] == values[5], "the clamp makes these one level"
    schedule = Sigmas(values, torch.tensor(ratios), from_noise=True, to_clean=True)
    network = RatioNetwork("random")
    found = ours(network, schedule)
    assert network.told == pytest.approx(ratios[:-1])
    assert largest_difference(found, published("random", timesteps=ratios)) < 5e-6


def test_a_shift_leaves_the_times_to_the_levels() -> None:
    schedule = wuerstchen(10, CosineRatio(shift=2.0))
    assert schedule.times is None and schedule.to_clean
    assert float(schedule.values[5]) == pytest.approx(2 * CosineRatio().sigma(0.5), rel=1e-5)


def test_partial_denoise_starts_within_the_schedule() -> None:
    whole, partial = wuerstchen(12, PUBLISHED), wuerstchen(6, PUBLISHED, denoise=0.5)
    assert whole.times is not None and partial.times is not None
    assert torch.equal(partial.values, whole.values[6:]) and torch.equal(partial.times, whole.times[6:])
    assert not partial.from_noise and partial.to_clean and whole.from_noise
    assert len(wuerstchen(6, PUBLISHED, denoise=0.0).values) == 0


def test_two_halves_of_a_schedule_are_the_whole() -> None:
    first = sampled_levels(model(PUBLISHED), "euler", "simple", 10, 1.0, 0, 4, True)
    second = sampled_levels(model(PUBLISHED), "euler", "simple", 10, 1.0, 4)
    middle = ours("random", first, sampler="euler")
    found = ours("random", second, sampler="euler", noise=torch.zeros_like(NOISE), start=middle)
    whole = ours("random", sampled_levels(model(PUBLISHED), "euler", "simple", 10), sampler="euler")
    assert torch.allclose(found, whole, atol=1e-5)


def test_models_without_ratios_are_refused() -> None:
    with pytest.raises(NodeError, match="ratios") as caught:
        wuerstchen(10, Discrete())
    assert caught.value.input == "model" and "Discrete" in str(caught.value.found)
