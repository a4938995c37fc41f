"""Which task of a run waits for what, which is ready, and what becomes of values.

Threads of the lanes and the event loop all work on it; one lock guards every task. Nothing here recurses:
a chain of any length is a worklist.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from nodegraph.activity import Activity
from nodegraph.cache import Cache, Held
from nodegraph.context import CancelToken
from nodegraph.errors import NodeError, Problem
from nodegraph.events import (
    NodeCached,
    NodeFailed,
    NodeFinished,
    NodeSkipped,
    NodeStarted,
)
from nodegraph.expand import Expander, expanded_key
from nodegraph.failures import problem_of
from nodegraph.fingerprint import Fingerprinter
from nodegraph.graph import Binder
from nodegraph.lanes import OneLane
from nodegraph.mapping import merged, merged_ui
from nodegraph.node import NodeSpec, Runtime
from nodegraph.plan import Plan
from nodegraph.resources import Resources
from nodegraph.task import (
    Promise,
    Scope,
    State,
    Task,
)


class Scheduler(Activity):
    """The tasks of a run. `Lock held` in a docstring means that the caller holds the lock."""

    def __init__(
        self,
        plan: Plan,
        registry: Mapping[str, NodeSpec],
        runtime: Runtime,
        cache: Cache,
        resources: Resources,
        token: CancelToken,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(token, loop, resources.threads)
        self.plan = plan
        self.runtime = runtime
        self.cache = cache
        self.resources = resources
        self.problems: list[Problem] = []
        self.shown: dict[str, Mapping[str, tuple[Any, ...]]] = {}
        self._scope = Scope(plan.graph.nodes)
        self._scopes = [self._scope]
        self._twins: dict[bytes, Task] = {}
        self._reported: set[str] = set()
        self._done: list[Task] = []
        self._started = time.perf_counter()
        self.fingerprinter = Fingerprinter(runtime, plan.graph)
        self._expander = Expander(Binder(registry, runtime.folders), self.fingerprinter, self.find)

    def start(self) -> None:
        """Ask for the targets; everything else follows."""
        with self.lock:
            self.active += 1
            targets = [self._task(self._scope, target) for target in self.plan.targets]
            for task in targets:
                task.uses += 1
            self._claim_lazy()
            self._demand(targets)
            self._leave(None)

    def find(self, scope: Scope, node_id: str) -> Task | None:
        """The task of a node of a scope, by the id that its siblings link to."""
        with self.lock:
            found = scope.tasks.get(node_id) or scope.outer.get(node_id)
            if found is None and node_id in scope.nodes:
                found = self._task(scope, node_id)
            return found

    def _task(self, scope: Scope, node_id: str) -> Task:
        """Lock held."""
        task = scope.tasks.get(node_id)
        if task is None:
            task = scope.outer.get(node_id)
        if task is None:
            keys = self.plan.keys
            rank = self.plan.rank.get(node_id, 0)
            node = scope.nodes[node_id]
            task = Task(node, keys.by_node[node_id], node_id in keys.volatile, rank, scope)
            scope.tasks[node_id] = task
        return task

    def _claim_lazy(self) -> None:
        """What only lazy inputs may come to need stays until the run ends, so that nothing runs twice. Lock held."""
        for node_id in self.plan.ids("lazy"):
            for source, _ in self.plan.graph.nodes[node_id].links.values():
                self._task(self._scope, source).uses += 1

    def _demand(self, wanted: list[Task]) -> None:
        """Get tasks going that are not yet: from the cache, or once what feeds them is there. Lock held."""
        settled: list[Task] = []
        stack = wanted[::-1]
        while stack:
            task = stack.pop()
            if task.state is State.DONE and task.outputs is None:
                task.state = State.IDLE
            if task.state is not State.IDLE or self.cancelling:
                continue
            task.state = State.WAITING
            known = not task.volatile and (self._share(task, stack, settled) or self._recall(task, settled))
            if not known:
                self._await_sources(task, stack, settled)
        for task in settled:
            self._settle(task)

    def _share(self, task: Task, stack: list[Task], settled: list[Task]) -> bool:
        """Wait for another task with the same key, if there is one. Lock held."""
        twin = self._twins.setdefault(task.key, task)
        if twin is task:
            return False
        if twin.state is State.DONE and twin.outputs is not None:
            self._adopt(task, twin)
            settled.append(task)
            return True
        if twin.state not in (State.WAITING, State.READY):
            self._twins[task.key] = task
            return False
        if twin.expansion is not None and _inside(task, twin):
            error = NodeError("its sub-graph holds the same node with the same inputs, without end.")
            self._fail(task, error)
            settled.append(task)
            return True
        task.twin = twin
        self._claim(task, (twin,))
        twin.tell(task)
        task.missing = 1
        return True

    def _adopt(self, task: Task, twin: Task) -> None:
        """Take over the result of a task with the same key. Lock held."""
        task.outputs, task.ui, task.state = twin.outputs, twin.ui, State.DONE
        task.tainted, task.held = twin.tainted, True
        task.key, task.late, task.volatile = twin.key, twin.late, twin.volatile
        self._show(task)
        self.stream.emit(NodeCached(task.id, "host", task.ui))

    def _recall(self, task: Task, settled: list[Task]) -> bool:
        """Take a task's result from the cache, on a lane where that takes time. Lock held."""
        if self.cache.peek(task.key) is None:
            return False
        if not self.cache.at_hand(task.key):
            task.state = State.READY
            self.active += 1
            self.lanes.push("io", task.rank, self._load, task)
            return True
        held = self.cache.get(task.key, pin=True)
        if held is None:
            return False
        self._recalled(task, held)
        settled.append(task)
        return True

    def _load(self, task: Task, lane: OneLane) -> None:
        """Take a result from a slow tier; a result that cannot be had is made again. On a lane."""
        try:
            held = self.cache.get(task.key, pin=True)
        except Exception:  # whatever a tier or a codec raises, the result can be made again
            held = None
        with self.lock:
            if held is not None:
                self._recalled(task, held)
                self._settle(task)
            elif not self.cancelling:
                task.state = State.WAITING
                stack: list[Task] = []
                settled: list[Task] = []
                self._await_sources(task, stack, settled)
                self._demand(stack)
                for one in settled:
                    self._settle(one)
            self._leave(lane)

    def _recalled(self, task: Task, held: Held) -> None:
        """Lock held."""
        task.outputs, task.ui, task.seconds, task.state = held.outputs, held.ui, held.seconds, State.DONE
        task.pinned = task.held = True
        self._show(task)
        if task.key in self.plan.ahead:
            # It ran for this run, before it began.
            self.stream.emit(NodeStarted(task.id))
            self.stream.emit(NodeFinished(task.id, held.seconds, held.ui))
        else:
            self.stream.emit(NodeCached(task.id, held.tier, held.ui))

    def _await_sources(self, task: Task, stack: list[Task], settled: list[Task]) -> None:
        """Wait for the tasks that feed this one, or make it ready; new demands go on `stack`. Lock held."""
        if task.spent:
            self._fail(task, NodeError("its result was used and let go, and is asked for once more."))
            settled.append(task)
            return
        task.sources = tuple([self._task(task.scope, source) for source, _ in task.node.links.values()])
        task.missing = 0
        self._claim(task, task.sources)
        for source in dict.fromkeys([link.task for link in task.links() if not link.lazy]):
            if source.state in (State.FAILED, State.SKIPPED):
                self._skip(task, source)
                settled.append(task)
                return
            if source.state is not State.DONE or source.outputs is None:
                task.missing += 1
                source.tell(task)
                stack.append(source)
        if not task.missing and self._ready(task):
            settled.append(task)

    def _claim(self, task: Task, claims: tuple[Task, ...]) -> None:
        """Keep what a task needs until it is settled; earlier claims are forgotten. Lock held."""
        task.claims = claims
        for source in claims:
            source.uses += 1

    def _ready(self, task: Task) -> bool:
        """Everything that the task needs is there; returns whether its result is too. Lock held."""
        if self.cancelling:
            self.cut_short = True
            return False
        untold = any([source.untold for source in task.sources])
        if untold and any(link.task.untold and not link.lazy for link in task.links()) and self._rekey(task):
            return True
        task.state = State.READY
        self.active += 1
        if task.spec.is_async:
            self.loop.call_soon_threadsafe(self._begin_async, task)
        else:
            assert self.call_sync is not None
            self.lanes.push(task.spec.lane, task.rank, self.call_sync, task)
        return False

    def _rekey(self, task: Task) -> bool:
        """Give a task the key that its sources' late keys make; returns whether its result is held. Lock held."""
        task.late = True
        task.volatile = task.volatile or any(link.task.volatile and not link.lazy for link in task.links())
        if task.volatile:
            return False
        keys = {task.node.links[link.name][0]: link.task.key for link in task.links()}
        try:
            task.key, fresh = self.fingerprinter.of_node(
                task.node, keys, lambda found: task.value_keys[id(found)]
            )
        except NodeError:
            # What it reads is gone since the run was planned: without a key its result is not kept.
            fresh = True
        task.volatile = fresh
        held = None if fresh else self.cache.get(task.key, pin=True)
        if held is not None:
            self._recalled(task, held)
        return held is not None

    def _store(
        self,
        task: Task,
        outputs: tuple[Any, ...],
        ui: Mapping[str, Any],
        parents: tuple[bytes, ...],
        *,
        pin: bool = True,
    ) -> None:
        """Put a result into the cache. Any thread, with the lock or without."""
        if task.volatile:
            return
        effect = task.spec.effect
        try:
            kept = self.cache.put(
                task.key, outputs, ui, task.seconds, parents=parents, effect=effect, pin=pin
            )
        except Exception:
            # A value that cannot be measured or moved is not kept; the run has it all the same.
            kept = False
        task.held, task.pinned = kept, kept and pin

    def _close_expansion(self, task: Task) -> None:
        """The nodes that an expanded node's outputs come from are done. Lock held."""
        expansion = task.expansion
        assert expansion is not None
        task.expansion = None
        values = [tuple(_redeemed(found) for found in result.values) for result in expansion.items]
        outputs = merged(task.spec, values, expansion.mapped)
        ui = merged_ui(expansion.items)
        children = [child for scope in expansion.scopes for child in scope.tasks.values()]
        task.tainted = task.tainted or any(scope.outer for scope in expansion.scopes)
        task.tainted = task.tainted or any(child.tainted for child in children)
        if task.tainted:
            task.late = True
            task.volatile = task.volatile or any(child.volatile for child in children)
            task.key = expanded_key(task, expansion)
        else:
            keys = dict.fromkeys(source.key for source in (*task.claims, *task.sources))
            self._store(task, outputs, ui, tuple(keys))
        task.outputs, task.ui, task.state = outputs, ui, State.DONE
        self._show(task)
        self.stream.emit(NodeFinished(task.id, task.seconds, ui))

    def _fail(self, task: Task, error: BaseException) -> None:
        """Lock held."""
        problem = problem_of(error, task.node, task.recovered)
        task.error, task.state = error, State.FAILED
        self.problems.append(problem)
        self.stream.emit(NodeFailed(task.id, problem, error))

    def _skip(self, task: Task, source: Task) -> None:
        """What feeds the task failed. Lock held."""
        task.state, task.error, task.expansion = State.SKIPPED, source.error, None
        self.stream.emit(NodeSkipped(task.id, "upstream_failed"))

    def _settle(self, first: Task) -> None:
        """Tell everything that waits for a task that it is settled, and let go of what it used. Lock held."""
        stack = [first]
        while stack:
            task = stack.pop()
            for waiter in task.take_waiters():
                if not isinstance(waiter, Task):
                    waiter()
                elif waiter.state is State.WAITING and self._notify(waiter, task):
                    stack.append(waiter)
            self._release(task)
            if task.value_keys:
                task.forget_values()
            if task.scope.owner is None and task.state is State.DONE:
                self._done.append(task)
            if not task.uses:
                self._drop(task)

    def _notify(self, waiter: Task, task: Task) -> bool:
        """One of the tasks that `waiter` waits for is settled; returns whether the waiter is settled too. Lock held."""
        if task.state is not State.DONE:
            self._skip(waiter, task)
            return True
        waiter.missing -= 1
        if waiter.missing:
            return False
        if waiter.twin is not None:
            self._adopt(waiter, waiter.twin)
            waiter.twin = None
            return True
        if waiter.expansion is not None:
            self._close_expansion(waiter)
            return True
        return self._ready(waiter)

    def _release(self, task: Task) -> None:
        """Give up a task's claims. Lock held."""
        claims, task.claims = task.claims, ()
        self._give_up(claims)

    def _give_up(self, claims: tuple[Task, ...]) -> None:
        """Give up claims; values that nobody claims are dropped. Lock held."""
        for source in claims:
            source.uses -= 1
            if not source.uses and source.state is State.DONE:
                self._drop(source)

    def _drop(self, task: Task) -> None:
        """Let go of a task's values: the cache has them, or nobody. Lock held."""
        outputs, task.outputs = task.outputs, None
        if task.pinned:
            self.cache.unpin(task.key)
            task.pinned = False
        elif outputs is not None and task.state is State.DONE and not task.held and not task.tainted:
            # There was no room while other values were in use; there may be now.
            self._store(task, outputs, task.ui, task.parents, pin=False)
            task.held = True
        task.sources = ()

    def _show(self, task: Task) -> None:
        """Lock held."""
        if task.ui:
            self.shown[task.id] = task.ui

    def let_go(self) -> None:
        """Drop every value that is left, so that none lives until the garbage collector comes round."""
        with self.lock:
            for scope in self._scopes:
                for task in scope.tasks.values():
                    if task.pinned:
                        self.cache.unpin(task.key)
                    task.outputs, task.sources, task.expansion, task.pinned = None, (), None, False
                    task.claims = ()
                    task.take_waiters()
                scope.tasks.clear()
                scope.outer.clear()


def _redeemed(found: Any) -> Any:
    """The value of an output of an expansion."""
    if type(found) is not Promise:
        return found
    assert found.task.outputs is not None
    return found.task.outputs[found.index]


def _inside(task: Task, other: Task) -> bool:
    """Whether `other` expanded, at some depth, into `task`."""
    owner = task.scope.owner
    while owner is not None:
        if owner is other:
            return True
        owner = owner.scope.owner
    return False
