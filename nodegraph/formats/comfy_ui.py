"""ComfyUI's UI format, which people share, into a Workflow.

The file says where nodes lie and what was typed into their widgets, in order and without names; the names come
from the node types. Reroutes, primitives, notes and sub-graph instances are resolved: they are no nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nodegraph.formats.json_text import refuse
from nodegraph.modes import BYPASSED, MUTED
from nodegraph.node import REQUIRED, InputSpec, NodeSpec
from nodegraph.sockets import LITERAL_TYPES, assignable

if TYPE_CHECKING:
    from nodegraph.workflow import Workflow

Json = Mapping[str, Any]
_NOTES = frozenset({"Note", "MarkdownNote"})
_CONTROLS = frozenset({"fixed", "increment", "decrement", "randomize"})
_SUBGRAPH_INPUT = "-10"
_MAX_NESTING = 20
_MAX_INSTANCES = 5000
"""Of sub-graphs in all: each level of nesting may multiply them."""


@dataclass(frozen=True)
class _Value:
    """A literal that a primitive gives in place of a link."""

    value: Any


@dataclass
class _Scope:
    """The nodes and links of the workflow, or of one instance of a sub-graph."""

    prefix: str
    nodes: dict[str, Json]
    links: dict[str, tuple[str, int]]
    definition: Json = field(default_factory=dict)
    instance: Json = field(default_factory=dict)
    parent: _Scope | None = None
    children: dict[str, _Scope] = field(default_factory=dict)
    muted: bool = False


def from_ui(data: Json, registry: Mapping[str, NodeSpec] | None, name: str) -> Workflow:
    """The workflow of a UI graph.

    Muted and bypassed nodes stay, with their mode in `_meta`. Raises ValidationError where the file is malformed,
    or where no registry is given to name its widgets.
    """
    from nodegraph.workflow import Workflow

    if registry is None:
        refuse(f"{name} is in ComfyUI's UI format, which can be read only where node types are known.")
    try:
        reader = _Reader(data, registry, name)
        prompt, layout = reader.prompt(), reader.layout()
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        refuse(
            f"{name} looks like ComfyUI's UI format, but is malformed: {type(error).__name__}: {error}.",
            code="invalid_prompt",
        )
    document: dict[str, Any] = {"prompt": prompt}
    document |= {key: value for key, value in layout.items() if value}
    document["extra_data"] = {"extra_pnginfo": {"workflow": data}}
    return Workflow.from_data(document, registry, name=name)


class _Reader:
    def __init__(self, data: Json, registry: Mapping[str, NodeSpec], name: str) -> None:
        self._data = data
        self._registry = registry
        self._name = name
        definitions = (data.get("definitions") or {}).get("subgraphs") or []
        self._definitions = {item["id"]: item for item in definitions}
        self._instances = 0
        self._root = self._scope("", data, 0)

    def prompt(self) -> dict[str, Any]:
        """The nodes in API form."""
        return dict(self._nodes(self._root))

    def layout(self) -> dict[str, Any]:
        """What only editors and downloads use: groups, notes and the models that the nodes name."""
        models: dict[str, Json] = {}
        notes = []
        for scope in _all(self._root):
            for node in scope.nodes.values():
                for model in (node.get("properties") or {}).get("models") or []:
                    models.setdefault(repr(sorted(model.items())), model)
                if node["type"] in _NOTES and scope is self._root:
                    texts = _values(node)
                    notes.append(
                        {"text": texts[0] if texts else "", "pos": node.get("pos"), "size": node.get("size")}
                    )
        return {
            "groups": self._data.get("groups") or [],
            "models": list(models.values()),
            "canvas": {"notes": notes} if notes else {},
        }

    def _scope(self, prefix: str, graph: Json, depth: int, **more: Any) -> _Scope:
        if depth > _MAX_NESTING:
            refuse(f"{self._name} nests sub-graphs more than {_MAX_NESTING} deep.", code="nested_too_deeply")
        self._instances += 1
        if self._instances > _MAX_INSTANCES:
            refuse(f"{self._name} holds more than {_MAX_INSTANCES} sub-graphs.", code="too_large")
        nodes = {str(node["id"]): node for node in graph["nodes"]}
        links = dict(_link(item) for item in graph.get("links") or [])
        scope = _Scope(prefix, nodes, links, **more)
        for node_id, node in nodes.items():
            definition = self._definitions.get(node["type"])
            if definition is not None:
                scope.children[node_id] = self._scope(
                    f"{prefix}{node_id}:",
                    definition,
                    depth + 1,
                    definition=definition,
                    instance=node,
                    parent=scope,
                    muted=scope.muted or node.get("mode") == MUTED,
                )
        return scope

    def _nodes(self, scope: _Scope) -> Iterator[tuple[str, dict[str, Any]]]:
        for node_id, node in scope.nodes.items():
            kind = node["type"]
            mode = MUTED if scope.muted else node.get("mode", 0)
            if node_id in scope.children:
                if mode != BYPASSED:
                    yield from self._nodes(scope.children[node_id])
                continue
            if _is_virtual(kind) or (mode == BYPASSED and kind not in self._registry):
                continue
            spec = self._registry.get(kind)
            yield (
                scope.prefix + node_id,
                {
                    "class_type": kind,
                    "inputs": self._inputs(scope, node, spec),
                    "_meta": _meta(node, spec, mode),
                },
            )

    def _inputs(self, scope: _Scope, node: Json, spec: NodeSpec | None) -> dict[str, Any]:
        inputs = _widgets(node, spec)
        for slot in node.get("inputs") or []:
            link = slot.get("link")
            source = self._source(scope, str(link)) if link is not None else None
            if isinstance(source, _Value):
                inputs[slot["name"]] = _literal(source.value)
            elif source is not None:
                inputs[slot["name"]] = [*source]
        return inputs

    def _source(self, scope: _Scope, link_id: str | None) -> tuple[str, int] | _Value | None:
        """What a link leads to, past everything that is no node: an output, a value, or nothing."""
        seen = set()
        while link_id is not None and (scope.prefix, link_id) not in seen:
            seen.add((scope.prefix, link_id))
            if link_id not in scope.links:
                return None
            origin, slot = scope.links[link_id]
            if origin == _SUBGRAPH_INPUT:
                link_id = _outer_link(scope, slot)
                if scope.parent is None:
                    return None
                scope = scope.parent
                continue
            node = scope.nodes.get(origin)
            if node is None:
                return None
            mode, kind = node.get("mode", 0), node["type"]
            if kind == "PrimitiveNode":
                values = _values(node)
                return _Value(values[0]) if values else None
            if mode == BYPASSED and (origin in scope.children or kind not in self._registry):
                link_id = _past(node, slot)
            elif origin in scope.children:
                scope = scope.children[origin]
                link_id = _inner_link(scope, slot)
            elif kind == "Reroute":
                slots = node.get("inputs") or [{}]
                link_id = _text(slots[0].get("link"))
            else:
                return scope.prefix + origin, slot
        return None


def _all(scope: _Scope) -> Iterator[_Scope]:
    yield scope
    for child in scope.children.values():
        yield from _all(child)


def _is_virtual(kind: str) -> bool:
    return kind in _NOTES or kind in ("Reroute", "PrimitiveNode")


def _text(link: Any) -> str | None:
    return None if link is None else str(link)


def _link(item: Any) -> tuple[str, tuple[str, int]]:
    """(link id, (source node, source slot)) of either way to write a link."""
    if isinstance(item, dict):
        link = item.get("id", item.get("link_id"))
        origin = item.get("origin_id", item.get("source_node"))
        slot = item.get("origin_slot", item.get("source_slot", 0))
        return str(link), (str(origin), int(slot or 0))
    return str(item[0]), (str(item[1]), int(item[2]))


def _outer_link(scope: _Scope, slot: int) -> str | None:
    """The link that feeds input `slot` of a sub-graph's instance from outside."""
    wanted = scope.definition["inputs"][slot]["name"]
    slots = scope.instance.get("inputs") or []
    return next((_text(item.get("link")) for item in slots if item["name"] == wanted), None)


