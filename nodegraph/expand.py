"""Expansion: the nodes of a returned Subgraph become tasks of the run, checked by the rules of binding."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from nodegraph.errors import NodeError, Problem
from nodegraph.fingerprint import Fingerprinter, digest, topological
from nodegraph.graph import Binder, BoundNode, Entry, Graph
from nodegraph.node import OutputSpec, Ref, Subgraph
from nodegraph.sockets import assignable
from nodegraph.task import Expansion, Items, Promise, Scope, State, Task

_OUTER = "outer node "
"""What an outer node's id starts with among the links of an expansion, so that no local id hides it."""
_LONG_ID = 120

FindTask = Callable[[Scope, str], "Task | None"]


class Expander:
    """Turns sub-graphs into tasks. Safe to use from any thread.

    `find(scope, id)` is the run's: the task of a node of a scope, made where it is not there yet.
    """

    def __init__(self, binder: Binder, fingerprinter: Fingerprinter, find: FindTask) -> None:
        self._binder = binder
        self._fingerprinter = fingerprinter
        self._find = find
        self._lock = threading.Lock()

    def expand(
        self, task: Task, item: int, items: int, arguments: Mapping[str, Any], subgraph: Subgraph
    ) -> tuple[Scope, tuple[Any, ...]]:
        """The new tasks, and for each output of the node a value or a Promise. Raises NodeError."""
        scope = Scope({}, task)
        with self._lock:
            entries = {
                local: self._entry(task, scope, class_type, inputs)
                for local, (class_type, inputs) in subgraph.nodes.items()
            }

            def outer(source: str) -> tuple[OutputSpec, ...] | None:
                found = scope.outer.get(source)
                return None if found is None else found.spec.outputs

            report = self._binder.check(entries, tuple(entries), outer=outer)
            if report.problems:
                raise _invalid(report.problems)
            outputs = tuple(
                self._output(task, scope, entries, report.graph, index, output)
                for index, output in enumerate(subgraph.outputs)
            )
            if report.graph is not None:
                self._tasks(task, scope, item, items, arguments, report.graph)
        return scope, tuple(
            Promise(scope.tasks.get(found[0]) or scope.outer[found[0]], found[1])
            if type(found) is _Place
            else found
            for found in outputs
        )

    def _entry(self, task: Task, scope: Scope, class_type: str, inputs: Mapping[str, Any]) -> Entry:
        links: dict[str, tuple[str, int]] = {}
        literals: dict[str, Any] = {}
        for name, given in inputs.items():
            if type(given) is Ref:
                links[name] = (self._place(task, scope, given), given.index)
            else:
                literals[name] = given
        return Entry(class_type, links, literals)

    def _place(self, task: Task, scope: Scope, ref: Ref) -> str:
        """The id that a Ref's node has among the links of the expansion."""
        if not ref.outer:
            return ref.node
        name = _OUTER + ref.node
        around: Scope | None = task.scope
        while around is not None and name not in scope.outer:
            found = self._find(around, ref.node)
            if found is not None:
                scope.outer[name] = found
            around = around.owner.scope if around.owner is not None else None
        return name

    def _output(
        self,
        task: Task,
        scope: Scope,
        entries: Mapping[str, Entry],
        graph: Graph | None,
        index: int,
        output: Any,
    ) -> Any:
        declared = task.spec.outputs[index]
        if type(output) is not Ref:
            if declared.many and isinstance(output, (tuple, list)):
                return Items(output)
            return output
        place = self._place(task, scope, output)
        if graph is not None and place in graph.nodes:
            outputs = graph.nodes[place].spec.outputs
        elif place in scope.outer:
            outputs = scope.outer[place].spec.outputs
        else:
            raise _wrong(f"output {declared.name!r} is of node {output.node!r}, which is not in it.")
        if output.index >= len(outputs):
            raise _wrong(
                f"output {declared.name!r} is output {output.index} of node {output.node!r}, which has {len(outputs)}."
            )
        if not assignable(outputs[output.index].type, declared.type):
            raise _wrong(
                f"output {declared.name!r} is of type {declared.type}, "
                f"but node {output.node!r} gives {outputs[output.index].type}."
            )
        return _Place((place, output.index))

    def _tasks(
        self, task: Task, scope: Scope, item: int, items: int, arguments: Mapping[str, Any], graph: Graph
    ) -> None:
        values = _Values(task, item, arguments)
        keys = {name: found.key for name, found in scope.outer.items()}
        volatile = task.volatile or any(found.volatile for found in scope.outer.values())
        prefix = child_prefix(task.id, item, items)
        fresh = set()
        for order, local in enumerate(topological(graph)):
            node = replace(graph.nodes[local], id=prefix + local)
            values.local = local
            key, never = self._fingerprinter.of_node(node, keys, values)
            keys[local] = key
            if never or any(source in fresh for source, _ in node.links.values()):
                fresh.add(local)
            rank = (task.rank[0], task.rank[1] - 1, order)
            child = Task(node, key, volatile or local in fresh, rank, scope)
            child.tainted = child.volatile or _tainted(node, scope)
            child.value_keys = values.used
            scope.tasks[local] = child


