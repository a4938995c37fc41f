"""Documents in ComfyUI's UI format and back: nothing that a document says, and nothing that a file says, is lost."""

from __future__ import annotations

import copy
import json
import random
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph.formats.ui_writing import to_ui
from nodegraph.modes import resolve
from nodegraph.node import Choice, Widget, node
from nodegraph.registry import Registry
from nodegraph.workflow import Workflow
from tests.nodegraph.formats.test_comfy_ui import ui_sampler
from tests.nodegraph.toy import NODES

Json = dict[str, Any]


@node("UiLoadImage", category="toy")
def ui_load_image(
    image: Annotated[str, Choice(files="input", upload=True)],
    channel: str = "red",
    feather: Annotated[int, Widget(optional=True)] = 0,
) -> str:
    """A picture upload, required and optional widgets behind it."""
    return image + channel


@node("UiNumber", category="toy")
def ui_number(value: int = 3) -> int:
    """A number."""
    return value


REGISTRY = Registry.of(*NODES, ui_sampler, ui_load_image, ui_number)


def read(data: Json) -> Workflow:
    return Workflow.from_data(data, REGISTRY)


def entry(kind: str, meta: Json | None = None, /, **inputs: Any) -> Json:
    return {"class_type": kind, "inputs": inputs} | ({"_meta": meta} if meta is not None else {})


def document(prompt: Json, **more: Any) -> Workflow:
    return Workflow.from_data({"nodegraph": 1, **more, "prompt": prompt})


def up_to_layout(workflow: Workflow) -> Json:
    """The whole document without where things lie."""
    data = copy.deepcopy({key: value for key, value in workflow.document().items() if key != "extra_data"})
    for item in data["prompt"].values():
        item["_meta"] = {
            key: value for key, value in item.get("_meta", {}).items() if key not in ("pos", "size", "ui")
        }
        item["inputs"] = item.get("inputs", {})
    for part in data.get("canvas", {}).values():
        for item in part if isinstance(part, list) else ():
            item.pop("pos", None)
            item.pop("size", None)
    return data


def exactly(data: Any) -> str:
    return json.dumps(data, sort_keys=True)


def scopes(data: Json) -> list[tuple[str, Json]]:
    """The graph and, for each instance of a sub-graph by its path, what is in it."""
    definitions = {item["id"]: item for item in data.get("definitions", {}).get("subgraphs", [])}
    found, waiting = [], [("", data)]
    while waiting:
        path, graph = waiting.pop()
        found.append((path, graph))
        waiting += [
            (f"{path}{item['id']}:", definitions[item["type"]])
            for item in graph["nodes"]
            if item["type"] in definitions
        ]
    return found


