"""Pixel-space models through the nodes: loading, empty starts, classes, sampling by the stock nodes, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nodegraph.node import NodeError
from nodes.conditioning import conditioning_combine, conditioning_set_area
from nodes.diffusion.parametrisation import Discrete
from nodes.diffusion.sampling import fit_channels
from nodes.diffusion.sampling import sample as drive
from nodes.latents import empty_latent_image
from nodes.pixel_space import (
    class_conditioning,
    empty_conditioning,
    empty_pixel_latent,
    pixel_model_loader,
)
from nodes.sampling import ksampler
from nodes.stable_diffusion.loaders import diffusers_loader, vae_loader
from nodes.stable_diffusion.vae import vae_decode, vae_encode, vae_encode_for_inpaint
from nodes.values import Cond, Conditioning, Guider, Image, Latent, Mask, Model, Sampler, Sigmas
from tests.nodes.diffusion.toy_network import ToyNetwork
from tests.nodes.diffusion.toy_network import model as latent_model
from tests.nodes.pixel_models import TINY, make_pixel_model

NAMES = ["red circle", "blue circle", "red star"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with a model of four classes, three of them named, and a grey one without classes."""
    root = tmp_path_factory.mktemp("models")
    make_pixel_model(root / "diffusers" / "classes", {**TINY, "num_class_embeds": 4}, class_names=NAMES)
    make_pixel_model(root / "diffusers" / "grey", {**TINY, "in_channels": 1, "out_channels": 1}, flat=True)
    return root


@pytest.fixture
def context(make_context: Any, root: Path) -> Any:
    made = make_context()
    made.folders.models[0].symlink_to(root)
    return made


def load(context: Any, name: str) -> Model:
    return pixel_model_loader(ctx=context, model_path=name).MODEL


def sample(context: Any, model: Model, positive: Conditioning, latent: Latent, **options: Any) -> Latent:
    given: dict[str, Any] = {"cfg": 1.0, "negative": positive, "steps": 3, "sampler_name": "euler"}
    given |= {"scheduler": "normal", "seed": 5, **options}
    return ksampler(ctx=context, model=model, positive=positive, latent_image=latent, **given)


def test_the_stock_nodes_make_a_picture(context: Any) -> None:
    model, vae = pixel_model_loader(ctx=context, model_path="classes")
    positive = class_conditioning(model=model, class_name="red star")
    made = sample(context, model, positive, empty_pixel_latent(16, 24, 2))
    assert made.samples.shape == (2, 3, 24, 16) and made.downscale == 1
    assert float(made.samples.abs().max()) <= 1.0, "estimates are clipped to the range of pixels"
    pixels = vae_decode(ctx=context, samples=made, vae=vae).pixels
    assert torch.equal(pixels, (made.samples / 2 + 0.5).movedim(1, -1))
    assert pixels.std() > 0.01


def test_an_empty_latent_of_any_node_has_the_size_that_was_asked_for(context: Any) -> None:
    model = load(context, "classes")
    positive = class_conditioning(model=model, class_name="1")
    for_latents = empty_latent_image(16, 24, 1)
    assert for_latents.samples.shape == (1, 4, 3, 2)
    made, wanted = (
        sample(context, model, positive, latent) for latent in (for_latents, empty_pixel_latent(16, 24, 1))
    )
    assert torch.equal(made.samples, wanted.samples)
    assert fit_channels(empty_pixel_latent(64, 128, 1), latent_model()).samples.shape == (1, 4, 16, 8)
    assert fit_channels(for_latents, latent_model()).samples.shape == (1, 4, 3, 2)


def test_a_model_of_grey_pictures_goes_through_the_same_nodes(context: Any) -> None:
    model, vae = pixel_model_loader(ctx=context, model_path="grey")
    made = sample(context, model, empty_conditioning(), empty_pixel_latent(8, 8))
    assert made.samples.shape == (1, 1, 8, 8)
    pixels = vae_decode(ctx=context, samples=made, vae=vae).pixels
    assert pixels.shape == (1, 8, 8, 3) and torch.equal(pixels[..., 0], pixels[..., 2])
    encoded = vae_encode(ctx=context, pixels=Image(pixels), vae=vae)
    assert torch.allclose(encoded.samples, made.samples, atol=1e-6)


def test_the_autoencoder_changes_the_range_alone(context: Any) -> None:
    vae = vae_loader(ctx=context, vae_name="pixel_space")
    assert vae == pixel_model_loader(ctx=context, model_path="classes").VAE
    pixels = torch.rand(2, 5, 7, 3)
    latent = vae_encode(ctx=context, pixels=Image(pixels), vae=vae)
    assert torch.allclose(latent.samples, pixels.movedim(-1, 1) * 2 - 1) and latent.downscale == 1
    assert torch.allclose(vae_decode(ctx=context, samples=latent, vae=vae).pixels, pixels, atol=1e-6)
    masked = vae_encode_for_inpaint(
        ctx=context, pixels=Image(pixels), vae=vae, mask=Mask(torch.ones(1, 5, 7)), grow_mask_by=0
    )
    assert masked.samples.abs().max() < 1e-6, "what is to be painted is grey, which is zero"


