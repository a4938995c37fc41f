"""Schedules of published pipelines: the model's own times, and the noise levels at them."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch

from nodegraph.node import NodeError
from nodes.diffusion.cosine_ratio import CosineRatio
from nodes.diffusion.levels import last_steps
from nodes.diffusion.parametrisation import Discrete, Parametrisation
from nodes.values import Sigmas

Ratios = Literal["linspace", "stage_c"]
Spacing = Literal["leading", "trailing", "linspace"]
FinalSigma = Literal["zero", "sigma_min"]

EVEN_IN_TIME = frozenset({"simple", "sgm_uniform", "normal", "ddim_uniform"})
"""The schedules of a KSampler that space its steps evenly in the model's time."""

# Würstchen v2's Stage C: 19 steps for the first third of the way, 10 for the rest.
_STAGE_C = (*np.linspace(1.0, 2 / 3, 20), *np.linspace(2 / 3, 0.0, 11)[1:])


def need_ratios(parametrisation: Parametrisation) -> CosineRatio:
    """Return the parametrisation of a model that has ratios for times. Raises NodeError for others."""
    if not isinstance(parametrisation, CosineRatio):
        raise NodeError(
            "only Würstchen and Stable Cascade models have ratios for times.",
            input="model",
            found=f"a model with {type(parametrisation).__name__} time",
            hint="Use BasicScheduler for other models.",
        )
    return parametrisation


def need_timesteps(parametrisation: Parametrisation) -> Discrete:
    """Return the parametrisation of a model that has whole timesteps. Raises NodeError for others."""
    if not isinstance(parametrisation, Discrete):
        raise NodeError(
            "only models with discrete time have whole timesteps.",
            input="model",
            found=f"a model with {type(parametrisation).__name__} time",
            hint="Use BasicScheduler for other models.",
        )
    return parametrisation


def wuerstchen(
    steps: int, parametrisation: Parametrisation, ratios: Ratios = "linspace", denoise: float = 1.0
) -> Sigmas:
    """Return the levels at ratios from 1 to 0 with the ratios as their times; the last, about 0.01, is clean.

    `ratios` are evenly spaced (linspace), or those that Würstchen v2 is published with for Stage C, interpolated where
    `steps` is not 29. With `denoise` below 1 the last `steps` of `steps / denoise` are used; 0 gives no levels. Times are
    left to the parametrisation where its shift parts the levels from the ratios that the network is told.

    Raises NodeError where the model's time is no ratio.
    """
    scheme = need_ratios(parametrisation)
    if denoise <= 0.0:
        return Sigmas(torch.empty(0))
    total = int(steps / denoise) if denoise < 1.0 else steps
    times = torch.linspace(1.0, 0.0, total + 1)
    if ratios == "stage_c":
        places = np.linspace(0, 1, len(_STAGE_C))
        found = (
            _STAGE_C
            if total + 1 == len(_STAGE_C)
            else np.interp(np.linspace(0, 1, total + 1), places, _STAGE_C)
        )
        times = torch.tensor(np.array(found), dtype=torch.float32)
    values = torch.tensor([scheme.sigma(time) for time in times.tolist()])
    pinned = times if scheme.shift == 1.0 else None
    return last_steps(Sigmas(values, pinned, from_noise=True, to_clean=True), steps)


def timesteps(
    steps: int,
    parametrisation: Parametrisation,
    spacing: Spacing = "leading",
    steps_offset: int = 0,
    final_sigma: FinalSigma = "zero",
) -> Sigmas:
    """Return the levels at whole timesteps of a discrete model, as the DDPM and DDIM pipelines visit them.

    `leading` counts every n-th timestep up from 0 and adds `steps_offset`, `trailing` down from the last, `linspace` spans
    both ends (https://arxiv.org/abs/2305.08891, table 2). The run starts from pure noise whatever the first level. It
    ends at 0, or (`sigma_min`, diffusers' `set_alpha_to_one` false) at the smallest level, taken as clean.

    Each step goes down to the next of these timesteps. diffusers' DDIM goes down by the table's length over `steps`
    instead, rounded down, which for `linspace`, and for `trailing` where `steps` does not divide the table, is another
    level than the one that its next step starts from.

    Raises NodeError where the model is not discrete or has no such timesteps.
    """
    scheme = need_timesteps(parametrisation)
    count = scheme.last_timestep + 1
    if steps > count:
        raise NodeError(
            "the model has not as many timesteps as steps were asked for.",
            input="steps",
            found=str(steps),
            allowed=f"1 to {count}",
        )
    if spacing == "linspace":
        visited = np.linspace(0, count - 1, steps).round()[::-1].tolist()
    elif spacing == "leading":
        visited = [float(step * (count // steps) + steps_offset) for step in reversed(range(steps))]
    else:
        visited = [float(round(count - step * (count / steps)) - 1) for step in range(steps)]
    if visited[0] >= count:
        raise NodeError(
            "the offset leads beyond the model's last timestep.",
            input="steps_offset",
            found=f"timestep {visited[0]:.0f}",
            allowed=f"up to {count - 1}",
        )
    last = scheme.sigma_min if final_sigma == "sigma_min" else 0.0
    values = torch.tensor([*(scheme.sigma(time) for time in visited), last])
    clean = final_sigma == "sigma_min"
    return Sigmas(
        values, torch.tensor([*visited, 0.0 if clean else math.nan]), from_noise=True, to_clean=clean
    )
