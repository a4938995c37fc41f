"""The samplers by name: plain functions over noise levels that call a denoiser."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from nodes.diffusion.denoiser import Denoiser, OnStep, Step
from nodes.diffusion.levels import apart, quiet_on_the_last_step
from nodes.diffusion.noise import StepNoise, brownian_noise, step_noise
from nodes.diffusion.samplers.ddim import ddim
from nodes.diffusion.samplers.dpm_solver import dpm_adaptive, dpm_fast
from nodes.diffusion.samplers.dpmpp import (
    dpmpp_2m,
    dpmpp_2m_cfg_pp,
    dpmpp_2s_ancestral,
    dpmpp_2s_ancestral_cfg_pp,
)
from nodes.diffusion.samplers.dpmpp_sde import dpmpp_2m_sde, dpmpp_2m_sde_heun, dpmpp_3m_sde, dpmpp_sde
from nodes.diffusion.samplers.er_sde import er_sde
from nodes.diffusion.samplers.euler import euler, euler_ancestral, euler_ancestral_cfg_pp, euler_cfg_pp
from nodes.diffusion.samplers.heun import dpm_2, dpm_2_ancestral, heun, heunpp2
from nodes.diffusion.samplers.linear_multistep import deis, ipndm, ipndm_v, lms
from nodes.diffusion.samplers.renoising import ddpm, lcm, lcm_upscale
from nodes.diffusion.samplers.res import (
    gradient_estimation,
    gradient_estimation_cfg_pp,
    res_multistep,
    res_multistep_ancestral,
    res_multistep_ancestral_cfg_pp,
    res_multistep_cfg_pp,
)
from nodes.diffusion.samplers.sa_solver import sa_solver, sa_solver_pece
from nodes.diffusion.samplers.seeds import seeds_2, seeds_3
from nodes.diffusion.samplers.unipc import uni_pc, uni_pc_bh2

NoiseKind = Literal["none", "step", "continued", "brownian", "brownian_device"]
Option = float | int | bool | str


@dataclass(frozen=True)
class SamplerSpec:
    """A sampler and what it needs from the run.

    `noise` is where its step noise comes from: nowhere, a generator on x's device that starts or goes on from
    the run's seed, a Brownian path on the CPU or on x's device. `needs_uncond` samplers call
    `Denoiser.with_uncond`. `fresh_mask_noise` samplers noise what an inpainting mask keeps with a
    draw of their own, from the seed plus one.
    """

    name: str
    function: Callable[..., Tensor]
    noise: NoiseKind = "none"
    needs_uncond: bool = False
    fresh_mask_noise: bool = False

    @property
    def options(self) -> frozenset[str]:
        """The names of the options that `run` takes for this sampler."""
        parameters = inspect.signature(self.function).parameters.values()
        return frozenset(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


_SPECS = (
    SamplerSpec("euler", euler),
    SamplerSpec("euler_cfg_pp", euler_cfg_pp, needs_uncond=True),
    SamplerSpec("euler_ancestral", euler_ancestral, "step"),
    SamplerSpec("euler_ancestral_cfg_pp", euler_ancestral_cfg_pp, "step", needs_uncond=True),
    SamplerSpec("heun", heun),
    SamplerSpec("heunpp2", heunpp2),
    SamplerSpec("dpm_2", dpm_2),
    SamplerSpec("dpm_2_ancestral", dpm_2_ancestral, "step"),
    SamplerSpec("lms", lms),
    SamplerSpec("dpm_fast", dpm_fast),
    SamplerSpec("dpm_adaptive", dpm_adaptive, "step"),
    SamplerSpec("dpmpp_2s_ancestral", dpmpp_2s_ancestral, "step"),
    SamplerSpec("dpmpp_2s_ancestral_cfg_pp", dpmpp_2s_ancestral_cfg_pp, "step", needs_uncond=True),
    SamplerSpec("dpmpp_sde", dpmpp_sde, "brownian"),
    SamplerSpec("dpmpp_sde_gpu", dpmpp_sde, "brownian_device"),
    SamplerSpec("dpmpp_2m", dpmpp_2m),
    SamplerSpec("dpmpp_2m_cfg_pp", dpmpp_2m_cfg_pp, needs_uncond=True),
    SamplerSpec("dpmpp_2m_sde", dpmpp_2m_sde, "brownian"),
    SamplerSpec("dpmpp_2m_sde_gpu", dpmpp_2m_sde, "brownian_device"),
    SamplerSpec("dpmpp_2m_sde_heun", dpmpp_2m_sde_heun, "brownian"),
    SamplerSpec("dpmpp_2m_sde_heun_gpu", dpmpp_2m_sde_heun, "brownian_device"),
    SamplerSpec("dpmpp_3m_sde", dpmpp_3m_sde, "brownian"),
    SamplerSpec("dpmpp_3m_sde_gpu", dpmpp_3m_sde, "brownian_device"),
    SamplerSpec("ddpm", ddpm, "step"),
    SamplerSpec("lcm", lcm, "step"),
    SamplerSpec("ipndm", ipndm),
    SamplerSpec("ipndm_v", ipndm_v),
    SamplerSpec("deis", deis),
    SamplerSpec("res_multistep", res_multistep),
    SamplerSpec("res_multistep_cfg_pp", res_multistep_cfg_pp, needs_uncond=True),
    SamplerSpec("res_multistep_ancestral", res_multistep_ancestral, "step"),
    SamplerSpec("res_multistep_ancestral_cfg_pp", res_multistep_ancestral_cfg_pp, "step", needs_uncond=True),
    SamplerSpec("gradient_estimation", gradient_estimation),
    SamplerSpec("gradient_estimation_cfg_pp", gradient_estimation_cfg_pp, needs_uncond=True),
    SamplerSpec("er_sde", er_sde, "step"),
    SamplerSpec("seeds_2", seeds_2, "step"),
    SamplerSpec("seeds_3", seeds_3, "step"),
    SamplerSpec("sa_solver", sa_solver, "step"),
    SamplerSpec("sa_solver_pece", sa_solver_pece, "step"),
    SamplerSpec("ddim", ddim, "step", fresh_mask_noise=True),
    SamplerSpec("uni_pc", uni_pc),
    SamplerSpec("uni_pc_bh2", uni_pc_bh2),
)

SAMPLERS: Mapping[str, SamplerSpec] = MappingProxyType({spec.name: spec for spec in _SPECS})
"""The samplers of the KSampler nodes, in the order of their `sampler_name` choices."""

_REPEATING = frozenset(
    {
        "euler",
        "euler_cfg_pp",
        "euler_ancestral",
        "euler_ancestral_cfg_pp",
        "heun",
        "dpm_2",
        "dpm_2_ancestral",
        "dpmpp_2s_ancestral",
        "dpmpp_2s_ancestral_cfg_pp",
        "ddpm",
        "lcm",
        "lcm_upscale",
        "ddim",
    }
)
"""Samplers for which a step between equal levels is one like others; the rest divide by a step's width."""

