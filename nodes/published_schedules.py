"""Schedules of published pipelines as nodes: noise levels with the model's own times beside them."""

from __future__ import annotations

from typing import Annotated, cast, get_args

from nodegraph.node import Choice, Forecast, Range, node
from nodes.custom_sampling import SCHEDULERS
from nodes.diffusion import timed_schedules
from nodes.sampling import Share, Steps
from nodes.values import Model, Sigmas


def _foresee_ratios(model: object) -> Forecast:
    if isinstance(model, Model):
        timed_schedules.need_ratios(model.parametrisation)
    return Forecast()


def _foresee_timesteps(model: object) -> Forecast:
    if isinstance(model, Model):
        timed_schedules.need_timesteps(model.parametrisation)
    return Forecast()


@node("WuerstchenScheduler", category=SCHEDULERS, foresee=_foresee_ratios)
def wuerstchen_scheduler(
    *,
    model: Model,
    steps: Steps = 60,
    denoise: Share = 1.0,
    timesteps: Annotated[str, Choice(get_args(timed_schedules.Ratios))],
) -> Sigmas:
    """The schedule that Würstchen and Stable Cascade are published with: ratios from 1 to 0, and the levels at them.

    `linspace` spaces them evenly; `stage_c` is what Würstchen v2 was published with for its Stage C, made for 29 steps.
    The last level is about 0.01: the `ddpm` sampler adds no noise on the way to it.
    """
    ratios = cast(timed_schedules.Ratios, timesteps)
    return timed_schedules.wuerstchen(steps, model.parametrisation, ratios, denoise)


@node("TimestepScheduler", category=SCHEDULERS, foresee=_foresee_timesteps)
def timestep_scheduler(
    *,
    model: Model,
    steps: Steps = 50,
    spacing: Annotated[str, Choice(get_args(timed_schedules.Spacing))],
    steps_offset: Annotated[int, Range(0, 1000)] = 0,
    final_sigma: Annotated[str, Choice(get_args(timed_schedules.FinalSigma))],
) -> Sigmas:
    """The noise levels at whole timesteps of a discrete model, as the pipelines of DDPM and DDIM visit them.

    `leading` counts up from timestep 0 and adds `steps_offset`, `trailing` counts down from the last, `linspace` spans
    both ends. `final_sigma` is where the last step goes: to 0, or to the model's smallest level.
    """
    return timed_schedules.timesteps(
        steps,
        model.parametrisation,
        cast(timed_schedules.Spacing, spacing),
        steps_offset,
        cast(timed_schedules.FinalSigma, final_sigma),
    )
