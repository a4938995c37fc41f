"""The workflows of several stages, run on tiny models: what they make, and what a change runs again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import save_file

from nodegraph.cli import main
from nodegraph.errors import ValidationError
from nodegraph.events import Event, NodeStarted
from nodegraph.node import Folders, Runtime
from nodegraph.registry import Registry
from nodegraph.session import Session
from nodegraph.workflow import Workflow
from nodes.pack import PACK
from tests.nodes.wuerstchen import tiny
from tests.nodes.wuerstchen.test_loaders import original, text_tensors, under, weights
from tests.nodes.wuerstchen.tiny import Published

WORKFLOWS = Path(__file__).parents[3] / "workflows"
SHAPES_SD = Path(__file__).parents[3] / "nodes/models/embedded/checkpoints/shapes-sd.safetensors"
PRIOR, DECODER, TEXT_C, TEXT_B, SIZE, STAGE_C, HANDED_OVER, STAGE_B, STAGE_A, SAVED = (
    {"1"},
    {"2"},
    {"3", "4"},
    {"7", "8"},
    {"5"},
    {"6"},
    {"9"},
    {"10"},
    {"11"},
    {"12"},
)
"""Ids of the nodes of wuerstchen.json."""


@pytest.fixture(scope="module")
def place(
    tiny_wuerstchen: Published, tiny_cascade: Published, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Models under the names that the workflows use."""
    root = tmp_path_factory.mktemp("stages")
    tiny.shared(tiny_wuerstchen, root / "models" / "diffusers" / "shapes-wuerstchen")
    (root / "models" / "checkpoints").mkdir()
    for stage, folder, part in (
        ("c", tiny_cascade.prior_folder, "prior"),
        ("b", tiny_cascade.decoder_folder, "decoder"),
    ):
        hints = {
            "unet": json.loads((folder / part / "config.json").read_text()),
            "text_encoder": {"heads": 4, "activation": "gelu"},
            "vae": {"stages": tiny.COMPRESSOR},
        }
        vae = weights(tiny_cascade.decoder_folder, "vqgan") if stage == "b" else tiny.stage_c_coder()
        tensors = {
            **under("model.diffusion_model.", original(weights(folder, part))),
            **text_tensors(folder),
            **under("vae.", vae),
        }
        path = root / "models" / "checkpoints" / f"stable_cascade_stage_{stage}.safetensors"
        save_file(tensors, path, metadata={"nodegraph": json.dumps(hints)})
    return root


@pytest.fixture
def session(place: Path, tmp_path: Path) -> Iterator[Session]:
    folders = Folders((place / "models",), tmp_path / "input", tmp_path / "output", tmp_path / "temp")
    (tmp_path / "output").mkdir()
    with Session(Registry.from_packs([PACK]), Runtime(folders, device="cpu", dtype="fp32")) as made:
        yield made


def started(session: Session, name: str, **values: Any) -> set[str]:
    """The nodes whose functions a run of the workflow calls."""
    events: list[Event] = []
    workflow = Workflow.load(WORKFLOWS / f"{name}.json").with_values(values)
    session.run(workflow, on_event=events.append).raise_for_status()
    return {event.node for event in events if isinstance(event, NodeStarted)}


FEW = {"steps": 3, "stage_b_steps": 2}


def test_a_change_runs_again_what_depends_on_it_alone(session: Session) -> None:
    first = started(session, "wuerstchen", **FEW)
    loaders = PRIOR | DECODER
    rest = TEXT_C | TEXT_B | SIZE | STAGE_C | HANDED_OVER | STAGE_B | STAGE_A | SAVED
    assert first | loaders == loaders | rest
    assert first >= rest
    assert started(session, "wuerstchen", **FEW) == set()
    assert started(session, "wuerstchen", **{**FEW, "stage_b_steps": 3}) == STAGE_B | STAGE_A | SAVED
    assert started(session, "wuerstchen", **FEW, cfg=3.0) == STAGE_C | HANDED_OVER | STAGE_B | STAGE_A | SAVED
    sampled = STAGE_C | HANDED_OVER | STAGE_B | STAGE_A | SAVED
    assert started(session, "wuerstchen", **FEW, prompt="a large red circle") == {"3", "7"} | sampled
    assert started(session, "wuerstchen", **FEW, seed=2) == sampled


@pytest.mark.parametrize(
    ("name", "values", "size", "count"),
    [
        ("wuerstchen", {**FEW, "count": 2}, (128, 128), 2),
        ("wuerstchen", {**FEW, "width": 256}, (256, 128), 1),
        ("wuerstchen_image_variation", FEW, (128, 128), 1),
        ("wuerstchen_stage_b", {"steps": 2}, (128, 128), 1),
        ("stable_cascade", {**FEW, "width": 256, "height": 320}, (256, 320), 1),
    ],
)
def test_a_workflow_makes_pictures(
    session: Session, name: str, values: dict[str, Any], size: tuple[int, int], count: int
) -> None:
    started(session, name, **values)
    found = sorted(session.runtime.folders.output.rglob("*.png"))
    assert len(found) == count
    for path in found:
        with Image.open(path) as picture:
            assert picture.size == size
            assert len(picture.getcolors(2**20) or ()) > 16


