"""Muted and bypassed nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from nodegraph.errors import ValidationError
from nodegraph.graph import bind, check
from nodegraph.modes import as_link, resolve
from nodegraph.node import node as declare
from nodegraph.registry import Registry
from nodegraph.workflow import Workflow
from tests.nodegraph.toy import NODES, Blob, Recipe, toy_folders


class Pair(NamedTuple):
    """Two blobs and a model."""

    first: Blob
    second: Blob
    model: Recipe


@declare("ToyPair", category="toy")
def toy_pair(model: Recipe, first: Blob, second: Blob, strength: float = 1.0) -> Pair:
    """Takes and gives two of a kind, the model in another place."""
    return Pair(first, second, model)


REGISTRY = Registry.of(*NODES, toy_pair)
Prompt = dict[str, dict[str, Any]]


def node(class_type: str, mode: int = 0, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"mode": mode}}


def links_of(prompt: Prompt, node_id: str) -> dict[str, Any]:
    resolved = resolve(prompt, REGISTRY)
    return {name: value for name, value in resolved[node_id]["inputs"].items() if isinstance(value, list)}


def test_a_prompt_without_modes_is_left_alone() -> None:
    prompt = {"1": node("ToyFloat"), "2": node("ToyShow", item=["1", 0])}
    assert resolve(prompt, REGISTRY) is prompt


def test_a_bypassed_node_passes_on_what_feeds_it() -> None:
    prompt = {
        "1": node("ToyLoadModel"),
        "2": node("ToyPatch", 4, model=["1", 0]),
        "3": node("ToyPatch", 4, model=["2", 0]),
        "4": node("ToyShow", item=["3", 0]),
    }
    assert links_of(prompt, "4") == {"item": ["1", 0]}
    assert list(resolve(prompt, REGISTRY)) == ["1", "4"]


def test_of_two_inputs_of_a_type_the_one_at_the_same_place_is_taken() -> None:
    """Else the second output of a bypassed node (positive and negative of a ControlNet) would give the first input."""

    @declare("ToyTwo", category="toy")
    def toy_two(first: Blob, second: Blob, model: Recipe) -> Pair:
        return Pair(first, second, model)

    registry = Registry.of(*NODES, toy_two)
    prompt = {
        "1": node("ToyTwo", 4, first=["a", 0], second=["b", 0], model=["c", 0]),
        "2": node("ToyShow", item=["1", 1]),
        "3": node("ToyShow", item=["1", 2]),
    }
    resolved = resolve(prompt, registry)
    assert resolved["2"]["inputs"] == {"item": ["b", 0]}
    assert resolved["3"]["inputs"] == {"item": ["c", 0]}


def test_else_the_first_input_of_the_type_is_taken() -> None:
    prompt = {
        "1": node("ToyPair", 4, model=["m", 0], first=["a", 0], second=["b", 0]),
        "2": node("ToyShow", item=["1", 0]),
        "3": node("ToyShow", item=["1", 2]),
    }
    resolved = resolve(prompt, REGISTRY)
    assert resolved["2"]["inputs"] == {"item": ["a", 0]}
    assert resolved["3"]["inputs"] == {"item": ["m", 0]}


def test_what_needs_a_muted_node_is_left_out_and_so_on() -> None:
    prompt = {
        "1": node("ToyFloat", 2),
        "2": node("ToyAdd", a=["1", 0]),
        "3": node("ToyShow", item=["2", 0]),
        "4": node("ToyAdd", a=1, b=["1", 0]),
        "5": node("ToyShow", item=["4", 0]),
    }
    resolved = resolve(prompt, REGISTRY)
    assert list(resolved) == ["4", "5"]
    assert resolved["4"]["inputs"] == {"a": 1}


def test_a_bypassed_node_that_nothing_feeds_counts_as_muted() -> None:
    prompt = {"1": node("ToyFloat", 4), "2": node("ToyAdd", a=["1", 0]), "3": node("ToyShow", item=["2", 0])}
    assert list(resolve(prompt, REGISTRY)) == []


def test_bypassed_nodes_in_a_circle_end() -> None:
    prompt = {
        "1": node("ToyPatch", 4, model=["2", 0]),
        "2": node("ToyPatch", 4, model=["1", 0]),
        "3": node("ToyShow", item=["1", 0]),
    }
    assert list(resolve(prompt, REGISTRY)) == []


def test_a_long_chain_of_bypassed_nodes_needs_no_recursion() -> None:
    prompt = {str(i): node("ToyPatch", 4, model=[str(i + 1), 0]) for i in range(5000)}
    prompt["out"] = node("ToyShow", item=["0", 0])
    assert links_of(prompt, "out") == {"item": ["5000", 0]}


def test_binding_resolves_modes(tmp_path: Path) -> None:
    folders = toy_folders(tmp_path)
    prompt = {
        "1": node("ToyFloat"),
        "2": node("ToyScale", 4, x=["1", 0]),
        "3": node("ToyShow", item=["2", 0]),
        "4": node("ToyShow", 2, item=["1", 0]),
    }
    graph = bind(Workflow.from_data(prompt), REGISTRY, folders)
    assert (list(graph.nodes), graph.targets) == (["1", "3"], ("3",))
    muted = {"1": node("ToyShow", 2, item=1)}
    assert [item.code for item in check(Workflow.from_data(muted), REGISTRY, folders).problems] == [
        "prompt_no_outputs"
    ]
    try:
        bind(Workflow.from_data(prompt), REGISTRY, folders, ["4"])
    except ValidationError as error:
        assert [item.code for item in error.problems] == ["unknown_target"]
    else:
        raise AssertionError("a muted target was accepted")


def test_what_is_a_link() -> None:
    assert as_link(["1", 0]) == ("1", 0)
    assert as_link([1, 2.0]) == ("1", 2)
    for value in (
        "1",
        ["1"],
        ["1", -1],
        ["1", True],
        [None, 0],
        [["1"], 0],
        ["1", 0.5],
        ("1", 0),
        ["1", 0, 0],
    ):
        assert as_link(value) is None
