"""What nodes say of their outputs before they run is what they give."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import PIL.Image
import pytest
import torch
from PIL import ExifTags

from nodegraph.node import UNKNOWN, Forecast, NodeError, Runtime, spec_of
from nodes import latent_batches, latents
from nodes.conditioning import conditioning_average, conditioning_combine, conditioning_set_area
from nodes.forms import CondForm, ConditioningForm, ImageForm, LatentForm
from nodes.image_files import load_image, load_image_output
from nodes.images import empty_image, image_scale, image_scale_by
from nodes.values import Cond, Conditioning, Image, Latent
from tests.nodes.conftest import DirectContext

SAMPLES = torch.rand(2, 4, 12, 20)
PICTURES = torch.rand(2, 30, 50, 3)


def foreseen(function: Callable[..., Any], **inputs: Any) -> Any:
    """What a node says of its one output."""
    spec = spec_of(function)
    assert spec is not None and spec.foresee is not None
    takes = inspect.signature(spec.foresee).parameters
    everything = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in takes.values())
    forecast = spec.foresee(**{name: item for name, item in inputs.items() if everything or name in takes})
    assert isinstance(forecast, Forecast)
    (found,) = forecast.outputs or (UNKNOWN,)
    return found


def form_of(given: Any) -> Any:
    """A value's form; what is no value of a link stays as it is."""
    if isinstance(given, Latent):
        batch, channels, height, width = given.samples.shape
        empty = not given.samples.any()
        return LatentForm(batch, channels, height, width, "some", empty, given.downscale)
    if isinstance(given, Image):
        return ImageForm(*given.pixels.shape)
    if isinstance(given, Conditioning):
        return ConditioningForm(tuple(CondForm(entry.context.shape[-1]) for entry in given.entries))
    return given


def latent(*shape: int) -> Latent:
    """A latent of a shape."""
    return Latent(torch.rand(*shape) + 0.1)


LATENTS: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (latents.latent_upscale, {"upscale_method": "bilinear", "width": 96, "height": 200, "crop": "disabled"}),
    (latents.latent_upscale, {"upscale_method": "bilinear", "width": 0, "height": 200, "crop": "disabled"}),
    (latents.latent_upscale, {"upscale_method": "bilinear", "width": 1000, "height": 0, "crop": "disabled"}),
    (latents.latent_upscale, {"upscale_method": "bilinear", "width": 0, "height": 0, "crop": "disabled"}),
    (latents.latent_upscale_by, {"upscale_method": "bilinear", "scale_by": 1.37}),
    (latents.latent_crop, {"width": 64, "height": 64, "x": 32, "y": 1000}),
    (latents.latent_crop, {"width": 512, "height": 512, "x": 0, "y": 16}),
    (latents.latent_rotate, {"rotation": "90 degrees"}),
    (latents.latent_rotate, {"rotation": "180 degrees"}),
    (latents.latent_flip, {"flip_method": "x-axis: vertically"}),
    (latents.latent_multiply, {"multiplier": 2.0}),
    (latent_batches.latent_from_batch, {"batch_index": 1, "length": 5}),
    (latent_batches.latent_from_batch, {"batch_index": 9, "length": 1}),
    (latent_batches.repeat_latent_batch, {"amount": 3}),
    (latent_batches.latent_batch_seed_behavior, {"seed_behavior": "fixed"}),
]


@pytest.mark.parametrize(("function", "inputs"), LATENTS, ids=lambda item: getattr(item, "__name__", ""))
def test_a_changed_latent_has_the_form_that_was_said(
    function: Callable[..., Any], inputs: dict[str, Any]
) -> None:
    for downscale in (8, 1, 128 / 3):
        samples = Latent(SAMPLES, downscale=downscale)
        made = form_of(function(samples=samples, **inputs))
        assert foreseen(function, samples=form_of(samples), **inputs) == made
    assert foreseen(function, samples=UNKNOWN, **inputs) is UNKNOWN


PAIRS: list[tuple[Callable[..., Any], tuple[str, str]]] = [
    (latents.latent_composite, ("samples_to", "samples_from")),
    (latents.latent_composite_masked, ("destination", "source")),
    (latents.latent_add, ("samples1", "samples2")),
    (latents.latent_subtract, ("samples1", "samples2")),
    (latent_batches.latent_batch, ("samples1", "samples2")),
]


