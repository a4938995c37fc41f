"""A node in a run: its state, its arguments, and its result in the shape that it declares."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Generic, TypeVar

from nodegraph.errors import NodeError
from nodegraph.graph import BoundNode
from nodegraph.lanes import OneLane, Rank
from nodegraph.node import Block, InputSpec, Lazy, NodeSpec, OutputSpec, Shown, Subgraph

T = TypeVar("T")


class Items(tuple[Any, ...]):
    """The values of an output that gave several: what they feed is mapped over them."""

    __slots__ = ()


class State(IntEnum):
    """Where a task is. From DONE on it is settled."""

    IDLE = 0
    WAITING = 1
    READY = 2
    DONE = 3
    FAILED = 4
    SKIPPED = 5


class Blocked(Exception):
    """Raised at the await of a lazy input whose upstream is blocked."""

    def __init__(self, block: Block) -> None:
        super().__init__(block.message or "blocked")
        self.block = block


@dataclass(slots=True)
class Source:
    """One link into a task."""

    name: str
    task: Task
    index: int
    lazy: bool

    def value(self) -> Any:
        """What the linked output gave; the task is done."""
        assert self.task.outputs is not None
        return self.task.outputs[self.index]


class Task:
    """One node of a run. Fields are guarded by the run's lock, but for those of a task that is running."""

    __slots__ = (
        "claims",
        "error",
        "expansion",
        "held",
        "key",
        "late",
        "lazy_errors",
        "missing",
        "node",
        "outputs",
        "pinned",
        "rank",
        "recovered",
        "scope",
        "seconds",
        "sources",
        "spec",
        "spent",
        "state",
        "tainted",
        "twin",
        "ui",
        "uses",
        "value_keys",
        "volatile",
        "waiters",
    )

    def __init__(self, node: BoundNode, key: bytes, volatile: bool, rank: Rank, scope: Scope) -> None:
        self.node = node
        self.spec: NodeSpec = node.spec
        self.key = key
        self.volatile = volatile
        self.rank = rank
        self.scope = scope
        self.state = State.IDLE
        self.sources: tuple[Source, ...] = ()
        self.claims: list[Task] = []
        """Tasks whose values this one may still use."""
        self.uses = 0
        """How many others may still use this one's values."""
        self.missing = 0
        self.waiters: list[Task | Callable[[], None]] = []
        self.outputs: tuple[Any, ...] | None = None
        self.ui: Mapping[str, tuple[Any, ...]] = {}
        self.seconds = 0.0
        self.error: BaseException | None = None
        self.lazy_errors: list[BaseException] = []
        self.expansion: Expansion | None = None
        self.twin: Task | None = None
        self.tainted = volatile
        """Its result depends on more than an expanding node's key says, or shows something each time."""
        self.late = False
        """Its key became known only in the run: it is, or depends on, an expansion that the first key does not tell."""
        self.value_keys: Mapping[int, bytes] = {}
        """Keys of the values among the literals of a node of an expansion, by identity."""
        self.pinned = False
        self.held = False
        self.recovered = False
        self.spent = False
        """Its literals held values and were let go, so it cannot be called again."""

    @property
    def id(self) -> str:
        """The node's id."""
        return self.node.id

    def forget_values(self) -> None:
        """Let go of the values among the literals; the task has run, and what it gave was used."""
        self.node = replace(self.node, literals={}, extra={})
        self.value_keys = {}
        self.spent = True

    @property
    def untold(self) -> bool:
        """Whether what uses it cannot go by the key that it was planned with."""
        return self.late or self.volatile

    @property
    def parents(self) -> tuple[bytes, ...]:
        """Keys of the tasks that feed it."""
        return tuple([source.task.key for source in self.sources])

    @property
    def settled(self) -> bool:
        """Whether it will change no more."""
        return self.state >= State.DONE


class Scope:
    """Nodes that link to each other by local ids: the workflow, or one expansion in it."""

    __slots__ = ("nodes", "outer", "owner", "tasks")

    def __init__(self, nodes: Mapping[str, BoundNode], owner: Task | None = None) -> None:
        self.nodes = nodes
        self.owner = owner
        """The task that expanded into these nodes."""
        self.tasks: dict[str, Task] = {}
        self.outer: dict[str, Task] = {}
        """Tasks of the scopes around it that it links to."""