_CORRECTING = frozenset({"uni_pc", "uni_pc_bh2"})
"""Samplers that take a last step without width, which is of first order, to correct the one before."""

_LCM_UPSCALE = SamplerSpec("lcm_upscale", lcm_upscale, "continued")


def find(name: str) -> SamplerSpec:
    """Return the sampler called `name`: one of SAMPLERS, or lcm_upscale, which has a node of its own.

    Raises ValueError for an unknown name.
    """
    if name == _LCM_UPSCALE.name:
        return _LCM_UPSCALE
    if name not in SAMPLERS:
        raise ValueError(f"there is no sampler {name!r}; known are {', '.join(SAMPLERS)}.")
    return SAMPLERS[name]


def run(
    name: str,
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor | Sequence[float],
    *,
    seed: int | None,
    on_step: OnStep | None = None,
    options: Mapping[str, Option] = MappingProxyType({}),
) -> Tensor:
    """Sample with the sampler called `name` from the noisy latent `x` at `sigmas[0]` down to `sigmas[-1]`.

    `sigmas` is one-dimensional, numbers or levels that carry their times; fewer than two return `x`. `seed`
    (0 to 2^64 - 1, or None for chance) is that of the step noise. `options` are the sampler's own. Returns a latent
    shaped as `x`, from lcm_upscale a larger one.

    Raises ValueError for an unknown sampler, option or option value, and whatever `on_step` raises.
    """
    spec = find(name)
    unknown = sorted(set(options) - spec.options)
    if unknown:
        known = ", ".join(sorted(spec.options)) or "none"
        raise ValueError(f"the sampler {name} has no option {', '.join(unknown)}; it has {known}.")
    levels: Sequence[float] = sigmas.tolist() if isinstance(sigmas, Tensor) else sigmas
    if name in _CORRECTING:
        levels = [*apart(levels[:-1]), *levels[-1:]]
    elif name not in _REPEATING:
        levels = apart(levels)
    if len(levels) < 2:
        return x
    with torch.no_grad():
        noise = quiet_on_the_last_step(_noise(spec.noise, x, levels, seed), levels)
        return spec.function(denoise, x, levels, noise, on_step or _ignore, **options)


def _noise(kind: NoiseKind, x: Tensor, levels: Sequence[float], seed: int | None) -> StepNoise:
    if kind in ("brownian", "brownian_device"):
        return brownian_noise(x, levels, seed, on_cpu=kind == "brownian")
    return step_noise(x, seed, continued=kind == "continued")


def _ignore(step: Step) -> None:
    pass
