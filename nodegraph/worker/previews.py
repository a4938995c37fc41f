"""Previews of running nodes as small JPEG pictures, a few a second."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from nodegraph.worker.messages import Preview

INTERVAL = 1 / 8
"""Seconds between two pictures."""
MAX_SIDE = 512
"""Pixels of the longer side."""


@runtime_checkable
class Picture(Protocol):
    """What a node may give as the preview of its progress."""

    def jpeg(self, max_side: int) -> bytes:
        """The picture as a JPEG file of at most `max_side` pixels a side. Called in a thread of its own."""
        ...


class Previewer:
    """Encodes the newest preview in a thread of its own, so that no sampler waits for it. Any thread may call it."""

    def __init__(self, send: Callable[[Preview], None]) -> None:
        self._send = send
        self._changed = threading.Condition()
        self._next: tuple[str, str, Picture] | None = None
        self._job: str | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def begin(self, job: str) -> None:
        """Previews of this job count from now on."""
        with self._changed:
            self._job = job

    def offer(self, job: str, node: str, preview: object) -> None:
        """Take a preview, in place of one that waits. What is no Picture is left."""
        if not isinstance(preview, Picture):
            return
        with self._changed:
            if self._closed or job != self._job:
                return
            self._next = (job, node, preview)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="nodegraph-previews", daemon=True)
                self._thread.start()
            self._changed.notify()

    def end(self) -> None:
        """The job has ended: none of its previews is sent after this."""
        with self._changed:
            self._job = self._next = None

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._job = self._next = None
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._next is None and not self._closed:
                    self._changed.wait()
                if self._closed or self._next is None:
                    return
                (job, node, picture), self._next = self._next, None
            started = time.monotonic()
            self._show(job, node, picture)
            # Held while waiting, it would keep a tensor alive.
            del picture
            time.sleep(max(0.0, INTERVAL - (time.monotonic() - started)))

    def _show(self, job: str, node: str, picture: Picture) -> None:
        try:
            image = picture.jpeg(MAX_SIDE)
        except Exception:
            # A picture that cannot be made costs no run; the log says why, once a job.
            traceback.print_exc(file=sys.stderr)
            with self._changed:
                if self._job == job:
                    self._job = None
            return
        with self._changed:
            if self._job == job:
                self._send(Preview(job, node, image))
