"""Schedules: the noise levels that a sampler visits, as float32 CPU tensors that descend to 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from nodegraph.node import NodeError
from nodes.diffusion.cosine_ratio import CosineRatio
from nodes.diffusion.levels import last_steps, without_penultimate
from nodes.diffusion.parametrisation import Parametrisation
from nodes.diffusion.timed_schedules import EVEN_IN_TIME, wuerstchen
from nodes.values import Sigmas

Schedule = Callable[[int, Parametrisation], Tensor]

PENULTIMATE_DROPPED = frozenset({"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"})
"""Samplers whose schedule is laid out with one step more and the last but one level dropped."""

# https://research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html
_ALIGN_YOUR_STEPS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "SD1": (
            14.6146412293,
            6.4745760956,
            3.8636745985,
            2.6946151520,
            1.8841921177,
            1.3943805092,
            0.9642583904,
            0.6523686016,
            0.3977456272,
            0.1515232662,
            0.0291671582,
        ),
        "SDXL": (
            14.6146412293,
            6.3184485287,
            3.7681790315,
            2.1811480769,
            1.3405244945,
            0.8620721141,
            0.5550693289,
            0.3798540708,
            0.2332364134,
            0.1114188177,
            0.0291671582,
        ),
        "SVD": (700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
    }
)


def sigmas(scheduler: str, steps: int, parametrisation: Parametrisation) -> Tensor:
    """Return the noise levels of the schedule named `scheduler`, ending in 0.

    Most schedules give `steps` + 1 levels; ddim_uniform and beta may give a few more or fewer.

    Raises ValueError for an unknown name.
    """
    if scheduler not in SCHEDULES:
        raise ValueError(f"there is no scheduler {scheduler!r}; known are {', '.join(SCHEDULES)}.")
    return SCHEDULES[scheduler](steps, parametrisation)


def ksampler_sigmas(
    sampler: str, scheduler: str, steps: int, denoise: float, parametrisation: Parametrisation
) -> Sigmas:
    """Return the schedule that a KSampler node uses: the last `steps` of one of `steps / denoise`.

    Empty where `denoise` is 0. Raises ValueError for an unknown scheduler.
    """
    if denoise > 0.9999:
        return _laid_out(sampler, scheduler, steps, parametrisation)
    if denoise <= 0.0:
        return Sigmas(torch.empty(0))
    return last_steps(_laid_out(sampler, scheduler, int(steps / denoise), parametrisation), steps)


def _laid_out(sampler: str, scheduler: str, steps: int, parametrisation: Parametrisation) -> Sigmas:
    if sampler not in PENULTIMATE_DROPPED:
        return _named(scheduler, steps, parametrisation)
    return without_penultimate(_named(scheduler, steps + 1, parametrisation))


def _named(scheduler: str, steps: int, parametrisation: Parametrisation) -> Sigmas:
    published = isinstance(parametrisation, CosineRatio) and parametrisation.published_ratios
    if published and scheduler in EVEN_IN_TIME:
        return wuerstchen(steps, parametrisation)
    return Sigmas(sigmas(scheduler, steps, parametrisation))


def partial_sigmas(scheduler: str, steps: int, denoise: float, parametrisation: Parametrisation) -> Sigmas:
    """Return the last `steps` of a schedule of `steps / denoise` steps, whatever the sampler.

    Empty where `denoise` is 0. Raises ValueError for an unknown scheduler.
    """
    if denoise <= 0.0:
        return Sigmas(torch.empty(0))
    total = int(steps / denoise) if denoise < 1.0 else steps
    return last_steps(_named(scheduler, total, parametrisation), steps)


def simple(steps: int, parametrisation: Parametrisation) -> Tensor:
    """Return every n-th entry of the table, counted from its top."""
    table = parametrisation.sigmas
    stride = len(table) / steps
    return _ending_in_zero(table[[len(table) - 1 - int(step * stride) for step in range(steps)]])


def ddim_uniform(steps: int, parametrisation: Parametrisation) -> Tensor:
    """Return every n-th entry of the table, counted from its second, as DDIM does (arXiv 2010.02502)."""
    table = parametrisation.sigmas
    bottom_is_zero = _is_zero(float(table[1]))
    stride = max(len(table) // (steps + bottom_is_zero), 1)
    levels = table[1::stride].flip(0)
    return levels if bottom_is_zero else _ending_in_zero(levels)


def normal(steps: int, parametrisation: Parametrisation) -> Tensor:
    """Return levels evenly spaced in timestep, from the first to the last."""
    start, end = _time_range(parametrisation)
    if _is_zero(parametrisation.sigma(end)):
        return _at_times(torch.linspace(start, end, steps + 1), parametrisation)
    return _ending_in_zero(_at_times(torch.linspace(start, end, steps), parametrisation))


def sgm_uniform(steps: int, parametrisation: Parametrisation) -> Tensor:
    """Return levels evenly spaced in timestep, the last timestep left out for 0."""
    start, end = _time_range(parametrisation)
    return _ending_in_zero(_at_times(torch.linspace(start, end, steps + 1)[:-1], parametrisation))


def beta(steps: int, parametrisation: Parametrisation, alpha: float = 0.6, beta: float = 0.6) -> Tensor:
    """Return table entries at the quantiles of a beta distribution (https://arxiv.org/abs/2407.12173).

    Entries that fall together are visited once, so there may be fewer than `steps` + 1 levels. Raises NodeError
    unless `alpha` and `beta` are above 0.
    """
    from scipy.special import betaincinv

    for name, shape in (("alpha", alpha), ("beta", beta)):
        if shape <= 0:
            raise NodeError(
                "a beta distribution needs a shape above 0.", input=name, found=str(shape), allowed="above 0"
            )
    table = parametrisation.sigmas
    quantiles = betaincinv(alpha, beta, 1 - np.linspace(0, 1, steps, endpoint=False))
    indices = np.rint(quantiles * (len(table) - 1)).astype(int).tolist()
    distinct = [i for place, i in enumerate(indices) if place == 0 or i != indices[place - 1]]
    return _ending_in_zero(table[distinct])


def linear_quadratic(
    steps: int,
    parametrisation: Parametrisation,
    threshold_noise: float = 0.025,
    linear_steps: int | None = None,
) -> Tensor:
    """Return levels that fall linearly by `threshold_noise` over `linear_steps`, then quadratically to 0.

    The schedule of Movie Gen (https://arxiv.org/abs/2410.13720) as Mochi uses it; half the steps are linear.
    """
    if steps == 1:
        return torch.tensor([1.0, 0.0]) * parametrisation.sigma_max
    linear = steps // 2 if linear_steps is None else linear_steps
    quadratic = steps - linear
    slope = threshold_noise / linear
    # With u steps into the quadratic part the fall is threshold + b u + a u^2, and 1 at its end; b continues
    # the slope that a straight line over all steps would leave.
    excess = linear - threshold_noise * steps
    a = excess / (linear * quadratic**2)
    b = slope - 2 * excess / quadratic**2
    falls = [slope * step for step in range(linear)]
    falls += [a * step**2 + b * step + a * linear**2 for step in range(linear, steps)]
    levels = torch.tensor([1.0 - fall for fall in falls] + [0.0])
    return levels * parametrisation.sigma_max


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Return levels evenly spaced in `sigma^(1 / rho)` (https://arxiv.org/abs/2206.00364)."""
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _ending_in_zero((high + torch.linspace(0, 1, steps) * (low - high)) ** rho)


def exponential(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Return levels evenly spaced in log sigma."""
    return _ending_in_zero(torch.linspace(math.log(sigma_max), math.log(sigma_min), steps).exp())


def polyexponential(steps: int, sigma_min: float, sigma_max: float, rho: float = 1.0) -> Tensor:
    """Return levels whose log sigma is a polynomial of degree `rho` in the step."""
    low, high = math.log(sigma_min), math.log(sigma_max)
    return _ending_in_zero((torch.linspace(1, 0, steps) ** rho * (high - low) + low).exp())


def vp(steps: int, beta_d: float = 19.9, beta_min: float = 0.1, eps_s: float = 1e-3) -> Tensor:
    """Return levels of the continuous variance-preserving process (https://arxiv.org/abs/2011.13456)."""
    time = torch.linspace(1, eps_s, steps)
    return _ending_in_zero(torch.expm1(beta_d * time**2 / 2 + beta_min * time).sqrt())


def laplace(steps: int, sigma_min: float, sigma_max: float, mu: float = 0.0, beta: float = 0.5) -> Tensor:
    """Return `steps` levels at the quantiles of a Laplace distribution of log sigma; 0 is not among them.

    Source: https://arxiv.org/abs/2407.03297. `mu` and `beta` are the distribution's mean and scale.
    """
    ramp = torch.linspace(0, 1, steps)
    tail = torch.log(1 - 2 * (0.5 - ramp).abs() + 1e-5)
    return (mu - beta * torch.sign(0.5 - ramp) * tail).exp().clamp(sigma_min, sigma_max)


def kl_optimal(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Return levels evenly spaced in the arc tangent of sigma (https://arxiv.org/abs/2404.14507).

    One step visits `sigma_max` alone.
    """
    ramp = torch.linspace(0, 1, 1) if steps == 1 else torch.arange(steps, dtype=torch.float32) / (steps - 1)
    angles = ramp * math.atan(sigma_min) + (1 - ramp) * math.atan(sigma_max)
    return _ending_in_zero(angles.tan())


def align_your_steps(model_type: str, steps: int, denoise: float = 1.0) -> Tensor:
    """Return the levels that Align Your Steps found for `model_type`: SD1, SDXL or SVD.

    The eleven published levels are interpolated in log sigma where `steps` is not 10; of them the last
    `round(steps * denoise)` steps are used. Source: https://arxiv.org/abs/2404.14507.
    """
    if denoise <= 0.0:
        return torch.empty(0)
    published = _ALIGN_YOUR_STEPS[model_type]
    levels = np.array(published)
    if steps + 1 != len(published):
        places = np.linspace(0, 1, steps + 1)
        levels = np.exp(np.interp(places, np.linspace(0, 1, len(published)), np.log(levels[::-1])))[
            ::-1
        ].copy()
    levels = levels[-((round(steps * denoise) if denoise < 1.0 else steps) + 1) :]
    levels[-1] = 0.0
    return torch.tensor(levels, dtype=torch.float32)


def sd_turbo(steps: int, denoise: float, parametrisation: Parametrisation) -> Tensor:
    """Return `steps` (at most 10) of the levels at timesteps 999, 899, ..., from where `denoise` says."""
    skipped = 10 - int(10 * denoise)
    times = [float(100 * place - 1) for place in range(10, 0, -1)][skipped : skipped + steps]
    return _ending_in_zero(torch.tensor([parametrisation.sigma(time) for time in times]))


def _time_range(parametrisation: Parametrisation) -> tuple[float, float]:
    start, end = (
        parametrisation.timestep(parametrisation.sigma_max),
        parametrisation.timestep(parametrisation.sigma_min),
    )
    return start, end


def _at_times(times: Tensor, parametrisation: Parametrisation) -> Tensor:
    return torch.tensor([parametrisation.sigma(time) for time in times.tolist()], dtype=torch.float32)


def _is_zero(sigma: float) -> bool:
    return math.isclose(sigma, 0.0, abs_tol=0.00001)


def _ending_in_zero(levels: Tensor) -> Tensor:
    return torch.cat([levels.float(), torch.zeros(1)])


def _of_range(function: Callable[[int, float, float], Tensor]) -> Schedule:
    def schedule(steps: int, parametrisation: Parametrisation) -> Tensor:
        return function(steps, parametrisation.sigma_min, parametrisation.sigma_max)

    return schedule


SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {
        "simple": simple,
        "sgm_uniform": sgm_uniform,
        "karras": _of_range(karras),
        "exponential": _of_range(exponential),
        "ddim_uniform": ddim_uniform,
        "beta": beta,
        "normal": normal,
        "linear_quadratic": linear_quadratic,
        "kl_optimal": _of_range(kl_optimal),
    }
)
"""The schedules of the KSampler nodes, in the order of their `scheduler` choices."""
