"""Binding: what is refused and how, what is converted, and which outputs can run all the same."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph.errors import Problem, ValidationError
from nodegraph.folders import Folders
from nodegraph.graph import Binder, Graph, Report, bind, check
from nodegraph.inputs import Entry, addresses
from nodegraph.node import OutputSpec
from nodegraph.workflow import Workflow
from tests.nodegraph.toy import Memory, Recipe, toy_folders, toy_registry

REGISTRY = toy_registry()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return toy_folders(tmp_path_factory.mktemp("toy"))


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def checked(folders: Folders, **nodes: dict[str, Any]) -> Report:
    return checked_for(folders, None, **nodes)


def checked_for(folders: Folders, targets: list[str] | None, **nodes: dict[str, Any]) -> Report:
    prompt = {name.removeprefix("n"): value for name, value in nodes.items()}
    return check(Workflow.from_data(prompt), REGISTRY, folders, targets)


def bound(folders: Folders, **nodes: dict[str, Any]) -> Graph:
    report = checked(folders, **nodes)
    assert report.problems == ()
    assert report.graph is not None
    return report.graph


def one_problem(folders: Folders, entry: dict[str, Any], **nodes: dict[str, Any]) -> Problem:
    """The problem of node 2, which feeds the output node 3."""
    report = checked(folders, n2=entry, n3=node("ToyShow", item=["2", 0]), **nodes)
    (problem,) = report.problems
    assert problem.node == "2"
    assert report.graph is None
    return problem


def test_literals_are_converted_and_defaults_filled_in(folders: Folders) -> None:
    graph = bound(
        folders,
        n1=node("ToyInt", value="7"),
        n2=node("ToyScale", x=3, factor="2.5"),
        n3=node("ToyShowAll", items=5),
        n4=node("ToyAdd", a=["1", 0]),
        n5=node("ToyShow", item=["2", 0]),
        n6=node("ToyShow", item=["4", 0]),
        n7=node("ToyInt", value=20.0),
        n8=node("ToyShow", item=["7", 0]),
    )
    assert graph.nodes["1"].literals == {"value": 7}
    assert graph.nodes["2"].literals == {"x": 3.0, "factor": 2.5, "rounding": "none"}
    assert isinstance(graph.nodes["2"].literals["x"], float)
    assert graph.nodes["3"].literals == {"items": (5,)}
    assert (graph.nodes["4"].literals, graph.nodes["4"].links) == ({"b": 0.0}, {"a": ("1", 0)})
    assert graph.nodes["7"].literals["value"] == 20
    assert isinstance(graph.nodes["7"].literals["value"], int)


def test_a_seed_of_64_bits_is_kept_exactly(folders: Folders) -> None:
    graph = bound(folders, n1=node("ToyInt", value=2**64 - 1), n2=node("ToyShow", item=["1", 0]))
    assert graph.nodes["1"].literals["value"] == 2**64 - 1


def test_a_wrapped_list_is_a_literal(folders: Folders) -> None:
    graph = bound(
        folders, n1=node("ToySum", items={"__value__": [1, "2"]}), n2=node("ToyShow", item=["1", 0])
    )
    assert graph.nodes["1"].literals["items"] == (1.0, 2.0)


def test_links_are_read_leniently(folders: Folders) -> None:
    graph = bound(folders, n1=node("ToyFloat"), n2=node("ToyShow", item=[1, 0.0]))
    assert graph.nodes["2"].links == {"item": ("1", 0)}


@pytest.mark.parametrize(
    ("entry", "code", "parts"),
    [
        (node("ToyAdd"), "required_input_missing", ["'a' (FLOAT) is required"]),
        (node("ToyAdd", aa=1), "required_input_missing", ["'aa' is given", "is 'a' meant?"]),
        (
            node("ToyInt", value=-1),
            "value_smaller_than_min",
            ["smaller than 0", "Found: -1", "0 to 18446744073709551615"],
        ),
        (node("ToyInt", value=2**64), "value_bigger_than_max", ["bigger than 18446744073709551615"]),
        (node("ToyInt", value=2.5), "invalid_input_type", ["whole number"]),
        (node("ToyInt", value="seven"), "invalid_input_type", ["'seven'"]),
        (node("ToyInt", value=True), "invalid_input_type", ["Found: True"]),
        (node("ToyInt", value=None), "invalid_input_type", ["Found: None"]),
        (node("ToyFlag", value="false"), "invalid_input_type", ["true or false"]),
        (node("ToyText", text={"a": 1}), "invalid_input_type", ["STRING"]),
        (
            node("ToyScale", x=1, rounding="dwn"),
            "value_not_in_list",
            ["Did you mean 'down'?", "'none', 'down'"],
        ),
        (
            node("ToyLoadModel", name="tony.safetensors"),
            "value_not_in_list",
            ["'toy.safetensors'", "checkpoints"],
        ),
        (node("ToyLoadModel", name="../../x.safetensors"), "value_not_in_list", ["leads out"]),
        (node("ToyLoadModel", name="a\0b"), "value_not_in_list", ["no file"]),
        (node("ToyLoadModel", name=3), "invalid_input_type", ["name of a file"]),
        (node("ToyPatch", model="x"), "invalid_input_type", ["takes a link from a MODEL output"]),
        (node("ToyAdd", a=["77", 0]), "bad_linked_input", ["node '77'", "not there"]),
        (node("ToyAdd", a=["1", 1]), "bad_linked_input", ["output 1 of node 1 (ToyFloat)", "0 (FLOAT)"]),
        (node("ToyAdd", a=["1"]), "bad_linked_input", ["[node id, output index]", "__value__"]),
        (node("ToyAdd", a=["1", -1]), "bad_linked_input", ["[node id, output index]"]),
        (node("ToyAdd", a=["1", "0"]), "bad_linked_input", ["[node id, output index]"]),
        (
            node("ToyText", text=["1", 0]),
            "return_type_mismatch",
            ["output 0 (FLOAT) of node 1", "takes STRING"],
        ),
        (
            node("ToyOrdered", low=3, high=1),
            "custom_validation_failed",
            ["low (3.0) must not be above high (1.0)"],
        ),
    ],
)
def test_each_wrong_input_is_refused_with_its_code(
    folders: Folders, entry: dict[str, Any], code: str, parts: list[str]
) -> None:
    problem = one_problem(folders, entry, n1=node("ToyFloat"))
    assert problem.code == code
    assert [part for part in parts if part not in str(problem)] == []
    assert problem.class_type == entry["class_type"]


def test_a_missing_model_says_where_it_was_looked_for(tmp_path: Path) -> None:
    empty = Folders((tmp_path / "a", tmp_path / "b"), tmp_path, tmp_path, tmp_path)
    report = checked(empty, n2=node("ToyLoadModel", name="m.safetensors"), n3=node("ToyShow", item=["2", 0]))
    text = str(report.problems[0])
    assert str(tmp_path / "a" / "checkpoints") in text
    assert str(tmp_path / "b" / "checkpoints") in text


@pytest.mark.parametrize("name", ["m.safetensors", "sub/m.safetensors", "sub\\m.safetensors"])
def test_a_missing_model_that_the_document_lists_says_where_it_is_published(
    tmp_path: Path, name: str
) -> None:
    empty = Folders((tmp_path,), tmp_path, tmp_path, tmp_path)
    url = "https://example.org/m.safetensors"
    document = {
        "nodegraph": 1,
        "models": [{"name": name.replace("\\", "/"), "url": url, "directory": "checkpoints"}],
        "prompt": {"2": node("ToyLoadModel", name=name), "3": node("ToyShow", item=["2", 0])},
    }
    (problem,) = check(Workflow.from_data(document), REGISTRY, empty).problems
    assert problem.hint == f"It is published at {url}. Put it into {tmp_path / 'checkpoints'}."


@pytest.mark.parametrize(
    "models",
    [None, {}, "x", [3], [{"name": "m"}], [{"name": "m", "url": 3}], [{"name": "m", "url": "file:///m"}]],
)
def test_a_list_of_models_that_says_nothing_is_passed_over(models: Any) -> None:
    assert addresses(models) == {}


def test_a_windows_path_finds_its_file(folders: Folders) -> None:
    path = folders.models[0] / "checkpoints" / "sub" / "deep.safetensors"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    graph = bound(
        folders, n1=node("ToyLoadModel", name="sub\\deep.safetensors"), n2=node("ToyShow", item=["1", 0])
    )
    assert graph.nodes["1"].literals["name"] == "sub/deep.safetensors"


def test_an_unknown_node_is_named_with_the_nearest(folders: Folders) -> None:
    problem = one_problem(folders, node("ToyAdt", a=1))
    assert problem.code == "unknown_node"
    assert "'ToyAdd'" in (problem.hint or "")


def test_every_problem_is_reported_at_once(folders: Folders) -> None:
    with pytest.raises(ValidationError) as caught:
        bind(
            Workflow.from_data(
                {
                    "1": node("ToyNone"),
                    "2": node("ToyAdd", b="x"),
                    "3": node("ToyInt", value=-1),
                    "4": node("ToyTimes", a=["2", 0], b=["3", 5]),
                    "5": node("ToyKeywords", a=["1", 0], b=["4", 0]),
                    "6": node("ToyShow", item=["5", 0]),
                }
            ),
            REGISTRY,
            folders,
        )
    assert sorted((item.node, item.code) for item in caught.value.problems) == [
        ("1", "unknown_node"),
        ("2", "invalid_input_type"),
        ("2", "required_input_missing"),
        ("3", "value_smaller_than_min"),
        ("4", "bad_linked_input"),
    ]


def test_undeclared_inputs_are_a_warning_and_are_dropped(folders: Folders) -> None:
    report = checked(
        folders,
        n1=node("ToyFloat", valu=3, upload="image"),
        n2=node("ToyShow", item=["1", 0], other=["99", 7]),
    )
    assert report.problems == ()
    assert [(item.node, item.input, item.severity) for item in report.warnings] == [
        ("1", "valu", "warning"),
        ("1", "upload", "warning"),
        ("2", "other", "warning"),
    ]
    assert report.warnings[0].hint == "Did you mean 'value'?"
    assert report.graph is not None
    assert report.graph.nodes["1"].literals == {"value": 0.0}
    assert report.graph.nodes["2"].links == {"item": ("1", 0)}


def test_a_node_with_kwargs_takes_what_it_does_not_declare(folders: Folders) -> None:
    graph = bound(
        folders,
        n1=node("ToyFloat"),
        n2=node("ToyKeywords", prefix="p", a=1, b=["1", 0], d={"__value__": [1]}),
        n3=node("ToyShow", item=["2", 0]),
    )
    assert graph.nodes["2"].extra == {"a": 1, "d": [1]}
    assert graph.nodes["2"].links == {"b": ("1", 0)}


def test_kwargs_cannot_take_the_place_of_the_context(folders: Folders) -> None:
    report = checked(folders, n1=node("ToyCounted", x=1, ctx=5), n2=node("ToyShow", item=["1", 0]))
    assert [item.input for item in report.warnings] == ["ctx"]
    assert report.graph is not None
    assert "ctx" not in {**report.graph.nodes["1"].literals, **report.graph.nodes["1"].extra}


def test_cycles_are_reported_with_their_path(folders: Folders) -> None:
    report = checked(
        folders,
        n1=node("ToyAdd", a=["3", 0]),
        n2=node("ToyAdd", a=["1", 0]),
        n3=node("ToyAdd", a=["2", 0]),
        n4=node("ToyShow", item=["3", 0]),
        n5=node("ToyTimes", a=["5", 0], b=1),
        n6=node("ToyShow", item=["5", 0]),
    )
    assert [item.code for item in report.problems] == ["dependency_cycle"] * 2
    assert "1 -> 2 -> 3 -> 1" in report.problems[0].message
    assert "5 -> 5" in report.problems[1].message


def test_a_cycle_of_many_nodes_is_found_without_recursion(folders: Folders) -> None:
    count = 3 * sys.getrecursionlimit()
    prompt = {str(i): node("ToyAdd", a=[str((i + 1) % count), 0]) for i in range(count)}
    prompt["out"] = node("ToyShow", item=["0", 0])
    report = check(Workflow.from_data(prompt), REGISTRY, folders)
    (problem,) = report.problems
    assert problem.code == "dependency_cycle"
    assert len(problem.message) < 400


def test_no_outputs(folders: Folders) -> None:
    for prompt in ({}, {"1": node("ToyFloat")}):
        with pytest.raises(ValidationError) as caught:
            bind(Workflow.from_data(prompt), REGISTRY, folders)
        assert [item.code for item in caught.value.problems] == ["prompt_no_outputs"]
        assert "ToyShow" in (caught.value.problems[0].hint or "")


def test_an_unknown_output_node_is_what_is_reported_where_there_is_no_output(folders: Folders) -> None:
    report = checked(folders, n1=node("ToyFloat"), n2=node("ToyShaw", item=["1", 0]))
    assert [item.code for item in report.problems] == ["unknown_node"]
    assert [item.severity for item in report.problems] == ["error"]


def test_targets_may_be_any_nodes(folders: Folders) -> None:
    report = checked_for(
        folders, ["2"], n1=node("ToyFloat"), n2=node("ToyAdd", a=["1", 0]), n3=node("ToyAdd")
    )
    assert report.problems == ()
    assert report.graph is not None
    assert list(report.graph.nodes) == ["1", "2"]
    assert report.graph.targets == ("2",)
    missing = checked_for(folders, ["11"], n10=node("ToyFloat"))
    assert [(item.code, item.hint) for item in missing.problems] == [("unknown_target", "Did you mean '10'?")]


def test_good_outputs_run_where_others_fail(folders: Folders) -> None:
    report = checked(
        folders,
        n1=node("ToyInt", value=-1),
        n2=node("ToyShow", item=["1", 0]),
        n3=node("ToyFloat"),
        n4=node("ToyShow", item=["3", 0]),
        n5=node("ToyInt", value=-5),
    )
    assert report.graph is not None
    assert (report.graph.targets, list(report.graph.nodes), report.failed) == (("4",), ["3", "4"], ("2",))
    assert [item.node for item in report.problems] == ["1"]
    assert report.dependents("1") == ("2",)
    assert report.dependents("3") == ()
    assert [(item.node, item.severity) for item in report.warnings] == [("5", "warning")]


def test_hooks_see_literals_only(folders: Folders) -> None:
    bound(
        folders,
        n1=node("ToyFloat"),
        n2=node("ToyOrdered", low=["1", 0], high=-1),
        n3=node("ToyShow", item=["2", 0]),
    )


def test_a_parameter_of_a_node_that_is_gone_is_a_warning(folders: Folders) -> None:
    data = {
        "parameters": {"x": {"node": "9", "input": "a"}},
        "prompt": {"1": node("ToyShow", item=1)},
    }
    report = check(Workflow.from_data(data), REGISTRY, folders)
    assert [item.code for item in report.warnings] == ["stale_parameter"]


def test_the_order_respects_every_link(folders: Folders) -> None:
    graph = bound(
        folders,
        n1=node("ToyShow", item=["3", 0]),
        n2=node("ToyFloat"),
        n3=node("ToyTimes", a=["2", 0], b=["4", 0]),
        n4=node("ToyAdd", a=["2", 0]),
    )
    assert graph.order == ("2", "4", "3", "1")
    assert graph.consumers["2"] == (("3", "a"), ("4", "a"))
    assert graph.needed(["4"]) == {"2", "4"}
    assert set(graph.digraph.edges) == {("2", "3"), ("4", "3"), ("2", "4"), ("3", "1")}


def test_a_chain_of_ten_thousand_nodes_binds(folders: Folders) -> None:
    count = 10_000
    prompt = {str(i): node("ToyAdd", a=[str(i + 1), 0]) for i in range(count)}
    prompt[str(count)] = node("ToyFloat")
    prompt["out"] = node("ToyShow", item=["0", 0])
    graph = bind(Workflow.from_data(prompt), REGISTRY, folders)
    assert graph.order[0] == str(count)
    assert graph.order[-1] == "out"
    assert nx.is_directed_acyclic_graph(graph.digraph)


def test_nodes_of_an_expansion_bind_by_the_same_rules(folders: Folders) -> None:
    binder = Binder(REGISTRY, folders)
    recipe = Recipe("m")
    outputs = (OutputSpec("FLOAT", "FLOAT"),)
    entries = {
        "1:a": Entry("ToyAdd", {"a": ("9", 0)}, {"b": 2}),
        "1:b": Entry("ToyPatch", {}, {"model": recipe}),
        "1:c": Entry("ToyTimes", {"a": ("1:a", 0)}, {"b": recipe}),
        "1:d": Entry("ToyAdd", {"a": ("9", 1)}, {}),
    }
    report = binder.check(entries, list(entries), outer=lambda item: outputs if item == "9" else None)
    assert report.graph is not None
    assert report.graph.targets == ("1:a", "1:b")
    assert report.graph.nodes["1:a"].literals == {"b": 2.0}
    assert report.graph.nodes["1:b"].literals["model"] is recipe
    assert {(item.node, item.code) for item in report.problems} == {
        ("1:c", "return_type_mismatch"),
        ("1:d", "bad_linked_input"),
    }


BASE: dict[str, Any] = {
    "1": node("ToyFloat", value=1.5),
    "2": node("ToyScale", x=["1", 0], factor=2.0, rounding="down"),
    "3": node("ToySplit", x=["2", 0]),
    "4": node("ToyOrdered", low=["3", 1], high=2.0),
    "5": node("ToyKeywords", a=["3", 0], b=1),
    "6": node("ToyLoadModel", name="toy.safetensors"),
    "7": node("ToyPatch", model=["6", 0], patch="x"),
    "8": node("ToyShowAll", items=["7", 0]),
    "9": node("ToyShow", item=["5", 0]),
}
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.tuples(st.sampled_from([*BASE, "x"]), st.integers(-1, 3)).map(list),
    st.lists(st.integers(), max_size=3),
    st.just({"__value__": [1]}),
    st.just({"a": {}}),
)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """The base workflow with a few things changed, added or removed."""
    prompt = copy.deepcopy(BASE)
    for _ in range(draw(st.integers(0, 6))):
        entry = prompt[draw(st.sampled_from(list(prompt)))]
        change = draw(st.sampled_from(["input", "new", "drop", "type", "meta"]))
        if change == "new" or not entry["inputs"]:
            entry["inputs"][draw(st.text(max_size=4))] = draw(JUNK)
        elif change == "input":
            entry["inputs"][draw(st.sampled_from(list(entry["inputs"])))] = draw(JUNK)
        elif change == "drop":
            entry["inputs"].pop(draw(st.sampled_from(list(entry["inputs"]))))
        elif change == "type":
            entry["class_type"] = draw(st.sampled_from([*REGISTRY]) | st.text(max_size=4))
        else:
            entry["_meta"] = {"mode": draw(st.sampled_from([0, 2, 4, "x", None])), "title": draw(JUNK)}
    return prompt


@settings(max_examples=60, deadline=None)
@given(mutated())
def test_validation_never_crashes_and_what_it_passes_is_whole(
    folders: Folders, prompt: dict[str, Any]
) -> None:
    report = check(Workflow.from_data(prompt), REGISTRY, folders)
    assert report.graph is not None or report.problems
    assert all(str(problem) for problem in (*report.problems, *report.warnings))
    if report.graph is None:
        return
    assert sorted(report.graph.order) == sorted(report.graph.nodes)
    for item in report.graph.nodes.values():
        assert set(item.spec.inputs) <= {*item.literals, *item.links}
        assert all(source in report.graph.nodes for source, _ in item.links.values())


def test_the_toy_memory_is_not_json() -> None:
    with pytest.raises(ValidationError, match="Memory"):
        Workflow.from_data({"1": node("ToyShow", item=Memory(b""))})
