"""Lanes: where blocking work runs. One thread for the device, a few for the CPU, one for files.

A lane's thread goes on with the next job that is ready on it, lowest rank first, without a detour through the
event loop.
"""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from nodegraph.node import Lane
from nodegraph.threads import Threads

Rank = tuple[int, int, int]
Work = Callable[[Any, "OneLane"], None]
Job = tuple[Work, Any]


class OneLane:
    """The jobs that are ready on one lane."""

    def __init__(self, name: str, size: int, lock: threading.RLock) -> None:
        self.name = name
        self.size = size
        self.heap: list[tuple[Rank, int, Work, Any]] = []
        self.idle = 0
        self.threads = 0
        self.changed = threading.Condition(lock)


class Lanes:
    """The lanes of one run. Every method is called with the run's lock held."""

    def __init__(self, lock: threading.RLock, stopped: Callable[[], object], threads: Threads) -> None:
        self._lock = lock
        self._threads = threads
        self._lanes: dict[str, OneLane] = {}
        self._closed = False
        self._serial = 0
        self._alive = 0
        self._dirty: set[OneLane] = set()
        self._stopped = stopped
        """Called once after `close`, when the last thread has left its last job."""

    def push(self, lane: Lane, rank: Rank, work: Work, argument: Any) -> None:
        """Add a job: `work(argument, lane)` is called without the lock; it must not raise."""
        one = self._lanes.get(lane)
        if one is None:
            size = min(4, os.cpu_count() or 1) if lane == "cpu" else 1
            one = self._lanes[lane] = OneLane(lane, size, self._lock)
        self._serial += 1
        heapq.heappush(one.heap, (rank, self._serial, work, argument))
        self._dirty.add(one)

    def flush(self, own: OneLane | None = None) -> None:
        """Wake or start threads for the jobs that were pushed; the caller's own lane takes one of them itself."""
        for one in self._dirty:
            need = len(one.heap) - (one is own)
            if need <= 0:
                continue
            if one.idle:
                one.changed.notify(need)
            for _ in range(min(need - one.idle, one.size - one.threads)):
                self._start(one)
        self._dirty.clear()

    def clear(self) -> list[Job]:
        """Take back every job that has not started."""
        jobs = [(work, argument) for one in self._lanes.values() for _, _, work, argument in sorted_jobs(one)]
        for one in self._lanes.values():
            one.heap.clear()
        return jobs

    def close(self) -> None:
        """Let each thread end after the job that it is in."""
        if self._closed:
            return
        self._closed = True
        for one in self._lanes.values():
            one.heap.clear()
            one.changed.notify_all()
        if not self._alive:
            self._stopped()

    def _start(self, one: OneLane) -> None:
        name = f"nodegraph-{one.name}-{one.threads}"
        one.threads += 1
        self._alive += 1
        self._threads.run(name, partial(self._work, one))

    def _work(self, one: OneLane) -> None:
        lock = self._lock
        heap = one.heap
        lock.acquire()
        try:
            while True:
                while not heap and not self._closed:
                    one.idle += 1
                    one.changed.wait()
                    one.idle -= 1
                if self._closed:
                    break
                _, _, work, argument = heapq.heappop(heap)
                lock.release()
                try:
                    work(argument, one)
                finally:
                    # Held while waiting, it would keep the node's values alive.
                    work = argument = None  # type: ignore[assignment]
                    lock.acquire()
        finally:
            self._alive -= 1
            if self._closed and not self._alive:
                self._stopped()
            lock.release()


def sorted_jobs(one: OneLane) -> list[tuple[Rank, int, Work, Any]]:
    """The waiting jobs of a lane in the order in which they would run."""
    return sorted(one.heap, key=lambda job: job[:2])
