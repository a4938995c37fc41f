"""Events of a run, gathered so that a few messages carry them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from nodegraph.events import Event, NodeProgress
from nodegraph.worker.messages import Message, RunEvents, event_data

INTERVAL = 0.05
"""Seconds between two messages of events."""
FIRST_WAIT = 0.005
"""Seconds that the first event of a quiet time waits for others: a quick run fits into one message."""


class Batch:
    """Gathers the events of one run on the loop; of progress that waits, a node's last counts."""

    def __init__(self, job: str, send: Callable[..., None], loop: asyncio.AbstractEventLoop) -> None:
        self._job = job
        self._send = send
        self._loop = loop
        self._events: list[dict[str, Any]] = []
        self._progress: dict[str, int] = {}
        """Where in the batch a node's progress stands, where nothing else of that node came after."""
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0

    def note(self, event: Event) -> None:
        """Add an event; it goes out within `INTERVAL`."""
        data = event_data(event)
        node = data.get("node")
        if isinstance(event, NodeProgress) and event.node in self._progress:
            self._events[self._progress[event.node]] = data
            return
        if isinstance(event, NodeProgress):
            self._progress[event.node] = len(self._events)
        elif node is not None:
            self._progress.pop(node, None)
        self._events.append(data)
        if self._timer is None:
            since = time.monotonic() - self._last
            self._timer = self._loop.call_later(max(FIRST_WAIT, INTERVAL - since), self._flush)

    def end(self, done: Message) -> None:
        """Send what is there and the run's last message together."""
        self._send(*self._taken(), done)

    def _flush(self) -> None:
        self._send(*self._taken())

    def _taken(self) -> tuple[Message, ...]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._last = time.monotonic()
        events, self._events = tuple(self._events), []
        self._progress.clear()
        return (RunEvents(self._job, events),) if events else ()