def _inner_link(scope: _Scope, slot: int) -> str | None:
    """The link that feeds output `slot` of a sub-graph from inside."""
    links = scope.definition["outputs"][slot].get("linkIds") or []
    return _text(links[0]) if links else None


def _past(node: Json, slot: int) -> str | None:
    """The link that takes the place of an output of a bypassed node whose type is not registered."""
    wanted = node["outputs"][slot]["type"]
    slots = node.get("inputs") or []
    for item in [*slots[slot : slot + 1], *slots]:
        if item.get("link") is not None and assignable(str(item["type"]), str(wanted)):
            return str(item["link"])
    return None


def _values(node: Json) -> list[Any]:
    values = node.get("widgets_values") or []
    return list(values.values()) if isinstance(values, dict) else list(values)


def _literal(value: Any) -> Any:
    return {"__value__": value} if isinstance(value, list) else value


def _widgets(node: Json, spec: NodeSpec | None) -> dict[str, Any]:
    """The values of a node's widgets by name; defaults where the file is older than the widget."""
    values = node.get("widgets_values") or []
    if isinstance(values, dict):
        known = None if spec is None else set(spec.inputs)
        return {key: _literal(value) for key, value in values.items() if known is None or key in known}
    if spec is None:
        names = [slot["widget"]["name"] for slot in node.get("inputs") or [] if slot.get("widget")]
        return {key: _literal(value) for key, value in zip(names, _without_controls(values), strict=False)}
    widgets = [item for item in spec.inputs.values() if _has_widget(item)]
    widgets.sort(key=lambda item: item.optional)
    found: dict[str, Any] = {}
    position = 0
    for index, item in enumerate(widgets):
        if position < len(values):
            found[item.name] = _literal(values[position])
            position += 1
            following = widgets[index + 1 :]
            surplus = len(values) - position > len(following)
            if position < len(values) and _is_control(item, values[position], surplus, following[:1]):
                position += 1
        elif item.default is not REQUIRED and item.default is not None:
            found[item.name] = item.default
    return found