class _Place(tuple[str, int]):
    """(id among the links of an expansion, output index)."""

    __slots__ = ()


class _Values:
    """Names the values among the inputs of an expansion's nodes: by where they came from.

    A value that the expanding node was given carries the key of its source; one that it made has a key of
    the node's own key, the item and the node of the expansion that takes it.
    """

    def __init__(self, task: Task, item: int, arguments: Mapping[str, Any]) -> None:
        self.used: dict[int, bytes] = {}
        self.local = ""
        self._task = task
        self._item = item
        self._arguments = arguments
        self._made = 0
        self._given: dict[int, bytes] | None = None

    def __call__(self, found: Any) -> bytes:
        if self._given is None:
            self._given = self._origins()
        key = self._given.get(id(found))
        if key is None:
            self._made += 1
            key = digest("made", self._task.key, self._item, self.local, self._made)
        self.used[id(found)] = key
        return key

    def _origins(self) -> dict[int, bytes]:
        origins = dict(self._task.value_keys)
        for source in self._task.links():
            given = self._arguments.get(source.name)
            if source.lazy or given is None:
                continue
            outputs = source.task.outputs
            listed = outputs is not None and type(outputs[source.index]) is Items
            if type(given) is tuple and listed:
                for index, one in enumerate(given):
                    origins[id(one)] = digest("passed", source.task.key, source.index, index)
            else:
                place = min(self._item, len(outputs[source.index]) - 1) if outputs and listed else -1
                origins[id(given)] = digest("passed", source.task.key, source.index, place)
        return origins


def child_prefix(parent: str, item: int, items: int) -> str:
    """What the ids of a node's children start with: `parent:`, and the item where it is mapped.

    Ids of deep expansions are cut: the part between the outermost node and the children becomes a digest,
    since a loop's ids would otherwise grow with every turn.
    """
    prefix = f"{parent}:" if items == 1 else f"{parent}:{item}:"
    if len(prefix) <= _LONG_ID:
        return prefix
    root = parent.partition(":")[0]
    return f"{root}:~{hashlib.sha256(prefix.encode('utf-8', 'replace')).hexdigest()[:16]}:"


def expanded_key(task: Task, expansion: Expansion) -> bytes:
    """The key of the outputs of a node whose own key does not tell them: that of the nodes that they come from."""
    parts: list[bytes | str | int] = ["expanded", task.key]
    for result in expansion.items:
        for found in result.values:
            parts += [found.task.key, found.index] if type(found) is Promise else ["value"]
    return digest(*parts)


def depends_on(start: Task, target: Task, find: FindTask) -> bool:
    """Whether a task needs `target`, or anything that waits for `target` because it expanded into it."""
    waiting_for_it = {target}
    around: Task | None = target
    while around is not None:
        waiting_for_it.add(around)
        around = around.scope.owner
    stack, seen = [start], {start}
    while stack:
        task = stack.pop()
        if task in waiting_for_it:
            return True
        if task.state >= State.DONE:
            continue
        for other in _needs(task, find):
            if other not in seen:
                seen.add(other)
                stack.append(other)
    return False


def _needs(task: Task, find: FindTask) -> Iterator[Task]:
    if task.twin is not None:
        yield task.twin
    if task.expansion is not None:
        for result in task.expansion.items:
            yield from (found.task for found in result.values if type(found) is Promise)
    for source, _ in task.node.links.values():
        found = find(task.scope, source)
        if found is not None:
            yield found


def _tainted(node: BoundNode, scope: Scope) -> bool:
    spec = node.spec
    if spec.output or spec.effect or spec.reads or spec.identity is not None:
        return True
    if any(item.choice is not None and item.choice.files is not None for item in spec.inputs.values()):
        return True
    return bool(scope.outer) and any(source in scope.outer for source, _ in node.links.values())


def _wrong(message: str) -> NodeError:
    return NodeError(f"its sub-graph is not valid: {message}", code="invalid_expansion")


def _invalid(problems: tuple[Problem, ...]) -> NodeError:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return _wrong(f"{problems[0]}{more}")
