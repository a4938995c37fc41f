"""Levels that carry times, and the parts of schedules that keep them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from nodes.diffusion.levels import (
    Level,
    apart,
    end_at,
    flip,
    last_steps,
    levels_of,
    part,
    set_first,
    split,
    split_denoise,
    time_at,
    without_penultimate,
)
from nodes.diffusion.noise import step_noise
from nodes.diffusion.parametrisation import Discrete
from nodes.diffusion.samplers import SAMPLERS, run
from nodes.values import TENSORS, Sigmas

LEVELS = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.5])
TIMES = torch.tensor([0.9, 0.7, 0.5, 0.3, 0.0])
PLAIN = Sigmas(torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0]))
PINNED = Sigmas(LEVELS, TIMES, from_noise=True, to_clean=True)


def facts(schedule: Sigmas) -> tuple[list[float], list[float] | None, bool, bool]:
    times = None if schedule.times is None else [round(time, 4) for time in schedule.times.tolist()]
    return schedule.values.tolist(), times, schedule.from_noise, schedule.to_clean


def test_a_level_is_its_sigma_and_numbers_computed_from_it_are_plain() -> None:
    level = Level(2.0, 0.5, clean=True)
    assert level == 2.0 and (level.time, level.clean) == (0.5, True)
    assert torch.equal(torch.ones(2) * level, torch.full((2,), 2.0))
    assert type(level * 1.0) is float and type(level**2) is float


def test_pinned_times_come_before_the_parametrisations_own() -> None:
    scheme = Discrete()
    pinned, free = levels_of(Sigmas(torch.tensor([5.0, 5.0]), torch.tensor([0.25, math.nan])))
    assert time_at(pinned, scheme) == 0.25
    assert time_at(free, scheme) == time_at(5.0, scheme) == scheme.timestep(5.0)
    assert [level.time for level in levels_of(PLAIN)] == [None] * 5


def test_only_the_last_level_is_clean_and_only_where_the_schedule_says_so() -> None:
    assert [level.clean for level in levels_of(PINNED)] == [False] * 4 + [True]
    assert not any(level.clean for level in levels_of(PLAIN))


def test_splitting_and_flipping() -> None:
    high, low = split(PLAIN, 1)
    assert high.values.tolist() == [4.0, 3.0] and low.values.tolist() == [3.0, 2.0, 1.0, 0.0]
    high, low = split_denoise(PLAIN, 0.5)
    assert high.values.tolist() == [4.0, 3.0, 2.0] and low.values.tolist() == [2.0, 1.0, 0.0]
    high, low = split_denoise(PLAIN, 0.0)
    assert high.values.tolist() == [] and low.values.tolist() == [0.0]
    assert flip(PLAIN).values.tolist() == pytest.approx([0.0001, 1.0, 2.0, 3.0, 4.0])
    assert flip(Sigmas(torch.empty(0))).values.tolist() == []
    assert set_first(PLAIN, 9.0).values.tolist() == [9.0, 3.0, 2.0, 1.0, 0.0]
    assert PLAIN.values.tolist() == [4.0, 3.0, 2.0, 1.0, 0.0]


def test_parts_keep_their_times_and_the_end_that_they_hold() -> None:
    high, low = split(PINNED, 2)
    assert facts(high) == ([4.0, 3.0, 2.0], [0.9, 0.7, 0.5], True, False)
    assert facts(low) == ([2.0, 1.0, 0.5], [0.5, 0.3, 0.0], False, True)
    assert facts(split(PINNED, 9)[1]) == ([], [], False, True)
    assert facts(split_denoise(PINNED, 0.25)[1]) == ([1.0, 0.5], [0.3, 0.0], False, True)
    assert facts(last_steps(PINNED, 9)) == facts(part(PINNED, 0, 5)) == facts(PINNED)
    assert facts(flip(PINNED)) == (LEVELS.flip(0).tolist(), [0.0, 0.3, 0.5, 0.7, 0.9], False, False)
    assert facts(without_penultimate(PINNED)) == ([4.0, 3.0, 2.0, 0.5], [0.9, 0.7, 0.5, 0.0], True, True)


def test_a_first_level_that_is_replaced_loses_its_time_alone() -> None:
    changed = set_first(PINNED, 9.0)
    first, second, *_ = levels_of(changed)
    assert (first, first.time) == (9.0, None) and second.time == pytest.approx(0.7)
    assert not changed.from_noise and changed.to_clean


def test_a_cut_end_goes_to_zero_unless_noise_is_left() -> None:
    assert facts(end_at(PINNED, 2, leave_noise=True)) == ([4.0, 3.0, 2.0], [0.9, 0.7, 0.5], True, False)
    assert end_at(PINNED, 2, leave_noise=False).values.tolist() == [4.0, 3.0, 0.0]
    assert facts(end_at(PINNED, 7, leave_noise=False)) == facts(PINNED)


def test_of_equal_levels_the_last_is_kept() -> None:
    levels = [Level(5.0, 1.0), Level(5.0, 0.9), Level(2.0, 0.5), Level(0.0)]
    kept = apart(levels)
    assert kept == [5.0, 2.0, 0.0] and time_at(kept[0], Discrete()) == 0.9


def test_times_travel_with_the_levels_to_another_device() -> None:
    moved = TENSORS.move(PINNED, "meta")
    assert moved.values.device.type == moved.times.device.type == "meta" and moved.to_clean


@dataclass
class Listening:
    """An exact denoiser of one Gaussian of unit variance that notes the times that it is asked at."""

    parametrisation: Discrete = field(default_factory=Discrete)
    times: list[float] = field(default_factory=list)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        self.times.append(time_at(sigma, self.parametrisation))
        return x / (1 + sigma**2)

    def with_uncond(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        x0 = self(x, sigma)
        return x0, x0


def schedule(times: Sequence[float]) -> Sigmas:
    # Times that no level of the model has, so that none of them is found by chance.
    return Sigmas(torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5, 0.25]), torch.tensor(times), to_clean=True)


# Both lay out levels of their own between the ends.
KEEP_LEVELS = [name for name in SAMPLERS if name not in ("dpm_fast", "dpm_adaptive")]


@pytest.mark.parametrize("name", KEEP_LEVELS)
def test_every_sampler_tells_the_network_the_pinned_time_of_each_level(name: str) -> None:
    pinned = [0.5, 0.375, 0.3125, 0.25, 0.125, 0.0625]
    denoise = Listening()
    run(name, denoise, torch.full((1, 1, 2, 2), 8.0), levels_of(schedule(pinned)), seed=1)
    assert [time for time in denoise.times if time in pinned[:5]][:1] == [0.5]
    assert set(pinned[:5]) <= set(denoise.times)


NOISY = [name for name in KEEP_LEVELS if SAMPLERS[name].noise != "none" and name != "ddim"]


@pytest.mark.parametrize("name", NOISY)
def test_no_sampler_adds_noise_on_the_way_to_a_clean_level(name: str) -> None:
    x = torch.full((1, 1, 2, 2), 2.0)
    clean, noisy = [Level(2.0), Level(1.0, clean=True)], [2.0, 1.0, 0.0]
    ended = [run(name, Listening(), x, levels, seed=seed) for levels in (clean, noisy) for seed in (1, 2)]
    assert torch.equal(ended[0], ended[1])
    assert not torch.equal(ended[2], ended[3])


def test_noise_of_the_steps_before_is_not_touched() -> None:
    x = torch.zeros(1, 1, 2, 2)
    drawn = step_noise(x, 3)(1.0, 0.5)
    found = run("lcm", Listening(), x, [Level(1.0), Level(0.5), Level(0.25, clean=True)], seed=3)
    # The last step ends at x0 itself: half the level's noise shrinks by 1 + 0.5^2.
    assert torch.allclose(found, drawn * 0.5 / 1.25)
