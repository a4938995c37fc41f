"""The forward process against DDPM's own, and the trajectory of a run against runs of its parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nodegraph.node import UNKNOWN, Forecast, NodeError, spec_of
from nodes.custom_sampling import SampledPair, basic_scheduler, sampler_custom
from nodes.diffusion.sampling import draw_noise
from nodes.forms import ImageForm, LatentForm
from nodes.models.pixel_folder import pixel_vae
from nodes.pixel_space import class_conditioning, empty_pixel_latent, pixel_model_loader
from nodes.processes import SampledStrips, forward_diffusion, sampler_trajectory
from nodes.sampler_options import ksampler_select
from nodes.stable_diffusion.loaders import load_checkpoint
from nodes.stable_diffusion.vae import vae_decode, vae_encode
from nodes.values import Cond, Conditioning, Image, Latent, Model, Sampler, Sigmas
from tests.nodes.pixel_models import TINY, make_pixel_model

ROOT = Path(__file__).parents[2]
EMBEDDED = ROOT / "nodes" / "models" / "embedded" / "checkpoints" / "shapes-sd.safetensors"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with a model of four classes."""
    root = tmp_path_factory.mktemp("models")
    make_pixel_model(root / "diffusers" / "classes", {**TINY, "num_class_embeds": 4})
    return root


@pytest.fixture
def context(make_context: Any, root: Path) -> Any:
    made = make_context()
    made.folders.models[0].symlink_to(root)
    return made


@pytest.fixture
def model(context: Any) -> Model:
    return pixel_model_loader(ctx=context, model_path="classes").MODEL


def forward(context: Any, model: Model, **inputs: Any) -> Any:
    return forward_diffusion(ctx=context, model=model, **{"unit": "timestep", "seed": 3, **inputs})


def pictures(count: int) -> Image:
    return Image(torch.rand(count, 6, 5, 3, generator=torch.Generator().manual_seed(count)))


def test_a_strip_is_what_ddpm_is_trained_on(context: Any, model: Model) -> None:
    from diffusers import DDPMScheduler

    image = pictures(2)
    made = forward(context, model, pixels=image, first=0.0, last=999.0, levels=4)
    x0 = image.pixels.movedim(-1, 1) * 2 - 1
    noise = draw_noise(Latent(x0), 3)
    scheduler = DDPMScheduler()
    for place, timestep in enumerate((0, 333, 666, 999)):
        wanted = scheduler.add_noise(x0, noise, torch.tensor([timestep]))
        # The levels of a picture follow one another.
        torch.testing.assert_close(made.LATENT.samples[place::4], wanted, rtol=1e-4, atol=1e-5)
        shown = (wanted / 2 + 0.5).clamp(0, 1).movedim(1, -1)
        torch.testing.assert_close(made.IMAGE.pixels[place::4], shown, rtol=1e-4, atol=1e-5)
    assert made.LATENT.downscale == 1


def test_a_single_level_and_levels_in_sigma(context: Any, model: Model) -> None:
    image, scale = pictures(1), model.parametrisation
    (level,) = forward(context, model, pixels=image, last=600.0, levels=1).LATENT.samples
    by_sigma = forward(context, model, pixels=image, unit="sigma", last=scale.sigma(600.0), levels=1)
    torch.testing.assert_close(by_sigma.LATENT.samples[0], level)
    strip = forward(context, model, pixels=image, unit="sigma", first=0.0, last=2.0, levels=3).LATENT.samples
    given = forward(context, model, pixels=image, sigmas=Sigmas(torch.tensor([0.0, 1.0, 2.0])))
    assert torch.equal(given.LATENT.samples, strip)
    torch.testing.assert_close(strip[:1], image.pixels.movedim(-1, 1) * 2 - 1)


def test_another_seed_is_other_noise_and_a_latent_is_as_good_as_an_image(context: Any, model: Model) -> None:
    image = pictures(1)
    latent = Latent(image.pixels.movedim(-1, 1) * 2 - 1, downscale=1)
    strips = [
        forward(context, model, levels=3, **given).LATENT.samples
        for given in ({"pixels": image}, {"latent_image": latent}, {"pixels": image, "seed": 4})
    ]
    assert torch.equal(strips[0], strips[1])
    assert not torch.allclose(strips[0][1:], strips[2][1:], atol=0.1)


