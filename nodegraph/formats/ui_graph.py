"""The graph in a file of ComfyUI's UI format: nodes, links and opened sub-graphs, and where each link leads.

Everything is checked here, so that a file that is malformed or hostile is refused in one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nodegraph.formats.json_text import refuse, refuse_nodes
from nodegraph.formats.ui_parts import (
    INSIDE,
    NOTES,
    PRIMITIVE,
    REROUTE,
    Definition,
    Json,
    Slot,
    UiNode,
    definition_of,
    is_number,
    link_of,
    listed,
    node_of,
    part,
    promoted,
    weight_of,
)
from nodegraph.limits import MAX_NAME, MAX_NODES, MAX_VALUES
from nodegraph.modes import BYPASSED, MUTED
from nodegraph.sockets import assignable

MAX_NESTING = 20
MAX_INSTANCES = 5000
"""Of sub-graphs in all: each level of nesting may multiply them."""
MAX_OPENED = 2 * MAX_VALUES
"""Of values that the sub-graphs may come to when all are opened; a text counts for each 32 of its letters."""
MAX_SOCKETS = 100
"""How many inputs of a bypassed node are tried for one that may take an output's place."""


@dataclass(frozen=True, slots=True)
class Value:
    """A literal that a primitive, or a sub-graph's own widget, gives in place of a link."""

    value: Any


@dataclass
class Scope:
    """The nodes and links of the workflow, or of one instance of a sub-graph."""

    path: str
    """The instance's id; empty for the workflow itself."""
    nodes: dict[str, UiNode]
    """By their ids in the file."""
    links: dict[str, tuple[str, int]]
    """(source node, its output) by the link's id."""
    data: Json
    definition: Definition | None = None
    instance: UiNode | None = None
    parent: Scope | None = None
    off: bool = False
    """Whether the instance, or one around it, is muted or bypassed."""
    children: dict[str, Scope] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    """The ids in the document, by those in the file."""

    @cached_property
    def outer(self) -> Mapping[str, Slot]:
        """The inputs of the instance by name."""
        assert self.instance is not None
        found: dict[str, Slot] = {}
        for slot in self.instance.inputs:
            found.setdefault(slot.name, slot)
        return found

    @cached_property
    def promoted(self) -> Mapping[str, Any]:
        """The values that the instance's own widgets hold, by the input that they stand for."""
        return {} if self.instance is None else promoted(self.instance)

    def all(self) -> Iterator[Scope]:
        """This scope and all within it."""
        yield self
        for child in self.children.values():
            yield from child.all()