def essence(data: Json) -> Json:
    """What a UI file says, wherever it lies and however its links and sub-graphs are numbered."""
    definitions = {item["id"]: item["name"] for item in data.get("definitions", {}).get("subgraphs", [])}
    nodes, links = {}, []
    for path, graph in scopes(data):
        ends = {}
        for link in graph["links"]:
            number, origin, slot, target, place = (
                link[:5]
                if isinstance(link, list)
                else [link[key] for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot")]
            )
            ends[number] = (origin, slot)
            if target == -20:
                links.append((path, origin, slot, target, graph["outputs"][place]["name"]))
        for item in graph["nodes"]:
            links += [
                (path, *ends[slot["link"]], item["id"], slot["name"])
                for slot in item.get("inputs", [])
                if slot.get("link") is not None
            ]
            kind = definitions.get(item["type"], item["type"])
            nodes[path, item["id"]] = (kind, item.get("mode", 0), item.get("widgets_values") or [])
    return {"nodes": nodes, "links": sorted(links, key=repr), "groups": data.get("groups") or []}


def node_of(data: Json, node_id: int) -> Json:
    return next(item for item in data["nodes"] if item["id"] == node_id)


def test_a_node_as_comfyui_loads_it() -> None:
    data = to_ui(
        document(
            {
                "1": entry("ToyLoadModel", name="a.safetensors"),
                "2": entry(
                    "UiSampler", {"title": "Mine", "pos": [5, 6]}, model=["1", 0], seed=2**60, extra="x"
                ),
                "3": entry("ToyShow", item=["2", 0]),
            },
            groups=[{"title": "G", "bounding": [0, 0, 1, 1]}],
        ),
        REGISTRY,
    )
    sampler = node_of(data, 2)
    assert sampler["widgets_values"] == [2**60, "fixed", 20, "euler", True, "x"]
    assert sampler["inputs"] == [{"name": "model", "type": "MODEL", "link": 1}]
    assert sampler["outputs"] == [{"name": "MODEL", "type": "MODEL", "links": [2], "slot_index": 0}]
    assert (sampler["title"], sampler["pos"], sampler["order"], sampler["mode"]) == ("Mine", [5, 6], 1, 0)
    assert data["links"] == [[1, 1, 0, 2, 0, "MODEL"], [2, 2, 0, 3, 0, "MODEL"]]
    assert data["groups"] == [{"title": "G", "bounding": [0, 0, 1, 1]}]
    assert (data["version"], data["last_node_id"], data["last_link_id"]) == (0.4, 3, 2)


def test_a_linked_widget_becomes_a_socket_and_keeps_its_value() -> None:
    prompt = {
        "1": entry("UiNumber"),
        "2": entry("UiSampler", {"ui": {"beneath": {"steps": 9}}}, steps=["1", 0]),
    }
    sampler = node_of(to_ui(document(prompt), REGISTRY), 2)
    assert sampler["inputs"][1] == {"name": "steps", "type": "INT", "link": 1, "widget": {"name": "steps"}}
    assert sampler["widgets_values"][2] == 9


def test_the_upload_button_stands_behind_the_required_widgets() -> None:
    data = to_ui(document({"1": entry("UiLoadImage", image="a.png", channel="blue", feather=4)}), REGISTRY)
    assert data["nodes"][0]["widgets_values"] == ["a.png", "blue", "image", 4]
    assert read(data).prompt["1"]["inputs"] == {"image": "a.png", "channel": "blue", "feather": 4}


def test_nodes_without_a_place_get_one_that_covers_no_other() -> None:
    prompt = {str(number): entry("ToyInt", value=number) for number in range(12)}
    prompt |= {"20": entry("ToyShow", {"pos": [0, 0], "size": [200, 900]}, item=["3", 0])}
    boxes = [(*item["pos"], *item["size"]) for item in to_ui(document(prompt), REGISTRY)["nodes"]]
    for index, (x, y, width, height) in enumerate(boxes):
        for left, top, wide, high in boxes[:index]:
            assert x >= left + wide or left >= x + width or y >= top + high or top >= y + height


@pytest.mark.parametrize(
    "prompt",
    [
        {"sampler": entry("UiSampler", model=["load er", 0]), "load er": entry("ToyLoadModel", name="m")},
        {
            "007": entry("ToyInt", value=1),
            "7": entry("ToyInt", value=2),
            "a:b": entry("ToyShow", item=["007", 0]),
        },
        {
            "1": entry(
                "UiSampler", steps=7.0, noise="true", seed={"__value__": 5}, extra={"__value__": [1, 2]}
            )
        },
        {"1": entry("UiSampler", model="literal", unheard_of=[1, 2, 3], other={"a": None}, steps=None)},
        {"1": entry("UiSampler", model=["9", 0], steps=[1, 5], seed=["1", 0])},
        {
            "1": entry("ToyShow", {"mode": 0, "collapsed": False, "mine": [1]}, item=1),
            "2": entry("ToyShow", {"mode": 4}),
        },
        {
            "1": {**entry("ToyShow", item=["2", 10**12]), "is_changed": True},
            "2": entry("Nobodys", text="fixed", n=[1]),
        },
        {"1": entry("Nobodys", image=["2", 3], mask=["2", 1], seed=5, kind="randomize"), "2": entry("Other")},
        {"1": entry("ToyShow", item=["2", 0]), "2": entry("ToyShow", {"title": ""}, item=["1", 0])},
    ],
)
def test_a_document_comes_back(prompt: Json) -> None:
    parameters = {"steps": {"node": next(iter(prompt)), "input": "steps", "description": "d"}}
    more = {"title": "T", "parameters": parameters, "models": [{"name": "m"}], "mine": {"x": 1}}
    before = document(prompt, **more, canvas={"theirs": 1})
    after = read(json.loads(json.dumps(to_ui(before, REGISTRY))))
    assert exactly(up_to_layout(after)) == exactly(up_to_layout(before))


def test_what_was_changed_in_comfyui_is_not_undone() -> None:
    data = to_ui(document({"1": entry("UiSampler", seed={"__value__": 5}, model="m")}), REGISTRY)
    values = data["nodes"][0]["widgets_values"]
    values[0], values[2] = 6, 21
    assert read(data).prompt["1"]["inputs"] == {"seed": 6, "steps": 21, "model": "m"}


@pytest.mark.parametrize("mode", [2, 4])
def test_a_sub_graph_that_was_muted_or_bypassed_here_is_so_in_comfyui(mode: int) -> None:
    past = ["1", 0] if mode == 4 else ["5:3", 0]
    prompt = {
        "1": entry("ToyLoadModel", {"title": "Load"}, name="a.safetensors"),
        "5:2": entry("ToyPatch", {"title": "First", "mode": 2}, model=["1", 0], patch="p"),
        "5:3": entry("ToyPatch", {"title": "Own", "mode": 2, "ui": {"mode": 4}}, model=["5:2", 0], patch="q"),
        "4": entry("ToyShow", {"title": "Show"}, item=past),
    }
    frame = {
        "id": "5",
        "name": "Patches",
        "inputs": [{"name": "model", "type": "MODEL"}],
        "outputs": [{"name": "patched", "type": "MODEL", "from": ["5:3", 0]}],
        "mode": mode,
        "pos": [300, 0],
    }
    via = {"5": {"model": ["1", 0]}, "5:2": {"model": ["5:-10", 0]}, "4": {"item": ["5", 0]}}
    before = document(prompt, canvas={"subgraphs": [frame], "via": via})
    written = to_ui(before, REGISTRY)
    (definition,) = written["definitions"]["subgraphs"]
    (instance,) = (item for item in written["nodes"] if item["type"] == definition["id"])
    assert instance["mode"] == mode
    assert [item["mode"] for item in definition["nodes"]] == [0, 4]
    # On the canvas the links go through it, whatever runs.
    ends = {(link[1], link[3]) for link in written["links"]}
    shown, loads = (
        {item["type"]: item["id"] for item in written["nodes"]}[kind] for kind in ("ToyShow", "ToyLoadModel")
    )
    assert ends == {(loads, instance["id"]), (instance["id"], shown)}
    again = read(json.loads(json.dumps(written)))
    assert exactly(up_to_layout(again)["prompt"]) == exactly(up_to_layout(before)["prompt"])
    assert again.prompt["5:3"]["_meta"]["ui"]["mode"] == 4
    runs = resolve(again.prompt, REGISTRY)
    assert sorted(runs) == (["1", "4"] if mode == 4 else ["1"])
    # Woken there, it is what it was.
    instance["mode"] = 0
    woken = read(written)
    assert woken.prompt["4"]["inputs"]["item"] == ["5:3", 0]
    assert [woken.prompt[key]["_meta"].get("mode") for key in ("5:2", "5:3")] == [None, 4]


def test_what_the_canvas_leads_across_a_sub_graph_that_does_not_say_so_goes_through_it() -> None:
    prompt = {
        "6:1": entry("ToyLoadModel", {"title": "Load"}, name="a.safetensors"),
        "5:7:2": entry("ToyPatch", {"title": "Patch"}, model=["6:1", 0], patch="p"),
        "4": entry("ToyShow", {"title": "Show"}, item=["5:7:2", 0]),
    }
    frames = [
        {
            "id": "5",
            "name": "Outer",
            "inputs": [{"name": "model", "type": "MODEL"}],
            "outputs": [{"name": "patched", "type": "MODEL", "from": ["5:7:2", 0]}],
        },
        {"id": "5:7", "name": "Inner", "inputs": [], "outputs": []},
        {"id": "6", "name": "Loading", "inputs": [], "outputs": []},
    ]
    reroute = {"id": "9", "from": ["6:1", 0]}
    via = {"5": {"model": ["9", 0]}, "5:7:2": {"model": ["5:-10", 0]}, "4": {"item": ["5", 0]}}
    before = document(prompt, canvas={"subgraphs": frames, "reroutes": [reroute], "via": via})
    again = read(json.loads(json.dumps(to_ui(before, REGISTRY))))
    assert exactly(up_to_layout(again)["prompt"]) == exactly(up_to_layout(before)["prompt"])
    assert before.extra["canvas"]["reroutes"] == [{"id": "9", "from": ["6:1", 0]}]


KINDS = ["ToyInt", "ToyShow", "UiSampler", "UiLoadImage", "ToyPatch", "Nobodys"]
VALUES: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "fixed", "randomize", "image", "grün 🎨"])
    | st.lists(st.integers(0, 3), max_size=3)
    | st.just({"__value__": [1, 2]})
)
IDS = st.sampled_from(["1", "2", "3", "04", "a", "1:2", "2:a", "2:3:4", "-10", "2:-10"])
NAMES = ["item", "model", "seed", "steps", "extra", "image", "channel", "value", "patch", "zzz"]
ENTRIES = st.builds(
    lambda kind, inputs, mode: entry(kind, {"mode": mode} if mode else None, **inputs),
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(NAMES), VALUES | st.tuples(IDS, st.integers(0, 3)).map(list), max_size=4),
    st.sampled_from([0, 0, 2, 4]),
)
GROUPS = st.lists(
    st.fixed_dictionaries(
        {"id": IDS, "name": st.just("G")},
        optional={
            "mode": st.sampled_from([2, 4]),
            "inputs": st.just([{"name": "a", "type": "*"}, {"name": "b", "type": "INT"}]),
            "outputs": st.lists(
                st.fixed_dictionaries(
                    {
                        "name": st.just("o"),
                        "type": st.just("*"),
                        "from": st.tuples(IDS, st.integers(0, 1)).map(list),
                    }
                ),
                max_size=2,
            ),
            "values": st.just({"b": 4}),
        },
    ),
    max_size=3,
)
WIRES = st.tuples(IDS, st.integers(0, 2)).map(list)
CANVASES = st.fixed_dictionaries(
    {},
    optional={
        "subgraphs": GROUPS,
        "reroutes": st.lists(st.fixed_dictionaries({"id": IDS}, optional={"from": WIRES}), max_size=2),
        "primitives": st.lists(st.fixed_dictionaries({"id": IDS, "value": VALUES}), max_size=2),
        "via": st.dictionaries(IDS, st.dictionaries(st.sampled_from(NAMES), WIRES, max_size=3), max_size=3),
    },
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(IDS, ENTRIES, max_size=6), CANVASES)
def test_any_document_comes_back(prompt: Json, canvas: Json) -> None:
    """Whatever a canvas claims, the nodes are as they were."""
    before = document(prompt, title="T", canvas=canvas)
    after = read(json.loads(json.dumps(to_ui(before, REGISTRY))))
    assert exactly(up_to_layout(after)["prompt"]) == exactly(up_to_layout(before)["prompt"])
    assert after.title == "T"
    # From then on the canvas is one that a file can hold, and comes back whole.
    again = read(to_ui(after, REGISTRY))
    assert exactly(up_to_layout(again)) == exactly(up_to_layout(after))


