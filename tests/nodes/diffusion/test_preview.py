"""Pictures of latents while they are sampled."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nodegraph.node import Runtime
from nodegraph.registry import Registry
from nodegraph.session import Session, default_folders
from nodegraph.workflow import Workflow
from nodes.diffusion.preview import EMBEDDED, PROJECTIONS, StepPreview, projection_of, to_rgb
from nodes.models.embedded.shapes import draw, random_scene
from nodes.models.recipes import SD1_LATENT
from nodes.models.wuerstchen_recipes import CASCADE_B, CASCADE_C, WUERSTCHEN_C
from nodes.pack import PACK
from nodes.values import Architecture, LatentFormat, Model

FORMATS = [SD1_LATENT, CASCADE_B, CASCADE_C]


def opened(data: bytes) -> NDArray[np.float32]:
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "JPEG"
        return np.asarray(picture, dtype=np.float32)


@pytest.mark.parametrize("latent_format", FORMATS, ids=lambda item: item.name)
def test_the_projection_is_linear_in_the_channels_of_its_format(latent_format: LatentFormat) -> None:
    projection = PROJECTIONS[latent_format.name]
    factors = torch.tensor(projection.factors)
    assert factors.shape == (latent_format.channels, 3)
    for channel in range(latent_format.channels):
        latent = torch.zeros(latent_format.channels, 2, 2)
        latent[channel, 0, 1] = 1.0
        found = to_rgb(latent, latent_format, projection).float() / 127.5 - 1.0
        assert torch.allclose(found[0, 1], factors[channel], atol=0.005)
        assert torch.allclose(found[1, 0], torch.zeros(3), atol=0.005)


def test_a_picture_is_as_large_as_the_finished_one_up_to_the_limit() -> None:
    for (height, width), limit, size in [
        ((8, 16), 512, (64, 128)),
        ((64, 128), 512, (256, 512)),
        ((128, 64), 100, (100, 50)),
        ((1, 1), 512, (8, 8)),
        ((600, 3), 512, (512, 3)),
    ]:
        preview = StepPreview(torch.randn(2, 4, height, width), SD1_LATENT, PROJECTIONS["sd1"])
        data = preview.jpeg(limit)
        assert opened(data).shape == (*size, 3)
        assert len(data) < 100_000


def test_pixels_are_shown_as_they_are() -> None:
    pixels = torch.tensor([[-1.0, 0.0], [1.0, 2.0]])
    grey = to_rgb(pixels[None], LatentFormat("pixels", 1, 1.0, 1), None)
    assert grey[..., 0].tolist() == grey[..., 2].tolist() == [[0, 128], [255, 255]]
    colours = to_rgb(torch.stack([pixels, -pixels, pixels]), LatentFormat("pixels", 3, 1.0, 1), None)
    assert colours[0, 0].tolist() == [0, 255, 0]


def test_a_space_without_a_projection_shows_the_shapes_of_the_picture() -> None:
    shape = torch.zeros(12, 12)
    shape[3:9, 3:9] = 1.0
    weights = torch.randn(16, 1, 1, generator=torch.Generator().manual_seed(1))
    noise = 0.1 * torch.randn(16, 12, 12, generator=torch.Generator().manual_seed(2))
    found = to_rgb(shape * weights + noise, WUERSTCHEN_C, None).float().mean(-1)
    assert abs(float(torch.corrcoef(torch.stack([found.flatten(), shape.flatten()]))[0, 1])) > 0.95


@pytest.mark.parametrize(
    "latent", [torch.zeros(16, 3, 3), torch.full((16, 3, 3), torch.nan), torch.ones(2, 1, 1)]
)
def test_no_latent_is_without_a_picture(latent: Tensor) -> None:
    found = to_rgb(latent, LatentFormat("other", len(latent), 1.0), None)
    assert found.shape == (*latent.shape[1:], 3) and found.dtype == torch.uint8


def test_the_embedded_models_previews_look_like_its_pictures(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("preview")
    drawn = draw(random_scene(np.random.default_rng(3)), 128, 128)
    Image.fromarray(drawn).save(folder / "a.png")
    prompt = {
        "c": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "shapes-sd.safetensors"}},
        "l": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "e": {"class_type": "VAEEncode", "inputs": {"pixels": ["l", 0], "vae": ["c", 2]}},
    }
    registry = Registry.from_packs([PACK])
    folders = default_folders(input=folder, output=folder, pack_roots=registry.model_roots)
    with Session(registry, Runtime(folders, device="cpu")) as session:
        result = session.run(Workflow.from_data(prompt), targets=["c", "e"])
    model, latent = result.outputs["c"][0], result.outputs["e"][0]
    assert isinstance(model, Model) and projection_of(model) is EMBEDDED
    preview = StepPreview(
        latent.samples * model.latent_format.scale, model.latent_format, projection_of(model)
    )
    shown = opened(preview.jpeg(128))
    off = np.abs(shown - drawn).mean()
    assert off < 32, f"mean difference {off}"
    # A published model of the same format is told by its width.
    wide = replace(model, architecture=Architecture("unet", (("model_channels", 320),)))
    assert projection_of(wide) is PROJECTIONS["sd1"]
    for latent_format in (CASCADE_C, WUERSTCHEN_C):
        found = projection_of(replace(wide, latent_format=latent_format))
        assert found is PROJECTIONS.get(latent_format.name)
