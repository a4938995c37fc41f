"""What a supervisor says of its workers, and to those who listen."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from nodegraph.errors import NodegraphError, Problem
from nodegraph.jobs import Job
from nodegraph.worker.messages import Data, Done, FromWorker, Message, Preview, RunEvents


@dataclass(slots=True)
class WorkerState:
    """One worker as it is now; its process changes, its name stays."""

    name: str
    pid: int | None = None
    ready: bool = False
    job: str | None = None
    """The job that it runs."""
    devices: tuple[Data, ...] = ()
    versions: Data = field(default_factory=dict)
    packs: tuple[Data, ...] = ()
    problems: tuple[Problem, ...] = ()
    """Packs and modules that it left out."""
    rss: int = 0
    cache: Data = field(default_factory=dict)
    restarts: int = 0
    busy_seconds: float = 0.0
    """Spent on jobs, since the supervisor started."""
    last_lines: tuple[str, ...] = ()
    """The end of its log; of the process before it until it says something itself."""
    ended: str = ""
    """Why the process before this one ended."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counted since the supervisor started."""

    workers: tuple[WorkerState, ...]
    restarts: int
    busy_seconds: float
    jobs: Mapping[str, int]
    """Jobs that ended, by status (`success`, `failed`, `cancelled`)."""
    retries: int
    """Attempts that were lost with a worker, and made again."""
    nodes: int
    """Nodes that ran."""
    node_seconds: float


class Kept(NamedTuple):
    """What the history keeps of a job beside its status and problems, as JSON texts."""

    outputs: str | None = None
    meta: str | None = None
    messages: str | None = None


class Listener:
    """Is told of jobs on the loop, at once and in order; each method may be overridden, and none may raise or wait."""

    def begun(self, job: Job) -> None:
        """The job runs; again, where an attempt was lost."""

    def said(self, job: Job, message: RunEvents | Preview) -> None:
        """What happens in the run."""

    def ending(self, job: Job, done: Done) -> Kept | None:
        """The run ended; returns what to keep. None keeps the outputs alone."""
        return None

    def ended(self, job: Job, done: Done) -> None:
        """The store has it: who asks for the history finds the job there."""

    def retried(self, job: Job, why: Problem) -> None:
        """The attempt was lost and the job waits again."""

    def heard(self, worker: WorkerState, message: FromWorker) -> None:
        """What a worker says of itself: Ready, Descriptions, Heartbeat."""


class News(NamedTuple):
    """What a subscription yields: a message, and the job that it is about, if any."""

    job: Job | None
    message: Message


class Subscription:
    """An asynchronous iterator over news. Where `limit` wait, pictures go first, then it ends with a NodegraphError."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._news: deque[News] = deque()
        self._changed = asyncio.Event()
        self._closed = False
        self._overrun = False

    def put(self, news: News) -> bool:
        """Add news; False where nobody will read on."""
        if self._closed or self._overrun:
            return False
        if len(self._news) >= self._limit:
            if isinstance(news.message, Preview):
                return True
            self._overrun = True
        else:
            self._news.append(news)
        self._changed.set()
        return not self._overrun

    def close(self) -> None:
        """End the iteration once what is there was read."""
        self._closed = True
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[News]:
        try:
            while True:
                while self._news:
                    yield self._news.popleft()
                if self._overrun:
                    text = f"the subscriber fell {self._limit} messages behind."
                    raise NodegraphError(Problem("too_slow", text))
                if self._closed:
                    return
                self._changed.clear()
                await self._changed.wait()
        finally:
            self._closed = True


class Host(Protocol):
    """What a slot needs of its supervisor."""

    def cancel_asked(self, job: Job) -> float | None:
        """When the job's cancel was asked for; None where it was not."""
        ...

    def begun(self, job: Job) -> None: ...

    def said(self, job: Job, message: RunEvents | Preview) -> None: ...

    def heard(self, worker: WorkerState, message: Any) -> None: ...

    def finish(self, job: Job, done: Done) -> None: ...

    def give_back(self, job: Job) -> None: ...

    def lost(self, job: Job, why: Problem) -> None: ...

    def gone(self, worker: WorkerState) -> None: ...
