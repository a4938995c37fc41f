"""A Workflow into ComfyUI's UI format, as its front end loads it.

What the format has no place for (ids that are no numbers, inputs left out, parameters) goes into `properties.nodegraph` of
the node and `extra.nodegraph` of the file, which ComfyUI keeps and `comfy_ui` reads back.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from nodegraph.formats.canvas import Canvas, Group
from nodegraph.formats.comfy_ui import same
from nodegraph.formats.document_text import write
from nodegraph.formats.layout import arrange, steps
from nodegraph.formats.ui_nodes import (
    Drawn,
    draw,
    draw_group,
    draw_note,
    draw_primitive,
    draw_reroute,
    output_type,
)
from nodegraph.formats.ui_parts import INSIDE, OUTSIDE, is_number
from nodegraph.formats.wiring import Wire, Wiring
from nodegraph.node import NodeSpec
from nodegraph.workflow import BODY_ONLY, Workflow

_NAMESPACE = uuid.UUID("5b1d2a52-9f0b-4c2e-8f0e-6d0f3f0c6a11")
_LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
_MARGIN = 200
"""Pixels between a sub-graph's nodes and its inputs and outputs."""


def to_ui(workflow: Workflow, registry: Mapping[str, NodeSpec]) -> dict[str, Any]:
    """The workflow as JSON data of ComfyUI's UI format, version 0.4, with sub-graphs as definitions.

    Every node, link and value is kept: reading it again gives the same document, places of nodes that had none aside.
    """
    return _Writer(workflow, registry).file()


class _Writer:
    def __init__(self, workflow: Workflow, registry: Mapping[str, NodeSpec]) -> None:
        self._workflow = workflow
        self._registry = registry
        prompt = self._prompt = workflow.prompt
        canvas = self._canvas = Canvas(workflow.extra.get("canvas"), prompt)
        models = workflow.extra.get("models")
        self._models = models if isinstance(models, list) else []
        self._wires: dict[str, list[Wire]] = {}
        for wire in Wiring(canvas, prompt, lambda link: output_type(link, prompt, registry)).wires:
            self._wires.setdefault(wire.scope, []).append(wire)
        self._items: dict[str, list[str]] = {}
        for item in (*prompt, *canvas.groups, *canvas.reroutes, *canvas.primitives, *canvas.notes):
            self._items.setdefault(canvas.scope(item), []).append(item)
        self._definitions: dict[str, dict[str, Any]] = {}

    def file(self) -> dict[str, Any]:
        """The whole file."""
        extra, canvas = self._workflow.extra, self._canvas
        graph = self._graph("")
        links = [[link[key] for key in _LINK] for link in graph["links"]]
        groups = extra.get("groups")
        own: dict[str, Any] = {"title": self._workflow.title}
        own["parameters"] = {name: item.declared for name, item in self._workflow.parameters.items()}
        own |= {"models": extra.get("models"), "canvas": canvas.rest}
        own["fields"] = {
            key: value
            for key, value in extra.items()
            if key not in BODY_ONLY and key not in ("groups", "models", "canvas")
        }
        kept = {key: value for key, value in own.items() if value}
        return {
            "id": str(uuid.uuid5(_NAMESPACE, self._workflow.dumps())),
            "revision": 0,
            "last_node_id": max((node["id"] for node in graph["nodes"]), default=0),
            "last_link_id": len(links),
            "nodes": graph["nodes"],
            "links": links,
            "groups": groups if isinstance(groups, list) else [],
            **({"definitions": {"subgraphs": list(self._definitions.values())}} if self._definitions else {}),
            "config": {},
            "extra": {"nodegraph": kept} if kept else {},
            "version": 0.4,
        }

    def _graph(self, scope: str) -> dict[str, Any]:
        """Nodes and links of the workflow, or of a sub-graph; sub-graphs within it are defined first."""
        items, wires = self._items.get(scope, []), self._wires.get(scope, [])
        numbers = _numbers(items, len(scope) + 1 if scope else 0)
        incoming: dict[str, list[Wire]] = {}
        for wire in wires:
            incoming.setdefault(wire.target, []).append(wire)
        drawn = {item: self._draw(item, incoming.get(item, [])) for item in items}
        edges = [(wire.origin[0], wire.target) for wire in wires]
        _, order = steps(items, edges)
        ranks = {item: rank for rank, item in enumerate(order)}
        self._place(drawn, edges)
        links = [
            _link(number, wire, drawn, numbers, self._canvas.groups.get(scope))
            for number, wire in enumerate(wires, 1)
        ]
        nodes = []
        for item in items:
            data = drawn[item].data
            local = item[len(scope) + 1 :] if scope else item
            if str(numbers[item]) != local:
                data["properties"].setdefault("nodegraph", {})["id"] = local
            for slot, output in enumerate(data["outputs"]):
                output["slot_index"] = slot
            nodes.append({"id": numbers[item], "order": ranks[item], **data})
        return {"nodes": nodes, "links": links}

    def _draw(self, item: str, wires: list[Wire]) -> Drawn:
        canvas = self._canvas
        if item in self._prompt:
            node = self._prompt[item]
            spec = self._registry.get(node["class_type"])
            return draw(node, spec, wires, off=canvas.is_off(canvas.scope(item)), models=self._models)
        if item in canvas.groups:
            return draw_group(canvas.groups[item], self._define(canvas.groups[item]))
        if item in canvas.reroutes:
            return draw_reroute(canvas.reroutes[item])
        if item in canvas.primitives:
            return draw_primitive(canvas.primitives[item])
        return draw_note(canvas.notes[item])

    def _place(self, drawn: Mapping[str, Drawn], edges: list[tuple[str, str]]) -> None:
        placed = {item: node.data["pos"] for item, node in drawn.items() if "pos" in node.data}
        sizes = {item: node.size for item, node in drawn.items()}
        for item, place in arrange(sizes, edges, placed).items():
            drawn[item].data["pos"] = list(place)
        for item, size in sizes.items():
            drawn[item].data["size"] = list(size)

    def _define(self, group: Group) -> str:
        """Define a sub-graph, or find that it is defined; returns the definition's id."""
        given = group.data.get("definition")
        key = given if isinstance(given, str) and given else str(uuid.uuid5(_NAMESPACE, group.id))
        graph = self._graph(group.id)
        name = group.data.get("name")
        groups = group.data.get("groups")
        lefts = [node["pos"][0] for node in graph["nodes"]] or [0]
        rights = [node["pos"][0] + node["size"][0] for node in graph["nodes"]] or [0]
        top = min((node["pos"][1] for node in graph["nodes"]), default=0)
        ends = {"inputs": group.inputs, "outputs": group.outputs}
        body: dict[str, Any] = {
            "version": 1,
            "state": {
                "lastGroupId": len(groups) if isinstance(groups, list) else 0,
                "lastNodeId": max((node["id"] for node in graph["nodes"]), default=0),
                "lastLinkId": len(graph["links"]),
                "lastRerouteId": 0,
            },
            "revision": 0,
            "config": {},
            "name": name if isinstance(name, str) and name else group.id,
            "inputNode": {"id": int(INSIDE), "bounding": [min(lefts) - _MARGIN, top, 120, 60]},
            "outputNode": {"id": int(OUTSIDE), "bounding": [max(rights) + _MARGIN, top, 120, 60]},
        }
        for end, ports in ends.items():
            body[end] = [
                {
                    "id": str(uuid.uuid5(_NAMESPACE, f"{key}/{end}/{index}")),
                    "name": port.name,
                    "type": port.type,
                    "linkIds": [link["id"] for link in graph["links"] if _is_at(link, end, index)],
                }
                for index, port in enumerate(ports)
            ]
        body |= {"widgets": [], **graph, "groups": groups if isinstance(groups, list) else [], "extra": {}}
        known = self._definitions.get(key)
        if known is not None and not same(known, {"id": key, **body}):
            key = str(uuid.uuid5(_NAMESPACE, key + write(body)))
        self._definitions.setdefault(key, {"id": key, **body})
        return key


