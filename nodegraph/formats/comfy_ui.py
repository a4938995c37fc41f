"""ComfyUI's UI format, which people share, into a document.

The file says where nodes lie and what was typed into their widgets, in order and without names; the names come
from the node types. Reroutes, primitives, notes and sub-graph instances are no nodes: their links are resolved,
and they themselves go to the document's `canvas`, from which `ui_writing` puts them back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from nodegraph.formats import widgets
from nodegraph.formats.json_text import check, refuse
from nodegraph.formats.ui_graph import Scope, UiGraph
from nodegraph.formats.ui_parts import INSIDE, NOTES, PRIMITIVE, REROUTE, Json, UiNode, listed, promoted
from nodegraph.modes import BYPASSED, MUTED
from nodegraph.node import NodeSpec

_COLORS = ("color", "bgcolor")


def from_ui(data: Json, registry: Mapping[str, NodeSpec] | None, name: str) -> dict[str, Any]:
    """The document of a UI graph.

    Muted and bypassed nodes stay, with their mode in `_meta`; so do nodes whose type is not registered, with what the
    file says of them. Raises ValidationError where the file is malformed, or where no registry is given to name its
    widgets.
    """
    if registry is None:
        refuse(f"{name} is in ComfyUI's UI format, which can be read only where node types are known.")
    try:
        reader = _Reader(data, registry, name)
        document = {"nodegraph": 1, **reader.fields(), "prompt": reader.prompt()}
    except RecursionError:
        refuse(f"{name} nests too deeply.", code="nested_too_deeply")
    # Parts of it lie deeper than they did in the file.
    check(document, name)
    document["extra_data"] = {"extra_pnginfo": {"workflow": data}}
    return document


class _Reader:
    def __init__(self, data: Json, registry: Mapping[str, NodeSpec], name: str) -> None:
        self._data = data
        self._registry = registry
        self._graph = UiGraph(data, name)
        extra = data.get("extra")
        own = extra.get("nodegraph") if isinstance(extra, dict) else None
        self._own: Json = own if isinstance(own, dict) else {}

    def prompt(self) -> dict[str, Any]:
        """The nodes in API form, those of sub-graphs named `outer:inner`."""
        found = {}
        for scope, node in self._each():
            if not _is_virtual(scope, node):
                found[scope.ids[node.id]] = self._entry(scope, node)
        return found

    def fields(self) -> dict[str, Any]:
        """The document's other fields: what only editors and downloads use."""
        kept = self._own.get("fields")
        found: dict[str, Any] = dict(kept) if isinstance(kept, dict) else {}
        found |= {key: self._own[key] for key in ("title", "parameters") if key in self._own}
        groups = self._data.get("groups")
        later = {"models": self._models(), "groups": groups or [], "canvas": self._canvas()}
        return found | {key: value for key, value in later.items() if value}

    def _each(self) -> Iterator[tuple[Scope, UiNode]]:
        for scope in self._graph.root.all():
            for node in scope.nodes.values():
                yield scope, node

    def _models(self) -> list[Any]:
        kept = self._own.get("models")
        models = list(kept) if isinstance(kept, list) else []
        known = {json.dumps(model, sort_keys=True) for model in models}
        for _, node in self._each():
            found = node.properties.get("models")
            for model in found if isinstance(found, list) else []:
                text = json.dumps(model, sort_keys=True)
                if text not in known:
                    known.add(text)
                    models.append(model)
        return models

    def _canvas(self) -> dict[str, Any]:
        kept = self._own.get("canvas")
        found: dict[str, Any] = dict(kept) if isinstance(kept, dict) else {}
        lists: dict[str, list[Any]] = {"notes": [], "reroutes": [], "primitives": [], "subgraphs": []}
        via: dict[str, dict[str, Any]] = {}
        for scope, node in self._each():
            item = {"id": scope.ids[node.id]}
            if node.id in scope.children:
                lists["subgraphs"].append(item | self._instance(scope, node))
            elif node.type in NOTES:
                texts = listed(node.values)
                item |= {"text": texts[0] if texts else ""} | _look(node)
                lists["notes"].append(item | ({"markdown": True} if node.type == "MarkdownNote" else {}))
            elif node.type == REROUTE:
                wire = _wire(scope, node.inputs[0].link) if node.inputs else None
                lists["reroutes"].append(item | ({"from": wire} if wire else {}) | _look(node))
                continue
            elif node.type == PRIMITIVE:
                lists["primitives"].append(item | _primitive(node) | _look(node))
            for slot in node.inputs:
                wire = _wire(scope, slot.link)
                # A link from node to node of the same graph is in the prompt.
                if wire and (node.id in scope.children or not self._is_node(scope, slot.link)):
                    via.setdefault(scope.ids[node.id], {})[slot.name] = wire
        found |= {key: value for key, value in lists.items() if value}
        return found | ({"via": via} if via else {})

    def _is_node(self, scope: Scope, link: str | None) -> bool:
        origin = scope.links[link or ""][0]
        return origin in scope.nodes and not _is_virtual(scope, scope.nodes[origin])

    def _instance(self, scope: Scope, node: UiNode) -> dict[str, Any]:
        inner = scope.children[node.id]
        assert inner.definition is not None
        outputs = []
        for name, kind, link in inner.definition.outputs:
            wire = _wire(inner, link)
            outputs.append({"name": name, "type": kind} | ({"from": wire} if wire else {}))
        found: dict[str, Any] = {
            "definition": inner.definition.id,
            "name": inner.definition.name,
            "inputs": [{"name": name, "type": kind} for name, kind in inner.definition.inputs],
            "outputs": outputs,
        }
        found |= {"mode": node.mode} if node.mode in (MUTED, BYPASSED) else {}
        optional = {"values": promoted(node), "groups": inner.definition.data.get("groups")}
        return found | {key: value for key, value in optional.items() if value} | _look(node)

    def _entry(self, scope: Scope, node: UiNode) -> dict[str, Any]:
        spec = self._registry.get(node.type)
        kept: dict[str, Any] = {key: node.data[key] for key in _COLORS if key in node.data}
        inputs = _known(node, spec, kept) if spec is not None else _unknown(node, kept)
        beneath = {}
        for slot in node.inputs:
            source = self._graph.source(scope, slot.link)
            if source is None:
                continue
            value = [*source] if isinstance(source, tuple) else widgets.literal(source.value)
            if slot.name in inputs and spec is not None and slot.name in spec.inputs:
                shown = widgets.blank(spec.inputs[slot.name]) if isinstance(source, tuple) else source.value
                if not same(inputs[slot.name], widgets.literal(shown)):
                    beneath[slot.name] = widgets.bare(inputs[slot.name])
            inputs[slot.name] = value
        kept |= {"beneath": beneath} if beneath else {}
        mode = node.mode
        if scope.off:
            # What the whole sub-graph is, each of its nodes is until the sub-graph is put together again.
            kept |= {"mode": mode} if mode in (MUTED, BYPASSED) else {}
            mode = MUTED
        meta = {"title": node.title or (spec.display_name if spec else node.type)} | _place(node)
        if node.own.get("untitled") is True and not node.title:
            del meta["title"]
        meta |= {"mode": mode} if mode in (MUTED, BYPASSED) else {}
        meta |= {"ui": kept} if kept else {}
        return _restored(node, {"class_type": node.type, "inputs": inputs, "_meta": meta})