class UiGraph:
    """A file's scopes. Raises ValidationError where the file is malformed or holds too much."""

    def __init__(self, data: Json, name: str) -> None:
        self._name = name
        self._instances = self._opened = 0
        self._parsed: dict[str, tuple[dict[str, UiNode], dict[str, tuple[str, int]], int]] = {}
        self._taken: set[str] = set()
        self._known: dict[tuple[str, str], tuple[str, int] | Value | None] = {}
        self.definitions = self._definitions(data)
        self.root = self._scope("", data, ())

    def source(self, scope: Scope, link: str | None) -> tuple[str, int] | Value | None:
        """What a link leads to, past everything that is no node: an output, a value, or nothing."""
        passed: list[tuple[str, str]] = []
        seen: set[tuple[str, str]] = set()
        found: tuple[str, int] | Value | None = None
        while link is not None and (scope.path, link) not in seen:
            step = (scope.path, link)
            if step in self._known:
                found = self._known[step]
                break
            seen.add(step)
            passed.append(step)
            if link not in scope.links:
                break
            origin, slot = scope.links[link]
            if origin == INSIDE and scope.parent is not None:
                found = _promoted_value(scope, slot)
                link, scope = _outer_link(scope, slot), scope.parent
                if link is None:
                    break
                found = None
                continue
            node = scope.nodes.get(origin)
            if node is None:
                break
            if origin in scope.children:
                if node.mode == BYPASSED:
                    link = past(node, slot)
                else:
                    scope = scope.children[origin]
                    link = _inner_link(scope, slot)
            elif node.type == PRIMITIVE:
                values = listed(node.values)
                found = Value(values[0]) if values else None
                break
            elif node.type == REROUTE:
                link = node.inputs[0].link if node.inputs else None
            elif node.type in NOTES:
                break
            else:
                found = (scope.ids[origin], slot)
                break
        for step in passed:
            self._known[step] = found
        return found

    def _definitions(self, data: Json) -> dict[str, Definition]:
        place = f"the sub-graphs of {self._name}"
        outer = part(data, "definitions", dict, self._name)
        found: dict[str, Definition] = {}
        for item in part(outer, "subgraphs", list, place):
            if not isinstance(item, dict) or not isinstance(item.get("id"), str):
                refuse(f"one of {place} has no id.", code="invalid_prompt")
            if item["id"] in found:
                refuse(f"two of {place} have the id {item['id'][:80]!r}.", code="invalid_prompt")
            found[item["id"]] = definition_of(item, self._name)
        return found

    def _scope(self, path: str, graph: Json, around: tuple[str, ...], **more: Any) -> Scope:
        place = f"the sub-graph {around[-1][:80]!r} of {self._name}" if around else self._name
        nodes, links, weight = self._parse(graph, place, around[-1] if around else "")
        self._instances += 1
        self._opened += weight if around else 0
        if self._instances > MAX_INSTANCES:
            refuse(f"{self._name} holds more than {MAX_INSTANCES} sub-graphs.", code="too_large")
        if self._opened > MAX_OPENED:
            refuse(f"{self._name} comes to too much when all its sub-graphs are opened.", code="too_large")
        scope = Scope(path, nodes, links, graph, **more)
        prefix = f"{path}:" if path else ""
        for node in nodes.values():
            scope.ids[node.id] = self._id(prefix, node, place)
        for node in nodes.values():
            definition = self.definitions.get(node.type)
            if definition is not None:
                self._check_nesting(definition, around)
                scope.children[node.id] = self._scope(
                    scope.ids[node.id],
                    definition.data,
                    (*around, definition.id),
                    definition=definition,
                    instance=node,
                    parent=scope,
                    off=scope.off or node.mode in (MUTED, BYPASSED),
                )
        return scope

    def _parse(
        self, graph: Json, place: str, key: str
    ) -> tuple[dict[str, UiNode], dict[str, tuple[str, int]], int]:
        """Nodes, links and size of a graph, once for all instances of it."""
        if key in self._parsed:
            return self._parsed[key]
        if not isinstance(graph.get("nodes"), list):
            refuse(f"{place} has no list of nodes.", code="invalid_prompt")
        nodes: dict[str, UiNode] = {}
        for item in graph["nodes"]:
            node = node_of(item, place)
            if node.id in nodes:
                refuse(f"two nodes of {place} have the id {node.id[:80]}.", code="invalid_prompt")
            nodes[node.id] = node
        links = dict(link_of(item, place) for item in part(graph, "links", list, place) if item is not None)
        self._parsed[key] = nodes, links, weight_of(graph) if key else 0
        return self._parsed[key]

    def _check_nesting(self, definition: Definition, around: tuple[str, ...]) -> None:
        title = definition.name or definition.id
        if definition.id in around:
            refuse(f"{self._name}: the sub-graph {title[:80]!r} holds itself.", code="invalid_prompt")
        if len(around) >= MAX_NESTING:
            refuse(f"{self._name} nests sub-graphs more than {MAX_NESTING} deep.", code="nested_too_deeply")

    def _id(self, prefix: str, node: UiNode, place: str) -> str:
        """A node's id in the document: the one that it had in ours before, else the file's."""
        before = node.own.get("id")
        if isinstance(before, str) and not is_number(before) and prefix + before not in self._taken:
            found = prefix + before
        else:
            found = prefix + node.id
        if found in self._taken:
            refuse(f"two nodes of {place} have the id {found[:80]}.", code="invalid_prompt")
        if len(found) > MAX_NAME:
            refuse(f"{place}: the id of a node is longer than {MAX_NAME:,} letters.", code="too_large")
        self._taken.add(found)
        if len(self._taken) > MAX_NODES:
            refuse_nodes(self._name)
        return found


def past(node: UiNode, slot: int) -> str | None:
    """The link that takes the place of an output of a bypassed sub-graph."""
    if not 0 <= slot < len(node.outputs):
        return None
    wanted = node.outputs[slot][1]
    for item in (*node.inputs[slot : slot + 1], *node.inputs[:MAX_SOCKETS]):
        if item.link is not None and assignable(item.type, wanted):
            return item.link
    return None


def _outer_slot(scope: Scope, slot: int) -> Slot | None:
    assert scope.definition is not None
    if not 0 <= slot < len(scope.definition.inputs):
        return None
    return scope.outer.get(scope.definition.inputs[slot][0])


def _outer_link(scope: Scope, slot: int) -> str | None:
    """The link that feeds input `slot` of a sub-graph's instance from outside."""
    found = _outer_slot(scope, slot)
    return found.link if found is not None else None


def _promoted_value(scope: Scope, slot: int) -> Value | None:
    found = _outer_slot(scope, slot)
    return Value(scope.promoted[found.name]) if found is not None and found.name in scope.promoted else None


def _inner_link(scope: Scope, slot: int) -> str | None:
    """The link that feeds output `slot` of a sub-graph from inside."""
    assert scope.definition is not None
    outputs = scope.definition.outputs
    return outputs[slot][2] if 0 <= slot < len(outputs) else None
