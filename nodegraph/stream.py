"""Events on their way from the threads of a run to the one who iterates over it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from nodegraph.events import Event, NodeProgress

PAUSE = 0.004
"""Seconds between two wakings of the loop: events that come meanwhile are handed on together."""
INTERVAL = 1 / 30
"""Seconds between two progress events of a node."""


class Stream:
    """A queue that threads add to and one coroutine drains, in batches."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: deque[Event] = deque()
        self._wake = asyncio.Event()
        # A quick run is over before the first pause is, and wakes the loop once.
        self._woken = True
        self._ended = False
        self._pause: asyncio.TimerHandle | None = None
        self._progress: dict[str, tuple[float, NodeProgress | None]] = {}

    def emit(self, event: Event) -> None:
        """Add an event; from any thread."""
        self._queue.append(event)
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._wake.set)

    def end(self) -> None:
        """No more events will come. On the loop."""
        self._ended = True
        self._wake.set()

    def progress(self, node: str, value: float, total: float, preview: Any) -> None:
        """Add a progress event, or keep it back where the node had one a moment ago."""
        now = time.monotonic()
        event = NodeProgress(node, value, total, preview)
        last = self._progress.get(node)
        if last is None or value >= total or now - last[0] >= INTERVAL:
            self._progress[node] = (now, None)
            self.emit(event)
        else:
            self._progress[node] = (last[0], event)

    def flush_progress(self, node: str) -> None:
        """Add the progress that was kept back; the node has ended."""
        if self._progress:
            _, event = self._progress.pop(node, (0.0, None))
            if event is not None:
                self.emit(event)

    async def batch(self) -> bool:
        """Wait for events; False after the last."""
        if self._ended:
            return bool(self._queue)
        if self._pause is None:
            self._pause = self._loop.call_later(PAUSE, self._rearm)
        await self._wake.wait()
        self._wake.clear()
        return True

    def drain(self) -> Iterator[Event]:
        """The events that are there."""
        while self._queue:
            yield self._queue.popleft()

    def close(self) -> None:
        """Nobody will wait any more. On the loop."""
        if self._pause is not None:
            self._pause.cancel()

    def _rearm(self) -> None:
        self._pause = None
        # Cleared first: an event that is added between the two lines wakes the loop itself.
        self._woken = False
        if self._queue:
            self._woken = True
            self._wake.set()
