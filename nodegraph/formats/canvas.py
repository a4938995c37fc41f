"""The `canvas` of a document: what a drawing of the graph has besides nodes, and which links go through it.

    {"notes": [{"id", "text", "markdown"?}], "reroutes": [{"id", "from"?}], "primitives": [{"id", "value"}],
     "subgraphs": [{"id", "name", "definition", "inputs": [{"name", "type"}], "outputs": [{"name", "type", "from"?}],
                    "values"?, "mode"?, "groups"?}],
     "via": {ID: {INPUT: [ITEM, OUTPUT]}}}

each item with `title`, `pos`, `size`, colours and `collapsed` where it has them. The nodes of sub-graph `a` are those whose
ids begin with `a:`; `a:-10` stands for its inputs, seen from inside. `from` and `via` say where a link comes from on the
canvas. They hold only as long as they lead to what the nodes say: whoever changes a node need not know of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nodegraph.formats.ui_graph import MAX_NESTING, Value
from nodegraph.formats.ui_parts import INSIDE, OUTSIDE
from nodegraph.modes import BYPASSED, MUTED, RUN, Link, as_link, mode_of
from nodegraph.sockets import assignable

PARTS = ("notes", "reroutes", "primitives", "subgraphs", "via")
Json = Mapping[str, Any]


@dataclass
class Port:
    """An input or output of a sub-graph; `wire` is what feeds an output inside, or an input outside."""

    name: str
    type: str
    wire: Link | None = None


@dataclass
class Group:
    """A sub-graph on the canvas."""

    id: str
    data: Json
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    mode: int = RUN
    """What the whole sub-graph is, as long as none of its nodes runs."""


class Canvas:
    """A document's canvas as far as it is well formed; what is not is passed over, it decides nothing that runs."""

    def __init__(self, data: Any, prompt: Mapping[str, Any]) -> None:
        data = data if isinstance(data, dict) else {}
        self._prompt = prompt
        self.rest = {key: value for key, value in data.items() if key not in PARTS}
        taken = set(prompt)
        self.reroutes = {key: dict(item) for key, item in _items(data, "reroutes", taken)}
        self.primitives = {key: dict(item) for key, item in _items(data, "primitives", taken)}
        groups = {key: _group(key, item) for key, item in _items(data, "subgraphs", taken)}
        self.groups = self._nested(groups)
        self.notes = dict(_items(data, "notes", taken, free=True))
        via = data.get("via")
        self._via = via if isinstance(via, dict) else {}
        for group in self.groups.values():
            for port in group.inputs:
                port.wire = self.via(group.id, port.name)
        self._settle_modes()

    def _settle_modes(self) -> None:
        awake: set[str] = set()
        for node_id, node in self._prompt.items():
            group = self.scope(node_id)
            while group and group not in awake and mode_of(node) != MUTED:
                awake.add(group)
                group = self.scope(group)
        for key, group_ in self.groups.items():
            mode = group_.data.get("mode")
            group_.mode = mode if mode in (MUTED, BYPASSED) and key not in awake else RUN

    def is_off(self, scope: str) -> bool:
        """Whether a sub-graph, or one around it, is muted or bypassed as a whole."""
        while scope:
            if self.groups[scope].mode != RUN:
                return True
            scope = self.scope(scope)
        return False

    def has(self, wire: Link) -> bool:
        """Whether a link begins at something that is there."""
        item, index = wire
        if item in self._prompt:
            return True
        if item.endswith(f":{INSIDE}"):
            group = self.groups.get(item.removesuffix(f":{INSIDE}"))
            return group is not None and index < len(group.inputs)
        if item in self.groups:
            return index < len(self.groups[item].outputs)
        return (item in self.reroutes or item in self.primitives) and index == 0

    def _nested(self, groups: dict[str, Group]) -> dict[str, Group]:
        ends = (INSIDE, OUTSIDE)
        groups = {
            key: group
            for key, group in groups.items()
            if not any(f"{key}:{end}" in self._prompt for end in ends)
        }
        depths: dict[str, int] = {"": 0}
        for group_id in sorted(groups, key=len):
            depths[group_id] = depths[_around(group_id, depths)] + 1
        return {key: group for key, group in groups.items() if depths[key] <= MAX_NESTING}

    def scope(self, item: str) -> str:
        """The sub-graph that an item lies in, empty for the workflow itself."""
        return _around(item, self.groups)

    def via(self, target: str, name: str) -> Link | None:
        """Where the link of an input comes from on the canvas, None where it is not said."""
        inputs = self._via.get(target)
        return as_link(inputs.get(name)) if isinstance(inputs, dict) else None

    def inputs_via(self, target: str) -> list[str]:
        """The inputs of which the canvas says where their links come from."""
        inputs = self._via.get(target)
        return list(inputs) if isinstance(inputs, dict) else []

    def lead(self, wire: Link | None) -> Link | Value | None:
        """What a link on the canvas leads to: a node's output, a value, or nothing."""
        seen: set[Link] = set()
        while wire is not None and wire not in seen:
            seen.add(wire)
            item, index = wire
            if item in self._prompt:
                return wire
            if item in self.primitives:
                return Value(self.primitives[item].get("value"))
            if item in self.reroutes:
                wire = as_link(self.reroutes[item].get("from"))
            elif item in self.groups:
                group = self.groups[item]
                if group.mode == BYPASSED:
                    wire = past(group, index)
                else:
                    wire = group.outputs[index].wire if index < len(group.outputs) else None
            else:
                inside = self.groups.get(item.removesuffix(f":{INSIDE}"))
                if inside is None or not item.endswith(INSIDE) or index >= len(inside.inputs):
                    return None
                port = inside.inputs[index]
                if port.wire is None and port.name in inside.values:
                    return Value(inside.values[port.name])
                wire = port.wire
        return None

    def origin(self, wire: Link) -> tuple[str, str] | None:
        """(item, name) of what holds the value that a link leads to: a primitive, or a sub-graph's own widget."""
        seen: set[Link] = set()
        step: Link | None = wire
        while step is not None and step not in seen:
            seen.add(step)
            item, index = step
            group = self.groups.get(item.removesuffix(f":{INSIDE}")) if item.endswith(INSIDE) else None
            if item in self.primitives:
                return item, ""
            if item in self.reroutes:
                step = as_link(self.reroutes[item].get("from"))
            elif group is not None and index < len(group.inputs):
                port = group.inputs[index]
                if port.wire is None:
                    return (group.id, port.name) if port.name in group.values else None
                step = port.wire
            else:
                return None
        return None


