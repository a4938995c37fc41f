"""Noise levels with what a schedule knows of them besides: the time to tell the network, and the end of noise.

To a sampler a level is a number, and what it computes from levels is a plain one. So what a schedule pins holds
exactly where it was pinned, at levels that coincide too, and everywhere else the model's parametrisation decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nodes.diffusion.noise import StepNoise
from nodes.diffusion.time_scale import Parametrisation
from nodes.values import Sigmas


class Level(float):
    """A noise level: the number is sigma.

    `time` is what the network is told there, None where the parametrisation decides; at a `clean` level noise ends.
    """

    __slots__ = ("clean", "time")

    time: float | None
    clean: bool

    def __new__(cls, sigma: float, time: float | None = None, clean: bool = False) -> Level:
        """Return `sigma` with what is known of it."""
        level = super().__new__(cls, sigma)
        level.time, level.clean = time, clean
        return level


def levels_of(schedule: Sigmas) -> list[Level]:
    """Return the levels of a schedule, each with its time where the schedule pins one."""
    values = schedule.values.to("cpu", torch.float32).tolist()
    times = [None] * len(values) if schedule.times is None else schedule.times.tolist()
    last = len(values) - 1
    return [
        Level(sigma, None if time is None or math.isnan(time) else time, schedule.to_clean and place == last)
        for place, (sigma, time) in enumerate(zip(values, times, strict=True))
    ]


def is_clean(sigma: float) -> bool:
    """Whether noise ends at the level `sigma`."""
    return isinstance(sigma, Level) and sigma.clean


def time_at(sigma: float, parametrisation: Parametrisation) -> float:
    """Return the time that the network is told at `sigma`: the level's own, or the parametrisation's."""
    pinned = sigma.time if isinstance(sigma, Level) else None
    return parametrisation.timestep(sigma) if pinned is None else pinned


def apart(levels: Sequence[float]) -> list[float]:
    """Return the levels without those that the next one equals: steps that go nowhere."""
    return [
        level for place, level in enumerate(levels) if place + 1 == len(levels) or level != levels[place + 1]
    ]


def quiet_on_the_last_step(noise: StepNoise, levels: Sequence[float]) -> StepNoise:
    """Return `noise` that is all zeros on the way from the last but one of `levels`, at least two, to a clean last."""
    *_, before, last = levels
    if not is_clean(last):
        return noise

    def draw(sigma: float, sigma_next: float, like: Tensor | None = None) -> Tensor:
        drawn = noise(sigma, sigma_next, like)
        # Stages within the step draw for levels of their own, which lie below the one that it starts from.
        return torch.zeros_like(drawn) if sigma_next is last or sigma_next < before else drawn

    return draw


def part(schedule: Sigmas, start: int, stop: int) -> Sigmas:
    """Return the levels from place `start` up to, not including, `stop`, with their times.

    Only a part that holds the first level starts from noise as the whole does, only one that holds the last level
    ends clean.
    """
    first, end, _ = slice(start, stop).indices(len(schedule.values))
    return Sigmas(
        schedule.values[first:end],
        None if schedule.times is None else schedule.times[first:end],
        from_noise=schedule.from_noise and first == 0,
        to_clean=schedule.to_clean and end == len(schedule.values),
    )


def last_steps(schedule: Sigmas, steps: int) -> Sigmas:
    """Return the last `steps` steps."""
    count = len(schedule.values)
    return part(schedule, max(count - steps - 1, 0), count)


def split(schedule: Sigmas, step: int) -> tuple[Sigmas, Sigmas]:
    """Return the levels up to and from `step`, which both parts hold."""
    count = len(schedule.values)
    return part(schedule, 0, step + 1), part(schedule, min(step, count), count)


def split_denoise(schedule: Sigmas, denoise: float) -> tuple[Sigmas, Sigmas]:
    """Return the levels before and within the last share `denoise` of the steps."""
    count = len(schedule.values)
    kept = round(max(count - 1, 0) * denoise)
    return part(schedule, 0, count - kept if kept else 0), last_steps(schedule, kept)


def flip(schedule: Sigmas) -> Sigmas:
    """Return the levels and their times in reverse, for unsampling; a first level of 0 becomes 0.0001."""
    flipped = schedule.values.flip(0)
    if len(flipped) and float(flipped[0]) == 0.0:
        flipped[0] = 0.0001
    return Sigmas(flipped, None if schedule.times is None else schedule.times.flip(0))


def set_first(schedule: Sigmas, sigma: float) -> Sigmas:
    """Return the levels with the first replaced by `sigma`, whose time is then no longer pinned."""
    values = schedule.values.clone()
    values[0] = sigma
    times = schedule.times
    if times is not None:
        times = times.clone()
        times[0] = math.nan
    return replace(schedule, values=values, times=times, from_noise=False)


def end_at(schedule: Sigmas, step: int, leave_noise: bool) -> Sigmas:
    """Return the levels up to `step`; without `leave_noise` the last of them is replaced by 0."""
    cut = part(schedule, 0, step + 1)
    if leave_noise or cut.to_clean:
        return cut
    values = cut.values.clone()
    values[-1] = 0.0
    return replace(cut, values=values)


def without_penultimate(schedule: Sigmas) -> Sigmas:
    """Return the levels without the last but one."""
    kept = [place for place in range(len(schedule.values)) if place != len(schedule.values) - 2]
    return replace(
        schedule,
        values=schedule.values[kept],
        times=None if schedule.times is None else schedule.times[kept],
    )
