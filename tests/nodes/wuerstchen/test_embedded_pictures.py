"""The Würstchen that ships draws what it is asked for, through the command line and the workflows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nodegraph
from nodegraph.cli import main
from nodes.models.embedded.captions import words
from nodes.models.embedded.evaluate import Verdict, judge
from nodes.models.embedded.export import MAX_BYTES
from nodes.models.embedded.shapes import Scene, Thing
from tests.nodes.wuerstchen.conftest import EMBEDDED

WORKFLOWS = Path(__file__).parents[3] / "workflows"
STAR = Scene("black", (Thing("star", "yellow", "small", 0.5, 0.5, 0.14),), "single")


def right(path: Path, scene: Scene) -> bool:
    with Image.open(path) as picture:
        verdict = judge(np.asarray(picture.convert("RGB")), scene)
    return verdict == Verdict(*[True] * 6)


def test_the_weights_are_small_and_say_what_they_are() -> None:
    files = list(EMBEDDED.rglob("*.safetensors"))
    assert {file.parent.name for file in files} == {
        "prior",
        "decoder",
        "vqgan",
        "text_encoder",
        "image_encoder",
    }
    assert sum(file.stat().st_size for file in files) <= MAX_BYTES
    index = json.loads((EMBEDDED / "model_index.json").read_text("utf-8"))
    assert index["license"] == "Apache-2.0"


def test_a_prompt_from_the_command_line_is_what_the_picture_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words(STAR) == "a small yellow star on a black background"
    workflow = str(WORKFLOWS / "wuerstchen.json")
    with pytest.raises(SystemExit) as ended:
        main(["run", workflow, "--prompt", words(STAR), "--output-dir", str(tmp_path)])
    assert ended.value.code == 0
    (made,) = tmp_path.glob("*.png")
    assert made.name in capsys.readouterr().out
    assert right(made, STAR)


@pytest.mark.parametrize(
    ("name", "values"), [("wuerstchen_image_variation", {}), ("wuerstchen_stage_b", {"steps": 6})]
)
def test_the_other_workflows_run_on_it(name: str, values: dict[str, object], tmp_path: Path) -> None:
    with nodegraph.load(WORKFLOWS / f"{name}.json", output_dir=tmp_path, device="cpu") as program:
        pictures = program.run(values).images
    # The sketch that it starts from is among them: two colours.
    assert max(len(picture.convert("RGB").getcolors(2**20) or ()) for picture in pictures) > 16
