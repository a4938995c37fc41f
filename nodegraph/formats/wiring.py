"""How the links of a document are drawn: from node to node, by the canvas's reroutes and primitives, and through the
inputs and outputs of sub-graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nodegraph.formats.canvas import Canvas, Port
from nodegraph.formats.comfy_ui import same
from nodegraph.formats.ui_graph import Value
from nodegraph.formats.ui_parts import INSIDE, OUTSIDE
from nodegraph.formats.widgets import bare, literal
from nodegraph.modes import Link, as_link


@dataclass(frozen=True, slots=True)
class Wire:
    """One link as it is drawn, within one scope."""

    scope: str
    origin: Link
    """An item of the scope and its output; `scope:-10` for the sub-graph's inputs."""
    target: str
    """An item of the scope; `scope:-20` for the sub-graph's outputs."""
    name: str
    """Of the target's input or output."""
    given: Any = None
    """What the input is in the document; None where nothing comes through."""


class Wiring:
    """Draws the links. Sub-graphs get inputs and outputs for links that the canvas does not know."""

    def __init__(
        self, canvas: Canvas, prompt: Mapping[str, Mapping[str, Any]], type_of: Callable[[Link], str | None]
    ) -> None:
        self._canvas = canvas
        self._prompt = prompt
        self._type_of = type_of
        """The type of a node's output, None where it has no such output."""
        self._settle_values()
        self._settle_scopes()
        self.wires = [wire for node_id in prompt for wire in self._of_node(node_id)]
        self.wires += self._of_canvas()

    def _settle_values(self) -> None:
        """Primitives and widgets of sub-graphs take the values of the inputs that they feed, where these agree."""
        fed: dict[tuple[str, str], list[Any]] = {}
        for node_id, node in self._prompt.items():
            for name, value in node.get("inputs", {}).items():
                wire = self._canvas.via(node_id, name)
                holder = self._canvas.origin(wire) if wire is not None and as_link(value) is None else None
                if holder is not None:
                    fed.setdefault(holder, []).append(value)
        for (item, name), values in fed.items():
            if all(same(value, values[0]) for value in values):
                if item in self._canvas.primitives:
                    self._canvas.primitives[item]["value"] = bare(values[0])
                else:
                    self._canvas.groups[item].values[name] = bare(values[0])

    def _settle_scopes(self) -> None:
        """What reroutes, inputs and outputs come from in other scopes comes through all that is on the way."""
        canvas = self._canvas
        for item, reroute in canvas.reroutes.items():
            wire = as_link(reroute.get("from"))
            if wire is not None and canvas.has(wire):
                reroute["from"] = [*self._route(wire, canvas.scope(item))]
        for group in canvas.groups.values():
            for ports, scope in ((group.inputs, canvas.scope(group.id)), (group.outputs, group.id)):
                for port in [*ports]:
                    if port.wire is not None and canvas.has(port.wire):
                        port.wire = self._route(port.wire, scope)

    def _of_node(self, node_id: str) -> Iterator[Wire]:
        scope = self._canvas.scope(node_id)
        inputs = self._prompt[node_id].get("inputs", {})
        for name, value in inputs.items():
            drawn, link = self._via(scope, node_id, name), as_link(value)
            leads = self._canvas.lead(drawn)
            if link is None:
                if drawn is not None and isinstance(leads, Value) and same(literal(leads.value), value):
                    yield Wire(scope, drawn, node_id, name, value)
                elif drawn is not None and leads is None:
                    # From an input of a sub-graph that nothing feeds, say: the widget's own value holds.
                    yield Wire(scope, drawn, node_id, name)
            elif link[0] in self._prompt and self._type_of(link) is not None:
                origin = drawn if drawn is not None and leads == link else self._route(link, scope)
                yield Wire(scope, origin, node_id, name, [*link])
        for name in self._canvas.inputs_via(node_id):
            drawn = self._via(scope, node_id, name)
            if name not in inputs and drawn is not None and self._canvas.lead(drawn) is None:
                yield Wire(scope, drawn, node_id, name)

    def _of_canvas(self) -> Iterator[Wire]:
        canvas = self._canvas
        for item, reroute in canvas.reroutes.items():
            scope, wire = canvas.scope(item), as_link(reroute.get("from"))
            if wire is not None and canvas.has(wire) and canvas.scope(wire[0]) == scope:
                yield Wire(scope, wire, item, "")
        for group in canvas.groups.values():
            around = canvas.scope(group.id)
            for port in group.inputs:
                if port.wire is not None and canvas.has(port.wire) and canvas.scope(port.wire[0]) == around:
                    yield Wire(around, port.wire, group.id, port.name)
            for index, port in enumerate(group.outputs):
                if port.wire is not None and canvas.has(port.wire) and canvas.scope(port.wire[0]) == group.id:
                    yield Wire(group.id, port.wire, f"{group.id}:{OUTSIDE}", str(index))

    def _via(self, scope: str, node_id: str, name: str) -> Link | None:
        wire = self._canvas.via(node_id, name)
        if wire is None or not self._canvas.has(wire) or self._canvas.scope(wire[0]) != scope:
            return None
        return wire

    def _route(self, source: Link, scope: str) -> Link:
        """Where a link from a node's output begins in another scope; what is on the way gets inputs and outputs."""
        canvas = self._canvas
        start = canvas.scope(source[0])
        if start == scope:
            return source
        leads = canvas.lead(source)
        kind = self._type_of(leads) if isinstance(leads, tuple) else None
        if not start or scope.startswith(f"{start}:"):
            outer = self._route(source, canvas.scope(scope))
            group = canvas.groups[scope]
            return f"{scope}:{INSIDE}", _port(group.inputs, outer, kind or "*")
        group = canvas.groups[start]
        return self._route((start, _port(group.outputs, source, kind or "*")), scope)


def _port(ports: list[Port], wire: Link, kind: str) -> int:
    """The index of the port that a link goes through, a new one where there is none."""
    for index, port in enumerate(ports):
        if port.wire == wire:
            return index
    names = {port.name for port in ports}
    name = base = kind if kind.isidentifier() else "value"
    number = 1
    while name in names:
        number += 1
        name = f"{base}_{number}"
    ports.append(Port(name, kind, wire))
    return len(ports) - 1
