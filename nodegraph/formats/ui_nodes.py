"""What an item of a document looks like in ComfyUI's UI format: nodes, reroutes, primitives, notes, sub-graphs."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nodegraph.formats import widgets
from nodegraph.formats.canvas import Group
from nodegraph.formats.comfy_ui import same
from nodegraph.formats.ui_parts import PRIMITIVE, REROUTE
from nodegraph.formats.wiring import Wire
from nodegraph.modes import BYPASSED, MUTED, Link
from nodegraph.node import NodeSpec

Json = Mapping[str, Any]
MOST_OUTPUTS = 256
"""Of a node whose type is not known: a link may name any."""
_LAYOUT = ("pos", "size", "ui")


@dataclass
class Drawn:
    """A node of the UI format in the making."""

    data: dict[str, Any]
    widget_types: dict[str, str] = field(default_factory=dict)
    """Inputs that become sockets when a link comes to them."""
    _places: dict[str, int] = field(default_factory=dict)

    def socket(self, name: str, kind: str) -> int:
        """The index of an input's socket, made where there is none."""
        slots: list[dict[str, Any]] = self.data["inputs"]
        if not self._places:
            self._places = {slot["name"]: index for index, slot in reversed([*enumerate(slots)])}
        if name not in self._places:
            slot = {"name": name, "type": self.widget_types.get(name, kind), "link": None}
            slots.append(slot | ({"widget": {"name": name}} if name in self.widget_types else {}))
            self._places[name] = len(slots) - 1
        return self._places[name]

    def output(self, index: int) -> dict[str, Any]:
        """An output's socket, made where the type is not known."""
        slots: list[dict[str, Any]] = self.data["outputs"]
        while len(slots) <= index:
            slots.append(_output("*", "*"))
        return slots[index]

    @property
    def size(self) -> tuple[float, float]:
        """(width, height) as the item has it, or as ComfyUI will draw it."""
        given = pair(self.data.get("size"))
        if given is not None:
            return given
        values = self.data.get("widgets_values") or []
        rows = max(len(self.data["inputs"]), len(self.data["outputs"])) + len(values)
        texts = sum(isinstance(value, str) and len(value) > 40 for value in values)
        return (400.0 if texts else 315.0), 40.0 + 26 * rows + 120 * texts


def pair(value: Any) -> tuple[float, float] | None:
    """A position or size, None where it is not two numbers."""
    if isinstance(value, list) and len(value) == 2 and all(type(item) in (int, float) for item in value):
        return value[0], value[1]
    return None


def output_type(link: Link, prompt: Mapping[str, Json], registry: Mapping[str, NodeSpec]) -> str | None:
    """The type of a node's output, `*` where its type is not known; None where it has no such output."""
    node = prompt[link[0]]
    spec = registry.get(node["class_type"])
    if spec is not None:
        return spec.outputs[link[1]].type if link[1] < len(spec.outputs) else None
    listed = _listed(kept_of(node).get("outputs"))
    if link[1] < len(listed):
        return listed[link[1]][1]
    return "*" if link[1] < MOST_OUTPUTS else None


def draw(
    node: Json, spec: NodeSpec | None, wires: Iterable[Wire], *, off: bool, models: Iterable[Any] = ()
) -> Drawn:
    """A node of the document; its links are drawn afterwards. `off`: in a sub-graph that is muted or bypassed."""
    kept, meta, inputs = kept_of(node), node.get("_meta", {}), node.get("inputs", {})
    wired = {wire.name: wire.given for wire in wires if wire.given is not None}
    beneath = kept.get("beneath")
    hidden = beneath if isinstance(beneath, Mapping) else {}
    typed = {
        name: value
        for name, value in inputs.items()
        if name not in wired or (not isinstance(wired[name], list) and name not in hidden)
    }
    if spec is not None:
        drawn, shown = _known(node, spec, typed, kept)
    else:
        drawn, shown = _unknown(node, typed, kept)
    mode = kept.get("mode") if off else meta.get("mode")
    drawn.data["mode"] = mode if mode in (MUTED, BYPASSED) else 0
    title = meta.get("title")
    default = spec.display_name if spec is not None else node["class_type"]
    if isinstance(title, str) and title and title != default:
        drawn.data["title"] = title
    look(drawn.data, meta, kept)
    found = [item for item in models if _names(item, inputs)]
    if found:
        drawn.data["properties"]["models"] = found
    own = _own(node, shown | wired, inputs, meta)
    if own:
        drawn.data["properties"]["nodegraph"] = own
    return drawn


def kept_of(node: Json) -> Json:
    """What the reader kept of a node that only the UI format has."""
    kept = node.get("_meta", {}).get("ui")
    return kept if isinstance(kept, Mapping) else {}


def look(data: dict[str, Any], place: Json, colors: Json) -> None:
    """Give an item its place, its colours and its title if it has none."""
    data["flags"] = {"collapsed": True} if place.get("collapsed") is True else {}
    for key in ("pos", "size"):
        if pair(place.get(key)) is not None:
            data[key] = place[key]
    for key in ("color", "bgcolor"):
        if isinstance(colors.get(key), str):
            data[key] = colors[key]


def draw_reroute(item: Json) -> Drawn:
    """A reroute, whose type follows its link."""
    return _plain(item, REROUTE, [{"name": "", "type": "*", "link": None}], [_output("", "*")])


def draw_primitive(item: Json) -> Drawn:
    """A primitive with its value and what its control does next."""
    more = item.get("more")
    values = [item.get("value"), *(more if isinstance(more, list) else [])]
    ((name, kind),) = _listed([item.get("output")]) or [("connect to widget input", "*")]
    return _plain(item, PRIMITIVE, [], [_output(name, kind)], values)