def _has_widget(item: InputSpec) -> bool:
    return item.type in LITERAL_TYPES and not item.many


def _is_control(item: InputSpec, value: Any, surplus: bool, following: list[InputSpec]) -> bool:
    """Whether a value is no input's: the seed's control, or the upload button of a picture."""
    if item.widget.control_after_generate or item.name in ("seed", "noise_seed"):
        if not isinstance(value, (bool, str)):
            return False
        # Old files hold a boolean here. Without a surplus it is a control only if no input could take it.
        takers = ("STRING", "COMBO", "BOOLEAN") if isinstance(value, bool) else ("STRING", "COMBO")
        taken = bool(following) and following[0].type in takers
        return (isinstance(value, bool) or value in _CONTROLS) and (surplus or not taken)
    return surplus and item.choice is not None and item.choice.upload and isinstance(value, str)


def _without_controls(values: list[Any]) -> list[Any]:
    return [value for value in values if not (isinstance(value, str) and value in _CONTROLS)]


def _meta(node: Json, spec: NodeSpec | None, mode: int) -> dict[str, Any]:
    meta: dict[str, Any] = {"title": node.get("title") or (spec.display_name if spec else node["type"])}
    for key in ("pos", "size"):
        place = node.get(key)
        if isinstance(place, dict):
            place = [place[axis] for axis in sorted(place)]
        if place is not None:
            meta[key] = place
    if (node.get("flags") or {}).get("collapsed"):
        meta["collapsed"] = True
    if mode in (MUTED, BYPASSED):
        meta["mode"] = mode
    return meta
