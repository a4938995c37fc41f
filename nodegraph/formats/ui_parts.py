"""The parts of a file of ComfyUI's UI format: nodes, links and sub-graphs, each checked as it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nodegraph.errors import shown
from nodegraph.formats.json_text import refuse
from nodegraph.limits import MAX_NAME

Json = Mapping[str, Any]
NOTES = frozenset({"Note", "MarkdownNote"})
REROUTE, PRIMITIVE = "Reroute", "PrimitiveNode"
INSIDE, OUTSIDE = "-10", "-20"
"""The nodes inside a sub-graph that stand for its inputs and for its outputs."""


@dataclass(frozen=True, slots=True)
class Slot:
    """An input of a node as the file has it; `widget` where a value lies beneath the socket."""

    name: str
    type: str
    link: str | None = None
    widget: bool = False


@dataclass(frozen=True, slots=True)
class UiNode:
    """A node of the file, its parts checked."""

    id: str
    type: str
    mode: int
    title: str
    inputs: tuple[Slot, ...]
    outputs: tuple[tuple[str, str], ...]
    """(name, type)."""
    values: list[Any] | dict[str, Any]
    """What was typed into the widgets, in their order, or by name."""
    properties: Json
    own: Json
    """What only our own writer adds: `properties.nodegraph`."""
    data: Json
    """The node's whole JSON."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A sub-graph as the file defines it, once for all its instances."""

    id: str
    name: str
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str, str | None], ...]
    """(name, type, the link inside that feeds it)."""
    data: Json


def node_of(item: Any, place: str) -> UiNode:
    """A node of a file. Raises ValidationError, which names the place, where it is malformed."""
    if not isinstance(item, dict):
        refuse(f"{place}: a node is not an object.", code="invalid_prompt", found=shown(item))
    node_id = item.get("id")
    if type(node_id) not in (int, str):
        refuse(f"{place}: a node has no id.", code="invalid_prompt", found=shown(node_id))
    where = f"{place}, node {str(node_id)[:80]}"
    if not isinstance(item.get("type"), str):
        refuse(f"{where}: it has no type.", code="invalid_prompt", found=shown(item.get("type")))
    inputs = []
    for slot in objects(item, "inputs", where):
        link = slot.get("link")
        inputs.append(
            Slot(
                text_of(slot, "name"),
                type_of(slot),
                None if link is None else str(link),
                bool(slot.get("widget")),
            )
        )
    outputs = [(text_of(slot, "name"), type_of(slot)) for slot in objects(item, "outputs", where)]
    values = item.get("widgets_values")
    if values is not None and not isinstance(values, (list, dict)):
        refuse(f"{where}: widgets_values is no list.", code="invalid_prompt", found=shown(values))
    properties = part(item, "properties", dict, where)
    own = properties.get("nodegraph")
    mode = item.get("mode")
    return UiNode(
        id=str(node_id),
        type=item["type"],
        mode=mode if type(mode) is int else 0,
        title=text_of(item, "title"),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        values=[] if values is None else values,
        properties=properties,
        own=own if isinstance(own, dict) else {},
        data=item,
    )


def link_of(item: Any, place: str) -> tuple[str, tuple[str, int]]:
    """(link id, (source node, source slot)) of either way to write a link."""
    if isinstance(item, dict):
        link = item.get("id", item.get("link_id"))
        origin = item.get("origin_id", item.get("source_node"))
        slot = item.get("origin_slot", item.get("source_slot"))
    elif isinstance(item, list) and len(item) >= 3:
        link, origin, slot = item[:3]
    else:
        link = origin = slot = None
    if slot is None or isinstance(slot, str):
        slot = int(slot) if slot and is_number(slot) else 0
    if type(link) not in (int, str) or type(origin) not in (int, str) or type(slot) is not int:
        refuse(f"{place}: a link does not say where it comes from.", code="invalid_prompt", found=shown(item))
    return str(link), (str(origin), slot)


def definition_of(item: Json, name: str) -> Definition:
    """A sub-graph as the file `name` defines it; its `id` is known to be a text."""
    place = f"the sub-graph {item['id'][:80]!r} of {name}"
    inputs = [(text_of(port, "name"), type_of(port)) for port in objects(item, "inputs", place)]
    last = {}
    for link in part(item, "links", list, place):
        if isinstance(link, dict) and str(link.get("target_id")) == OUTSIDE:
            last[link.get("target_slot")] = str(link.get("id"))
    outputs = []
    for index, port in enumerate(objects(item, "outputs", place)):
        links = part(port, "linkIds", list, place)
        inner = str(links[0]) if links else last.get(index)
        outputs.append((text_of(port, "name"), type_of(port), inner))
    return Definition(item["id"], text_of(item, "name"), tuple(inputs), tuple(outputs), item)


def part(data: Json, key: str, kind: type, place: str) -> Any:
    """A list or object that may be left out."""
    found = data.get(key)
    if found is None:
        return kind()
    if not isinstance(found, kind):
        words = "a list" if kind is list else "an object"
        refuse(f"{place}: {key} is not {words}.", code="invalid_prompt", found=shown(found))
    return found


def objects(data: Json, key: str, place: str) -> list[Json]:
    """A list of objects that may be left out."""
    found: list[Json] = part(data, key, list, place)
    if not all(isinstance(item, dict) for item in found):
        refuse(f"{place}: something in {key} is not an object.", code="invalid_prompt")
    return found


def weight_of(value: Any) -> int:
    """How many values JSON holds; a text counts for each 32 of its letters."""
    if isinstance(value, dict):
        return 1 + sum(map(weight_of, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(weight_of, value))
    return 1 + (len(value) // 32 if isinstance(value, str) else 0)


def text_of(data: Json, key: str) -> str:
    """A text; empty where there is none."""
    found = data.get(key)
    return found if isinstance(found, str) else ""


def type_of(slot: Json) -> str:
    """The type of a socket; old files give a choice by the list of its options."""
    found = slot.get("type")
    # Several types may stand in one text, but not thousands.
    return (
        found[:MAX_NAME]
        if isinstance(found, str) and found
        else ("COMBO" if isinstance(found, list) else "*")
    )


def is_number(text: str) -> bool:
    """Whether an id is one that ComfyUI would give: a whole number that JavaScript keeps exactly."""
    return text.isascii() and text.isdecimal() and len(text) <= 15 and str(int(text)) == text


def listed(values: list[Any] | dict[str, Any]) -> list[Any]:
    """The values of widgets as a list."""
    return list(values.values()) if isinstance(values, dict) else values


def promoted(instance: UiNode) -> dict[str, Any]:
    """The values that a sub-graph's own widgets hold, by the input that they stand for."""
    proxies = instance.properties.get("proxyWidgets")
    values = listed(instance.values)
    if isinstance(proxies, list) and proxies and all(_is_pair(item) for item in proxies):
        outer = [item for item in proxies if str(item[0]) == "-1"]
        shown = proxies if len(values) == len(proxies) else outer
        pairs = zip(shown, values, strict=False) if len(values) == len(shown) else ()
        # What is shown of a node inside has its value there.
        return {name: value for (node, name), value in pairs if str(node) == "-1" and value is not None}
    names = [slot.name for slot in instance.inputs if slot.widget]
    return dict(zip(names, values, strict=True)) if len(names) == len(values) else {}


def _is_pair(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and isinstance(item[1], str)
