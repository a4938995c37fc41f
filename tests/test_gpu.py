"""What needs a GPU: the same pictures as on the CPU, and memory that is given back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import nodegraph
from nodes.models.pool import ModelPool

WORKFLOW = Path(__file__).parents[1] / "workflows" / "text_to_image.json"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


def picture(folder: Path, device: str, dtype: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The example's picture, (height, width, 3), 0..255."""
    with nodegraph.load(WORKFLOW, output_dir=folder, device=device, dtype=dtype) as program:
        image: Image.Image = program.run(seed=5).images[0]
    return np.asarray(image.convert("RGB"), dtype=np.float32)


def test_a_gpu_makes_the_picture_that_the_cpu_makes(tmp_path: Path) -> None:
    difference = np.abs(picture(tmp_path, "cuda", "fp32") - picture(tmp_path, "cpu", "fp32"))
    assert difference.mean() < 1.0
    assert difference.max() < 16.0


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_makes_nearly_the_same_picture(tmp_path: Path, dtype: str) -> None:
    difference = np.abs(picture(tmp_path, "cuda", dtype) - picture(tmp_path, "cpu", "fp32"))
    assert difference.mean() < 8.0


def test_the_pool_gives_device_memory_back(tmp_path: Path) -> None:
    before = torch.cuda.memory_allocated()
    with nodegraph.load(WORKFLOW, output_dir=tmp_path, device="cuda") as program:
        program.run(seed=5)
        pool = program.session.resources.get(ModelPool)
        assert pool.held() > 0
        assert torch.cuda.memory_allocated() > before
        pool.release(pool.held())
        assert pool.held() == 0
    assert torch.cuda.memory_allocated() - before < 1_000_000
