"""Würstchen under a budget: the stages take turns, and Stage A decodes in tiles without a seam."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nodegraph.events import Event, NodeProgress
from nodegraph.node import Folders, Runtime
from nodegraph.registry import Registry
from nodegraph.session import Session
from nodegraph.workflow import Workflow
from nodes.models.pool import ModelPool
from nodes.pack import PACK
from tests.nodes.wuerstchen import tiny
from tests.nodes.wuerstchen.tiny import Published

WORKFLOW = Workflow.load(Path(__file__).parents[3] / "workflows" / "wuerstchen.json")
STAGE_C, STAGE_B, STAGE_A = "6", "10", "11"


@pytest.fixture(scope="module")
def models(tiny_wuerstchen: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("turns")
    tiny.shared(tiny_wuerstchen, root / "diffusers" / "shapes-wuerstchen")
    return root


@contextmanager
def opened(models: Path, place: Path, budget: int = 0) -> Iterator[tuple[Session, ModelPool]]:
    """A session with a budget of the device in bytes, and its pool."""
    runtime = Runtime(Folders((models,), place, place, place), dtype="fp32", device_budget=budget)
    with Session(Registry.from_packs([PACK]), runtime) as session:
        yield session, session.resources.get(ModelPool)


def parts(pool: ModelPool) -> list[tuple[str, str]]:
    """Whose modules the pool holds: the folder and the part."""
    return [(weights.paths[0].parent.name, weights.part) for weights in pool.holds()]


def test_the_stages_take_turns_under_a_budget(models: Path, tmp_path: Path) -> None:
    workflow = WORKFLOW.with_values({"steps": 2, "stage_b_steps": 2})
    sizes = []
    with opened(models, tmp_path) as (session, pool):
        for target in (STAGE_C, STAGE_B):
            session.run(workflow, targets=[target]).raise_for_status()
            while len(pool.holds()) > 1:
                pool.release(1)
            sizes.append(pool.held())
        picture = session.run(workflow, targets=[STAGE_A]).outputs[STAGE_A][0].pixels
    budget = max(sizes) + min(sizes) // 2
    held = []
    with opened(models, tmp_path, budget) as (session, pool):
        for target in (STAGE_C, STAGE_B, STAGE_A):
            result = session.run(workflow, targets=[target]).raise_for_status()
            assert pool.held() <= budget
            held.append(parts(pool))
        again = result.outputs[STAGE_A][0].pixels
    assert held[0] == [("prior", "unet")]
    assert held[1] == [("decoder", "unet")]
    assert held[2][-1] == ("vqgan", "vae")
    assert torch.equal(picture, again)


def test_stage_a_shows_no_seam_under_a_budget(models: Path, tmp_path: Path) -> None:
    workflow = WORKFLOW.with_values({"steps": 1, "stage_b_steps": 1, "width": 512, "height": 384})
    pictures: list[Tensor] = []
    tiles: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, NodeProgress) and event.node == STAGE_A:
            tiles.append(event.total)

    for budget in (0, 3_000_000):
        assert tiles == []
        with opened(models, tmp_path, budget) as (session, _):
            result = session.run(workflow, targets=[STAGE_A], on_event=note).raise_for_status()
            pictures.append(result.outputs[STAGE_A][0].pixels)
    assert tiles[0] > 1
    assert float((pictures[0] - pictures[1]).abs().max()) < 0.01 / 255
