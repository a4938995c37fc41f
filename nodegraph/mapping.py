"""Implicit mapping: the calls that a node's inputs ask for, and one result from what the calls gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodegraph.errors import NodeError
from nodegraph.node import Block, InputSpec, Lazy, NodeSpec
from nodegraph.task import Blocked, CallResult, Items, Source, Task


@dataclass(slots=True)
class Calls:
    """The calls that a node's inputs ask for: one, or one for each item that it is mapped over."""

    arguments: list[dict[str, Any] | Block]
    mapped: bool


def arguments_of(task: Task, lazy: Callable[[Source, int, int], Lazy[Any]]) -> Calls:
    """The arguments of each call. A list that feeds a scalar socket maps the node; shorter lists repeat their last item.

    `lazy(source, item, items)` makes a lazy input. A call with a blocked argument is that Block.
    """
    node, inputs = task.node, task.spec.inputs
    fixed: dict[str, Any] = {**node.literals, **node.extra}
    lists: list[tuple[str, Items]] = []
    lazies: list[Source] = []
    block: Block | None = None
    for name, spec in inputs.items():
        if spec.lazy and name in fixed:
            fixed[name] = _ready(fixed[name])
    for source in task.links():
        if source.lazy:
            lazies.append(source)
            continue
        outputs = source.task.outputs
        assert outputs is not None
        declared = inputs.get(source.name)
        found = fitted(declared, outputs[source.index])
        if declared is not None and declared.many:
            found = tuple(found) if type(found) is Items else (found,)
            block = block or next((item for item in found if type(item) is Block), None)
        elif type(found) is Items:
            lists.append((source.name, found))
            continue
        elif type(found) is Block:
            block = block or found
        fixed[source.name] = found
    if block is not None:
        return Calls([block], False)
    if not lists:
        if lazies:
            fixed |= {source.name: lazy(source, 0, 1) for source in lazies}
        return Calls([fixed], False)
    count = 0 if any(not items for _, items in lists) else max(len(items) for _, items in lists)
    calls: list[dict[str, Any] | Block] = []
    for item in range(count):
        one = dict(fixed)
        blocked: Block | None = None
        for name, items in lists:
            found = items[min(item, len(items) - 1)]
            if type(found) is Block:
                blocked = found
            one[name] = found
        one |= {source.name: lazy(source, item, count) for source in lazies}
        calls.append(blocked or one)
    return Calls(calls, True)


def lazy_value(source: Source, spec: InputSpec, item: int, items: int) -> Any:
    """What the await of a lazy input gives, its upstream being done. Raises Blocked or NodeError."""
    found = source.value()
    if type(found) is Items:
        found = _one_of(found, source.name, item, items)
    if type(found) is Block:
        raise Blocked(found)
    return fitted(spec, found)


def many_value(source: Source, spec: InputSpec) -> tuple[Any, ...]:
    """What the await of a lazy input gives that takes whole lists. Raises Blocked."""
    found = fitted(spec, source.value())
    items = tuple(found) if type(found) is Items else (found,)
    for one in items:
        if type(one) is Block:
            raise Blocked(one)
    return items


def fitted(spec: InputSpec | None, found: Any) -> Any:
    """A linked value as its socket declares it: whole numbers become floats for a FLOAT."""
    if spec is None or spec.type != "FLOAT":
        return found
    if type(found) is int:
        return float(found)
    if type(found) is Items and int in map(type, found):
        return Items(float(one) if type(one) is int else one for one in found)
    return found


def merged(spec: NodeSpec, results: Sequence[tuple[Any, ...]], mapped: bool) -> tuple[Any, ...]:
    """The outputs of a task from those of its calls: lists where it was mapped, lists of lists made flat."""
    if not mapped:
        return results[0]
    slots: list[list[Any]] = [[] for _ in spec.outputs]
    for values in results:
        for slot, found in zip(slots, values, strict=True):
            if type(found) is Items:
                slot.extend(found)
            else:
                slot.append(found)
    return tuple(Items(slot) for slot in slots)


def merged_ui(results: Sequence[CallResult]) -> Mapping[str, tuple[Any, ...]]:
    """What all calls show, in order."""
    if len(results) == 1:
        return results[0].ui
    shown: dict[str, tuple[Any, ...]] = {}
    for result in results:
        for name, items in result.ui.items():
            shown[name] = shown.get(name, ()) + tuple(items)
    return shown


def plain(outputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Outputs as the caller sees them: lists as plain tuples."""
    return tuple(tuple(found) if type(found) is Items else found for found in outputs)


def _one_of(items: Items, name: str, item: int, count: int) -> Any:
    if not items or (count == 1 and len(items) > 1):
        raise NodeError(
            f"the lazy input {name} was given a list of {len(items)} items, but takes one value.", input=name
        )
    return items[min(item, len(items) - 1)]


def _ready(literal: Any) -> Lazy[Any]:
    async def fetch() -> Any:
        return literal

    return Lazy(fetch)
