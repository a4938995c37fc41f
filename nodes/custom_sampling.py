"""Sampling in parts: noise, guider, sampler and noise levels as nodes of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, NamedTuple

from nodegraph.node import UNKNOWN, Choice, Context, Forecast, NodeError, Range, Runtime, node
from nodes import estimates
from nodes.diffusion import levels, schedules
from nodes.diffusion.sampling import add_noise as noised
from nodes.diffusion.sampling import draw_noise
from nodes.forms import GuiderForm, LatentForm, check_conditionings, sampled
from nodes.sampling import (
    Scale,
    SchedulerName,
    Seed,
    Share,
    Steps,
    cfg_guider,
    run_guider,
)
from nodes.values import Conditioning, Guider, Latent, Model, Noise, Sampler, Sigmas

GUIDERS = "sampling/custom_sampling/guiders"
NOISE = "sampling/custom_sampling/noise"
SCHEDULERS = "sampling/custom_sampling/schedulers"
SIGMAS = "sampling/custom_sampling/sigmas"

CONDITIONINGS = ("conditioning", "positive", "negative", "cond1", "cond2", "empty_conditioning")
"""The inputs of guiders that take conditionings."""

Level = Annotated[float, Range(0.0, 5000.0, step=0.01, round=False)]
Positive = Annotated[float, Range(0.0, 100.0, step=0.01, round=False)]


class SampledPair(NamedTuple):
    """The latent at the last noise level, and the last estimate of the clean latent."""

    output: Latent
    denoised_output: Latent


class SplitPair(NamedTuple):
    """The noise levels of the first part and of the second."""

    high_sigmas: Sigmas
    low_sigmas: Sigmas


def _foresee(
    model: object,
    positive: object,
    negative: object,
    latent_image: object,
    runtime: Runtime,
    cfg: object,
) -> Forecast:
    form = sampled(model, latent_image, (("positive", positive), ("negative", negative)))
    read = (positive,) if cfg == 1.0 else (positive, negative)
    return Forecast((form, form), estimates.sampling(runtime, model, form, read))


def _foresee_guided(guider: object, latent_image: object, runtime: Runtime) -> Forecast:
    # The guider's own node has told already what conditionings its model cannot read.
    known = guider if isinstance(guider, GuiderForm) else None
    form = sampled(known and known.model, latent_image, ())
    if known is None:
        return Forecast((form, form))
    read = [conditioning for _, conditioning in known.conditionings]
    return Forecast((form, form), estimates.sampling(runtime, known.model, form, read))


def _foresee_guider(model: object, **given: object) -> Forecast:
    if not isinstance(model, Model):
        return Forecast()
    taken = tuple((name, form) for name, form in given.items() if name in CONDITIONINGS)
    check_conditionings(model, taken)
    return Forecast((GuiderForm(model, taken),))


def _foresee_noised(latent_image: object) -> Forecast:
    return Forecast(
        (replace(latent_image, empty=False) if isinstance(latent_image, LatentForm) else UNKNOWN,)
    )


@node("SamplerCustom", category="sampling/custom_sampling", lane="device", foresee=_foresee)
def sampler_custom(
    *,
    ctx: Context,
    model: Model,
    add_noise: bool = True,
    noise_seed: Seed = 0,
    cfg: Scale = 8.0,
    positive: Conditioning,
    negative: Conditioning,
    sampler: Sampler,
    sigmas: Sigmas,
    latent_image: Latent,
) -> SampledPair:
    """Denoises a latent with a given sampler over given noise levels, by classifier-free guidance."""
    guider = cfg_guider(model, positive, negative, cfg)
    drawn = noise_seed if add_noise else None
    return SampledPair(*run_guider(ctx, guider, drawn, noise_seed, sampler, sigmas, latent_image))


@node("SamplerCustomAdvanced", category="sampling/custom_sampling", lane="device", foresee=_foresee_guided)
def sampler_custom_advanced(
    *, ctx: Context, noise: Noise, guider: Guider, sampler: Sampler, sigmas: Sigmas, latent_image: Latent
) -> SampledPair:
    """Denoises a latent with given noise, guider and sampler over given noise levels."""
    seed = 0 if noise.seed is None else noise.seed
    return SampledPair(*run_guider(ctx, guider, noise.seed, seed, sampler, sigmas, latent_image))


@node("BasicScheduler", category=SCHEDULERS)
def basic_scheduler(
    *, model: Model, scheduler: SchedulerName, steps: Steps = 20, denoise: Share = 1.0
) -> Sigmas:
    """The noise levels of a named schedule for a model; below 1, `denoise` leaves the last part of a longer one."""
    return schedules.partial_sigmas(scheduler, steps, denoise, model.parametrisation)


@node("KarrasScheduler", category=SCHEDULERS)
def karras_scheduler(
    steps: Steps = 20, sigma_max: Level = 14.614642, sigma_min: Level = 0.0291675, rho: Positive = 7.0
) -> Sigmas:
    """Noise levels evenly spaced in the `rho`-th root of sigma; the larger rho, the more of them are low."""
    _above_zero("rho", rho)
    return Sigmas(schedules.karras(steps, sigma_min, sigma_max, rho))


@node("ExponentialScheduler", category=SCHEDULERS)
def exponential_scheduler(
    steps: Steps = 20, sigma_max: Level = 14.614642, sigma_min: Level = 0.0291675
) -> Sigmas:
    """Noise levels evenly spaced in the logarithm of sigma."""
    _above_zero("sigma_max", sigma_max)
    _above_zero("sigma_min", sigma_min)
    return Sigmas(schedules.exponential(steps, sigma_min, sigma_max))


@node("PolyexponentialScheduler", category=SCHEDULERS)
def polyexponential_scheduler(
    steps: Steps = 20, sigma_max: Level = 14.614642, sigma_min: Level = 0.0291675, rho: Positive = 1.0
) -> Sigmas:
    """Noise levels whose logarithm is a power `rho` of the step; 1 is the exponential schedule."""
    _above_zero("sigma_max", sigma_max)
    _above_zero("sigma_min", sigma_min)
    return Sigmas(schedules.polyexponential(steps, sigma_min, sigma_max, rho))


@node("SDTurboScheduler", category=SCHEDULERS)
def sd_turbo_scheduler(
    *, model: Model, steps: Annotated[int, Range(1, 10)] = 1, denoise: Share = 1.0
) -> Sigmas:
    """The noise levels that SD Turbo models were distilled to: every hundredth timestep from the top."""
    return Sigmas(schedules.sd_turbo(steps, denoise, model.parametrisation))


@node("VPScheduler", category=SCHEDULERS)
def vp_scheduler(
    steps: Steps = 20,
    beta_d: Level = 19.9,
    beta_min: Level = 0.1,
    eps_s: Annotated[float, Range(0.0, 1.0, step=0.0001, round=False)] = 0.001,
) -> Sigmas:
    """The noise levels of the continuous variance-preserving process."""
    return Sigmas(schedules.vp(steps, beta_d, beta_min, eps_s))


@node("BetaSamplingScheduler", category=SCHEDULERS)
def beta_sampling_scheduler(
    *,
    model: Model,
    steps: Steps = 20,
    alpha: Annotated[float, Range(0.0, 50.0, step=0.01, round=False)] = 0.6,
    beta: Annotated[float, Range(0.0, 50.0, step=0.01, round=False)] = 0.6,
) -> Sigmas:
    """A model's noise levels at the quantiles of a beta distribution: below 1 both ends get more of the steps."""
    _above_zero("alpha", alpha)
    _above_zero("beta", beta)
    return Sigmas(schedules.beta(steps, model.parametrisation, alpha, beta))


