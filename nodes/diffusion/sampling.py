"""The one way from a model, a guider, noise and a schedule to a latent; every sampling node goes through it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from nodegraph.node import NodeError
from nodes.diffusion.clipping import Clipped
from nodes.diffusion.conditioning import encode_inputs, prepare
from nodes.diffusion.denoiser import Denoiser, OnStep, Step
from nodes.diffusion.guidance import GUIDANCE_PATCHES, Guidance, GuidanceHook, Guide, MakeHook, MakeRoom
from nodes.diffusion.inpainting import Masked, concat_channels, fit_mask
from nodes.diffusion.levels import end_at, levels_of, part
from nodes.diffusion.model_denoiser import Inputs, ModelDenoiser, Network, into_network, out_of_network
from nodes.diffusion.noise import initial_noise
from nodes.diffusion.parametrisation import Parametrisation
from nodes.diffusion.reads import blank_extras, check_reads, reads
from nodes.diffusion.samplers import SAMPLERS, run
from nodes.diffusion.schedules import ksampler_sigmas
from nodes.pairing import empty_side, wrong_latent
from nodes.values import Cond, Conditioning, Guider, Latent, Model, Sampler, Sigmas

_HIGHEST_SEED = 2**64 - 1


def sample(
    network: Network,
    guider: Guider,
    noise: Tensor,
    seed: int,
    sampler: Sampler,
    sigmas: Sigmas,
    latent: Latent,
    on_step: OnStep | None = None,
    make_room: MakeRoom | None = None,
    hooks: Mapping[str, MakeHook] = GUIDANCE_PATCHES,
) -> tuple[Latent, Latent]:
    """Sample `latent` with `network`, which the guider's model names, over the noise levels `sigmas`.

    `noise` is shaped as the latent's samples; `seed` is that of the sampler's step noise. An empty schedule
    returns the latent as it is. `make_room` is asked where memory runs out; `hooks` gives the model's guidance
    patches their meaning by name. Returns the latent at the last level and the last estimate of the clean
    latent, on the CPU, in the units of links.

    Raises NodeError where latent, conditioning and model do not go together, and what `on_step` raises.
    """
    model = guider.model
    latent = fit_channels(latent, model)
    if len(sigmas.values) == 0:
        return latent, latent
    check_reads(guider)
    with torch.no_grad():
        start = latent.samples.to(network.device, torch.float32)
        # An empty latent stays zero in every format, those with a shift included.
        if bool(latent.samples.count_nonzero()):
            start = into_network(start, model.latent_format)
        noise = noise.to(start)
        guide = _guide(network, guider, start, latent.noise_mask, make_room)
        guidance = Guidance(guide, guider.kind, dict(guider.options), _hooks(model, hooks))
        denoise = _masked(guidance, start, noise, latent.noise_mask, seed, sampler)
        if model.parametrisation.clip_range is not None:
            denoise = Clipped(denoise, model.parametrisation.clip_range)
        last: list[Tensor] = []

        def step_done(step: Step) -> None:
            last[:] = [step.x0]
            if on_step is not None:
                on_step(step)

        levels = levels_of(sigmas)
        parametrisation = model.parametrisation
        from_noise = sigmas.from_noise or starts_at_top(levels[0], parametrisation)
        x = parametrisation.noise_scaling(levels[0], noise, start, from_noise)
        x = run(
            sampler.name,
            denoise,
            x,
            levels,
            seed=seed,
            on_step=step_done,
            options={name: option for name, option in sampler.options if option is not None},
        )
        x = parametrisation.inverse_noise_scaling(levels[-1], x)
        if levels[-1].clean and len(levels) > 1:
            x = x / math.sqrt(1.0 + levels[-1] ** 2)
        done = _on_link(x, latent, model)
        return done, _on_link(last[0], latent, model) if last else done


def draw_noise(latent: Latent, seed: int | None) -> Tensor:
    """Draw the noise for a latent on the CPU, float32: all zeros where `seed` is None.

    Raises NodeError where the latent names places in a batch, but not one for each sample.
    """
    samples = latent.samples.to("cpu", torch.float32)
    if seed is None:
        return torch.zeros_like(samples)
    if latent.batch_index is not None and len(latent.batch_index) != samples.shape[0]:
        raise NodeError(
            "the latent's batch index does not give one place for each sample.",
            found=f"{len(latent.batch_index)} places for {samples.shape[0]} samples",
        )
    return initial_noise(samples, seed, latent.batch_index)


def starts_at_top(sigma: float, parametrisation: Parametrisation) -> bool:
    """Whether a schedule that starts at `sigma` starts at the model's largest noise level or above."""
    highest = parametrisation.sigma_max
    return math.isclose(highest, sigma, rel_tol=1e-05) or sigma > highest


