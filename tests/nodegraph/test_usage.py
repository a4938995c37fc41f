"""What a run will take of the device: shared weights once, old ones let go under a budget, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodegraph.arguments import bytes_of
from nodegraph.cli import main
from nodegraph.errors import ValidationError
from nodegraph.node import Context, Forecast, Memory, NodeError, Runtime, Shown, node
from nodegraph.registry import Registry
from nodegraph.session import Session
from nodegraph.usage import NodeUsage, Usage, usage
from nodegraph.workflow import Workflow
from tests.nodegraph.running import n
from tests.nodegraph.toy import NODES, toy_folders

MB = 1_000_000


def _foresee(models: str, works: int, runtime: Runtime) -> Forecast:
    def memory() -> Memory:
        if "gone" in models:
            raise NodeError("the file is gone.")
        sizes = {name: int(name[1:]) * MB for name in models.split()}
        return Memory(None if works < 0 else works * MB, sizes, runtime.device_budget)

    return Forecast((0.0,), memory)


@node("Works", category="toy", lane="device", foresee=_foresee)
def works(x: float = 0.0, models: str = "", works: int = 0) -> float:
    """Takes `works` MB, and models that are named by a letter and their size in MB."""
    return x


@node("Silent", category="toy", lane="device")
def silent(x: float) -> float:
    """Takes nobody knows what."""
    return x


@node("Budget", category="toy", output=True)
def budget(ctx: Context) -> Shown:
    """Shows what the session may take of the device."""
    return Shown({"text": (str(ctx.runtime.device_budget),)})


REGISTRY = Registry.of(works, silent, budget, *NODES)


def chain(*steps: tuple[str, int], silent_at: int | None = None) -> dict[str, Any]:
    """Nodes in a row, each with its models and what it works with."""
    prompt: dict[str, Any] = {"0": n("ToyFloat")}
    for index, (models, mb) in enumerate(steps, start=1):
        kind = n("Silent") if index == silent_at else n("Works", models=models, works=mb)
        prompt[str(index)] = kind
        kind["inputs"]["x"] = [str(index - 1), 0]
    return prompt | {"show": n("ToyShow", item=[str(len(steps)), 0])}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    toy_folders(tmp_path)
    yield tmp_path


def taken(place: Path, prompt: dict[str, Any], mb: int = 0) -> Usage:
    """The estimate for a prompt under a budget of so many MB."""
    runtime = Runtime(toy_folders(place), device_budget=mb * MB)
    with Session(REGISTRY, runtime) as session:
        graph = session.bind(Workflow.from_data(prompt))
        return usage(session.plan(graph), session.foresee(graph))


def test_weights_stay_and_count_once(place: Path) -> None:
    found = taken(place, chain(("a100 b50", 5), ("a100", 20), ("c30", 1)))
    assert found.nodes == {
        "1": NodeUsage(150 * MB, 5 * MB, 155 * MB),
        "2": NodeUsage(100 * MB, 20 * MB, 170 * MB),
        "3": NodeUsage(30 * MB, 1 * MB, 181 * MB),
    }
    assert found == Usage(found.nodes, 181 * MB, "3", 0, True)


def test_under_a_budget_the_longest_unused_go_first(place: Path) -> None:
    found = taken(place, chain(("a100", 0), ("b50", 0), ("a100", 0), ("c40", 30)), 200)
    assert [item.peak // MB for item in found.nodes.values()] == [100, 150, 150, 170]
    assert (found.peak, found.node, found.budget) == (170 * MB, "4", 200 * MB)
    tight = taken(place, chain(("a100", 150), ("b50", 0)), 120)
    assert [item.peak // MB for item in tight.nodes.values()] == [250, 50]


def test_what_is_not_known_is_said(place: Path) -> None:
    assert not taken(place, chain(("a1", -1))).complete
    assert not taken(place, chain(("a1", 1), ("", 0), silent_at=2)).complete
    gone = taken(place, chain(("gone", 1), ("a7", 1)))
    assert (list(gone.nodes), gone.complete) == (["2"], False)
    nothing = taken(place, {"0": n("ToyFloat"), "show": n("ToyShow", item=["0", 0])})
    assert (nothing.peak, nothing.node, nothing.complete) == (0, None, True)


class Shell:
    """`nodegraph` in this process."""

    def __init__(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._place, self._capsys = place, capsys

    def __call__(self, prompt: dict[str, Any], *words: str) -> tuple[int, str, str]:
        path = self._place / "w.json"
        path.write_text(json.dumps(prompt))
        with pytest.raises(SystemExit) as caught:
            main([words[0], str(path), *words[1:]], REGISTRY)
        out, err = self._capsys.readouterr()
        code = caught.value.code
        assert isinstance(code, int)
        return code, out, err


@pytest.fixture
def shell(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(place)
    return Shell(place, capsys)


def test_the_plan_shows_it_by_node(shell: Shell) -> None:
    code, out, _ = shell(chain(("a1200", 34), ("b5", -1)), "plan", "--memory", "--device-budget", "2GB")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0][-3:] == ["weights", "working", "peak"]
    assert lines[2][-6:] == ["1.20", "GB", "34.0", "MB", "1.23", "GB"]
    assert lines[3][-5:] == ["5.0", "MB", "?", "1.21", "GB"]
    assert out.splitlines()[-1] == "estimated peak: at least 1.23 GB of 2.00 GB, at node 1"
    assert lines[1][-1] == "before"
    assert "estimated" not in shell(chain(("a1", 1)), "plan")[1]
    assert shell({"1": n("ToyShow", item=1)}, "plan", "--memory")[1].endswith(
        "no node says what it takes of the device\n"
    )


def test_the_plan_gives_it_as_json(shell: Shell) -> None:
    _, out, _ = shell(chain(("a3", 4)), "plan", "--memory", "--json")
    found = json.loads(out)
    assert found["memory"] == {"peak": 7 * MB, "node": "1", "budget": 0, "complete": True}
    assert [row.get("memory") for row in found["nodes"]] == [
        None,
        {"weights": 3 * MB, "works": 4 * MB, "peak": 7 * MB},
        None,
    ]
    assert "memory" not in json.loads(shell(chain(("a3", 4)), "plan", "--json")[1])


def test_the_budget_reaches_the_session(shell: Shell) -> None:
    prompt = {"1": n("Budget")}
    assert shell(prompt, "run", "--device-budget", "1.5GiB")[2] == f"node 1: {3 * 2**29}\n"
    assert shell(prompt, "run")[2] == "node 1: 0\n"
    for command in ("run", "plan"):
        code, out, err = shell(prompt, command, "--device-budget", "much")
        assert (code, out) == (2, "")
        assert err == (
            "error: 'much' is no size. Allowed: a number above 0 with a unit, such as 4GiB or 800MB.\n"
        )


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 2**32),
        ("4gb", 4 * 10**9),
        ("800 MB", 8 * 10**8),
        ("1.5k", 1500),
        ("7", 7),
        ("2KiB", 2048),
        (None, 0),
    ],
)
def test_sizes(text: str | None, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1GB", "GB", "1PB", "4 GiB of it"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValidationError, match="is no size"):
        bytes_of(text)
