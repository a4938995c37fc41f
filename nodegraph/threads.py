"""Threads that are kept for the next work: starting one costs more than a small node does."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

KEEP = 10.0
"""Seconds that a thread waits for work before it ends."""

Work = Callable[[], None]
_Orders = queue.SimpleQueue[Work | None]


class Threads:
    """Threads by name, each kept for `keep` seconds without work. Safe to use from any thread."""

    def __init__(self, keep: float = KEEP) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._idle: dict[str, list[_Orders]] = {}
        """Of those that wait, the last that began to at the end."""
        self._all: set[threading.Thread] = set()
        self._closed = False

    def run(self, name: str, work: Work) -> None:
        """Have a thread of this name do something; where none waits, one is started. `work` must not raise."""
        with self._lock:
            idle = self._idle.get(name)
            orders = idle.pop() if idle else None
        if orders is None:
            orders = _Orders()
            thread = threading.Thread(target=self._serve, args=(name, orders), name=name, daemon=True)
            with self._lock:
                self._all.add(thread)
            thread.start()
        orders.put(work)

    def close(self) -> None:
        """End the threads, each after the work that it is at, and wait for that."""
        with self._lock:
            self._closed = True
            for idle in self._idle.values():
                for orders in idle:
                    orders.put(None)
            self._idle.clear()
            threads = tuple(self._all)
        for thread in threads:
            thread.join()

    def _serve(self, name: str, orders: _Orders) -> None:
        try:
            while (work := self._next(name, orders)) is not None:
                work()
                # Held while waiting, it would keep a run alive.
                del work
                with self._lock:
                    if self._closed:
                        break
                    self._idle.setdefault(name, []).append(orders)
        finally:
            with self._lock:
                self._all.discard(threading.current_thread())

    def _next(self, name: str, orders: _Orders) -> Work | None:
        try:
            return orders.get(timeout=self._keep)
        except queue.Empty:
            with self._lock:
                idle = self._idle.get(name, [])
                if orders in idle:
                    idle.remove(orders)
                    return None
        # It was chosen at the last moment.
        return orders.get()
