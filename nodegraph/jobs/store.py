"""The durable store of jobs, for one process and one asyncio loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from nodegraph.errors import Problem
from nodegraph.jobs import changes, control, file, rows, submitting
from nodegraph.jobs.changed import Changed
from nodegraph.jobs.deliveries import Deliveries
from nodegraph.jobs.record import (
    FINAL,
    Counts,
    Ending,
    Job,
    JobError,
    JobPage,
    JobRequest,
    JobStatus,
    QueuePage,
    Retention,
    refuse,
)
from nodegraph.jobs.writer import Writer

T = TypeVar("T")
LOG = logging.getLogger("nodegraph.jobs")
READERS = 2
"""Threads that read: a long page of the history does not keep a short one of the queue waiting."""
DEFAULT = Retention()
STANDING = frozenset(JobStatus) - {JobStatus.RUNNING}


class JobStore:
    """Jobs in a SQLite file. What a method did is on the disk when it returns.

    Every method may raise JobError with the code `disk_full` (nothing was done, nothing is lost, ask again when there is
    room), `store_corrupt` (the file was damaged, removed or replaced while it was in use: what can be read is read, nothing is
    written any more), `store_failed` or `store_closed`.
    A caller that is cancelled while it waits leaves what it asked for done, but for claims: those jobs are released.
    """

    def __init__(self, path: Path, keep: Retention, lock: sqlite3.Connection) -> None:
        """Use `open`."""
        self.path = path
        self.keep = keep
        self.backup: Path | None = None
        """The copy of the file as an older release left it, where this opening changed it."""
        self.changed = Changed()
        """Moves on with every change: how dispatchers wait for a job that they can claim."""
        self.damage: JobError | None = None
        """What was found, once the file was seen to be damaged or gone."""
        self._identity: tuple[int, int] | None = None
        self._telling = threading.Lock()
        self._lock = lock
        self._readers = ThreadPoolExecutor(READERS, "jobs-reader")
        self._connections: list[sqlite3.Connection] = []
        self._paused = False
        self._writer: Writer
        self.deliveries: Deliveries
        """Who is to be told of the ends of jobs."""

    @classmethod
    async def open(
        cls, path: Path, *, keep: Retention = DEFAULT, first: Callable[[], object] | None = None
    ) -> JobStore:
        """Open the store, and make it and its folder where there is none; then `recover`.

        `first` is called in a thread once the store is held against other processes and before its file is looked at, for
        what else the lock guards; its errors are raised. An older release's file is copied, then brought up to date.
        JobError: `store_in_use`, `store_corrupt` (a file that cannot be read stays as it is), `not_a_job_store`,
        `store_too_new`, `migration_failed`, `store_unwritable`, `disk_full`.
        """
        store, connection = await asyncio.to_thread(cls._open, path, keep, first)
        store._writer = Writer(connection, store.changed.notify, store._refused, store._look)
        store.deliveries = Deliveries(store._writer.ask, store._read)
        return store

    @classmethod
    def _open(
        cls, path: Path, keep: Retention, first: Callable[[], object] | None
    ) -> tuple[JobStore, sqlite3.Connection]:
        file.make_folder(path.parent)
        with contextlib.ExitStack() as undo:
            lock = file.hold(path)
            undo.callback(lock.close)
            if first is not None:
                first()
            store = cls(path, keep, lock)
            store.backup = file.prepare(path)
            try:
                for _ in range(READERS + 1):
                    store._connections.append(file.connect(path))
                    undo.callback(store._connections[-1].close)
                store._identity = file.identity(path)
                store._paused = rows.paused(store._connections[0])
            except sqlite3.Error as error:
                raise file.as_job_error(error) from error
            undo.pop_all()
        return store, store._connections.pop()

    async def submit(self, *requests: JobRequest) -> tuple[Job, ...]:
        """Store jobs, all or none.

        A request with the idempotency key of a stored job is answered with that job. JobError: `duplicate_id`,
        `invalid_job` (every problem, with the field as its input).
        """
        submitting.check(requests)
        jobs: tuple[Job, ...] = await self._writer.ask(submitting.submit, requests)
        return jobs

    async def claim(self, worker: str) -> Job | None:
        """The next of the queue, which now runs; None where nothing waits or the queue is paused."""
        jobs = await self.claim_many(worker, 1)
        return jobs[0] if jobs else None

    async def claim_many(self, worker: str, limit: int) -> tuple[Job, ...]:
        """Up to `limit` jobs from the head of the queue, in one commit."""
        jobs: tuple[Job, ...] = await self._writer.ask(changes.claim, (worker, max(0, limit)), self._unclaim)
        return jobs

    def _unclaim(self, jobs: tuple[Job, ...]) -> None:
        # Nobody waits for the answer: should the disk be full, the next start recovers the jobs.
        for job in jobs:
            self._writer.ask(changes.release, (job.id, job.attempts)).add_done_callback(
                lambda done: done.cancelled() or done.exception()
            )

    async def release(self, job: Job) -> None:
        """Give back a claimed job that was not begun, as if nobody had claimed it; none of its attempts is spent."""
        await self._writer.ask(changes.release, (job.id, job.attempts))

    async def finish(
        self,
        id: str,
        status: JobStatus,
        *,
        attempt: int | None = None,
        outputs: str | None = None,
        meta: str | None = None,
        messages: str | None = None,
        problems: str | None = None,
    ) -> None:
        """Give a running job its final state.

        attempt: the job's `attempts` as it was claimed, where a worker that was given up may still answer.
        JobError: `unknown_job`, `already_finished`, `not_running`, `stale_attempt`.
        """
        (refused,) = await self.finish_many(Ending(id, status, attempt, outputs, meta, messages, problems))
        if refused is not None:
            raise refused

    async def finish_many(self, *endings: Ending) -> tuple[JobError | None, ...]:
        """Give running jobs their final states, in one commit; for each, why it was refused, as `finish` has it."""
        for ending in endings:
            if ending.status not in FINAL:
                raise ValueError(f"a job does not finish as {ending.status}")
        refused: tuple[JobError | None, ...] = await self._writer.ask(changes.finish, endings)
        return refused

    async def requeue(self, id: str, why: Problem) -> Job:
        """Put a running job whose worker is gone back to its place; after its last attempt it has failed with `why`.

        One that is being cancelled has been. JobError: `unknown_job`, `not_running`.
        """
        job: Job = await self._writer.ask(changes.requeue, (id, why))
        return job

    async def recover(self) -> int:
        """At the start, before any claim: put back what ran when the last server ended; how many jobs wait again.

        That is not an attempt of the job's, but one that saw the server end too often (`changes.INTERRUPTIONS`) has failed.
        """
        count: int = await self._writer.ask(changes.recover, None)
        return count

    async def cancel(self, id: str) -> Job | None:
        """End a job that waits, mark one that runs as `cancelling`, leave one that has ended; None where there is none."""
        job: Job | None = await self._writer.ask(control.cancel, id)
        return job

    async def cancel_queued(self) -> int:
        """End every job that waits now; how many."""
        last, _ = await self._writer.ask(control.latest, None)
        return await self._in_chunks(control.cancel_queued, last)

    async def move(self, id: str, *, front: bool = False, number: float | None = None) -> Job:
        """Give a job that waits another place: ahead of all others, or by its number. JobError: `unknown_job`, `not_queued`."""
        if front == (number is not None):
            raise ValueError("either front or number")
        if number is not None and not math.isfinite(number):
            raise refuse(
                "invalid_job", "The number is no place in the queue.", found=number, allowed="a finite number"
            )
        job: Job = await self._writer.ask(control.move, (id, front, number))
        return job

    async def delete(self, *ids: str, statuses: Collection[JobStatus] = STANDING) -> int:
        """Forget jobs that are in one of the states; how many. A job that runs stays: cancel it first."""
        count: int = await self._writer.ask(control.delete, (ids, STANDING.intersection(statuses)))
        return count

    async def clear_history(self) -> int:
        """Forget every job that has ended by now; how many."""
        _, until = await self._writer.ask(control.latest, None)
        return await self._in_chunks(control.forget, control.Excess(until, None))

    async def prune(self) -> int:
        """Forget ended jobs that `keep` does not keep; how many. To be called now and then."""
        until = None if self.keep.age is None else time.time() - self.keep.age
        return await self._in_chunks(control.forget, control.Excess(until, self.keep.count))

    async def _in_chunks(self, work: Callable[..., Sequence[int]], payload: Any) -> int:
        total = 0
        while count := await self._writer.ask(work, payload):
            total += count
        return total

    @property
    def paused(self) -> bool:
        """No job is handed out; kept through restarts."""
        return self._paused

    async def pause(self) -> None:
        """Hand out no more jobs; those that run go on."""
        await self._set_paused(True)

    async def resume(self) -> None:
        """Hand out jobs again."""
        await self._set_paused(False)

    async def _set_paused(self, state: bool) -> None:
        def known(_: None) -> None:
            self._paused = state

        known(await self._writer.ask(control.pause, state, known))

    async def get(self, id: str) -> Job | None:
        """The job, or None where there is none."""
        return await self._read(rows.by_id, id)

    async def queue(self, limit: int | None = None, offset: int = 0) -> QueuePage:
        """(running, queued, total): all that runs, a page of what waits in the order of claims, and how many wait."""
        return await self._read(rows.queue, limit, offset)

    async def history(self, limit: int | None = None, offset: int = 0, newest_first: bool = True) -> JobPage:
        """(jobs, total): jobs that have ended, by the time at which they did."""
        return await self._read(rows.history, limit, offset, newest_first)

    async def jobs(
        self,
        statuses: Collection[JobStatus] = tuple(JobStatus),
        limit: int | None = None,
        offset: int = 0,
        newest_first: bool = True,
    ) -> JobPage:
        """(jobs, total): jobs in these states, by the time at which they were submitted."""
        return await self._read(rows.listing, sorted(set(statuses)), limit, offset, newest_first)

    async def named(self, mark: str, pattern: re.Pattern[str]) -> frozenset[str]:
        """What a pattern finds, in lower case, in the documents that hold `mark` of jobs that wait or run."""
        return await self._read(rows.named, mark, pattern)

    async def counts(self) -> Counts:
        """How many jobs are in each state."""
        return await self._read(rows.counts)

    async def close(self) -> None:
        """Commit what waits and let the file go; what is asked afterwards is refused with `store_closed`."""
        await self._writer.close()
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._readers.shutdown()
        while self._connections:
            self._connections.pop().close()
        self._lock.close()

    async def _read(self, query: Callable[..., T], *values: Any) -> T:
        read = functools.partial(self._query, query, *values)
        try:
            reading = asyncio.get_running_loop().run_in_executor(self._readers, read)
        except RuntimeError as error:
            raise refuse("store_closed", "The job store is closed.") from error
        return await reading

    def _query(self, query: Callable[..., T], *values: Any) -> T:
        connection = self._connections.pop()
        try:
            connection.execute("BEGIN")
            try:
                return query(connection, *values)
            finally:
                # Some errors have ended it already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self._refused(error) from error
        finally:
            self._connections.append(connection)

    def _refused(self, error: sqlite3.Error) -> JobError:
        """An error of the database in the words of a Problem; damage is told in the log, once. From any thread."""
        found = file.as_job_error(error)
        if found.code != "store_corrupt":
            return found
        return self._damaged(file.damaged_in_use(self.path, str(error)))

    def _look(self) -> JobError | None:
        """Why nothing may be written, None while all is well: what goes into a file without a name is lost with the process."""
        if self.damage is None and file.identity(self.path) != self._identity:
            return self._damaged(file.removed_in_use(self.path))
        return self.damage

    def _damaged(self, found: JobError) -> JobError:
        with self._telling:
            first = self.damage is None
            self.damage = self.damage or found
        if first:
            LOG.error("%s", found)
        return found
