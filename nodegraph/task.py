"""A node in a run: its state, what feeds it and what it gave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from nodegraph.graph import BoundNode
from nodegraph.lanes import OneLane, Rank
from nodegraph.node import Block, NodeSpec, Subgraph

T = TypeVar("T")
# Shared by all tasks: a run makes thousands, and each list or dict of a task would be one more for the collector.
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


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
        "_rank",
        "_waiters",
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
    )

    def __init__(self, node: BoundNode, key: bytes, volatile: bool, rank: int | Rank, scope: Scope) -> None:
        self.node = node
        self.spec: NodeSpec = node.spec
        self.key = key
        self.volatile = volatile
        self._rank = rank
        self.scope = scope
        self.state = State.IDLE
        self.sources: tuple[Task, ...] = ()
        """Where its node's links come from, in their order."""
        self.claims: tuple[Task, ...] = ()
        """Tasks whose values this one may still use."""
        self.uses = 0
        """How many claims there are on this one's values."""
        self.missing = 0
        self._waiters: Waiter | list[Waiter] | None = None
        self.outputs: tuple[Any, ...] | None = None
        self.ui: Mapping[str, tuple[Any, ...]] = _NOTHING
        self.seconds = 0.0
        self.error: BaseException | None = None
        self.lazy_errors: tuple[BaseException, ...] = ()
        self.expansion: Expansion | None = None
        self.twin: Task | None = None
        self.tainted = volatile
        """Its result depends on more than an expanding node's key says, or shows something each time."""
        self.late = False
        """Its key became known only in the run: it is, or depends on, an expansion that the first key does not tell."""
        self.value_keys: Mapping[int, bytes] = _NOTHING
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

    def links(self) -> Iterator[Source]:
        """The links into it, as long as it has its sources."""
        inputs = self.spec.inputs
        for (name, (_, index)), source in zip(self.node.links.items(), self.sources, strict=False):
            declared = inputs.get(name)
            yield Source(name, source, index, declared is not None and declared.lazy)

    def forget_values(self) -> None:
        """Let go of the values among the literals; the task has run, and what it gave was used."""
        self.node = replace(self.node, literals={}, extra={})
        self.value_keys = _NOTHING
        self.spent = True

    @property
    def rank(self) -> Rank:
        """What is lower runs first: the place in the plan, then the deeper expansion."""
        return self._rank if isinstance(self._rank, tuple) else (self._rank, 0, 0)

    def tell(self, waiter: Waiter) -> None:
        """Have something told when the task is settled."""
        # Most tasks have one that waits for them, and need no list.
        if self._waiters is None:
            self._waiters = waiter
        elif isinstance(self._waiters, list):
            self._waiters.append(waiter)
        else:
            self._waiters = [self._waiters, waiter]

    def take_waiters(self) -> Sequence[Waiter]:
        """What waits for this task, which then is told of nothing more."""
        found, self._waiters = self._waiters, None
        return () if found is None else found if isinstance(found, list) else (found,)

    @property
    def untold(self) -> bool:
        """Whether what uses it cannot go by the key that it was planned with."""
        return self.late or self.volatile

    @property
    def parents(self) -> tuple[bytes, ...]:
        """Keys of the tasks that feed it."""
        return tuple([source.key for source in self.sources])

    @property
    def settled(self) -> bool:
        """Whether it will change no more."""
        return self.state >= State.DONE


Waiter = Task | Callable[[], None]


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

    items: list[CallResult]
    scopes: list[Scope]
    mapped: bool


@dataclass(slots=True)
class Promise:
    """An output of an expansion that is the output of one of its nodes."""

    task: Task
    index: int


@dataclass(slots=True)
class CallResult:
    """What one call gave: a value for each output, or a sub-graph."""

    values: tuple[Any, ...]
    ui: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    subgraph: Subgraph | None = None


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
