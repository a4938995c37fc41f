"""What a running node may ask of the engine, and how a run is cancelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from nodegraph.graph import Graph
from nodegraph.node import Context, Lane, Resource, Runtime

T = TypeVar("T")
R = TypeVar("R", bound=Resource)


class CancelToken:
    """Cancels a run from anywhere: another thread, a signal handler, another coroutine. It cannot be undone."""

    def __init__(self) -> None:
        # No threading.Event, which has a lock and a condition: nobody waits for it, and every run has a token.
        self._cancelled = False
        self._listeners: tuple[Callable[[], object], ...] = ()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Ask the run to stop: what has not started never starts, running nodes stop at their next step."""
        self._cancelled = True
        for listener in self._listeners:
            listener()

    def subscribe(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call `listener` on `cancel`, at once if that was already; returns what ends the subscription."""
        self._listeners = (*self._listeners, listener)
        if self._cancelled:
            listener()

        def end() -> None:
            self._listeners = tuple(item for item in self._listeners if item is not listener)

        return end


class Engine(Protocol):
    """What a context needs of the run that it belongs to."""

    runtime: Runtime

    def graph_of(self) -> Graph: ...

    def document_of(self) -> Mapping[str, Any]: ...

    def check(self) -> None: ...

    def report(self, node_id: str, value: float, total: float, preview: Any) -> None: ...

    async def on_lane(
        self, node_id: str, lane: Lane, function: Callable[..., T], args: tuple[Any, ...]
    ) -> T: ...

    def resource_of(self, kind: type[R]) -> R: ...

    def make_room(self, wanted: int) -> int: ...


class RunContext(Context):
    """The context of one call of one node."""

    __slots__ = ("_engine", "_id", "_reads", "runtime")

    def __init__(self, engine: Engine, node_id: str, reads: frozenset[str]) -> None:
        self.runtime = engine.runtime
        self._engine = engine
        self._id = node_id
        self._reads = reads

    @property
    def node_id(self) -> str:
        """See Context. Raises RuntimeError where the node does not declare that it reads it."""
        self._declared("node_id")
        return self._id

    @property
    def document(self) -> Mapping[str, Any]:
        """See Context. Raises RuntimeError where the node does not declare that it reads it."""
        self._declared("document")
        return self._engine.document_of()

    @property
    def graph(self) -> Graph:
        """See Context."""
        return self._engine.graph_of()

    def progress(self, value: float, total: float, preview: Any = None) -> None:
        """See Context."""
        self._engine.check()
        self._engine.report(self._id, value, total, preview)

    def check_cancelled(self) -> None:
        """See Context."""
        self._engine.check()

    async def on(self, lane: Lane, function: Callable[..., T], *args: Any) -> T:
        """See Context."""
        return await self._engine.on_lane(self._id, lane, function, args)

    def resource(self, kind: type[R]) -> R:
        """See Context."""
        return self._engine.resource_of(kind)

    def make_room(self, wanted: int) -> int:
        """See Context."""
        return self._engine.make_room(wanted)

    def _declared(self, what: str) -> None:
        if what not in self._reads:
            raise RuntimeError(f"the node must declare reads=({what!r},), which puts it into its key")