def _numbers(items: list[str], start: int) -> dict[str, int]:
    """The numbers that ComfyUI needs for ids, kept where an id is one."""
    found = {item: int(item[start:]) for item in items if is_number(item[start:])}
    following = max(found.values(), default=0)
    for item in items:
        if item not in found:
            following += 1
            found[item] = following
    return found


def _link(
    number: int, wire: Wire, drawn: Mapping[str, Drawn], numbers: Mapping[str, int], around: Group | None
) -> dict[str, Any]:
    """Tie one link to both of its ends; without an origin among the nodes it comes from the sub-graph `around` them."""
    item, index = wire.origin
    if item in drawn:
        output = drawn[item].output(index)
        output["links"] = output["links"] or []
        output["links"].append(number)
        kind, origin = output["type"], numbers[item]
    else:
        assert around is not None
        kind, origin = around.inputs[index].type, int(INSIDE)
    if wire.target in drawn:
        target, slot = numbers[wire.target], drawn[wire.target].socket(wire.name, kind)
        drawn[wire.target].data["inputs"][slot]["link"] = number
    else:
        target, slot = int(OUTSIDE), int(wire.name)
    return dict(zip(_LINK, (number, origin, index, target, slot, kind), strict=True))


def _is_at(link: Mapping[str, Any], end: str, index: int) -> bool:
    node, slot = ("origin_id", "origin_slot") if end == "inputs" else ("target_id", "target_slot")
    wanted = int(INSIDE) if end == "inputs" else int(OUTSIDE)
    return bool(link[node] == wanted and link[slot] == index)
