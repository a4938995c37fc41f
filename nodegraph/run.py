"""One run: what becomes of it when a node has been called, and what a running node may ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from nodegraph.errors import Cancelled, NodeError, Problem
from nodegraph.events import (
    NodeExpanded,
    NodeFinished,
    NodeSkipped,
    NodeStarted,
    RunFinished,
)
from nodegraph.expand import depends_on
from nodegraph.graph import Graph
from nodegraph.lanes import OneLane
from nodegraph.mapping import merged, merged_ui, plain
from nodegraph.node import Block, Lane, Resource
from nodegraph.scheduler import Scheduler
from nodegraph.task import (
    Blocked,
    CallResult,
    Expansion,
    Items,
    LaneJob,
    Promise,
    Scope,
    Source,
    State,
    Task,
)

T = TypeVar("T")
R = TypeVar("R", bound=Resource)


class Run(Scheduler):
    """A run of a plan. Its public methods are called without the lock."""

    def finished(self) -> RunFinished:
        """The last event; all work has ended."""
        outputs = {}
        for target in self.plan.targets:
            task = self._scope.tasks[target]
            if task.state is State.DONE and task.outputs is not None:
                outputs[target] = plain(task.outputs)
        failed = any(problem.severity == "error" for problem in self.problems)
        missed = [target for target in self.plan.targets if not self._scope.tasks[target].settled]
        if missed and not self.stopping():
            text = "the run came to an end without it: the nodes that it needs wait for each other."
            self.problems += [Problem("not_reached", text, node=target) for target in missed]
            failed = True
        status: Literal["success", "failed", "cancelled"] = "failed" if failed else "success"
        if self.cut_short or (missed and self.stopping()):
            status = "cancelled"
        self._note_history()
        seconds = time.perf_counter() - self._started
        return RunFinished(status, seconds, outputs, dict(self.shown), tuple(self.problems))

    def complete(
        self, task: Task, results: list[CallResult], mapped: bool, seconds: float, lane: OneLane | None
    ) -> None:
        """A node's calls have ended well. Any thread, without the lock."""
        values = [result.values for result in results]
        outputs = merged(task.spec, values, mapped)
        ui = merged_ui(results) if results else {}
        task.seconds = seconds
        if task.spec.is_async and any(link.lazy and link.task.untold for link in task.links()):
            task.volatile = True
        self._store(task, outputs, ui, task.parents)
        if lane is not None and lane.name == "device":
            # Models may have grown while the node ran: cheap values make room for them.
            self.cache.trim()
        with self.lock:
            task.outputs, task.ui, task.state = outputs, ui, State.DONE
            self._show(task)
            self.stream.flush_progress(task.id)
            self.stream.emit(NodeFinished(task.id, seconds, ui))
            self._settle(task)
            self._leave(lane)

    def expanded(
        self,
        task: Task,
        results: list[CallResult],
        arguments: list[Any],
        mapped: bool,
        seconds: float,
        lane: OneLane | None,
    ) -> None:
        """A node's calls have ended with at least one sub-graph. Raises NodeError where one is not valid."""
        scopes: list[Scope] = []
        items: list[CallResult] = []
        for item, result in enumerate(results):
            if result.subgraph is None:
                items.append(result)
                continue
            scope, outputs = self._expander.expand(task, item, len(results), arguments[item], result.subgraph)
            scopes.append(scope)
            items.append(CallResult(outputs, result.ui))
        with self.lock:
            for scope in scopes:
                for outer in scope.outer.values():
                    if outer.state is not State.DONE and depends_on(outer, task, self.find):
                        raise NodeError(
                            f"its sub-graph is not valid: it links to node {outer.id}, which depends on this node.",
                            code="dependency_cycle",
                        )
            task.seconds = seconds
            task.state = State.WAITING
            task.expansion = Expansion(items, scopes, mapped)
            self._scopes += scopes
            children = [child for scope in scopes for child in scope.tasks.values()]
            self.stream.flush_progress(task.id)
            self.stream.emit(NodeExpanded(task.id, tuple(child.id for child in children)))
            if task.value_keys:
                task.forget_values()
            self._await_children(task, children)
            self._leave(lane)

    def _await_children(self, task: Task, children: list[Task]) -> None:
        """Lock held."""
        assert task.expansion is not None
        given_up = task.claims
        wanted: dict[Task, None] = {}
        task.missing = 0
        for result in task.expansion.items:
            for found in result.values:
                if type(found) is Promise:
                    wanted[found.task] = None
        failed: Task | None = None
        self._claim(task, tuple(wanted))
        for child in wanted:
            if child.state in (State.FAILED, State.SKIPPED):
                failed = child
            elif child.state is not State.DONE or child.outputs is None:
                task.missing += 1
                child.tell(task)
        shown = [child for child in children if child.spec.output and child not in wanted]
        self._demand([*wanted, *shown])
        self._give_up(given_up)
        if failed is not None and task.state is State.WAITING:
            self._skip(task, failed)
            self._settle(task)
        elif task.missing == 0 and task.state is State.WAITING:
            self._close_expansion(task)
            self._settle(task)

    def blocked(self, task: Task, block: Block, lane: OneLane | None, items: int | None = None) -> None:
        """What the node needs is blocked, so its outputs are, all `items` of them. Any thread, without the lock."""
        with self.lock:
            self._report_block(task, block)
            slot = Block() if items is None else Items([Block()] * items)
            task.outputs, task.state = (slot,) * len(task.spec.outputs), State.DONE
            task.tainted = True
            self.stream.flush_progress(task.id)
            self.stream.emit(NodeSkipped(task.id, "blocked", block.message))
            self._settle(task)
            self._leave(lane)

    def report_block(self, task: Task, block: Block) -> None:
        """A call of a mapped node is blocked. Any thread."""
        with self.lock:
            self._report_block(task, block)

    def _report_block(self, task: Task, block: Block) -> None:
        """Make a problem of a Block's message, once. Lock held."""
        if block.message is None:
            return
        # Kept, the result would be had another time without its message.
        task.volatile = task.tainted = True
        if block.message not in self._reported:
            self._reported.add(block.message)
            self.problems.append(Problem("blocked", block.message, task.id, task.node.title, task.spec.name))

    def failed(self, task: Task, error: BaseException, lane: OneLane | None) -> None:
        """A node raised. Any thread, without the lock."""
        if isinstance(error, Blocked):
            self.blocked(task, error.block, lane)
            return
        with self.lock:
            self.stream.flush_progress(task.id)
            if isinstance(error, (Cancelled, asyncio.CancelledError)) and self.stopping():
                self.cut_short = True
                self._release(task)
            elif any(error is one for one in task.lazy_errors):
                task.error, task.state = error, State.SKIPPED
                self.stream.emit(NodeSkipped(task.id, "upstream_failed"))
                self._settle(task)
            else:
                self._fail(task, error)
                self._settle(task)
            self._leave(lane)

    async def lazily(self, task: Task, source: Source) -> None:
        """Wait until a lazy input's upstream is done; raises its error. On the loop."""
        upstream = source.task
        with self.lock:
            ready = upstream.settled and not (upstream.state is State.DONE and upstream.outputs is None)
            if not ready:
                future: asyncio.Future[None] = self.loop.create_future()

                def resolve() -> None:
                    self.loop.call_soon_threadsafe(_resolve, future)

                upstream.tell(resolve)
                self._demand([upstream])
                self.lanes.flush()
        if not ready:
            await future
        if upstream.state is not State.DONE:
            error = upstream.error or RuntimeError(f"node {upstream.id} did not run")
            task.lazy_errors += (error,)
            raise error

    def _note_history(self) -> None:
        nodes = [(task.id, task.node) for task in self._done if task.scope is self._scope]
        self.cache.history.note(nodes, self.plan.keys.by_node)

    def graph_of(self) -> Graph:
        """The bound graph."""
        return self.plan.graph

    def document_of(self) -> Mapping[str, Any]:
        """The document as it was given."""
        workflow = self.plan.graph.workflow
        return {} if workflow is None else workflow.document()

    def report(self, node_id: str, value: float, total: float, preview: Any) -> None:
        """Progress of a node."""
        self.stream.progress(node_id, value, total, preview)

    def started(self, task: Task, item: int, items: int) -> None:
        """A call of a node begins."""
        self.stream.emit(NodeStarted(task.id, item, items))

    async def on_lane(self, node_id: str, lane: Lane, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        """Run a function on a lane and wait for it."""
        job: LaneJob[T] = LaneJob(self.loop, self.check, function, args)
        with self.lock:
            if self.cancelling:
                raise Cancelled("the run was cancelled")
            self.lanes.push(lane, (self.plan.rank.get(node_id, 0), 0, 0), LaneJob.run, job)
            self.lanes.flush()
        return await job.future

    def resource_of(self, kind: type[R]) -> R:
        """The session's instance of a Resource class."""
        return self.resources.get(kind)

    def make_room(self, wanted: int) -> int:
        """Move cached values off the device."""
        return self.cache.release(wanted)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