def test_a_latent_model_dissolves_pictures_through_its_autoencoder(context: Any) -> None:
    model, _, vae = load_checkpoint(EMBEDDED)
    image = Image(torch.zeros(1, 64, 48, 3))
    made = forward(context, model, pixels=image, vae=vae, levels=2)
    assert made.IMAGE.pixels.shape == (2, 64, 48, 3)
    assert made.LATENT.samples.shape == (2, 4, 8, 6)
    clean = vae_encode(ctx=context, pixels=image, vae=vae)
    noise = draw_noise(clean, 3) / model.latent_format.scale
    torch.testing.assert_close(made.LATENT.samples[1:], noise, atol=2.0, rtol=0.0)
    torch.testing.assert_close(
        made.IMAGE.pixels, vae_decode(ctx=context, samples=made.LATENT, vae=vae).pixels
    )
    for other, message in ((None, "needs its VAE"), (pixel_vae(), "does not fit the model")):
        with pytest.raises(NodeError, match=message) as caught:
            forward(context, model, pixels=image, vae=other)
        assert caught.value.input == "vae"


@pytest.mark.parametrize(
    ("inputs", "field", "allowed"),
    [
        ({"last": 1000.0}, "last", "0 to 999"),
        ({"unit": "sigma", "first": 200.0}, "first", "0 to 157.407"),
        ({"pixels": None}, "pixels", None),
        ({"latent_image": Latent(torch.ones(1, 3, 6, 5))}, "pixels", None),
    ],
)
def test_what_cannot_be_is_refused(
    context: Any, model: Model, inputs: dict[str, Any], field: str, allowed: str | None
) -> None:
    with pytest.raises(NodeError) as caught:
        forward(context, model, **{"pixels": pictures(1), **inputs})
    assert (caught.value.input, caught.value.allowed) == (field, allowed)


def guided(model: Model) -> dict[str, Any]:
    """What a run takes beside its model, latent and levels."""
    positive, negative = (class_conditioning(model=model, class_name=name) for name in ("1", "3"))
    options = {"cfg": 2.0, "sampler": ksampler_select("ddim"), "noise_seed": 5, "add_noise": True}
    return {**options, "positive": positive, "negative": negative}


def trajectory(context: Any, model: Model, latent: Latent, **inputs: Any) -> SampledStrips:
    given = {**guided(model), **inputs}
    return sampler_trajectory(ctx=context, model=model, latent_image=latent, **given)


def part(context: Any, model: Model, latent: Latent, sigmas: torch.Tensor) -> SampledPair:
    """The run over some of its levels, without its trajectory."""
    levels = Sigmas(sigmas)
    return sampler_custom(ctx=context, model=model, latent_image=latent, sigmas=levels, **guided(model))


def test_a_trajectory_is_the_run_in_pictures(context: Any, model: Model) -> None:
    sigmas = basic_scheduler(model=model, scheduler="normal", steps=6)
    latent = empty_pixel_latent(8, 6, 2)
    strips = trajectory(context, model, latent, sigmas=sigmas, pictures=4)
    whole = part(context, model, latent, sigmas.values)
    assert torch.equal(strips.output.samples, whole.output.samples)
    assert strips.noisy.samples.shape == strips.denoised.samples.shape == (8, 3, 6, 8)
    assert strips.noisy.downscale == 1
    for strip in (strips.noisy, strips.denoised):
        assert torch.equal(strip.samples[3::4], strips.output.samples)
    # Of the seven states the first, third, fifth and last are shown; the first is the noise itself.
    torch.testing.assert_close(strips.noisy.samples[0::4], draw_noise(latent, 5))
    for place, steps in ((0, 1), (1, 3), (2, 5)):
        begun = part(context, model, latent, sigmas.values[: steps + 1])
        torch.testing.assert_close(strips.denoised.samples[place::4], begun.denoised_output.samples)
        if place:
            before = part(context, model, latent, sigmas.values[:steps]).output.samples
            level = float(sigmas.values[steps - 1])
            torch.testing.assert_close(
                strips.noisy.samples[place::4], before / (1 + level**2) ** 0.5, rtol=1e-4, atol=1e-5
            )


