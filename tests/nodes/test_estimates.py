"""What the built-in nodes say that they take of the device."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from nodegraph.node import Folders, Runtime
from nodegraph.registry import Registry
from nodegraph.session import Session
from nodegraph.usage import NodeUsage, Usage, usage
from nodegraph.workflow import Workflow
from nodes.models.pool import ModelPool
from nodes.pack import PACK
from tests.nodegraph.running import n

EMBEDDED = Path(__file__).parents[2] / "nodes/models/embedded/checkpoints/shapes-sd.safetensors"
TEXT_TO_IMAGE = Workflow.load(Path(__file__).parents[2] / "workflows" / "text_to_image.json")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    place = tmp_path_factory.mktemp("estimates")
    (place / "models" / "checkpoints").mkdir(parents=True)
    shutil.copy(EMBEDDED, place / "models" / "checkpoints" / EMBEDDED.name)
    for name in ("input", "output"):
        (place / name).mkdir()
    return Folders((place / "models",), place / "input", place / "output", place / "temp")


def taken(folders: Folders, workflow: Workflow, budget: int = 0, dtype: str = "fp32") -> Usage:
    """The estimate; nothing is loaded for it."""
    runtime = Runtime(folders, dtype=dtype, device_budget=budget)
    with Session(Registry.from_packs([PACK]), runtime) as session:
        graph = session.bind(workflow)
        found = usage(session.plan(graph), session.foresee(graph))
        assert session.resources.get(ModelPool).held() == 0
        return found


def of(usage: Usage, workflow: Workflow) -> dict[str, NodeUsage]:
    """By class type."""
    return {workflow.prompt[node]["class_type"]: item for node, item in usage.nodes.items()}


def test_a_picture_takes_what_its_networks_hold_and_work_with(folders: Folders) -> None:
    found = taken(folders, TEXT_TO_IMAGE)
    assert found.complete
    nodes = of(found, TEXT_TO_IMAGE)
    assert set(nodes) == {"CLIPTextEncode", "KSampler", "VAEDecode"}
    tensors = load_file(EMBEDDED)
    unet = [item for name, item in tensors.items() if name.startswith("model.diffusion_model.")]
    assert nodes["KSampler"].weights == sum(item.numel() for item in unet) * 4
    vae = [item for name, item in tensors.items() if name.startswith("first_stage_model.")]
    # On a CPU the autoencoder stays as it is stored.
    assert nodes["VAEDecode"].weights == sum(item.numel() * item.element_size() for item in vae)
    with Session(Registry.from_packs([PACK]), Runtime(folders, dtype="fp32")) as session:
        session.run(TEXT_TO_IMAGE).raise_for_status()
        held = session.resources.get(ModelPool).held()
    assert held == sum(item.weights for item in nodes.values())
    assert found.peak == held + (nodes["VAEDecode"].works or 0)


def test_half_the_format_takes_half(folders: Folders) -> None:
    full, half = (of(taken(folders, TEXT_TO_IMAGE, dtype=dtype), TEXT_TO_IMAGE) for dtype in ("fp32", "bf16"))
    assert half["KSampler"].weights * 2 == full["KSampler"].weights
    assert half["KSampler"].works == pytest.approx((full["KSampler"].works or 0) / 2, rel=0.1)


def test_larger_pictures_take_more_and_under_a_budget_tiles_do_not(folders: Folders) -> None:
    size = {"5.width": 512, "5.height": 512}
    large = TEXT_TO_IMAGE.with_inputs(size)
    small, free = of(taken(folders, TEXT_TO_IMAGE), TEXT_TO_IMAGE), of(taken(folders, large), large)
    for kind in ("KSampler", "VAEDecode"):
        assert free[kind].works == pytest.approx((small[kind].works or 0) * 16, rel=0.1)
    budget = free["VAEDecode"].weights + (free["VAEDecode"].works or 0) // 2
    tight = taken(folders, large, budget)
    assert tight.nodes["8"].peak <= budget
    assert (tight.nodes["8"].works or 0) < (free["VAEDecode"].works or 0) // 2 + 1


WAYS: dict[str, dict[str, Any]] = {
    "VAEEncode": {},
    "VAEEncodeTiled": {"tile_size": 64, "overlap": 32},
    "VAEDecodeTiled": {"tile_size": 64, "overlap": 32},
}


def test_every_way_through_the_autoencoder_says_what_it_takes(folders: Folders) -> None:
    prompt = {
        "c": n("CheckpointLoaderSimple", ckpt_name=EMBEDDED.name),
        "picture": n("EmptyImage", width=256, height=128),
        "latent": n("EmptyLatentImage", width=256, height=128),
        "VAEDecode": n("VAEDecode", samples=["latent", 0], vae=["c", 2]),
        "unknown": n("VAEDecode", samples=["cut", 0], vae=["c", 2]),
        "cut": n("LatentCut", samples=["latent", 0], dim="x"),
    }
    for kind, inputs in WAYS.items():
        given = {"samples": ["latent", 0]} if "Decode" in kind else {"pixels": ["picture", 0]}
        prompt[kind] = n(kind, vae=["c", 2], **given, **inputs)
    for kind in ("VAEDecode", "VAEDecodeTiled", "unknown"):
        prompt[f"show {kind}"] = n("PreviewImage", images=[kind, 0])
    for kind in ("VAEEncode", "VAEEncodeTiled"):
        prompt[f"save {kind}"] = n("SaveLatent", samples=[kind, 0])
    found = taken(folders, Workflow.from_data(prompt))
    assert {found.nodes[kind].weights for kind in WAYS} == {found.nodes["VAEDecode"].weights}
    whole, part = found.nodes["VAEDecode"].works, found.nodes["VAEDecodeTiled"].works
    assert whole is not None and part is not None
    assert part * 8 == pytest.approx(whole, rel=0.01)
    whole, part = found.nodes["VAEEncode"].works, found.nodes["VAEEncodeTiled"].works
    assert whole is not None and part is not None
    assert part * 8 == pytest.approx(whole, rel=0.01)
    assert found.nodes["unknown"].works is None
    assert not found.complete


def test_without_guidance_half_as_much_is_computed_at_once(folders: Folders) -> None:
    alone = TEXT_TO_IMAGE.with_inputs({"3.cfg": 1.0})
    both, one = of(taken(folders, TEXT_TO_IMAGE), TEXT_TO_IMAGE), of(taken(folders, alone), alone)
    assert one["KSampler"].works == pytest.approx((both["KSampler"].works or 0) / 2, rel=0.1)