def _is_virtual(scope: Scope, node: UiNode) -> bool:
    return node.id in scope.children or node.type in NOTES or node.type in (REROUTE, PRIMITIVE)


def _wire(scope: Scope, link: str | None) -> list[Any] | None:
    """(item, output) that a link comes from, as the canvas names it; nothing where it comes from nowhere."""
    if link is None or link not in scope.links:
        return None
    origin, slot = scope.links[link]
    if origin == INSIDE and scope.path:
        return [f"{scope.path}:{INSIDE}", slot]
    return [scope.ids[origin], slot] if origin in scope.ids else None


def _known(node: UiNode, spec: NodeSpec, kept: dict[str, Any]) -> dict[str, Any]:
    found = widgets.read(node.values, spec)
    kept |= {"control": found.control} if found.control else {}
    kept |= {"surplus": found.surplus} if found.surplus else {}
    kept |= {"named": found.named} if found.named is not None else {}
    return found.inputs


def _unknown(node: UiNode, kept: dict[str, Any]) -> dict[str, Any]:
    """The values of a node whose type is not registered, as far as the file names them; all that it says is kept."""
    kept["inputs"] = [
        {"name": slot.name, "type": slot.type} | ({"widget": True} if slot.widget else {})
        for slot in node.inputs
    ]
    kept["outputs"] = [{"name": name, "type": kind} for name, kind in node.outputs]
    kept |= {"values": node.values} if node.values else {}
    properties = {key: value for key, value in node.properties.items() if key not in ("models", "nodegraph")}
    kept |= {"properties": properties} if properties else {}
    named = node.data.get("widgets_values_named")
    if isinstance(node.values, dict) or isinstance(named, dict):
        pairs = node.values if isinstance(node.values, dict) else named
        return {key: widgets.literal(value) for key, value in (pairs or {}).items()}
    names = [slot.name for slot in node.inputs if slot.widget]
    positions = widgets.places(names, node.values)
    return {key: widgets.literal(node.values[position]) for key, position in positions.items()}


def _primitive(node: UiNode) -> dict[str, Any]:
    values = listed(node.values)
    found: dict[str, Any] = {"value": values[0] if values else None}
    found |= {"more": values[1:]} if values[1:] else {}
    return found | (
        {"output": {"name": node.outputs[0][0], "type": node.outputs[0][1]}} if node.outputs else {}
    )


def _look(node: UiNode) -> dict[str, Any]:
    """What an item of the canvas is called, where it lies and its colours."""
    found: dict[str, Any] = {"title": node.title} if node.title else {}
    return found | {key: node.data[key] for key in _COLORS if key in node.data} | _place(node)


def _place(node: UiNode) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in ("pos", "size"):
        place = node.data.get(key)
        if isinstance(place, dict):
            place = [place[axis] for axis in sorted(place)]
        if place is not None:
            found[key] = place
    flags = node.data.get("flags")
    if isinstance(flags, dict) and flags.get("collapsed"):
        found["collapsed"] = True
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same, 1, 1.0 and true told apart."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _restored(node: UiNode, entry: dict[str, Any]) -> dict[str, Any]:
    """The entry with what only our documents say, where the value that stood in for it is unchanged."""
    inputs, own = entry["inputs"], node.own
    stood = own.get("inputs")
    for name, item in stood.items() if isinstance(stood, dict) else ():
        if not isinstance(item, dict) or ("shown" in item) != (name in inputs):
            continue
        if "shown" in item and not same(item["shown"], inputs[name]):
            continue
        if "value" in item:
            inputs[name] = item["value"]
        else:
            del inputs[name]
    for key, target in (("meta", entry["_meta"]), ("more", entry)):
        more = own.get(key)
        if isinstance(more, dict):
            target |= {name: value for name, value in more.items() if name not in target}
    return entry