@dataclass(slots=True)
class Expansion:
    """What a task returned that gave a sub-graph, for each item."""

    items: list[Result]
    scopes: list[Scope]
    mapped: bool


@dataclass(slots=True)
class Promise:
    """An output of an expansion that is the output of one of its nodes."""

    task: Task
    index: int


@dataclass(slots=True)
class Result:
    """What one call gave: a value for each output, or a sub-graph."""

    values: tuple[Any, ...]
    ui: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    subgraph: Subgraph | None = None


@dataclass(slots=True)
class Calls:
    """The calls that a node's inputs ask for: one, or one for each item that it is mapped over."""

    arguments: list[dict[str, Any] | Block]
    mapped: bool


class LaneJob(Generic[T]):
    """Blocking work of an async node, for a lane; `future` gets what it returns or raises."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        check: Callable[[], None],
        function: Callable[..., T],
        args: tuple[Any, ...],
    ) -> None:
        self.future: asyncio.Future[T] = loop.create_future()
        self._loop = loop
        self._check = check
        self._function = function
        self._args = args

    def run(self, lane: OneLane) -> None:
        """Do the work, unless nobody waits for it any more."""
        if self.future.cancelled():
            return
        try:
            self._check()
            found = self._function(*self._args)
        except BaseException as error:
            failure = RuntimeError(repr(error)) if isinstance(error, StopIteration) else error
            self._loop.call_soon_threadsafe(self._set, None, failure)
        else:
            self._loop.call_soon_threadsafe(self._set, found, None)

    def give_up(self) -> None:
        """The work will not be done. On the loop."""
        self.future.cancel()

    def _set(self, found: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(found)


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
    for source in task.sources:
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


def result_of(spec: NodeSpec, returned: Any) -> Result:
    """A returned value as one value for each declared output. Raises NodeError where its shape is another."""
    ui: Mapping[str, tuple[Any, ...]] = {}
    if type(returned) is Shown:
        ui, returned = returned.ui, returned.values
        if returned is None and spec.outputs:
            raise _arity(spec, 0, "it returned only what it shows, with")
    if type(returned) is Subgraph:
        if len(returned.outputs) != len(spec.outputs):
            raise _arity(spec, len(returned.outputs), "its sub-graph has")
        return Result((), ui, returned)
    if type(returned) is Block:
        return Result((returned,) * len(spec.outputs), ui)
    outputs = spec.outputs
    if len(outputs) == 1:
        return Result((_slot(spec, outputs[0], _unwrapped(returned)),), ui)
    if not outputs:
        if returned is not None:
            raise _arity(spec, 1, "it returned")
        return Result((), ui)
    if not isinstance(returned, (tuple, list)) or len(returned) != len(outputs):
        count = len(returned) if isinstance(returned, (tuple, list)) else 0 if returned is None else 1
        raise _arity(spec, count, "it returned")
    pairs = zip(outputs, returned, strict=True)
    return Result(tuple([_slot(spec, output, value) for output, value in pairs]), ui)


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


def merged_ui(results: Sequence[Result]) -> Mapping[str, tuple[Any, ...]]:
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


def _slot(spec: NodeSpec, output: OutputSpec, found: Any) -> Any:
    if output.many:
        if isinstance(found, Block):
            return found
        if not isinstance(found, (tuple, list)):
            raise NodeError(
                f"{spec.name} must return a list for its output {output.name!r}, not {_kind(found)}.",
                code="wrong_result",
            )
        return Items(found)
    if found is None and output.type != "*":
        raise NodeError(f"{spec.name} returned nothing for its output {output.name!r}.", code="wrong_result")
    return found


def _unwrapped(returned: Any) -> Any:
    """The value of a NamedTuple with one field, which is how a single named output may be declared."""
    named = isinstance(returned, tuple) and hasattr(returned, "_fields") and len(returned) == 1
    return returned[0] if named and not hasattr(type(returned), "__socket_type__") else returned


def _arity(spec: NodeSpec, count: int, what: str) -> NodeError:
    names = ", ".join(output.name for output in spec.outputs)
    declared = f"{len(spec.outputs)} output{'' if len(spec.outputs) == 1 else 's'}"
    return NodeError(
        f"{spec.name} declares {declared}{f' ({names})' if names else ''}, "
        f"but {what} {count} value{'' if count == 1 else 's'}.",
        code="wrong_result",
    )


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


def _kind(found: Any) -> str:
    return "nothing" if found is None else f"a {type(found).__name__}"
