"""Pixel-space models, latents and conditionings in the wrong places are refused before anything runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodegraph.node import Folders, Runtime
from nodegraph.registry import Registry
from nodegraph.session import Session
from nodegraph.workflow import Workflow
from nodes.models.pool import ModelPool
from nodes.pack import PACK
from tests.nodegraph.running import n
from tests.nodes.pixel_models import TINY, make_pixel_model

EMBEDDED = Path(__file__).parents[2] / "nodes/models/embedded/checkpoints/shapes-sd.safetensors"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A latent model and two pixel-space models, one of them without classes."""
    root = tmp_path_factory.mktemp("pairings")
    (root / "models" / "checkpoints").mkdir(parents=True)
    shutil.copy(EMBEDDED, root / "models" / "checkpoints" / "sd.safetensors")
    folders = root / "models" / "diffusers"
    make_pixel_model(folders / "classes", {**TINY, "num_class_embeds": 2}, class_names=["star", "anything"])
    make_pixel_model(folders / "plain")
    return root


@pytest.fixture
def session(place: Path) -> Iterator[Session]:
    folders = Folders((place / "models",), place / "input", place / "output", place / "temp")
    with Session(Registry.from_packs([PACK]), Runtime(folders)) as made:
        yield made


def picture(**changes: Any) -> dict[str, Any]:
    """A small picture of a class; `changes` are inputs of nodes, such as `sampler={"model": ["sd", 0]}`."""
    prompt = {
        "classes": n("PixelModelLoader", model_path="classes"),
        "plain": n("PixelModelLoader", model_path="plain"),
        "sd": n("CheckpointLoaderSimple", ckpt_name="sd.safetensors"),
        "star": n("ClassConditioning", model=["classes", 0], class_name="star"),
        "any": n("ClassConditioning", model=["classes", 0], class_name="anything"),
        "text": n("CLIPTextEncode", text="a star", clip=["sd", 1]),
        "nothing": n("EmptyConditioning"),
        "empty": n("EmptyPixelLatent", width=16, height=8),
        "for_latents": n("EmptyLatentImage", width=64, height=64),
        "photo": n("EmptyImage", width=64, height=64),
        "encoded": n("VAEEncode", pixels=["photo", 0], vae=["sd", 2]),
        "sampler": n(
            "KSampler",
            model=["classes", 0],
            positive=["star", 0],
            negative=["any", 0],
            latent_image=["empty", 0],
            steps=1,
            sampler_name="euler",
            scheduler="normal",
        ),
        "decode": n("VAEDecode", samples=["sampler", 0], vae=["classes", 1]),
        "save": n("PreviewImage", images=["decode", 0]),
    }
    for name, inputs in changes.items():
        prompt[name]["inputs"] |= inputs
    return prompt


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sampler": {"latent_image": ["for_latents", 0]}},
        {"sampler": {"model": ["plain", 0], "positive": ["nothing", 0], "negative": ["nothing", 0]}},
    ],
)
def test_what_goes_together_runs(session: Session, changes: dict[str, Any]) -> None:
    result = session.run(Workflow.from_data(picture(**changes))).raise_for_status()
    assert {"sampler", "save"} <= {*result.ran, *result.cached}


@pytest.mark.parametrize(
    ("changes", "node", "field", "message"),
    [
        ({"sampler": {"positive": ["text", 0]}}, "sampler", "positive", "pixel reads no text"),
        ({"sampler": {"negative": ["nothing", 0]}}, "sampler", "negative", "it draws one of 2 classes"),
        ({"sampler": {"model": ["plain", 0]}}, "sampler", "positive", "it knows no classes"),
        ({"sampler": {"model": ["sd", 0]}}, "sampler", "positive", "reads encodings 64 numbers wide"),
        ({"star": {"class_name": "stra"}}, "star", "class_name", "no class 'stra'"),
        ({"star": {"model": ["plain", 0]}}, "star", "model", "knows no classes"),
        ({"sampler": {"latent_image": ["encoded", 0]}}, "sampler", "latent_image", "latents with 3 channels"),
        ({"decode": {"vae": ["sd", 2]}}, "decode", "samples", "the latent does not fit the VAE"),
        ({"decode": {"samples": ["encoded", 0]}}, "decode", "samples", "the latent does not fit the VAE"),
    ],
)
def test_what_does_not_is_refused_before_anything_loads(
    session: Session, changes: dict[str, Any], node: str, field: str, message: str
) -> None:
    report = session.check(Workflow.from_data(picture(**changes)))
    assert session.resources.get(ModelPool).held() == 0
    (problem,) = report.problems
    assert (problem.node, problem.input) == (node, field)
    assert message in str(problem) and (problem.found or problem.allowed)
