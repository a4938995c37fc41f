"""A picture of the full-size network against the latents that ComfyUI wrote for the same workflow and weights.

Runs only where NODEGRAPH_PARITY names a folder for the checkpoint, made there where it is missing: Stable Diffusion
1.5's architecture with seeded random weights, 2.1 GB. The workflows are those in the reference files.
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
from tests.nodes.models.test_parity import make_checkpoint

REFERENCES = sorted((Path(__file__).parent / "data" / "parity").glob("*.latent"))
NAME = "parity-sd15.safetensors"
FOLDER = os.environ.get("NODEGRAPH_PARITY", "")

pytestmark = [
    pytest.mark.skipif(
        not FOLDER, reason="set NODEGRAPH_PARITY=DIR to compare whole pictures (2.1 GB there)"
    ),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    checkpoint = Path(FOLDER) / "checkpoints" / NAME
    if not checkpoint.is_file():
        make_checkpoint(checkpoint)
    program = nodegraph.load({}, models_dir=FOLDER, device="cpu", dtype="fp32")
    yield program.session
    program.close()


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda path: path.stem)
def test_picture_agrees_with_the_reference(reference: Path, session: Session) -> None:
    with safe_open(reference, "pt") as file:
        expected = file.get_tensor("latent_tensor")
        workflow = json.loads(file.metadata()["prompt"])
    program = nodegraph.load(workflow, session=session).with_inputs({"4.ckpt_name": NAME})
    (found,) = program.run(targets=["3"]).outputs["3"]
    assert isinstance(found, Latent)
    error = float((found.samples - expected).abs().max() / expected.abs().max())
    assert torch.isfinite(found.samples).all()
    assert error <= 1e-5, f"{error:.1e} of the largest magnitude"