def test_missing_checkpoints_are_named_with_where_they_are_published(tmp_path: Path) -> None:
    folders = Folders((tmp_path,), tmp_path, tmp_path, tmp_path)
    with (
        Session(Registry.from_packs([PACK]), Runtime(folders, device="cpu")) as session,
        pytest.raises(ValidationError) as caught,
    ):
        session.bind(Workflow.load(WORKFLOWS / "stable_cascade.json"))
    problems = {problem.node: problem for problem in caught.value.problems}
    for node, stage in (("1", "c"), ("2", "b")):
        file = f"stable_cascade_stage_{stage}.safetensors"
        assert file in problems[node].message
        hint = problems[node].hint or ""
        assert (
            f"https://huggingface.co/stabilityai/stable-cascade/resolve/main/comfyui_checkpoints/{file}"
            in hint
        )
        assert str(tmp_path / "checkpoints") in hint


def test_a_missing_part_is_named(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "models", tmp_path / "models")
    shutil.rmtree(tmp_path / "models" / "diffusers" / "shapes-wuerstchen" / "vqgan")
    folders = Folders((tmp_path / "models",), tmp_path, tmp_path, tmp_path)
    with (
        Session(Registry.from_packs([PACK]), Runtime(folders, device="cpu")) as session,
        pytest.raises(ValidationError, match=r"lacks vqgan/diffusion_pytorch_model\.safetensors"),
    ):
        session.bind(Workflow.load(WORKFLOWS / "wuerstchen.json"))


@pytest.mark.parametrize(
    ("changes", "node", "said"),
    [
        ({"10.model": ["1", 0]}, "10", "is for a Stage B, and the model is none"),
        ({"6.model": ["2", 0]}, "6", "is given no result of Stage C"),
        ({"9.stage_c": ["5", 1]}, "9", "is no result of Stage C"),
        ({"11.samples": ["6", 0]}, "11", "does not fit the VAE"),
        ({"5.width": 64}, "5", "128"),
    ],
)
def test_wrong_pairings_are_refused_before_anything_runs(
    session: Session, changes: dict[str, Any], node: str, said: str
) -> None:
    document = json.loads((WORKFLOWS / "wuerstchen.json").read_text("utf-8"))
    for place, value in changes.items():
        one, name = place.split(".")
        document["prompt"][one]["inputs"][name] = value
    with pytest.raises(ValidationError) as caught:
        session.bind(Workflow.from_data(document))
    assert [problem.node for problem in caught.value.problems] == [node]
    assert said in str(caught.value)


NAMED: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "a Stage C model in Stage B's place": (
        {"10.model": ["1", 0]},
        "node 10",
        (
            "input positive",
            "it is wuerstchen_c",
            "Found: a result of Stage C beside the prompt",
            "Give the Stage B model",
        ),
    ),
    "a latent of Stable Diffusion into Stage A": (
        {"11.samples": ["encode", 0]},
        "node 11",
        (
            "Found: latents of Stable Diffusion 1.x and 2.x (sd1), 4 channels, of shape (1, 4, 16, 16)",
            "Allowed: latents of Stage B of Würstchen (wuerstchen_b), 4 channels",
            "Decode it with the VAE of the model that it comes from",
        ),
    ),
    "a size under the minimum": ({"5.width": 64}, "node 5", ("input width", "64", "128")),
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("command", ["run", "validate", "plan"])
def test_the_command_line_names_what_was_found_and_what_is_needed(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, command: str
) -> None:
    changes, node, parts = NAMED[name]
    document = json.loads((WORKFLOWS / "wuerstchen.json").read_text("utf-8"))
    document["prompt"] |= {
        "sd": {"class_type": "VAELoader", "inputs": {"vae_name": "sd.safetensors"}},
        "picture": {"class_type": "EmptyImage", "inputs": {"width": 128, "height": 128}},
        "encode": {"class_type": "VAEEncode", "inputs": {"pixels": ["picture", 0], "vae": ["sd", 0]}},
    }
    for one, value in changes.items():
        target, key = one.split(".")
        document["prompt"][target]["inputs"][key] = value
    (place / "models" / "vae").mkdir(exist_ok=True)
    shutil.copy(SHAPES_SD, place / "models" / "vae" / "sd.safetensors")
    (tmp_path / "w.json").write_text(json.dumps(document))
    words = [command, str(tmp_path / "w.json"), "--models-dir", str(place / "models")]
    with pytest.raises(SystemExit) as caught:
        main(words, Registry.from_packs([PACK]))
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith(f"error: {node} ")
    assert [part for part in parts if part not in err] == []