def sampled_levels(
    model: Model,
    sampler: str,
    scheduler: str,
    steps: int,
    denoise: float = 1.0,
    start_at_step: int = 0,
    end_at_step: int | None = None,
    leave_noise: bool = False,
) -> Sigmas:
    """Return the schedule that a KSampler follows: (steps taken + 1,) levels, or none where there is nothing to sample.

    `start_at_step` and `end_at_step` cut the schedule; a cut end goes down to 0 all the same unless
    `leave_noise` is set.
    """
    schedule = ksampler_sigmas(sampler, scheduler, steps, denoise, model.parametrisation)
    if end_at_step is not None:
        schedule = end_at(schedule, end_at_step, leave_noise)
    count = len(schedule.values)
    return part(schedule, start_at_step, count) if start_at_step < count - 1 else part(schedule, 0, 0)


def add_noise(model: Model, noise: Tensor, sigmas: Tensor, latent: Latent) -> Latent:
    """Noise a latent by the difference between the first and the last of `sigmas`, or by the only one.

    `noise` is shaped as the samples. An empty schedule returns the latent as it is.
    """
    if len(sigmas) == 0:
        return latent
    level = float((sigmas[0] - sigmas[-1]).abs()) if len(sigmas) > 1 else float(sigmas[0])
    start = latent.samples.to("cpu", torch.float32)
    if bool(start.count_nonzero()):
        start = into_network(start, model.latent_format)
    noisy = out_of_network(model.parametrisation.noise_scaling(level, noise, start), model.latent_format)
    return replace(latent, samples=torch.nan_to_num(noisy, nan=0.0, posinf=0.0, neginf=0.0))


def fit_channels(latent: Latent, model: Model) -> Latent:
    """Return the latent as the model works on it: an empty one takes the model's channels and size, others must fit.

    An empty latent stands for pictures of its size times its `downscale`, whichever model it was made for.

    Raises NodeError where a latent with content does not match.
    """
    samples, wanted = latent.samples, model.latent_format
    filled = samples.ndim == 4 and 0 not in samples.shape
    if filled and not bool(samples.count_nonzero()):
        size = (empty_side(side, latent.downscale, wanted) for side in samples.shape[2:])
        shape = (samples.shape[0], wanted.channels, *size)
        if samples.shape != shape:
            samples = samples.new_zeros(shape)
    elif not filled or samples.shape[1] != wanted.channels:
        raise wrong_latent(model, f"samples of shape {tuple(samples.shape)}")
    return replace(latent, samples=samples, downscale=wanted.downscale)


def _guide(
    network: Network,
    guider: Guider,
    start: Tensor,
    noise_mask: Tensor | None,
    make_room: MakeRoom | None,
) -> Guide:
    """The guider's conditionings by role, and those of guidance patches by `patch name.input name`, on the model."""
    model = guider.model
    mask = None if noise_mask is None else fit_mask(noise_mask, start)
    arguments = dict(model.architecture.arguments)
    channels = arguments.get("in_channels", start.shape[1]) - start.shape[1]
    wanted = reads(model.architecture)
    absent = blank_extras(guider, wanted)

    def encode(cond: Cond) -> Inputs:
        given = replace(cond, extras={**absent, **cond.extras})
        inputs = encode_inputs(given, start.shape[0], network.device, network.dtype)
        inputs = replace(inputs, repeatable=wanted.cross)
        # A pooled encoding that the network does not read must not keep prompts out of one batch.
        if wanted.pooled is None:
            inputs = replace(inputs, pooled=None)
        concat = concat_channels(
            channels, start, model.latent_format, cond.concat_latent, cond.concat_mask, mask
        )
        return inputs if concat is None else replace(inputs, concat=concat.to(network.dtype))

    pixels = model.latent_format.downscale
    entries = prepare(dict(guider.conditionings), start, model.parametrisation, encode, pixels)
    for patch in model.patches:
        for name, value in patch.inputs:
            if patch.kind == "guidance" and isinstance(value, Conditioning):
                alone = prepare({name: value}, start, model.parametrisation, encode, pixels)
                entries[f"{patch.name}.{name}"] = alone[name]
    handed_on = tuple(patch for patch in model.patches if patch.kind in ("attention", "block", "wrapper"))
    denoiser = ModelDenoiser(network, model.parametrisation, handed_on)
    return Guide(denoiser, entries) if make_room is None else Guide(denoiser, entries, make_room)


def _masked(
    denoise: Denoiser, start: Tensor, noise: Tensor, noise_mask: Tensor | None, seed: int, sampler: Sampler
) -> Denoiser:
    if noise_mask is None:
        return denoise
    spec = SAMPLERS.get(sampler.name)
    if spec is not None and spec.fresh_mask_noise:
        noise = initial_noise(noise.cpu(), (seed + 1) & _HIGHEST_SEED).to(noise)
    return Masked(denoise, start, noise, fit_mask(noise_mask, start))


def _hooks(model: Model, known: Mapping[str, MakeHook]) -> tuple[GuidanceHook, ...]:
    found = []
    for patch in model.patches:
        if patch.kind != "guidance":
            continue
        if patch.name not in known:
            raise NodeError(
                f"the model carries a guidance patch {patch.name!r} that this version does not know.",
                input="model",
                allowed=", ".join(known) or "none",
            )
        found.append(known[patch.name](patch))
    return tuple(found)


def _on_link(x: Tensor, latent: Latent, model: Model) -> Latent:
    return replace(latent, samples=out_of_network(x.float(), model.latent_format).cpu())