@node("LaplaceScheduler", category=SCHEDULERS)
def laplace_scheduler(
    steps: Steps = 20,
    sigma_max: Level = 14.614642,
    sigma_min: Level = 0.0291675,
    mu: Annotated[float, Range(-10.0, 10.0, step=0.1, round=False)] = 0.0,
    beta: Annotated[float, Range(0.0, 10.0, step=0.1, round=False)] = 0.5,
) -> Sigmas:
    """Noise levels at the quantiles of a Laplace distribution of log sigma, with mean `mu` and scale `beta`."""
    return Sigmas(schedules.laplace(steps, sigma_min, sigma_max, mu, beta))


@node("AlignYourStepsScheduler", category=SCHEDULERS)
def align_your_steps_scheduler(
    *,
    model_type: Annotated[str, Choice(("SD1", "SDXL", "SVD"))],
    steps: Steps = 10,
    denoise: Share = 1.0,
) -> Sigmas:
    """The noise levels that Align Your Steps found best for a model family, interpolated to `steps`."""
    return Sigmas(schedules.align_your_steps(model_type, steps, denoise))


@node("SplitSigmas", category=SIGMAS)
def split_sigmas(*, sigmas: Sigmas, step: Annotated[int, Range(0, 10000)] = 0) -> SplitPair:
    """Noise levels up to and from a step; both parts hold the level where they meet."""
    return SplitPair(*levels.split(sigmas, step))


