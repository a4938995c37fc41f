"""A picture of the full-size network against the latents that ComfyUI wrote for the same workflow and weights.

Runs only where NODEGRAPH_PARITY names a folder with the checkpoint in `checkpoints/`: Stable Diffusion 1.5's
architecture with seeded random weights, 2.1 GB. The workflows are those in the reference files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import nodegraph
from nodegraph.session import Session
from nodes.values import Latent

REFERENCES = sorted((Path(__file__).parent / "data" / "parity").glob("*.latent"))
NAMES = ("parity-sd15.safetensors", "sd15_random.safetensors")


@pytest.fixture(scope="module")
def checkpoint() -> str:
    folder = os.environ.get("NODEGRAPH_PARITY")
    if not folder:
        pytest.skip(
            "set NODEGRAPH_PARITY to a folder with the full-size checkpoint to compare whole pictures"
        )
    for name in NAMES:
        if (Path(folder) / "checkpoints" / name).is_file():
            return name
    pytest.skip(f"{folder} holds no checkpoints/{NAMES[0]}")


@pytest.fixture(scope="module")
def session(checkpoint: str) -> Iterator[Session]:
    program = nodegraph.load({}, models_dir=os.environ["NODEGRAPH_PARITY"], device="cpu", dtype="fp32")
    yield program.session
    program.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("reference", REFERENCES, ids=lambda path: path.stem)
def test_picture_agrees_with_the_reference(reference: Path, checkpoint: str, session: Session) -> None:
    with safe_open(reference, "pt") as file:
        expected = file.get_tensor("latent_tensor")
        workflow = json.loads(file.metadata()["prompt"])
    program = nodegraph.load(workflow, session=session).with_inputs({"4.ckpt_name": checkpoint})
    (found,) = program.run(targets=["3"]).outputs["3"]
    assert isinstance(found, Latent)
    error = float((found.samples - expected).abs().max() / expected.abs().max())
    assert torch.isfinite(found.samples).all()
    assert error <= 1e-5, f"{error:.1e} of the largest magnitude"
