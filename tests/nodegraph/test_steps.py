"""Numbers between two steps of their input: a warning where the node says that it takes them as the lower one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pytest

from nodegraph.api import Program
from nodegraph.cli import main
from nodegraph.errors import Problem
from nodegraph.graph import check
from nodegraph.node import Range, Runtime, node
from nodegraph.registry import Registry
from nodegraph.session import Session
from nodegraph.workflow import Workflow
from tests.nodegraph.toy import NODES, toy_folders


@node("StepFloored", category="toy")
def floored(
    width: Annotated[int, Range(16, 512, step=8, floor=True)] = 64,
    padding: Annotated[int, Range(0, 64, step=8)] = 0,
) -> int:
    """Counts in eights, but for the padding."""
    return width // 8 * 8 + padding


REGISTRY = Registry.of(*NODES, floored)


def prompt(**inputs: Any) -> dict[str, Any]:
    return {
        "1": {"class_type": "StepFloored", "inputs": inputs},
        "2": {"class_type": "ToyShow", "inputs": {"item": ["1", 0]}},
        "3": {"class_type": "ToyInt", "inputs": {"value": 130}},
    }


def warnings(tmp_path: Path, **inputs: Any) -> tuple[Problem, ...]:
    report = check(Workflow.from_data(prompt(**inputs)), REGISTRY, toy_folders(tmp_path))
    assert report.problems == ()
    assert report.graph is not None
    assert report.graph.nodes["1"].literals.get("width") in (inputs["width"], None)
    return report.warnings


def test_a_number_between_two_steps_is_a_warning_that_says_what_is_made(tmp_path: Path) -> None:
    (warning,) = warnings(tmp_path, width=130, padding=3)
    assert str(warning) == (
        "node 1 (StepFloored), input width: the value is no multiple of 8: the node takes it as 128. Found: 130."
    )
    assert warning.severity == "warning"
    assert warning.code == "value_between_steps"


@pytest.mark.parametrize("width", [16, 128, 512, ["3", 0]])
def test_what_is_on_a_step_or_not_known_yet_is_none(tmp_path: Path, width: Any) -> None:
    assert warnings(tmp_path, width=width) == ()


def test_the_warning_is_among_the_problems_of_a_run(tmp_path: Path) -> None:
    with Session(REGISTRY, Runtime(toy_folders(tmp_path))) as session:
        result = session.run(Workflow.from_data(prompt(width=130)))
        assert result.status == "success"
        assert [problem.code for problem in result.problems] == ["value_between_steps"]
        assert result.ui["2"]["text"] == ("128",)
        # A program raises for errors only.
        assert Program(Workflow.from_data(prompt(width=130)), session).run().problems == result.problems
        assert session.run(session.bind(Workflow.from_data(prompt(width=130)))).problems == ()


@pytest.mark.parametrize("words", [["validate"], ["run"], ["validate", "--json"], ["run", "--json"]])
def test_the_command_line_shows_it(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.json"
    path.write_text(json.dumps(prompt(width=130)))
    with pytest.raises(SystemExit) as caught:
        main([words[0], str(path), *words[1:]], REGISTRY)
    assert caught.value.code == 0
    shown = capsys.readouterr()
    if "--json" in words:
        (problem,) = json.loads(shown.out)["problems"]
        assert (problem["code"], problem["severity"]) == ("value_between_steps", "warning")
    else:
        assert shown.err.startswith("warning: node 1 (StepFloored), input width:")
        assert "the node takes it as 128" in shown.err
