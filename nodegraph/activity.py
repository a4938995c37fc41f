"""What is under way in a run, on lanes and on the event loop, and how it is brought to an end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from nodegraph.context import CancelToken
from nodegraph.errors import Cancelled
from nodegraph.lanes import Lanes, OneLane
from nodegraph.stream import Stream
from nodegraph.task import LaneJob, Task
from nodegraph.threads import Threads


class Activity:
    """Lanes, coroutines and events of a run. `Lock held` in a docstring means that the caller holds the lock."""

    def __init__(self, token: CancelToken, loop: asyncio.AbstractEventLoop, threads: Threads) -> None:
        self.token = token
        self.loop = loop
        self.lock = threading.RLock()
        self.stream = Stream(loop)
        self.lanes = Lanes(self.lock, lambda: loop.call_soon_threadsafe(self._left), threads)
        self.cancelling = False
        self.cut_short = False
        """Whether something that was asked for was not done, because of a cancel."""
        self.active = 0
        """Pieces of work that are ready or under way; the run is over when there are none."""
        self.call_async: Callable[[Task], Coroutine[Any, Any, None]] | None = None
        self.call_sync: Callable[[Task, OneLane], None] | None = None
        self._coroutines: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()

    def cancel(self) -> None:
        """Stop: what has not started never does. On the loop."""
        with self.lock:
            if self.cancelling:
                return
            self.cancelling = True
            for _, argument in self.lanes.clear():
                self.cut_short = True
                if isinstance(argument, LaneJob):
                    argument.give_up()
                else:
                    self.active -= 1
            if not self.active:
                self.stream.end()
        for coroutine in tuple(self._coroutines):
            coroutine.cancel()

    async def close(self) -> None:
        """Stop, and wait for running work to end. On the loop."""
        if self.active:
            self.cancel()
        interrupted: BaseException | None = None
        while self._coroutines:
            try:
                await asyncio.wait(tuple(self._coroutines))
            except asyncio.CancelledError as error:
                interrupted = error
        with self.lock:
            self.lanes.close()
        while not self._stopped.is_set():
            try:
                await self._stopped.wait()
            except asyncio.CancelledError as error:
                interrupted = error
        self.stream.close()
        if interrupted is not None:
            raise interrupted

    def check(self) -> None:
        """Raise Cancelled where the run is being stopped."""
        if self.stopping():
            raise Cancelled("the run was cancelled")

    def stopping(self) -> bool:
        """Whether the run is being cancelled or closed."""
        return self.cancelling or self.token.cancelled

    def _begin_async(self, task: Task) -> None:
        """On the loop."""
        assert self.call_async is not None
        if self.cancelling:
            with self.lock:
                self.cut_short = True
                self._leave(None)
            return
        coroutine = self.loop.create_task(self.call_async(task), name=f"nodegraph-{task.id}")
        self._coroutines.add(coroutine)
        coroutine.add_done_callback(self._ended_async)

    def _ended_async(self, coroutine: asyncio.Task[None]) -> None:
        """On the loop. A coroutine that was cancelled before its first step could not say so itself."""
        self._coroutines.discard(coroutine)
        if coroutine.cancelled():
            with self.lock:
                self.cut_short = True
                self._leave(None)

    def _leave(self, lane: OneLane | None) -> None:
        """One piece of work has ended; wake the lanes for what it made ready. Lock held."""
        self.active -= 1
        self.lanes.flush(lane)
        if not self.active:
            # The threads leave by themselves, rather than wait and be woken for that; the last one ends the stream.
            self.lanes.close()

    def _left(self) -> None:
        """No thread is on a lane any more, and none will be. On the loop."""
        self._stopped.set()
        self.stream.end()
