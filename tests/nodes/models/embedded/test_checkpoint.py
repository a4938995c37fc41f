"""The model that ships: within its size, readable by its metadata, and drawing what it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import nodegraph
from nodes.models.detection import hints_of, need
from nodes.models.embedded.evaluate import judge
from nodes.models.embedded.export import MAX_BYTES
from nodes.models.embedded.shapes import Scene, single
from nodes.models.recipes import clip_recipe, model_recipe, vae_recipe
from nodes.models.tensor_file import TensorHeader, read_headers

ROOT = Path(__file__).parents[4]
FILE = ROOT / "nodes" / "models" / "embedded" / "checkpoints" / "shapes-sd.safetensors"


@pytest.fixture(scope="module")
def header() -> TensorHeader:
    return read_headers([FILE])


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nodegraph.Program]:
    folder = tmp_path_factory.mktemp("pictures")
    with nodegraph.load(ROOT / "workflows" / "text_to_image.json", output_dir=folder) as loaded:
        yield loaded


def test_it_is_small_half_precision_and_free(header: TensorHeader) -> None:
    assert FILE.stat().st_size <= MAX_BYTES
    assert {str(info.dtype) for info in header.tensors.values()} == {"torch.float16"}
    assert json.loads(header.metadata["nodegraph"])["license"] == "Apache-2.0"


def test_it_is_found_to_be_a_stable_diffusion_1(header: TensorHeader) -> None:
    hints = hints_of(header)
    model = model_recipe(need(header, "unet"), hints)
    assert model.family == "sd1"
    assert model.architecture["num_heads"] == 4
    assert model.architecture["norm_groups"] == 8
    assert clip_recipe(need(header, "text_encoder"), hints).architecture["vocabulary"] == 49408
    vae = vae_recipe(need(header, "vae"), hints)
    assert (vae.latent_format.downscale, vae.latent_format.scale) == (8, 0.18215)


@pytest.mark.parametrize(
    ("prompt", "scene"),
    [
        (
            "a large red circle on a blue background",
            single("circle", "red", "large", "blue", "centre", np.random.default_rng(0)),
        ),
        (
            "small yellow star, black background",
            single("star", "yellow", "small", "black", "centre", np.random.default_rng(0)),
        ),
        ("a plain green background", Scene("green", (), "empty")),
    ],
)
def test_it_draws_what_it_is_asked_for(program: nodegraph.Program, prompt: str, scene: Scene) -> None:
    (image,) = program.run(prompt=prompt, seed=1).images
    assert image.size == (128, 128)
    verdict = judge(np.asarray(image.convert("RGB")), scene)
    assert verdict.background and verdict.colour and verdict.shape and verdict.count, verdict
