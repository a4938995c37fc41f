"""The durable store of jobs, for one asyncio loop and one process at a time."""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from nodegraph.errors import Problem
from nodegraph.jobs import changes, rows, schema
from nodegraph.jobs.changed import Changed
from nodegraph.jobs.record import Counts, Job, JobPage, JobRequest, JobStatus, QueuePage, Retention
from nodegraph.jobs.writer import Writer, as_job_error

T = TypeVar("T")
READERS = 2


class JobStore:
    """Jobs in a SQLite file. Whatever a method did is on the disk when it returns."""

    def __init__(self, path: Path, keep: Retention) -> None:
        """Use `open`."""
        self.path = path
        self.keep = keep
        self.changed = Changed()
        """Moves on with every change: how dispatchers wait for a job that they can claim."""
        connection = schema.connect(path)
        schema.migrate(connection)
        self._readers = ThreadPoolExecutor(READERS, "jobs-reader")
        self._connections = [schema.connect(path) for _ in range(READERS)]
        self._writer = Writer(connection, self.changed.notify)

    @classmethod
    async def open(cls, path: Path, *, keep: Retention = Retention()) -> JobStore:  # noqa: B008 (frozen)
        """Open the store, and make it where there is none."""
        return cls(path, keep)

    async def submit(self, *requests: JobRequest) -> tuple[Job, ...]:
        """Store jobs, all or none.

        A request with an idempotency key that a stored job has is answered with that job. JobError: `duplicate_id`.
        """
        jobs: tuple[Job, ...] = await self._writer.ask(changes.submit, requests)
        return jobs

    async def claim(self, worker: str) -> Job | None:
        """The next of the queue, which now runs; None where nothing waits or the queue is paused."""
        jobs = await self.claim_many(worker, 1)
        return jobs[0] if jobs else None

    async def claim_many(self, worker: str, limit: int) -> tuple[Job, ...]:
        """Up to `limit` jobs from the head of the queue, in one commit."""
        jobs: tuple[Job, ...] = await self._writer.ask(changes.claim, (worker, limit))
        return jobs

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
        await self._writer.ask(
            changes.finish, changes.Ending(id, status, attempt, outputs, meta, messages, problems)
        )

    async def requeue(self, id: str, why: Problem) -> Job:
        """Put a running job whose worker is gone back to its place, or fail it with `why` after its last attempt."""
        job: Job = await self._writer.ask(changes.requeue, (id, why))
        return job

    async def recover(self) -> int:
        """At the start, before any claim: put back what ran when the last server ended; how many jobs wait again."""
        count: int = await self._writer.ask(changes.recover, None)
        return count

    async def get(self, id: str) -> Job | None:
        """The job, or None where there is none."""
        return await self._read(rows.by_id, id)

    async def queue(self, limit: int | None = None, offset: int = 0) -> QueuePage:
        """(running, queued, total): all that runs, the page of what waits in the order of claims, and how many wait."""
        return await self._read(rows.queue, limit, offset)

    async def history(self, limit: int | None = None, offset: int = 0, newest_first: bool = True) -> JobPage:
        """(jobs, total): jobs that have ended, by the time at which they did."""
        return await self._read(rows.history, limit, offset, newest_first)

    async def jobs(
        self,
        statuses: Sequence[JobStatus] = tuple(JobStatus),
        limit: int | None = None,
        offset: int = 0,
        newest_first: bool = True,
    ) -> JobPage:
        """(jobs, total): jobs in these states, by the time at which they were submitted."""
        return await self._read(rows.listing, statuses, limit, offset, newest_first)

    async def counts(self) -> Counts:
        """How many jobs are in each state."""
        return await self._read(rows.counts)

    async def close(self) -> None:
        """Commit what waits and let the file go; what is asked afterwards is refused with `store_closed`."""
        await self._writer.close()
        self._readers.shutdown()
        for connection in self._connections:
            connection.close()

    async def _read(self, query: Callable[..., T], *values: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, functools.partial(self._query, query, *values))

    def _query(self, query: Callable[..., T], *values: Any) -> T:
        connection = self._connections.pop()
        try:
            connection.execute("BEGIN")
            try:
                return query(connection, *values)
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise as_job_error(error) from error
        finally:
            self._connections.append(connection)
