"""ComfyUI's UI format: what its own front end makes of a graph when it queues it."""

from __future__ import annotations

import copy
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph.errors import ValidationError
from nodegraph.modes import resolve
from nodegraph.node import Choice, Range, Widget, node
from nodegraph.registry import Registry
from nodegraph.workflow import Workflow
from tests.nodegraph.toy import NODES, Recipe


@node("UiSampler", category="toy", display_name="Sampler")
def ui_sampler(
    model: Recipe,
    seed: Annotated[int, Range(0, 2**64 - 1), Widget(control_after_generate=True)] = 0,
    steps: int = 20,
    extra: Annotated[str, Widget(optional=True)] = "e",
    sampler: Annotated[str, Choice(("euler", "fixed"))] = "euler",
    noise: bool = True,
) -> Recipe:
    """Widgets of every kind; one optional in the middle."""
    return model


@node("UiLoadImage", category="toy")
def ui_load_image(image: Annotated[str, Choice(files="input", upload=True)], channel: str = "red") -> str:
    """A picture upload."""
    return image + channel


REGISTRY = Registry.of(*NODES, ui_sampler, ui_load_image)
LOADER: dict[str, Any] = {
    "id": 1,
    "type": "ToyLoadModel",
    "pos": [0, 0],
    "size": {"1": 50, "0": 300},
    "flags": {"collapsed": True},
    "mode": 0,
    "outputs": [{"name": "MODEL", "type": "MODEL", "links": [1]}],
    "properties": {"models": [{"name": "a.safetensors", "url": "http://x", "directory": "checkpoints"}]},
    "widgets_values": ["a.safetensors"],
}
SAMPLER: dict[str, Any] = {
    "id": 2,
    "type": "UiSampler",
    "title": "My sampler",
    "inputs": [{"name": "model", "type": "MODEL", "link": 1}],
    "outputs": [{"name": "MODEL", "type": "MODEL", "links": [2]}],
    "widgets_values": [2**60, "randomize", 12, "euler", False, "hello"],
}
SHOW: dict[str, Any] = {"id": 3, "type": "ToyShow", "inputs": [{"name": "item", "type": "*", "link": 2}]}
LINKS: list[Any] = [[1, 1, 0, 2, 0, "MODEL"], [2, 2, 0, 3, 0, "MODEL"]]


def ui(*nodes: dict[str, Any], links: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"nodes": list(nodes), "links": LINKS if links is None else links, "version": 0.4, **more}


def read(data: dict[str, Any]) -> Workflow:
    return Workflow.from_data(data, REGISTRY)


