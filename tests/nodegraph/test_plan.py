"""Plans: what will run, what is held and where, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nodegraph.cache import Cache
from nodegraph.node import node
from nodegraph.plan import Row
from nodegraph.registry import Registry
from tests.nodegraph.running import Bench, n
from tests.nodegraph.toy import Blob, Memory

CHAIN: dict[str, Any] = {
    "1": n("ToyInt", value=1),
    "2": n("ToyAdd", a=["1", 0], b=1),
    "3": n("ToyTimes", a=["2", 0], b=2),
    "s": n("ToyShow", item=["3", 0]),
}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def rows(bench: Bench, prompt: Any, targets: Any = None) -> dict[str, Row]:
    return {row.node: row for row in bench.plan(prompt, targets).rows(bench.cache)}


def reasons(bench: Bench, prompt: Any, targets: Any = None) -> dict[str, str]:
    return {name: row.reason for name, row in rows(bench, prompt, targets).items()}


def test_the_first_time_everything_runs(bench: Bench) -> None:
    plan = bench.plan(CHAIN)
    assert plan.ids("run") == ("1", "2", "3", "s")
    assert set(reasons(bench, CHAIN).values()) == {"first_time"}


async def test_where_a_target_is_held_its_upstream_is_not_looked_at(bench: Bench) -> None:
    await bench.run(CHAIN)
    plan = bench.plan(CHAIN)
    assert plan.states == {"s": "cached"}
    assert plan.tiers == {"s": "host"}
    assert reasons(bench, CHAIN) == {"1": "not_needed", "2": "not_needed", "3": "not_needed", "s": "held"}


async def test_a_changed_literal_names_the_inputs_that_changed(bench: Bench) -> None:
    await bench.run(CHAIN)
    found = rows(bench, {**CHAIN, "2": n("ToyAdd", a=["1", 0], b=5)})
    assert {name: (row.state, row.reason, row.input) for name, row in found.items()} == {
        "1": ("cached", "held", None),
        "2": ("run", "input_changed", "b"),
        "3": ("run", "input_changed", "a"),
        "s": ("run", "input_changed", "item"),
    }
    assert found["2"].text == "input b changed"
    assert (found["1"].title, found["1"].class_type, found["1"].tier) == ("ToyInt", "ToyInt", "host")


async def test_a_link_in_place_of_a_literal_is_a_change_of_that_input(bench: Bench) -> None:
    await bench.run(CHAIN)
    changed = {**CHAIN, "2": n("ToyAdd", a=["1", 0], b=["1", 0])}
    assert rows(bench, changed)["2"].input == "b"
    extra = {"1": n("ToyKeywords", a=1), "s": n("ToyShow", item=["1", 0])}
    await bench.run(extra)
    assert rows(bench, {**extra, "1": n("ToyKeywords", a=2)})["1"].input == "a"
    assert rows(bench, {**extra, "1": n("ToyKeywords")})["1"].input == "a"


async def test_another_type_under_the_same_id_is_new(bench: Bench) -> None:
    await bench.run(CHAIN)
    assert reasons(bench, {**CHAIN, "1": n("ToyFloat", value=9)})["1"] == "first_time"


async def test_a_new_version_or_file_is_the_reason(bench: Bench, tmp_path: Path) -> None:
    def versioned(version: int) -> Registry:
        @node("Versioned", category="test", version=version)
        def function() -> float:
            return 1.0

        return Registry.of(function)

    prompt = {"1": n("Versioned")}
    bench.registry = versioned(1)
    await bench.run(prompt, ["1"])
    bench.registry = versioned(2)
    assert reasons(bench, prompt, ["1"]) == {"1": "node_changed"}

    other = Bench(tmp_path)
    model = {"1": n("ToyLoadModel", name="toy.safetensors")}
    await other.run(model, ["1"])
    (tmp_path / "models" / "checkpoints" / "toy.safetensors").write_bytes(b"something else")
    assert reasons(other, model, ["1"]) == {"1": "file_changed"}


async def test_evicted_results_say_so(bench: Bench) -> None:
    bench.cache = Cache(5_000, 10**6)
    prompt = {"1": n("ToyBlob", size=3_000), "2": n("ToyBlobSize", blob=["1", 0])}
    await bench.run(prompt, ["2"])
    bench.cache.put(b"other", (Blob(Memory(bytes(3_000))),), {}, 1e6)
    assert bench.cache.peek(bench.keys(prompt, ["1"]).by_node["1"]) is None
    assert reasons(bench, prompt, ["1"]) == {"1": "evicted"}


async def test_missing_files_say_so(bench: Bench) -> None:
    prompt = {"1": n("ToyText", text="x"), "s": n("ToySave", text=["1", 0])}
    await bench.run(prompt)
    (bench.runtime.folders.output / "toy.txt").unlink()
    assert reasons(bench, prompt) == {"1": "held", "s": "files_missing"}


async def test_what_is_never_kept_says_so_and_what_follows_too(bench: Bench) -> None:
    prompt = {"1": n("ToyRandom"), "2": n("ToyAdd", a=["1", 0])}
    await bench.run(prompt, ["2"])
    found = rows(bench, prompt, ["2"])
    assert [(row.reason, row.input) for row in found.values()] == [
        ("never_cached", None),
        ("never_cached", "a"),
    ]


async def test_a_result_that_found_no_room_says_so(bench: Bench) -> None:
    bench.cache = Cache(1_000, 1_000)
    prompt = {"1": n("ToyBlob", size=3_000)}
    await bench.run(prompt, ["1"])
    assert reasons(bench, prompt, ["1"]) == {"1": "not_held"}


def test_lazy_upstream_runs_only_if_asked_for(bench: Bench) -> None:
    prompt = {
        "a": n("ToyFloat", value=1),
        "b": n("ToyCounted", x=["a", 0]),
        "c": n("ToyFloat", value=2),
        "s": n("ToySwitch", flag=True, if_true=["a", 0], if_false=["b", 0]),
        "t": n("ToyAdd", a=["s", 0], b=["c", 0]),
    }
    plan = bench.plan(prompt, ["t"])
    assert dict(plan.states) == {"t": "run", "s": "run", "c": "run", "a": "lazy", "b": "lazy"}
    assert rows(bench, prompt, ["t"])["b"].text.startswith("only if asked for")


def test_partial_targets_need_less(bench: Bench) -> None:
    assert bench.plan(CHAIN, ["2"]).ids("run") == ("1", "2")


def test_ranks_are_depth_first(bench: Bench) -> None:
    prompt: dict[str, Any] = {}
    for branch in "abc":
        prompt[f"{branch}1"] = n("ToyFloat", value=ord(branch))
        prompt[f"{branch}2"] = n("ToyAdd", a=[f"{branch}1", 0])
    prompt["x"] = n("ToyAdd", a=["b2", 0], b=["a2", 0])
    prompt["y"] = n("ToyAdd", a=["x", 0], b=["c2", 0])
    order = sorted(bench.plan(prompt, ["y"]).rank.items(), key=lambda item: item[1])
    assert [name for name, _ in order] == ["b1", "b2", "a1", "a2", "x", "c1", "c2", "y"]


def test_ten_thousand_nodes_are_planned_without_recursion(bench: Bench) -> None:
    chain = {"0": n("ToyInt", value=1)} | {str(i): n("ToyAdd", a=[str(i - 1), 0]) for i in range(1, 10_000)}
    assert len(bench.plan(chain, ["9999"]).ids("run")) == 10_000
