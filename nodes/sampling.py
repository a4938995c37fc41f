"""Sampling nodes: from a model, conditionings and noise to a latent."""

from __future__ import annotations

from typing import Annotated

from nodegraph.node import Choice, Context, Forecast, Range, Runtime, Widget, node
from nodes import estimates
from nodes.diffusion.denoiser import OnStep, Step
from nodes.diffusion.preview import StepPreview, projection_of
from nodes.diffusion.samplers import SAMPLERS
from nodes.diffusion.sampling import draw_noise, fit_channels, sample, sampled_levels
from nodes.diffusion.schedules import SCHEDULES
from nodes.forms import CondForm, sampled
from nodes.values import Conditioning, Guider, Latent, Model, Sampler, Sigmas

Seed = Annotated[int, Range(0, 2**64 - 1), Widget(control_after_generate=True)]
Steps = Annotated[int, Range(1, 10000)]
Scale = Annotated[float, Range(0.0, 100.0, step=0.1, round=0.01)]
Share = Annotated[float, Range(0.0, 1.0, step=0.01)]
SamplerName = Annotated[str, Choice(tuple(SAMPLERS))]
SchedulerName = Annotated[str, Choice(tuple(SCHEDULES))]


def _foresee(
    model: object,
    positive: object,
    negative: object,
    latent_image: object,
    runtime: Runtime,
    cfg: object = None,
    denoise: object = 1.0,
) -> Forecast:
    if denoise == 0.0:
        sampled(model, latent_image, ())
        return Forecast((latent_image,))
    form = sampled(model, latent_image, (("positive", positive), ("negative", negative)))
    read = (positive,) if cfg == 1.0 else (positive, negative)
    return Forecast((form,), estimates.sampling(runtime, model, form, read))


def _foresee_part(
    model: object,
    positive: object,
    negative: object,
    latent_image: object,
    runtime: Runtime,
    cfg: object,
) -> Forecast:
    return _foresee(model, positive, negative, latent_image, runtime, cfg)


@node("KSampler", category="sampling", lane="device", foresee=_foresee)
def ksampler(
    *,
    ctx: Context,
    model: Model,
    seed: Seed = 0,
    steps: Steps = 20,
    cfg: Scale = 8.0,
    sampler_name: SamplerName,
    scheduler: SchedulerName,
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Latent,
    denoise: Share = 1.0,
) -> Latent:
    """Denoises a latent, guided by a positive and a negative conditioning.

    `denoise` below 1 noises the latent to that part of the schedule only, so that its composition stays; 0 returns it
    unchanged. `cfg` is the scale of classifier-free guidance; at 1 the negative conditioning has no part.
    """
    sigmas = sampled_levels(model, sampler_name, scheduler, steps, denoise)
    guider = cfg_guider(model, positive, negative, cfg)
    return run_guider(ctx, guider, seed, seed, Sampler(sampler_name), sigmas, latent_image)[0]


@node(
    "KSamplerAdvanced",
    category="sampling",
    display_name="KSampler (Advanced)",
    lane="device",
    foresee=_foresee_part,
)
def ksampler_advanced(
    *,
    ctx: Context,
    model: Model,
    add_noise: Annotated[str, Choice(("enable", "disable"))],
    noise_seed: Seed = 0,
    steps: Steps = 20,
    cfg: Scale = 8.0,
    sampler_name: SamplerName,
    scheduler: SchedulerName,
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Latent,
    start_at_step: Annotated[int, Range(0, 10000)] = 0,
    end_at_step: Annotated[int, Range(0, 10000)] = 10000,
    return_with_leftover_noise: Annotated[str, Choice(("disable", "enable"))],
) -> Latent:
    """Denoises a latent over a part of the schedule: from `start_at_step` up to `end_at_step`.

    With `return_with_leftover_noise` another sampler can go on from where this one stopped, with `add_noise`
    disabled; without it the last step goes down to no noise.
    """
    leave_noise = return_with_leftover_noise == "enable"
    sigmas = sampled_levels(
        model, sampler_name, scheduler, steps, 1.0, start_at_step, end_at_step, leave_noise
    )
    guider = cfg_guider(model, positive, negative, cfg)
    drawn = noise_seed if add_noise == "enable" else None
    return run_guider(ctx, guider, drawn, noise_seed, Sampler(sampler_name), sigmas, latent_image)[0]


def cfg_guider(model: Model, positive: Conditioning, negative: Conditioning, cfg: float) -> Guider:
    """Classifier-free guidance with one positive and one negative conditioning."""
    return Guider("cfg", model, (("positive", positive), ("negative", negative)), (("cfg", cfg),))


def run_guider(
    ctx: Context,
    guider: Guider,
    noise_seed: int | None,
    seed: int,
    sampler: Sampler,
    sigmas: Sigmas,
    latent: Latent,
    on_step: OnStep | None = None,
) -> tuple[Latent, Latent]:
    """Sample with the session's network of the guider's model, reporting each step, to `on_step` too.

    `noise_seed` is that of the first noise, None for none; `seed` that of the sampler's step noise. Returns the
    latent at the last noise level, and the last estimate of the clean latent.
    """
    latent = fit_channels(latent, guider.model)
    if len(sigmas.values) == 0:
        return latent, latent
    from nodes.models.memory import sampling_bytes
    from nodes.models.pool import ModelPool

    noise = draw_noise(latent, noise_seed)
    pool = ctx.resource(ModelPool)

    def works() -> int:
        batch, _, height, width = latent.samples.shape
        forms = [
            CondForm.of(cond) for _, conditioning in guider.conditionings for cond in conditioning.entries
        ]
        _, dtype = pool.placing.network(guider.model)
        return sampling_bytes(guider.model.architecture, (batch, height, width), forms, dtype)

    with pool.network(guider.model, works) as network:
        report = _report(ctx, guider.model, on_step)
        return sample(network, guider, noise, seed, sampler, sigmas, latent, report, ctx.make_room)


def _report(ctx: Context, model: Model, on_step: OnStep | None) -> OnStep:
    projection = projection_of(model)

    def report(step: Step) -> None:
        # The estimate is handed on as it lies on the device: only who wants a preview copies it.
        ctx.progress(step.index + 1, step.total, StepPreview(step.x0, model.latent_format, projection))
        if on_step is not None:
            on_step(step)

    return report