@pytest.mark.parametrize(("function", "names"), PAIRS, ids=lambda item: getattr(item, "__name__", ""))
def test_two_latents_in_one_keep_what_is_known_of_both(
    function: Callable[..., Any], names: tuple[str, str]
) -> None:
    one, other = Latent(SAMPLES), latent(1, 4, 6, 6)
    made = function(**dict(zip(names, (one, other), strict=True)))
    forms = {names[0]: form_of(one), names[1]: form_of(other)}
    assert foreseen(function, **forms) == form_of(made)
    unnamed = {**forms, names[0]: LatentForm(2, 4, 12, 20, empty=True)}
    assert (foreseen(function, **unnamed).format, foreseen(function, **unnamed).empty) == ("some", False)
    both = {name: LatentForm(1, 4, 8, 8, empty=True) for name in names}
    assert foreseen(function, **both).empty
    with pytest.raises(NodeError, match="different kinds of models") as caught:
        foreseen(function, **{**forms, names[1]: LatentForm(1, 4, 6, 6, format="sd1")})
    assert caught.value.input == names[1]
    assert "Stable Diffusion 1.x and 2.x" in str(caught.value.found)


def test_an_empty_latent_suits_every_model_until_something_is_in_it() -> None:
    made = latents.empty_latent_image(width=200, height=100, batch_size=3)
    form = foreseen(latents.empty_latent_image, width=200, height=100, batch_size=3)
    batch, channels, height, width = made.samples.shape
    assert form == LatentForm(batch, channels, height, width, empty=True)
    half = foreseen(latents.empty_latent_image, width=UNKNOWN, height=100, batch_size=3)
    assert half == LatentForm(3, 4, 12, None, empty=True)


@pytest.mark.parametrize(("width", "height"), [(40, 60), (0, 60), (33, 0), (0, 0)])
def test_a_scaled_picture_has_the_form_that_was_said(width: int, height: int) -> None:
    inputs: dict[str, Any] = {
        "upscale_method": "bilinear",
        "width": width,
        "height": height,
        "crop": "disabled",
    }
    made = image_scale(image=Image(PICTURES), **inputs)
    assert foreseen(image_scale, image=ImageForm(*PICTURES.shape), width=width, height=height) == form_of(
        made
    )
    assert foreseen(image_scale, image=UNKNOWN, width=width, height=height) is UNKNOWN
    by = image_scale_by(Image(PICTURES), "bilinear", 0.37)
    assert foreseen(image_scale_by, image=ImageForm(*PICTURES.shape), scale_by=0.37) == form_of(by)
    assert foreseen(empty_image, width=9, height=7, batch_size=2) == form_of(empty_image(9, 7, 2))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_picture_file_is_known_by_its_header(context: DirectContext, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    PIL.Image.new("RGB", (40, 30)).save(context.folders.input / "a.jpg", exif=exif)
    made = load_image("a.jpg", context).IMAGE
    spec = spec_of(load_image)
    assert spec is not None and spec.foresee is not None
    assert spec.foresee(image="a.jpg", runtime=context.runtime).outputs == (form_of(made), UNKNOWN)
    assert spec.foresee(image=UNKNOWN, runtime=context.runtime).outputs == ()


def test_frames_are_counted_when_they_are_read_and_what_is_no_picture_is_refused(
    context: DirectContext,
) -> None:
    frames = [PIL.Image.new("RGB", (8, 6), (90 * shade, 0, 0)) for shade in range(3)]
    context.folders.output.mkdir()
    frames[0].save(context.folders.output / "a.gif", save_all=True, append_images=frames[1:])
    (context.folders.output / "b.png").write_text("no picture")
    spec = spec_of(load_image_output)
    assert spec is not None and spec.foresee is not None
    (form, _) = spec.foresee(image="a.gif", runtime=context.runtime).outputs
    assert form == ImageForm(None, 6, 8, 3)
    with pytest.raises(NodeError, match="not a picture"):
        spec.foresee(image="b.png", runtime=Runtime(context.folders))


def test_conditionings_keep_their_width() -> None:
    one, other = (Conditioning((Cond(torch.zeros(1, 77, width)),)) for width in (8, 8))
    area: dict[str, Any] = {"width": 64, "height": 64}
    assert foreseen(conditioning_set_area, conditioning=form_of(one), **area) == form_of(
        conditioning_set_area(one, **area)
    )
    both = foreseen(conditioning_combine, conditioning_1=form_of(one), conditioning_2=form_of(other))
    assert both == form_of(conditioning_combine(one, other))
    assert foreseen(
        conditioning_average, conditioning_to=form_of(one), conditioning_from=form_of(other)
    ) == form_of(one)
    wide = ConditioningForm((CondForm(16),))
    with pytest.raises(NodeError, match="different kinds of text encoders") as caught:
        foreseen(conditioning_average, conditioning_to=form_of(one), conditioning_from=wide)
    assert caught.value.found == "16 and 8 numbers a token"
