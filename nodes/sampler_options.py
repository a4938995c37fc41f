"""Nodes that choose a sampler and set its options."""

from __future__ import annotations

from typing import Annotated

from nodegraph.node import Choice, Range, node
from nodes.sampling import SamplerName
from nodes.values import Model, Sampler

SAMPLERS = "sampling/custom_sampling/samplers"

Amount = Annotated[float, Range(0.0, 100.0, step=0.01, round=False)]
Order = Annotated[int, Range(1, 6)]
Percent = Annotated[float, Range(0.0, 1.0, step=0.001)]
NoiseDevice = Annotated[str, Choice(("gpu", "cpu"))]


@node("KSamplerSelect", category=SAMPLERS)
def ksampler_select(sampler_name: SamplerName) -> Sampler:
    """A sampler by name, with its own defaults."""
    return Sampler(sampler_name)


@node("SamplerEulerAncestral", category=SAMPLERS)
def sampler_euler_ancestral(eta: Amount = 1.0, s_noise: Amount = 1.0) -> Sampler:
    """Euler's method with fresh noise at each step: `eta` of it, scaled by `s_noise`."""
    return Sampler("euler_ancestral", (("eta", eta), ("s_noise", s_noise)))


@node("SamplerDDIM", category=SAMPLERS)
def sampler_ddim(eta: Annotated[float, Range(0.0, 1.0, step=0.01, round=False)] = 0.0) -> Sampler:
    """DDIM: `eta` is the share of DDPM's noise that each step adds; 0 adds none."""
    return Sampler("ddim", (("eta", eta),))


@node("SamplerDPMPP_2S_Ancestral", category=SAMPLERS)
def sampler_dpmpp_2s_ancestral(eta: Amount = 1.0, s_noise: Amount = 1.0) -> Sampler:
    """DPM-Solver++ (2S) with fresh noise at each step."""
    return Sampler("dpmpp_2s_ancestral", (("eta", eta), ("s_noise", s_noise)))


@node("SamplerDPMPP_2M_SDE", category=SAMPLERS)
def sampler_dpmpp_2m_sde(
    *,
    solver_type: Annotated[str, Choice(("midpoint", "heun"))],
    eta: Amount = 1.0,
    s_noise: Amount = 1.0,
    noise_device: NoiseDevice,
) -> Sampler:
    """DPM-Solver++ (2M) for the stochastic equation; noise drawn on the CPU does not depend on the GPU."""
    options = (("solver_type", solver_type), ("eta", eta), ("s_noise", s_noise))
    return Sampler(_drawn_on("dpmpp_2m_sde", noise_device), options)


@node("SamplerDPMPP_SDE", category=SAMPLERS)
def sampler_dpmpp_sde(
    *, eta: Amount = 1.0, s_noise: Amount = 1.0, r: Amount = 0.5, noise_device: NoiseDevice
) -> Sampler:
    """DPM-Solver++ (one step) for the stochastic equation; `r` places its inner evaluation."""
    options = (("eta", eta), ("s_noise", s_noise), ("r", r))
    return Sampler(_drawn_on("dpmpp_sde", noise_device), options)


@node("SamplerDPMPP_3M_SDE", category=SAMPLERS)
def sampler_dpmpp_3m_sde(*, eta: Amount = 1.0, s_noise: Amount = 1.0, noise_device: NoiseDevice) -> Sampler:
    """DPM-Solver++ (3M) for the stochastic equation."""
    return Sampler(_drawn_on("dpmpp_3m_sde", noise_device), (("eta", eta), ("s_noise", s_noise)))


@node("SamplerLMS", category=SAMPLERS)
def sampler_lms(order: Annotated[int, Range(1, 100)] = 4) -> Sampler:
    """The linear multistep method of a given order."""
    return Sampler("lms", (("order", order),))


@node("SamplerDPMAdaptative", category=SAMPLERS)
def sampler_dpm_adaptive(
    order: Annotated[int, Range(2, 3)] = 3,
    rtol: Amount = 0.05,
    atol: Amount = 0.0078,
    h_init: Amount = 0.05,
    pcoeff: Amount = 0.0,
    icoeff: Amount = 1.0,
    dcoeff: Amount = 0.0,
    accept_safety: Amount = 0.81,
    eta: Amount = 0.0,
    s_noise: Amount = 1.0,
) -> Sampler:
    """DPM-Solver with a step size that follows the error: the schedule gives its ends only.

    `rtol` and `atol` are the tolerances, `h_init` the first step in log sigma; the coefficients are those of
    the controller of the step size.
    """
    options = (
        ("order", order),
        ("rtol", rtol),
        ("atol", atol),
        ("h_init", h_init),
        ("pcoeff", pcoeff),
        ("icoeff", icoeff),
        ("dcoeff", dcoeff),
        ("accept_safety", accept_safety),
        ("eta", eta),
        ("s_noise", s_noise),
    )
    return Sampler("dpm_adaptive", options)


@node("SamplerER_SDE", category=SAMPLERS)
def sampler_er_sde(
    *,
    solver_type: Annotated[str, Choice(("ER-SDE", "Reverse-time SDE", "ODE"))],
    max_stage: Annotated[int, Range(1, 3)] = 3,
    eta: Amount = 1.0,
    s_noise: Amount = 1.0,
) -> Sampler:
    """The extended reverse-time solver; `eta` scales the noise of the reverse-time equation alone."""
    options = (("solver_type", solver_type), ("max_stage", max_stage), ("eta", eta), ("s_noise", s_noise))
    return Sampler("er_sde", options)


@node("SamplerSASolver", category=SAMPLERS)
def sampler_sa_solver(
    *,
    model: Model,
    eta: Annotated[float, Range(0.0, 10.0, step=0.01, round=False)] = 1.0,
    sde_start_percent: Percent = 0.2,
    sde_end_percent: Percent = 0.8,
    s_noise: Amount = 1.0,
    predictor_order: Order = 3,
    corrector_order: Annotated[int, Range(0, 6)] = 4,
    use_pece: bool,
    simple_order_2: bool,
) -> Sampler:
    """The stochastic Adams solver: a predictor and a corrector, with noise in a part of the schedule only.

    `use_pece` evaluates the model again after each correction. `model` is what the percentages refer to: the one
    that is sampled.
    """
    options = (
        ("eta", eta),
        ("sde_start_percent", sde_start_percent),
        ("sde_end_percent", sde_end_percent),
        ("s_noise", s_noise),
        ("predictor_order", predictor_order),
        ("corrector_order", corrector_order),
        ("use_pece", use_pece),
        ("simple_order_2", simple_order_2),
    )
    return Sampler("sa_solver", options)


@node("SamplerLCMUpscale", category=SAMPLERS)
def sampler_lcm_upscale(
    *,
    scale_ratio: Annotated[float, Range(0.1, 20.0, step=0.01)] = 1.0,
    scale_steps: Annotated[int, Range(-1, 1000, step=1)] = -1,
    upscale_method: Annotated[str, Choice(("bislerp", "nearest-exact", "bilinear", "area", "bicubic"))],
) -> Sampler:
    """The sampler of latent consistency models, growing the latent over its first steps.

    The latent grows by `scale_ratio` in all, over `scale_steps` steps (-1: half of them).
    """
    options = (
        ("scale_ratio", scale_ratio),
        ("scale_steps", scale_steps),
        ("upscale_method", upscale_method),
    )
    return Sampler("lcm_upscale", options)


def _drawn_on(sampler: str, noise_device: str) -> str:
    return sampler if noise_device == "cpu" else f"{sampler}_gpu"
