"""Running a plan: an asynchronous stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

from nodegraph.cache import Cache
from nodegraph.calls import Caller
from nodegraph.context import CancelToken
from nodegraph.events import Event, RunStarted
from nodegraph.node import NodeSpec, Runtime
from nodegraph.plan import Plan
from nodegraph.resources import Resources
from nodegraph.run import Run

__all__ = ["CancelToken", "execute"]


async def execute(
    plan: Plan,
    registry: Mapping[str, NodeSpec],
    runtime: Runtime,
    cache: Cache,
    *,
    resources: Resources | None = None,
    cancel: CancelToken | None = None,
) -> AsyncGenerator[Event, None]:
    """Run what the plan needs and yield what happens, `RunStarted` first and `RunFinished` last.

    A node that fails is an event, not an exception; what does not depend on it goes on. `registry` names the
    node types that expansions may use. Closing the generator cancels the run and waits for what is running.
    `resources` are those of the session; without, the run opens and closes its own.
    """
    token = cancel or CancelToken()
    loop = asyncio.get_running_loop()
    own = None if resources is not None else Resources(runtime)
    run = Run(plan, registry, runtime, cache, resources or own or Resources(runtime), token, loop)
    caller = Caller(run)
    run.call_sync, run.call_async = caller.sync, caller.asynchronous
    unsubscribe = token.subscribe(lambda: loop.call_soon_threadsafe(run.cancel))
    try:
        yield RunStarted(plan.ids("run"), plan.ids("cached"))
        run.start()
        while await run.stream.batch():
            for event in run.stream.drain():
                yield event
        yield run.finished()
    finally:
        unsubscribe()
        try:
            await run.close()
        finally:
            run.let_go()
            cache.end_run()
            if own is not None:
                own.close()