@node("SplitSigmasDenoise", category=SIGMAS)
def split_sigmas_denoise(*, sigmas: Sigmas, denoise: Share = 1.0) -> SplitPair:
    """Noise levels before and within the last share `denoise` of the steps."""
    return SplitPair(*levels.split_denoise(sigmas, denoise))


@node("FlipSigmas", category=SIGMAS)
def flip_sigmas(*, sigmas: Sigmas) -> Sigmas:
    """Noise levels in reverse, to find the noise that a latent comes from; a first level of 0 becomes 0.0001."""
    return levels.flip(sigmas)


@node("SetFirstSigma", category=SIGMAS)
def set_first_sigma(
    *, sigmas: Sigmas, sigma: Annotated[float, Range(0.0, 20000.0, step=0.001, round=False)] = 136.0
) -> Sigmas:
    """Noise levels with the first replaced."""
    if len(sigmas.values) == 0:
        raise NodeError("there is no first noise level to replace: the schedule is empty.", input="sigmas")
    return levels.set_first(sigmas, sigma)


@node("BasicGuider", category=GUIDERS, foresee=_foresee_guider)
def basic_guider(*, model: Model, conditioning: Conditioning) -> Guider:
    """The conditioning alone, without classifier-free guidance: half the evaluations."""
    return Guider("basic", model, (("positive", conditioning),))


@node("CFGGuider", category=GUIDERS, foresee=_foresee_guider)
def cfg_guider_node(
    *, model: Model, positive: Conditioning, negative: Conditioning, cfg: Scale = 8.0
) -> Guider:
    """Classifier-free guidance: away from the negative conditioning towards the positive one, by `cfg`."""
    return cfg_guider(model, positive, negative, cfg)


@node("DualCFGGuider", category=GUIDERS, foresee=_foresee_guider)
def dual_cfg_guider(
    *,
    model: Model,
    cond1: Conditioning,
    cond2: Conditioning,
    negative: Conditioning,
    cfg_conds: Scale = 8.0,
    cfg_cond2_negative: Scale = 8.0,
    style: Annotated[str, Choice(("regular", "nested"))],
) -> Guider:
    """Guidance from the negative conditioning to the second and on to the first, each by its own scale.

    `nested` guides from the second to the first, and from the negative to the outcome of that.
    """
    return Guider(
        "dual_cfg",
        model,
        (("positive", cond1), ("middle", cond2), ("negative", negative)),
        (("cfg_conds", cfg_conds), ("cfg_cond2_negative", cfg_cond2_negative), ("style", style)),
    )


@node("PerpNegGuider", category="_for_testing", foresee=_foresee_guider)
def perp_neg_guider(
    *,
    model: Model,
    positive: Conditioning,
    negative: Conditioning,
    empty_conditioning: Conditioning,
    cfg: Scale = 8.0,
    neg_scale: Annotated[float, Range(0.0, 100.0, step=0.01)] = 1.0,
) -> Guider:
    """Guidance that leaves out what the negative conditioning shares with the positive one.

    `empty_conditioning` encodes the empty prompt; both directions are measured from it.
    """
    return Guider(
        "perp_neg",
        model,
        (("positive", positive), ("empty", empty_conditioning), ("negative", negative)),
        (("cfg", cfg), ("neg_scale", neg_scale)),
    )


@node("RandomNoise", category=NOISE)
def random_noise(noise_seed: Seed = 0) -> Noise:
    """Normal noise drawn from a seed."""
    return Noise(noise_seed)


@node("DisableNoise", category=NOISE)
def disable_noise() -> Noise:
    """No noise: the latent is taken to be at the first noise level already."""
    return Noise(None)


@node("AddNoise", category="_for_testing/custom_sampling/noise", foresee=_foresee_noised)
def add_noise(*, model: Model, noise: Noise, sigmas: Sigmas, latent_image: Latent) -> Latent:
    """Noises a latent as far as the levels reach: by the difference of their first and last."""
    return noised(model, draw_noise(latent_image, noise.seed), sigmas.values, latent_image)


def _above_zero(name: str, value: float) -> None:
    if value <= 0:
        raise NodeError(f"{name} must be above 0.", input=name, found=str(value), allowed="a number above 0")