def api(data: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Class and inputs of the nodes that are queued."""
    resolved = resolve(read(data).prompt, REGISTRY)
    return {node_id: (entry["class_type"], entry["inputs"]) for node_id, entry in resolved.items()}


def test_widgets_are_named_in_schema_order_required_first() -> None:
    assert api(ui(LOADER, SAMPLER, SHOW)) == {
        "1": ("ToyLoadModel", {"name": "a.safetensors"}),
        "2": (
            "UiSampler",
            {
                "seed": 2**60,
                "steps": 12,
                "sampler": "euler",
                "noise": False,
                "extra": "hello",
                "model": ["1", 0],
            },
        ),
        "3": ("ToyShow", {"item": ["2", 0]}),
    }


def test_layout_goes_into_meta_and_canvas() -> None:
    note = {"id": 9, "type": "Note", "pos": [1, 2], "size": [3, 4], "widgets_values": ["look"]}
    groups = [{"title": "G", "bounding": [0, 0, 1, 1]}]
    workflow = read(ui(LOADER, SAMPLER, SHOW, note, groups=groups))
    assert workflow.prompt["1"]["_meta"] == {
        "title": "ToyLoadModel",
        "pos": [0, 0],
        "size": [300, 50],
        "collapsed": True,
    }
    assert workflow.prompt["2"]["_meta"]["title"] == "My sampler"
    assert workflow.extra["canvas"] == {"notes": [{"id": "9", "text": "look", "pos": [1, 2], "size": [3, 4]}]}
    assert workflow.extra["groups"] == groups
    assert workflow.extra["models"] == LOADER["properties"]["models"]
    assert workflow.extra["extra_data"]["extra_pnginfo"]["workflow"]["version"] == 0.4
    assert "extra_data" not in workflow.dumps()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5, True, 12, "euler", False, "x"], {"seed": 5, "steps": 12, "noise": False, "extra": "x"}),
        ([5, 12, "fixed", False, "x"], {"seed": 5, "steps": 12, "sampler": "fixed", "extra": "x"}),
        ([5, "fixed", 12, "fixed", True, "x"], {"seed": 5, "steps": 12, "sampler": "fixed", "noise": True}),
        ([5, "fixed", 12], {"steps": 12, "sampler": "euler", "noise": True, "extra": "e"}),
        (None, {"seed": 0, "steps": 20}),
        ({"seed": 5, "steps": 3, "videopreview": {}}, {"seed": 5, "steps": 3}),
    ],
)
def test_the_control_of_a_seed_is_no_value(values: Any, expected: dict[str, Any]) -> None:
    inputs = api(ui(LOADER, {**SAMPLER, "widgets_values": values}, SHOW))["2"][1]
    assert {name: inputs[name] for name in expected} == expected
    assert "videopreview" not in inputs


def test_the_upload_button_of_a_picture_is_no_value() -> None:
    load = {"id": 1, "type": "UiLoadImage", "widgets_values": ["a.png", "image", "blue"]}
    show = {**SHOW, "inputs": [{"name": "item", "link": 7}]}
    assert api(ui(load, show, links=[[7, 1, 0, 3, 0, "STRING"]]))["1"][1] == {
        "image": "a.png",
        "channel": "blue",
    }


def test_a_linked_widget_keeps_its_place_among_the_values() -> None:
    number = {"id": 5, "type": "ToyInt", "widgets_values": [33, "fixed"]}
    sampler = copy.deepcopy(SAMPLER)
    sampler["inputs"].append({"name": "steps", "type": "INT", "link": 4, "widget": {"name": "steps"}})
    inputs = api(ui(LOADER, number, sampler, SHOW, links=[*LINKS, [4, 5, 0, 2, 1, "INT"]]))["2"][1]
    assert inputs["steps"] == ["5", 0]
    assert inputs["sampler"] == "euler"


def test_links_may_be_objects() -> None:
    links = [
        {"id": 1, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0, "type": "MODEL"},
        {"id": 2, "origin_id": 2, "origin_slot": 0, "target_id": 3, "target_slot": 0, "type": "MODEL"},
    ]
    assert api(ui(LOADER, SAMPLER, SHOW, links=links)) == api(ui(LOADER, SAMPLER, SHOW))


def test_reroutes_and_primitives_are_no_nodes() -> None:
    reroute = {"id": 6, "type": "Reroute", "inputs": [{"name": "", "type": "*", "link": 1}], "outputs": [{}]}
    primitive = {"id": 7, "type": "PrimitiveNode", "widgets_values": [99, "fixed"]}
    sampler = copy.deepcopy(SAMPLER)
    sampler["inputs"] = [
        {"name": "model", "type": "MODEL", "link": 10},
        {"name": "steps", "type": "INT", "link": 11, "widget": {"name": "steps"}},
    ]
    links = [
        [1, 1, 0, 6, 0, "*"],
        [10, 6, 0, 2, 0, "MODEL"],
        [11, 7, 0, 2, 1, "INT"],
        [2, 2, 0, 3, 0, "MODEL"],
    ]
    found = api(ui(LOADER, reroute, primitive, sampler, SHOW, links=links))
    assert list(found) == ["1", "2", "3"]
    assert found["2"][1]["model"] == ["1", 0]
    assert found["2"][1]["steps"] == 99


def test_reroutes_in_a_circle_end() -> None:
    one = {"id": 6, "type": "Reroute", "inputs": [{"link": 2}]}
    assert api(ui(one, SHOW, links=[[2, 6, 0, 6, 0, "*"]])) == {"3": ("ToyShow", {})}


def test_muted_and_bypassed_nodes_keep_their_mode() -> None:
    data = ui(LOADER, {**SAMPLER, "mode": 4}, SHOW)
    assert read(data).prompt["2"]["_meta"]["mode"] == 4
    assert api(data)["3"][1] == {"item": ["1", 0]}
    assert list(api(ui(LOADER, {**SAMPLER, "mode": 2}, SHOW))) == ["1"]


def test_a_bypassed_node_of_an_unknown_type_is_led_past() -> None:
    unknown = {**SAMPLER, "type": "SomebodysNode", "mode": 4}
    assert api(ui(LOADER, unknown, SHOW))["3"][1] == {"item": ["1", 0]}


def test_an_unknown_type_is_named_by_its_sockets() -> None:
    unknown = {
        **SAMPLER,
        "type": "SomebodysNode",
        "inputs": [
            {"name": "model", "type": "MODEL", "link": 1},
            {"name": "seed", "type": "INT", "link": None, "widget": {"name": "seed"}},
            {"name": "curve", "type": "LIST", "link": None, "widget": {"name": "curve"}},
        ],
        "widgets_values": [5, "randomize", [1, 2]],
    }
    found = read(ui(LOADER, unknown, SHOW)).prompt["2"]
    assert found["inputs"] == {"seed": 5, "curve": {"__value__": [1, 2]}, "model": ["1", 0]}


INNER: dict[str, Any] = {
    "id": "uuid-inner",
    "name": "Patch twice",
    "inputs": [{"id": "i", "name": "model", "type": "MODEL", "linkIds": [1]}],
    "outputs": [{"id": "o", "name": "MODEL", "type": "MODEL", "linkIds": [3]}],
    "nodes": [
        {
            "id": 1,
            "type": "ToyPatch",
            "inputs": [{"name": "model", "type": "MODEL", "link": 1}],
            "widgets_values": ["p"],
        },
        {
            "id": 2,
            "type": "ToyPatch",
            "inputs": [{"name": "model", "type": "MODEL", "link": 2}],
            "widgets_values": ["q"],
        },
    ],
    "links": [
        {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": 0, "type": "MODEL"},
        {"id": 2, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0, "type": "MODEL"},
        {"id": 3, "origin_id": 2, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "MODEL"},
    ],
}
OUTER: dict[str, Any] = {
    **INNER,
    "id": "uuid-outer",
    "nodes": [
        {
            "id": 7,
            "type": "uuid-inner",
            "inputs": [{"name": "model", "link": 1}],
            "outputs": [{"type": "MODEL"}],
        },
        {
            "id": 8,
            "type": "uuid-inner",
            "inputs": [{"name": "model", "link": 2}],
            "outputs": [{"type": "MODEL"}],
        },
    ],
    "links": [
        {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 7, "target_slot": 0},
        {"id": 2, "origin_id": 7, "origin_slot": 0, "target_id": 8, "target_slot": 0},
        {"id": 3, "origin_id": 8, "origin_slot": 0, "target_id": -20, "target_slot": 0},
    ],
}


def nested(mode: int = 0) -> dict[str, Any]:
    instance = {
        "id": 2,
        "type": "uuid-outer",
        "mode": mode,
        "inputs": [{"name": "model", "type": "MODEL", "link": 1}],
        "outputs": [{"name": "MODEL", "type": "MODEL", "links": [2]}],
    }
    return ui(LOADER, instance, SHOW, definitions={"subgraphs": [INNER, OUTER]})


def test_sub_graphs_are_opened_to_any_depth() -> None:
    found = api(nested())
    assert sorted(found) == ["1", "2:7:1", "2:7:2", "2:8:1", "2:8:2", "3"]
    assert found["2:7:1"] == ("ToyPatch", {"patch": "p", "model": ["1", 0]})
    assert found["2:8:1"][1]["model"] == ["2:7:2", 0]
    assert found["3"][1]["item"] == ["2:8:2", 0]


def test_a_sub_graph_may_be_muted_or_bypassed() -> None:
    assert api(nested(mode=4)) == {
        "1": ("ToyLoadModel", {"name": "a.safetensors"}),
        "3": ("ToyShow", {"item": ["1", 0]}),
    }
    assert list(api(nested(mode=2))) == ["1"]


def test_a_sub_graph_that_holds_itself_is_refused() -> None:
    again = {**OUTER, "id": "uuid-inner"}
    with pytest.raises(ValidationError, match="holds itself"):
        read(ui(LOADER, {**nested()["nodes"][1]}, SHOW, definitions={"subgraphs": [again, OUTER]}))


def test_without_node_types_it_cannot_be_read() -> None:
    with pytest.raises(ValidationError, match="UI format"):
        Workflow.from_data(ui(LOADER, SAMPLER, SHOW))


JUNK: st.SearchStrategy[Any] = (
    st.none()
    | st.integers(-2, 9)
    | st.text(max_size=3)
    | st.lists(st.integers(0, 3), max_size=3)
    | st.just({})
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_malformed_file_gives_a_workflow_or_a_validation_error(data: st.DataObject) -> None:
    graph = copy.deepcopy(nested())
    places: list[Any] = [
        graph,
        *graph["nodes"],
        *graph["definitions"]["subgraphs"],
        *graph["definitions"]["subgraphs"][0]["nodes"],
    ]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(places))
        place[data.draw(st.sampled_from(sorted(place)))] = data.draw(JUNK)
    graph.setdefault("nodes", [])
    if not isinstance(graph["nodes"], list):
        return
    try:
        read(graph)
    except ValidationError as error:
        assert error.problems
