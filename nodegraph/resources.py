"""What outlives a run: the helpers of packs, one instance of each Resource class a session, and threads."""

from __future__ import annotations

import threading
from typing import TypeVar

from nodegraph.node import Resource, Runtime
from nodegraph.threads import Threads

R = TypeVar("R", bound=Resource)


class Resources:
    """Opens resources when they are first asked for and closes them together. Safe to use from any thread."""

    def __init__(self, runtime: Runtime) -> None:
        self.threads = Threads()
        """Where runs do their work."""
        self._runtime = runtime
        self._open: dict[type[Resource], Resource] = {}
        self._lock = threading.RLock()
        self._closed = False

    def get(self, kind: type[R]) -> R:
        """The session's one instance of a class. Raises RuntimeError after `close`."""
        found = self._open.get(kind)
        if found is None:
            with self._lock:
                if self._closed:
                    raise RuntimeError("the session is closed")
                found = self._open.get(kind)
                if found is None:
                    found = self._open[kind] = kind.open(self._runtime)
        assert isinstance(found, kind)
        return found

    def held(self) -> int:
        """Bytes that all of them hold on the device now."""
        return sum(resource.held() for resource in tuple(self._open.values()))

    def capacity(self) -> int:
        """Bytes of device memory that there are to share; 0 where none of them knows."""
        return max((resource.capacity() for resource in tuple(self._open.values())), default=0)

    def release(self, wanted: int | None = None) -> int:
        """Give back up to `wanted` bytes of what is not in use, all of it by default; returns the bytes given back."""
        given = 0
        for resource in tuple(self._open.values()):
            if wanted is not None and given >= wanted:
                break
            given += resource.release(resource.held() if wanted is None else wanted - given)
        return given

    def close(self) -> None:
        """Close every resource, the latest first; the first error is raised after all were closed."""
        with self._lock:
            self._closed = True
            error: Exception | None = None
            for resource in reversed(tuple(self._open.values())):
                try:
                    resource.close()
                except Exception as raised:  # the rest is closed all the same, then the first is raised
                    error = error or raised
            self._open.clear()
        self.threads.close()
        if error is not None:
            raise error
