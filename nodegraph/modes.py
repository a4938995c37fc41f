"""Muted and bypassed nodes: what a prompt is once they are resolved."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from nodegraph.limits import MAX_NAME
from nodegraph.node import NodeSpec
from nodegraph.sockets import LITERAL_TYPES, assignable

RUN, MUTED, BYPASSED = 0, 2, 4
_MAX_SOCKETS = 100
"""How many inputs of a node of unknown type are tried for one that may take an output's place."""
Prompt = Mapping[str, Mapping[str, Any]]
Link = tuple[str, int]


def mode_of(node: Mapping[str, Any]) -> int:
    """The mode that a node's `_meta` gives: RUN, MUTED or BYPASSED."""
    meta = node.get("_meta")
    mode = meta.get("mode") if meta else None
    return mode if mode in (MUTED, BYPASSED) else RUN


def as_link(value: Any) -> Link | None:
    """(source id, output index) where an input's JSON value is a link, else None."""
    if type(value) is not list or len(value) != 2:
        return None
    source, index = value
    if type(index) is float and index.is_integer():
        index = int(index)
    if type(index) is not int or index < 0:
        return None
    if type(source) is int:
        source = str(source)
    return (source, index) if type(source) is str else None


def resolve(prompt: Prompt, registry: Mapping[str, NodeSpec]) -> Prompt:
    """The prompt without its muted and bypassed nodes.

    An output of a bypassed node is replaced by what feeds it: the input at the same place among its
    sockets if the types agree, else the first input that fits. A muted node is left out; an input that
    it fed falls back to its default, and a node that needs that input is left out as well.
    """
    modes = {node_id: mode_of(node) for node_id, node in prompt.items()}
    if not any(modes.values()):
        return prompt
    kept: dict[str, dict[str, Any]] = {}
    past: dict[Link, Link | None] = {}
    feeds: dict[str, list[tuple[str, str]]] = {}
    lost: deque[tuple[str, str]] = deque()
    for node_id, node in prompt.items():
        if modes[node_id] != RUN:
            continue
        inputs = dict(node.get("inputs", {}))
        for name, value in inputs.items():
            link = as_link(value)
            source = link and _source(link, prompt, registry, modes, past)
            if source != link and source is not None:
                inputs[name] = [*source]
            if link is not None and (source is None or modes.get(source[0]) == MUTED):
                lost.append((node_id, name))
            elif source is not None:
                feeds.setdefault(source[0], []).append((node_id, name))
        kept[node_id] = {**node, "inputs": inputs}
    while lost:
        node_id, name = lost.popleft()
        if node_id not in kept:
            continue
        del kept[node_id]["inputs"][name]
        spec = registry.get(kept[node_id]["class_type"])
        if spec is None or (name in spec.inputs and spec.inputs[name].required):
            del kept[node_id]
            lost.extend(feeds.get(node_id, ()))
    return kept


def _source(
    link: Link,
    prompt: Prompt,
    registry: Mapping[str, NodeSpec],
    modes: Mapping[str, int],
    past: dict[Link, Link | None],
) -> Link | None:
    """What a link leads to past bypassed nodes; None where that is nothing. `past` keeps what was found on the way."""
    way: list[Link] = []
    found: Link | None = link
    while found is not None and modes.get(found[0]) == BYPASSED:
        if found in past:
            found = past[found]
            break
        # Until it is known better: a link that leads back to itself leads to nothing.
        past[found] = None
        way.append(found)
        found = _past(prompt[found[0]], found[1], registry)
    for one in way:
        past[one] = found
    return found


def _past(node: Mapping[str, Any], index: int, registry: Mapping[str, NodeSpec]) -> Link | None:
    """The link that takes the place of output `index` of a bypassed node."""
    spec = registry.get(node.get("class_type", ""))
    inputs = node.get("inputs", {})
    if spec is None:
        return _past_unknown(node, index)
    if index >= len(spec.outputs):
        return None
    wanted = spec.outputs[index].type
    sockets = [item for item in spec.inputs.values() if item.type not in LITERAL_TYPES]
    same_place = sockets[index : index + 1]
    for item in [*same_place, *spec.inputs.values()]:
        link = as_link(inputs.get(item.name))
        if link is not None and assignable(item.type, wanted):
            return link
    return None


def _past_unknown(node: Mapping[str, Any], index: int) -> Link | None:
    """The same for a node whose type is not registered, by what the file that it came from said of its sockets."""
    kept = (node.get("_meta") or {}).get("ui")
    sockets, outputs = (kept.get(key) if isinstance(kept, dict) else None for key in ("inputs", "outputs"))
    if not isinstance(sockets, list) or not isinstance(outputs, list) or index >= len(outputs):
        return None
    wanted = _type_of(outputs[index])
    for item in (*sockets[index : index + 1], *sockets[:_MAX_SOCKETS]):
        link = as_link(node.get("inputs", {}).get(item.get("name") if isinstance(item, dict) else None))
        if link is not None and assignable(_type_of(item), wanted):
            return link
    return None


def _type_of(socket: Any) -> str:
    found = socket.get("type") if isinstance(socket, dict) else None
    return found[:MAX_NAME] if isinstance(found, str) else "*"
