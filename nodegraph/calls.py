"""Calling node functions: once, or once for each item; on a lane or on the event loop."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable
from typing import Any

from nodegraph.context import RunContext
from nodegraph.errors import Cancelled
from nodegraph.failures import is_out_of_memory
from nodegraph.lanes import OneLane
from nodegraph.mapping import arguments_of, lazy_value, many_value
from nodegraph.node import Block, Lazy
from nodegraph.run import Run
from nodegraph.shape import result_of
from nodegraph.task import CallResult, Source, Task


class Caller:
    """Makes the calls of a run's tasks and hands what they give back to the run."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def sync(self, task: Task, lane: OneLane) -> None:
        """Call a plain function, on its lane; never raises."""
        failure: BaseException | None = None
        try:
            self._sync(task, lane)
        except BaseException as error:
            failure = error
        if failure is not None:
            self._run.failed(task, failure, lane)

    def _sync(self, task: Task, lane: OneLane) -> None:
        run = self._run
        if run.stopping():
            raise Cancelled("the run was cancelled")
        calls = arguments_of(task, _no_lazy)
        arguments = calls.arguments
        if self._all_blocked(task, arguments, calls.mapped, lane):
            return
        results: list[CallResult] = []
        begun = time.perf_counter()
        for item, given in enumerate(arguments):
            if isinstance(given, Block):
                run.report_block(task, given)
                results.append(CallResult((Block(),) * len(task.spec.outputs)))
                continue
            if item and run.stopping():
                raise Cancelled("the run was cancelled")
            run.started(task, item, len(arguments))
            results.append(result_of(task.spec, self._call(task, given)))
        self._finish(task, arguments, results, calls.mapped, time.perf_counter() - begun, lane)

    def _call(self, task: Task, given: dict[str, Any]) -> Any:
        function = task.spec.function
        self._add_context(task, given)
        try:
            return function(**given)
        except Exception as error:
            if task.recovered or not is_out_of_memory(error):
                raise
        # Outside of the handler, so that the failed call's values are gone when memory is freed.
        self._recover(task)
        return function(**given)

    async def asynchronous(self, task: Task) -> None:
        """Call a coroutine function, on the loop; never raises."""
        failure: BaseException | None = None
        try:
            await self._async(task)
        except BaseException as error:
            failure = error
        if failure is not None:
            self._run.failed(task, failure, None)

    async def _async(self, task: Task) -> None:
        calls = arguments_of(task, lambda source, item, items: self._lazy(task, source, item, items))
        arguments = calls.arguments
        if self._all_blocked(task, arguments, calls.mapped, None):
            return
        begun = time.perf_counter()
        count = len(arguments)
        if count == 1:
            results = [await self._item(task, 0, 1, arguments[0])]
        else:
            results = await _together([self._item(task, i, count, one) for i, one in enumerate(arguments)])
        self._finish(task, arguments, results, calls.mapped, time.perf_counter() - begun, None)

    async def _item(self, task: Task, item: int, items: int, given: dict[str, Any] | Block) -> CallResult:
        run = self._run
        if isinstance(given, Block):
            run.report_block(task, given)
            return CallResult((Block(),) * len(task.spec.outputs))
        run.started(task, item, items)
        self._add_context(task, given)
        function = task.spec.function
        try:
            return result_of(task.spec, await function(**given))
        except Exception as error:
            if task.recovered or not is_out_of_memory(error):
                raise
        self._recover(task)
        return result_of(task.spec, await function(**given))

    def _lazy(self, task: Task, source: Source, item: int, items: int) -> Lazy[Any]:
        spec = task.spec.inputs[source.name]

        async def fetch() -> Any:
            await self._run.lazily(task, source)
            return many_value(source, spec) if spec.many else lazy_value(source, spec, item, items)

        return Lazy(fetch)

    def _add_context(self, task: Task, given: dict[str, Any]) -> None:
        name = task.spec.takes_context
        if name is not None:
            given[name] = RunContext(self._run, task.id, task.spec.reads)

    def _all_blocked(
        self, task: Task, arguments: list[dict[str, Any] | Block], mapped: bool, lane: OneLane | None
    ) -> bool:
        """Skip a node that would never be called; the blocks of a mapped one stay in its lists."""
        if not arguments or not all(type(given) is Block for given in arguments):
            return False
        block = next((one for one in arguments if isinstance(one, Block) and one.message), Block())
        self._run.blocked(task, block, lane, len(arguments) if mapped else None)
        return True

    def _finish(
        self,
        task: Task,
        arguments: list[dict[str, Any] | Block],
        results: list[CallResult],
        mapped: bool,
        seconds: float,
        lane: OneLane | None,
    ) -> None:
        if any(result.subgraph is not None for result in results):
            self._run.expanded(task, results, arguments, mapped, seconds, lane)
            return
        # Before the run lets go of what fed the node: nothing here may keep it alive.
        for given in arguments:
            if isinstance(given, dict):
                given.clear()
        self._run.complete(task, results, mapped, seconds, lane)

    def _recover(self, task: Task) -> None:
        """Free all memory that is not in use, before the one more try that a node gets."""
        task.recovered = True
        self._run.cache.shed()
        self._run.resources.release()
        gc.collect()


async def _together(coroutines: list[Awaitable[CallResult]]) -> list[CallResult]:
    """All results in order; where one raises, the others are cancelled first."""
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _no_lazy(source: Source, item: int, items: int) -> Lazy[Any]:
    raise AssertionError(f"a plain function has a lazy input {source.name}")