def draw_note(item: Json) -> Drawn:
    """A note, plain or in Markdown."""
    kind = "MarkdownNote" if item.get("markdown") is True else "Note"
    return _plain(item, kind, [], [], [item.get("text", "")])


def draw_group(group: Group, definition: str) -> Drawn:
    """An instance of a sub-graph."""
    values = {port.name: group.values[port.name] for port in group.inputs if port.name in group.values}
    inputs = [
        {"name": port.name, "type": port.type, "link": None}
        | ({"widget": {"name": port.name}} if port.name in values else {})
        for port in group.inputs
    ]
    outputs = [_output(port.name, port.type) for port in group.outputs]
    drawn = _plain(group.data, definition, inputs, outputs, list(values.values()))
    drawn.data["mode"] = group.mode
    drawn.data["properties"] = {"proxyWidgets": [["-1", name] for name in values]} if values else {}
    return drawn


def _plain(
    item: Json, kind: str, inputs: list[Any], outputs: list[Any], values: list[Any] | None = None
) -> Drawn:
    data: dict[str, Any] = {"type": kind, "mode": 0, "inputs": inputs, "outputs": outputs, "properties": {}}
    data |= {"widgets_values": values} if values else {}
    title = item.get("title")
    data |= {"title": title} if isinstance(title, str) and title else {}
    look(data, item, item)
    return Drawn(data)


def _output(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "links": None}


def _known(node: Json, spec: NodeSpec, typed: Json, kept: Json) -> tuple[Drawn, dict[str, Any]]:
    sockets = [item for item in spec.inputs.values() if not widgets.has_widget(item)]
    inputs = [
        {"name": item.name, "type": item.type, "link": None} | ({"shape": 7} if item.optional else {})
        for item in sockets
    ]
    values = widgets.write(spec, typed, kept)
    data = {
        "type": node["class_type"],
        "inputs": inputs,
        "outputs": [_output(item.name, item.type) for item in spec.outputs],
        "properties": {"Node name for S&R": node["class_type"]},
        "widgets_values": values,
    }
    kinds = {item.name: item.type for item in widgets.widgets_of(spec)}
    return Drawn(data, kinds), widgets.read(values, spec).inputs


def _unknown(node: Json, typed: Json, kept: Json) -> tuple[Drawn, dict[str, Any]]:
    """A node whose type is not registered, with what a file said of it, or as its inputs tell."""
    values = copy.deepcopy(kept.get("values"))
    listed = kept.get("inputs")
    boxes: list[dict[str, Any]] = []
    if isinstance(listed, list):
        boxed = {slot.get("name") for slot in listed if isinstance(slot, dict) and slot.get("widget") is True}
        for name, kind in _listed(listed):
            slot: dict[str, Any] = {"name": name, "type": kind, "link": None}
            boxes.append(slot | ({"widget": {"name": name}} if name in boxed else {}))
    else:
        names = [name for name, value in typed.items() if not isinstance(value, list)]
        boxes = [{"name": name, "type": "*", "link": None, "widget": {"name": name}} for name in names]
        values = [widgets.bare(typed[name]) for name in names]
    shown: dict[str, Any] = {}
    if isinstance(values, dict):
        values |= {name: widgets.bare(typed[name]) for name in values if name in typed}
        shown = {name: widgets.literal(value) for name, value in values.items()}
    elif isinstance(values, list):
        names = [slot["name"] for slot in boxes if "widget" in slot]
        for name, position in widgets.places(names, values).items():
            values[position] = widgets.bare(typed.get(name, values[position]))
            shown[name] = widgets.literal(values[position])
    properties = kept.get("properties")
    data: dict[str, Any] = {
        "type": node["class_type"],
        "inputs": boxes,
        "outputs": [_output(name, kind) for name, kind in _listed(kept.get("outputs"))],
        "properties": dict(properties) if isinstance(properties, Mapping) else {},
    }
    data |= {"widgets_values": values} if isinstance(values, (list, dict)) else {}
    return Drawn(data), shown


def _listed(slots: Any) -> list[tuple[str, str]]:
    """(name, type) of what a document says of sockets."""
    found = []
    for slot in slots if isinstance(slots, list) else ():
        if isinstance(slot, dict) and isinstance(slot.get("name"), str) and isinstance(slot.get("type"), str):
            found.append((slot["name"], slot["type"]))
    return found


def _own(node: Json, shown: Json, inputs: Json, meta: Json) -> dict[str, Any]:
    """What the format has no place for, beside what it shows instead."""
    own: dict[str, Any] = {}
    stood: dict[str, Any] = {}
    for name in (*inputs, *(name for name in shown if name not in inputs)):
        if name in inputs and name in shown and same(inputs[name], shown[name]):
            continue
        stood[name] = ({"shown": shown[name]} if name in shown else {}) | (
            {"value": inputs[name]} if name in inputs else {}
        )
    more = {key: value for key, value in node.items() if key not in ("class_type", "inputs", "_meta")}
    titled = isinstance(meta.get("title"), str) and meta["title"] != ""
    faithful = {
        "title": titled,
        "mode": meta.get("mode") in (MUTED, BYPASSED),
        "collapsed": meta.get("collapsed") is True,
    }
    extra = {key: value for key, value in meta.items() if key not in _LAYOUT and not faithful.get(key, False)}
    own |= {} if titled else {"untitled": True}
    return own | {key: item for key, item in (("inputs", stood), ("more", more), ("meta", extra)) if item}


def _names(model: Any, inputs: Json) -> bool:
    """Whether a node uses a model of the document's list."""
    name = model.get("name") if isinstance(model, dict) else None
    return isinstance(name, str) and bool(name) and name in inputs.values()