def past(group: Group, index: int) -> Link | None:
    """What takes the place of an output of a bypassed sub-graph."""
    if index >= len(group.outputs):
        return None
    for port in (*group.inputs[index : index + 1], *group.inputs):
        if port.wire is not None and assignable(port.type, group.outputs[index].type):
            return port.wire
    return None


def _around(item: str, groups: Iterable[str] | Mapping[str, Any]) -> str:
    cut = len(item)
    while (cut := item.rfind(":", 0, cut)) > 0:
        if item[:cut] in groups:
            return item[:cut]
    return ""


def _items(data: Json, part: str, taken: set[str], *, free: bool = False) -> Iterator[tuple[str, Json]]:
    """The items of a part by id; with `free`, those without an id get one."""
    found = data.get(part)
    for index, item in enumerate(found if isinstance(found, list) else ()):
        if not isinstance(item, dict):
            continue
        item_id = item.get("id", f"{part} {index}" if free else None)
        if (
            isinstance(item_id, str)
            and item_id
            and item_id not in taken
            and not item_id.endswith((INSIDE, OUTSIDE))
        ):
            taken.add(item_id)
            yield item_id, item


def _group(group_id: str, data: Json) -> Group:
    group = Group(group_id, data)
    for key, ports in (("inputs", group.inputs), ("outputs", group.outputs)):
        listed = data.get(key)
        for item in listed if isinstance(listed, list) else ():
            known = item if isinstance(item, dict) else {}
            name, kind = known.get("name"), known.get("type")
            wire = as_link(known.get("from")) if key == "outputs" else None
            ports.append(
                Port(name if isinstance(name, str) else "", kind if isinstance(kind, str) else "*", wire)
            )
    values = data.get("values")
    group.values = dict(values) if isinstance(values, dict) else {}
    return group