def test_few_steps_repeat_and_none_are_the_latent(context: Any, model: Model) -> None:
    latent = Latent(torch.rand(1, 3, 6, 8), downscale=1)
    short = trajectory(context, model, latent, sigmas=Sigmas(torch.tensor([2.0, 0.0])), pictures=4)
    noisy = short.noisy.samples
    assert torch.equal(noisy[0], noisy[1]) and torch.equal(noisy[2], noisy[3])
    assert not torch.equal(noisy[1], noisy[2])
    none = trajectory(context, model, latent, sigmas=Sigmas(torch.empty(0)), pictures=3)
    assert torch.equal(none.denoised.samples, latent.samples.repeat(3, 1, 1, 1))


def test_a_trajectory_of_latents_is_in_the_units_of_links(context: Any) -> None:
    model, latent = load_checkpoint(EMBEDDED).MODEL, Latent(torch.zeros(1, 4, 8, 8))
    prompt = Conditioning((Cond(torch.zeros(1, 77, 64)),))
    strips = sampler_trajectory(
        ctx=context,
        model=model,
        noise_seed=5,
        positive=prompt,
        negative=prompt,
        sampler=ksampler_select("euler"),
        sigmas=basic_scheduler(model=model, scheduler="normal", steps=2),
        latent_image=latent,
        pictures=2,
    )
    torch.testing.assert_close(strips.noisy.samples[1:], strips.output.samples)
    torch.testing.assert_close(strips.noisy.samples[:1], draw_noise(latent, 5) / model.latent_format.scale)


def test_a_latent_that_grows_on_the_way_is_shown_at_its_last_size(context: Any, model: Model) -> None:
    sampler = Sampler("lcm_upscale", (("scale_ratio", 2.0), ("upscale_method", "area")))
    strips = trajectory(
        context,
        model,
        empty_pixel_latent(8, 8),
        sampler=sampler,
        sigmas=basic_scheduler(model=model, scheduler="normal", steps=4),
        pictures=5,
    )
    assert strips.output.samples.shape == (1, 3, 16, 16)
    assert strips.noisy.samples.shape == strips.denoised.samples.shape == (5, 3, 16, 16)


def foreseen(context: Any, function: Any, **inputs: Any) -> tuple[Any, ...]:
    spec = spec_of(function)
    assert spec is not None and spec.foresee is not None
    forecast = spec.foresee(**inputs, runtime=context.runtime)
    assert isinstance(forecast, Forecast)
    return forecast.outputs


def test_forms_are_foreseen(context: Any, model: Model) -> None:
    given = {"latent_image": None, "vae": None, "sigmas": None, "levels": 3}
    image, latent = foreseen(context, forward_diffusion, model=model, pixels=ImageForm(2, 6, 5, 3), **given)
    assert image == ImageForm(6, 6, 5, 3)
    assert latent == LatentForm(6, 3, 6, 5, "pixels", downscale=1)
    with pytest.raises(NodeError, match="as pixels or as a latent"):
        foreseen(context, forward_diffusion, model=model, pixels=None, **given)
    with pytest.raises(NodeError, match="needs its VAE"):
        foreseen(context, forward_diffusion, model=load_checkpoint(EMBEDDED).MODEL, pixels=UNKNOWN, **given)
    empty = LatentForm(2, 4, 4, 4, empty=True)
    output, noisy, denoised = foreseen(
        context,
        sampler_trajectory,
        model=model,
        positive=UNKNOWN,
        negative=UNKNOWN,
        latent_image=empty,
        pictures=5,
        cfg=7.0,
    )
    assert output == LatentForm(2, 3, 32, 32, "pixels", downscale=1)
    assert noisy == denoised == replace(output, batch=10)