SOCKETS = {
    "UiSampler": ["model"],
    "ToyShow": ["item"],
    "ToyPatch": ["model"],
    "Nobodys": ["a", "b"],
    "Reroute": [""],
}
NUMBERS = {"UiSampler": ["steps"], "UiNumber": ["value"], "UiLoadImage": ["feather"]}
OUTPUTS = {
    "UiSampler": 1,
    "ToyPatch": 1,
    "Nobodys": 2,
    "Reroute": 1,
    "UiNumber": 1,
    "UiLoadImage": 1,
    "PrimitiveNode": 1,
}


class Drawing:
    """A random file of the UI format, as ComfyUI's front end might have saved it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.definitions: list[Json] = []
        self.data = self.graph(0, [])
        self.data["links"] = [list(link.values()) for link in self.data["links"]]
        self.data |= {"version": 0.4, "groups": [{"title": "G", "bounding": [0, 0, 9, 9]}]}
        self.data["definitions"] = {"subgraphs": self.definitions}

    def values(self, kind: str) -> list[Any]:
        rng = self.rng
        control = rng.choice(["fixed", "randomize", "increment"])
        typed: dict[str, list[Any]] = {
            "UiSampler": [
                rng.randrange(2**64),
                control,
                rng.randrange(99),
                rng.choice(["euler", "fixed"]),
                False,
                "x",
            ],
            "UiLoadImage": ["a.png", rng.choice(["red", "image"]), "image", rng.randrange(9)],
            "UiNumber": [rng.randrange(99)],
            "ToyPatch": [rng.choice("pq")],
            "Nobodys": [rng.randrange(99), "randomize", "surplus", [1, 2]],
            "PrimitiveNode": [rng.randrange(99), control],
            "Note": ["look"],
        }
        return typed.get(kind, [])

    def graph(self, depth: int, ports: list[Json]) -> Json:
        rng = self.rng
        nodes: list[Json] = []
        links: list[Json] = []
        sources = [(-10, slot, port["type"]) for slot, port in enumerate(ports) if port["type"] == "*"]
        numbers = [(-10, slot, port["type"]) for slot, port in enumerate(ports) if port["type"] == "INT"]
        for node_id in rng.sample(range(1, 99), rng.randrange(1, 8)):
            kinds = [
                "UiSampler",
                "ToyShow",
                "ToyPatch",
                "Nobodys",
                "Reroute",
                "UiNumber",
                "UiLoadImage",
                "PrimitiveNode",
            ]
            kind = rng.choice([*kinds, "Note", *(["graph"] * 2 if depth < 2 else [])])
            if kind == "graph":
                item, outputs = self.instance(depth)
            else:
                outputs = OUTPUTS.get(kind, 0)
                item = {"type": kind, "widgets_values": self.values(kind), "properties": {}}
                item["inputs"] = [{"name": name, "type": "*", "link": None} for name in SOCKETS.get(kind, [])]
                for name in NUMBERS.get(kind, []):
                    if rng.random() < 0.5:
                        item["inputs"].append(
                            {"name": name, "type": "INT", "link": None, "widget": {"name": name}}
                        )
                item["outputs"] = [{"name": "o", "type": "*"} for _ in range(outputs)]
            item |= {"id": node_id, "pos": [rng.randrange(999), 0], "size": [200, 100]}
            item["mode"] = rng.choice([0, 0, 2, 4]) if kind not in ("Reroute", "PrimitiveNode", "Note") else 0
            for slot, box in enumerate(item["inputs"]):
                feeds = numbers if "widget" in box else sources
                if feeds and rng.random() < 0.8:
                    box["link"] = self.link(links, rng.choice(feeds), node_id, slot)
            sources += [(node_id, slot, "*") for slot in range(outputs)]
            numbers += [(node_id, 0, "INT")] if kind in ("UiNumber", "PrimitiveNode") else []
            nodes.append(item)
        self.sources = sources
        return {"nodes": nodes, "links": links}

    def link(self, links: list[Json], source: tuple[int, int, str], target: int, slot: int) -> int:
        number = len(links) + 1
        origin, place, kind = source
        links.append(
            {
                "id": number,
                "origin_id": origin,
                "origin_slot": place,
                "target_id": target,
                "target_slot": slot,
                "type": kind,
            }
        )
        return number

    def instance(self, depth: int) -> tuple[Json, int]:
        rng = self.rng
        if not self.definitions or rng.random() < 0.5:
            inputs = [
                {"id": f"i{index}", "name": f"in{index}", "type": rng.choice(["*", "INT"])}
                for index in range(3)
            ]
            graph = self.graph(depth + 1, inputs)
            outputs = []
            for index, source in enumerate(rng.sample(self.sources, min(2, len(self.sources)))):
                number = self.link(graph["links"], source, -20, index)
                outputs.append({"id": f"o{index}", "name": f"out{index}", "type": "*", "linkIds": [number]})
            number = len(self.definitions)
            definition = {
                "id": f"00000000-0000-0000-0000-{number:012}",
                "name": f"sub-graph {number}",
                **graph,
            }
            self.definitions.append(
                definition | {"inputs": inputs, "outputs": outputs, "groups": [{"title": "inner"}]}
            )
        definition = rng.choice(self.definitions)
        boxes = [{"name": port["name"], "type": port["type"], "link": None} for port in definition["inputs"]]
        values = []
        for box in boxes:
            if box["type"] == "INT":
                box["widget"] = {"name": box["name"]}
                values.append(rng.randrange(99))
        item = {"type": definition["id"], "inputs": boxes, "widgets_values": values}
        item["properties"] = {"proxyWidgets": [["-1", box["name"]] for box in boxes if "widget" in box]}
        item["outputs"] = [{"name": port["name"], "type": "*"} for port in definition["outputs"]]
        return item, len(item["outputs"])


@pytest.mark.parametrize("seed", range(30))
def test_any_file_comes_back(seed: int) -> None:
    before = Drawing(seed).data
    workflow = read(copy.deepcopy(before))
    after = to_ui(Workflow.loads(workflow.dumps()), REGISTRY)
    assert essence(after) == essence(before)
    assert exactly(up_to_layout(read(after))) == exactly(up_to_layout(workflow))
