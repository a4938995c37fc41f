"""The example workflows: they bind, their parameters set what they say, and editors can show them."""

from __future__ import annotations

import importlib
from itertools import combinations
from pathlib import Path

import pytest

from nodegraph.graph import check
from nodegraph.node import Folders, NodeSpec, spec_of
from nodegraph.workflow import Workflow
from nodes.pack import PACK

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
EXPECTED = {
    "area_prompts",
    "hires_fix",
    "image_to_image",
    "inpainting",
    "pixel_forward",
    "pixel_reverse",
    "seed_grid",
    "stable_cascade",
    "text_to_image",
    "wuerstchen",
    "wuerstchen_image_variation",
    "wuerstchen_stage_b",
}


@pytest.fixture(scope="module")
def specs() -> dict[str, NodeSpec]:
    found = {}
    for name in PACK.modules:
        for item in vars(importlib.import_module(name)).values():
            spec = spec_of(item)
            if spec is not None:
                found[spec.name] = spec
    return found


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Folders in which the models that the workflows name are listed, whatever is in them."""
    checkpoints = tmp_path / "models" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for name in ("shapes-sd", "stable_cascade_stage_b", "stable_cascade_stage_c"):
        (checkpoints / f"{name}.safetensors").touch()
    for name in ("ddpm-shapes", "shapes-wuerstchen"):
        folder = tmp_path / "models" / "diffusers" / name
        folder.mkdir(parents=True)
        (folder / "model_index.json").touch()
    return Folders((tmp_path / "models",), tmp_path / "input", tmp_path / "output", tmp_path / "temp")


def test_the_promised_workflows_are_there() -> None:
    assert {path.stem for path in WORKFLOWS} >= EXPECTED


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_binds_without_a_problem_or_warning(path: Path, specs: dict[str, NodeSpec], folders: Folders) -> None:
    report = check(Workflow.load(path), specs, folders)
    assert report.problems == ()
    assert report.warnings == ()
    assert report.graph is not None


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_is_written_as_the_writer_would(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == Workflow.load(path).dumps()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_declares_described_parameters_of_literal_inputs(path: Path) -> None:
    workflow = Workflow.load(path)
    assert workflow.title
    assert {"seed", "steps", "cfg", "negative"} <= set(workflow.parameters)
    for parameter in workflow.parameters.values():
        assert parameter.description
        for target in parameter.targets:
            assert not isinstance(workflow.prompt[target.node]["inputs"][target.input], list)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_nodes_lie_apart_and_have_titles(path: Path) -> None:
    boxes = {}
    for node_id, item in Workflow.load(path).prompt.items():
        meta = item["_meta"]
        assert meta["title"]
        (x, y), (width, height) = meta["pos"], meta["size"]
        boxes[node_id] = (x, y, x + width, y + height)
    for (first, a), (second, b) in combinations(boxes.items(), 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, f"nodes {first} and {second} overlap"