def test_a_picture_is_repainted_within_its_mask(context: Any) -> None:
    model, vae = pixel_model_loader(ctx=context, model_path="classes")
    mask = torch.zeros(1, 8, 8)
    mask[:, :, 4:] = 1.0
    pixels = torch.rand(1, 8, 8, 3)
    latent = vae_encode_for_inpaint(
        ctx=context, pixels=Image(pixels), vae=vae, mask=Mask(mask), grow_mask_by=0
    )
    made = sample(context, model, class_conditioning(model=model, class_name="0"), latent)
    painted = vae_decode(ctx=context, samples=made, vae=vae).pixels
    assert torch.allclose(painted[:, :, :4], pixels[:, :, :4], atol=1e-5)
    assert not torch.allclose(painted[:, :, 4:], pixels[:, :, 4:], atol=0.05)


def test_classes_are_told_by_name_or_number(context: Any) -> None:
    model = load(context, "classes")

    def label(name: str) -> int:
        (entry,) = class_conditioning(model=model, class_name=name).entries
        assert entry.context.shape == (1, 1, 0)
        return int(entry.extras["class_labels"])

    assert [label(name) for name in ("red circle", " Red  STAR ", "3", "0")] == [0, 2, 3, 0]


def test_guidance_moves_from_one_class_to_another(context: Any) -> None:
    model = load(context, "classes")
    positive, negative = (class_conditioning(model=model, class_name=name) for name in ("red star", "3"))
    latent = empty_pixel_latent(8, 8, 2)
    options: dict[str, Any] = {"steps": 1, "scheduler": "simple", "negative": negative}

    def x0(conditioning: Conditioning, scale: float) -> torch.Tensor:
        return sample(context, unclipped(model), conditioning, latent, cfg=scale, **options).samples

    wanted = x0(negative, 1.0) + (x0(positive, 1.0) - x0(negative, 1.0)) * 3.0
    assert torch.allclose(x0(positive, 3.0), wanted, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(x0(positive, 1.0), x0(negative, 1.0), rtol=1e-3)


def unclipped(model: Model) -> Model:
    """The same model whose estimates may take any value."""
    assert isinstance(model.parametrisation, Discrete) and model.parametrisation.clip_range == 1.0
    return replace(model, parametrisation=replace(model.parametrisation, clip_range=None))


def test_an_area_is_in_pixels_of_the_picture(context: Any) -> None:
    model, latent = load(context, "classes"), empty_pixel_latent(16, 16)
    here, everywhere = (class_conditioning(model=model, class_name=name) for name in ("red star", "3"))
    part = conditioning_set_area(here, width=64, height=64, x=8, y=0)
    both = conditioning_combine(part, everywhere)
    options: dict[str, Any] = {"steps": 1, "scheduler": "simple"}
    mixed, plain = (sample(context, model, item, latent, **options).samples for item in (both, everywhere))
    # The x0 of the rest of the picture is its own: only attention carries further, and areas are evaluated apart.
    assert torch.allclose(mixed[..., :8], plain[..., :8], atol=1e-5)
    assert not torch.allclose(mixed[..., 8:], plain[..., 8:], atol=1e-3)


def test_what_does_not_go_together_is_refused(context: Any) -> None:
    classes, grey = load(context, "classes"), load(context, "grey")
    with pytest.raises(NodeError, match="no class 'red stars'") as caught:
        class_conditioning(model=classes, class_name="red stars")
    assert caught.value.hint is not None and "'red star'" in caught.value.hint
    assert caught.value.allowed == "0 to 3, or red circle, blue circle, red star"
    with pytest.raises(NodeError, match="no class '4'"):
        class_conditioning(model=classes, class_name="4")
    for model in (grey, latent_model()):
        with pytest.raises(NodeError, match="knows no classes"):
            class_conditioning(model=model, class_name="1")
    with pytest.raises(NodeError, match="holds a pixel-space model") as caught:
        diffusers_loader(ctx=context, model_path="classes")
    assert caught.value.hint == "Load it with PixelModelLoader."


@pytest.mark.parametrize(
    ("name", "given", "match"),
    [
        ("classes", "text", "reads no text"),
        ("grey", "text", "reads no text"),
        ("grey", "class", "it knows no classes"),
        ("classes", "nothing", "one of 4 classes"),
        ("classes", "class 9", "has 4 classes"),
    ],
)
def test_conditionings_of_other_models_are_refused(context: Any, name: str, given: str, match: str) -> None:
    conditionings = {
        "text": Conditioning((Cond(torch.zeros(1, 77, 768)),)),
        "nothing": empty_conditioning(),
        "class": class_conditioning(model=load(context, "classes"), class_name="0"),
        "class 9": Conditioning((Cond(torch.zeros(1, 1, 0), extras={"class_labels": torch.tensor([9])}),)),
    }
    with pytest.raises(NodeError, match=match) as caught:
        sample(context, load(context, name), conditionings[given], empty_pixel_latent(8, 8))
    assert caught.value.input == "positive"


def test_a_class_is_nothing_to_a_model_that_reads_text() -> None:
    guider, latent = (
        Guider("basic", latent_model(), (("positive", empty_conditioning()),)),
        empty_pixel_latent(8, 8),
    )
    levels = Sigmas(torch.tensor([1.0, 0.0]))
    with pytest.raises(NodeError, match="reads encodings 16 numbers wide"):
        drive(ToyNetwork(), guider, latent.samples, 1, Sampler("euler"), levels, latent)


def test_pictures_of_latents_are_not_pixels(context: Any) -> None:
    model = load(context, "classes")
    positive = class_conditioning(model=model, class_name="0")
    with pytest.raises(NodeError, match="pixel works on latents with 3 channels"):
        sample(context, model, positive, Latent(torch.ones(1, 4, 8, 8)))
