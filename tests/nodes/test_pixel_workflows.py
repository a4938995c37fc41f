"""The workflows of pixel-space diffusion, run on a tiny random model in the place of the one that they name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import nodegraph
from nodegraph import Program
from tests.nodes.pixel_models import TINY, make_pixel_model

ROOT = Path(__file__).parents[2]
SIDE, SCALE, GAP = 32, 3, 6


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with a `ddpm-shapes` of two classes."""
    root = tmp_path_factory.mktemp("models")
    config = {**TINY, "num_class_embeds": 2}
    make_pixel_model(root / "diffusers" / "ddpm-shapes", config, class_names=["red star", "anything"])
    return root


@pytest.fixture
def program(models: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Program]:
    path = ROOT / "workflows" / f"{request.param}.json"
    with nodegraph.load(path, models_dir=models, output_dir=tmp_path, device="cpu") as loaded:
        yield loaded


def cells(program: Program, columns: int, **parameters: object) -> np.ndarray:
    """The pictures of the sheet that a run makes: (rows, columns, height, width, 3), 0..255."""
    (sheet,) = program.run(parameters).images
    pixels = np.asarray(sheet.convert("RGB"), dtype=np.int32)
    cell = SIDE * SCALE + GAP
    rows = (pixels.shape[0] + GAP) // cell
    assert pixels.shape == (rows * cell - GAP, columns * cell - GAP, 3)
    return np.stack(
        [
            [
                pixels[row * cell : (row + 1) * cell - GAP, column * cell : (column + 1) * cell - GAP]
                for column in range(columns)
            ]
            for row in range(rows)
        ]
    )


@pytest.mark.parametrize("program", ["pixel_forward"], indirect=True)
def test_pictures_dissolve_row_by_row(program: Program) -> None:
    made = cells(program, 5, steps=2, count=2, levels=5)
    assert made.shape[:2] == (2, 5)
    for row in made:
        steps = [float(np.abs(row[place] - row[0]).mean()) for place in range(5)]
        assert steps == sorted(steps) and steps[1] > 5
    assert not np.array_equal(made[0, 4], made[1, 4]), "each picture has its own noise"


@pytest.mark.parametrize("program", ["pixel_reverse"], indirect=True)
def test_noise_becomes_pictures_and_estimates_stand_below(program: Program) -> None:
    made = cells(program, 4, steps=6, count=2, shown=4, sampler="ddpm")
    assert made.shape[:2] == (4, 4)
    noisy, denoised = made[:2], made[2:]
    assert np.array_equal(noisy[:, -1], denoised[:, -1])
    assert not np.array_equal(noisy[0, 0], noisy[1, 0])
    result = program.run({"steps": 6, "count": 2, "shown": 4, "sampler": "ddpm", "shape": "anything"})
    assert "1" in result.cached and "7" in result.ran, "another class is sampled anew, of the same model"
