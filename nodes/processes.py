"""Nodes that lay diffusion out to be looked at: the forward process, level by level, and the reverse, step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, NamedTuple

import torch

from nodegraph.node import UNKNOWN, Choice, Context, Forecast, NodeError, Range, Runtime, Widget, node
from nodes import estimates
from nodes.diffusion.model_denoiser import into_network, out_of_network
from nodes.diffusion.noising import noised
from nodes.diffusion.parametrisation import Parametrisation
from nodes.diffusion.sampling import draw_noise, fit_channels
from nodes.diffusion.trajectory import Trajectory
from nodes.forms import LatentForm, decoded, encoded, sampled
from nodes.models.pixel_folder import pixel_vae
from nodes.models.pool import ModelPool
from nodes.pairing import format_of
from nodes.sampling import Scale, Seed, cfg_guider, run_guider
from nodes.values import Conditioning, Image, Latent, Model, Sampler, Sigmas, Vae

Pictures = Annotated[int, Range(2, 1000)]


class NoisedPair(NamedTuple):
    """The pictures at each noise level, and their latents."""

    IMAGE: Image
    LATENT: Latent


class SampledStrips(NamedTuple):
    """What sampling ended in, and the noisy latents and the estimates of the clean one on the way."""

    output: Latent
    noisy: Latent
    denoised: Latent


def _foresee_forward(
    model: object,
    pixels: object,
    latent_image: object,
    vae: object,
    sigmas: object,
    levels: object,
    runtime: Runtime,
) -> Forecast:
    _check_given(pixels, latent_image)
    if not isinstance(model, Model):
        return Forecast()
    coder = _coder(model, vae) if isinstance(vae, Vae | None) else UNKNOWN
    start = latent_image if pixels is None else encoded(pixels, coder)
    form = _several(sampled(model, start, ()), levels if sigmas is None else UNKNOWN)
    # Decoding takes more than encoding the pictures before it does.
    return Forecast((decoded(form, coder), form), estimates.decoding(runtime, coder, form))


@node("ForwardDiffusion", category="sampling/custom_sampling", lane="device", foresee=_foresee_forward)
def forward_diffusion(
    *,
    ctx: Context,
    model: Model,
    seed: Seed = 0,
    unit: Annotated[str, Choice(("timestep", "sigma")), Widget(tooltip="What `first` and `last` count in.")],
    first: Annotated[float, Range(0.0, 10000.0, step=0.01, round=False)] = 0.0,
    last: Annotated[float, Range(0.0, 10000.0, step=0.01, round=False)] = 999.0,
    levels: Annotated[int, Range(1, 1000), Widget(tooltip="How many; a single one is at `last`.")] = 8,
    pixels: Image | None = None,
    latent_image: Latent | None = None,
    vae: Vae | None = None,
    sigmas: Sigmas | None = None,
) -> NoisedPair:
    """Noises pictures as training does: at one noise level of a model, or as a strip of levels evenly spaced.

    Takes `pixels` or `latent_image`; a model that works on latents needs its `vae`. The levels run from `first` to `last`,
    in timesteps or in sigma, or are those of `sigmas`. Every level of a picture has the same noise, drawn from `seed`. What
    is returned is what the network is given: signal and noise together keep their spread. All levels of a picture follow
    one another. Raises NodeError for levels that the model does not have.
    """
    _check_given(pixels, latent_image)
    coder = _coder(model, vae)
    if pixels is not None:
        with ctx.resource(ModelPool).vae(coder) as autoencoder:
            latent_image = Latent(autoencoder.encode(pixels.pixels), downscale=coder.latent_format.downscale)
    assert latent_image is not None
    latent = fit_channels(latent_image, model)
    chosen = (
        _levels(model.parametrisation, unit, first, last, levels)
        if sigmas is None
        else sigmas.values.tolist()
    )
    start = into_network(latent.samples.to("cpu", torch.float32), model.latent_format)
    noise = draw_noise(latent, seed)
    strip = [noised(start, noise, model.parametrisation, sigma=level, as_given=True) for level in chosen]
    samples = out_of_network(torch.stack(strip, dim=1).flatten(0, 1), model.latent_format)
    with ctx.resource(ModelPool).vae(coder) as autoencoder:
        pictures = Image(autoencoder.decode(samples))
    return NoisedPair(pictures, Latent(samples, downscale=model.latent_format.downscale))


def _foresee_trajectory(
    model: object,
    positive: object,
    negative: object,
    latent_image: object,
    pictures: object,
    runtime: Runtime,
    cfg: object,
) -> Forecast:
    form = sampled(model, latent_image, (("positive", positive), ("negative", negative)))
    strip = _several(form, pictures)
    read = (positive,) if cfg == 1.0 else (positive, negative)
    return Forecast((form, strip, strip), estimates.sampling(runtime, model, form, read))


@node("SamplerTrajectory", category="sampling/custom_sampling", lane="device", foresee=_foresee_trajectory)
def sampler_trajectory(
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
    pictures: Annotated[
        Pictures, Widget(tooltip="How many of the steps to show, the first and the end included.")
    ] = 8,
) -> SampledStrips:
    """Denoises as SamplerCustom does, and shows the way: what the network was given, and what it made of it.

    `noisy` and `denoised` are batches of `pictures` latents at evenly chosen steps, the last of them the outcome; those of
    one sample follow one another. Where there are fewer steps they repeat.
    """
    way = Trajectory(model.parametrisation)
    guider, drawn = cfg_guider(model, positive, negative, cfg), noise_seed if add_noise else None
    output, _ = run_guider(ctx, guider, drawn, noise_seed, sampler, sigmas, latent_image, way)
    latents = model.latent_format
    strips = way.strips(into_network(output.samples, latents), pictures)
    noisy, denoised = (
        Latent(out_of_network(strip, latents), downscale=latents.downscale) for strip in strips
    )
    return SampledStrips(output, noisy, denoised)


def _several(form: LatentForm, count: object) -> LatentForm:
    known = form.batch is not None and isinstance(count, int)
    return replace(form, batch=form.batch * count if known else None)  # type: ignore[operator]


def _levels(
    parametrisation: Parametrisation, unit: str, first: float, last: float, count: int
) -> list[float]:
    """The sigmas of `count` levels from `first` to `last`, evenly spaced in `unit`."""
    low, high = 0.0, parametrisation.sigma_max
    if unit == "timestep":
        low, high = sorted(map(parametrisation.timestep, (parametrisation.sigma_min, high)))
    for name, value in (("first", first), ("last", last)):
        # What messages print, rounded, is within.
        if not low <= value <= high * (1 + 1e-5):
            raise NodeError(
                f"the model has no noise level at {unit} {value:g}.",
                input=name,
                found=f"{value:g}",
                allowed=f"{low:g} to {high:g}",
            )
    places: list[float] = torch.linspace(first, last, count).tolist() if count > 1 else [last]
    return [parametrisation.sigma(place) if unit == "timestep" else place for place in places]


def _check_given(pixels: object, latent_image: object) -> None:
    """Raise NodeError unless one of the two is given."""
    if (pixels is None) == (latent_image is None):
        raise NodeError(
            "the pictures to noise are given as pixels or as a latent.",
            input="pixels",
            found="neither" if pixels is None else "both",
        )


def _coder(model: Model, vae: Vae | None) -> Vae:
    """The autoencoder of the model's pictures, which needs no choosing for a pixel-space model.

    Raises NodeError for one of other latents, and for none where the model works on latents.
    """
    wanted = model.latent_format
    if vae is None and wanted.name == "pixels":
        return pixel_vae(wanted.channels)
    if vae is None or vae.latent_format.name != wanted.name:
        raise NodeError(
            "the model works on latents: it needs its VAE to show pictures."
            if vae is None
            else "the VAE does not fit the model.",
            input="vae",
            found="none" if vae is None else f"the VAE of {format_of(vae.latent_format)}",
            allowed=f"the VAE of {format_of(wanted)}",
            hint="Connect the VAE of the model's loader.",
        )
    return vae
