"""The one thread that writes: what waits for it is committed together, and answered only then.

A commit costs a flush of the disk, milliseconds, whatever is in it. While one is under way requests gather, and the
next commit takes all of them. Requests of the same kind that stand next to each other are one call of their function, so
that they can share statements: each statement costs a hand-over of the interpreter's lock, which a busy loop makes dear.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from nodegraph.jobs.record import JobError, refuse

GROUP = 512
"""Requests in one commit at most."""

Work = Callable[[sqlite3.Connection, Sequence[Any]], Sequence[Any]]
"""Does requests of one kind, inside a transaction; a JobError in place of a result refuses that request alone, and
then nothing may have been written for it."""


@dataclass(slots=True)
class Request:
    """A piece of work and the one who waits for it."""

    work: Work
    payload: Any
    answer: asyncio.Future[Any]
    gone: Callable[[Any], None] | None
    """Called in the loop with the result where the one who waited has gone."""


class Writer:
    """Owns the connection that writes.

    `wrote` is called in the loop after a change; `refused` puts an error of the database into words, in this thread;
    `damage` says why nothing may be written any more, None while all is well.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        wrote: Callable[[], None],
        refused: Callable[[sqlite3.Error], JobError],
        damage: Callable[[], JobError | None],
    ) -> None:
        self._connection = connection
        self._wrote = wrote
        self._refused = refused
        self._damage = damage
        self._loop = asyncio.get_running_loop()
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="jobs-writer", daemon=True)
        self._thread.start()

    def ask(self, work: Work, payload: Any, gone: Callable[[Any], None] | None = None) -> asyncio.Future[Any]:
        """The future result of a piece of work; it is on the disk when the future is done."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self._closed:
            answer.set_exception(refuse("store_closed", "The job store is closed."))
        else:
            self._requests.put(Request(work, payload, answer, gone))
        return answer

    async def close(self) -> None:
        """Commit what waits, then let the file go."""
        if not self._closed:
            self._closed = True
            self._requests.put(None)
        await self._loop.run_in_executor(None, self._thread.join)

    def _run(self) -> None:
        going = True
        while going:
            first = self._requests.get()
            group = [] if first is None else [first]
            going = first is not None
            while going and len(group) < GROUP:
                try:
                    request = self._requests.get_nowait()
                except queue.Empty:
                    break
                if request is None:
                    going = False
                else:
                    group.append(request)
            if group:
                before = self._connection.total_changes
                results = self._commit(group)
                changed = self._connection.total_changes != before
                try:
                    self._loop.call_soon_threadsafe(self._tell, group, results, changed)
                except RuntimeError:
                    # The loop was closed before the store, and nobody is left to tell.
                    going = False
        self._connection.close()

    def _commit(self, group: list[Request]) -> list[Any]:
        """The results of a group, errors among them."""
        damage = self._damage()
        if damage is not None:
            # What is still whole stays so.
            return [JobError(damage.problems) for _ in group]
        try:
            return self._transact(group)
        except Exception as error:
            if len(group) == 1:
                return [self._refused(error) if isinstance(error, sqlite3.Error) else error]
        # What one request cannot have (a document that the disk has no room for) is not the others' loss.
        return [result for request in group for result in self._commit([request])]

    def _transact(self, group: list[Request]) -> list[Any]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            results: list[Any] = []
            for work, requests in groupby(group, key=lambda request: request.work):
                results.extend(work(connection, [request.payload for request in requests]))
            connection.execute("COMMIT")
        except BaseException:
            # SQLite has already rolled back where the disk was full.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return results

    def _tell(self, group: list[Request], results: list[Any], changed: bool) -> None:
        for request, result in zip(group, results, strict=True):
            if request.answer.cancelled():
                if request.gone is not None and not isinstance(result, Exception):
                    request.gone(result)
            elif isinstance(result, Exception):
                request.answer.set_exception(result)
            else:
                request.answer.set_result(result)
        if changed:
            self._wrote()
