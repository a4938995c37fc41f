"""Jobs as rows: the columns, the way back from them, and the readings of the store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from nodegraph.jobs.record import FINAL, Counts, Job, JobPage, JobStatus, QueuePage

COLUMNS = (
    "id", "number", "status", "document", "client_id", "extra_data", "targets", "priority", "front", "timeout",
    "max_attempts", "idempotency_key", "webhook", "created", "started", "finished", "worker", "attempts",
    "interruptions", "cancelling", "outputs", "meta", "messages", "problems",
)  # fmt: skip
"""In the order of the fields of `Job`."""

JOBS = f"SELECT {', '.join(COLUMNS)} FROM {{source}} JOIN documents USING (seq) LEFT JOIN results USING (seq)"


def job_of(row: Sequence[Any]) -> Job:
    """A row of COLUMNS as a Job."""
    values = dict(zip(COLUMNS, row, strict=True))
    values["status"] = JobStatus(values["status"])
    values["targets"] = tuple(json.loads(values["targets"]))
    values["front"] = bool(values["front"])
    values["cancelling"] = bool(values["cancelling"])
    return Job(**values)


def _jobs(connection: sqlite3.Connection, chosen: str, order: str, values: Iterable[Any]) -> tuple[Job, ...]:
    """The jobs whose rows `chosen` selects."""
    # The rows are chosen first, by an index alone; only theirs are the documents that are read.
    query = f"{JOBS.format(source=f'(SELECT * FROM jobs {chosen})')} ORDER BY {order}"
    return tuple(job_of(row) for row in connection.execute(query, tuple(values)))


def by_id(connection: sqlite3.Connection, id: str) -> Job | None:
    """The job, or None."""
    return next(iter(_jobs(connection, "WHERE id = ?", "seq", [id])), None)


def by_seq(connection: sqlite3.Connection, seqs: Sequence[int]) -> tuple[Job, ...]:
    """Jobs by the places of their rows, in the order of the queue."""
    marks = ", ".join("?" * len(seqs))
    return _jobs(connection, f"WHERE seq IN ({marks})", "number, seq", seqs)


def queue(connection: sqlite3.Connection, limit: int | None, offset: int) -> QueuePage:
    """What runs, and what waits from `offset` on."""
    running = _jobs(connection, "WHERE status = 'running'", "started, seq", [])
    queued = _jobs(
        connection,
        "WHERE status = 'queued' ORDER BY number, seq LIMIT ? OFFSET ?",
        "number, seq",
        [-1 if limit is None else limit, offset],
    )
    return QueuePage(running, queued, counts(connection)[JobStatus.QUEUED])


def history(connection: sqlite3.Connection, limit: int | None, offset: int, newest_first: bool) -> JobPage:
    """Jobs that have ended, by the time at which they did."""
    order = "finished DESC, seq DESC" if newest_first else "finished, seq"
    found = _jobs(
        connection,
        f"WHERE finished IS NOT NULL ORDER BY {order} LIMIT ? OFFSET ?",
        order,
        [-1 if limit is None else limit, offset],
    )
    numbers = counts(connection)
    return JobPage(found, sum(numbers[status] for status in FINAL))


def listing(
    connection: sqlite3.Connection,
    statuses: Sequence[JobStatus],
    limit: int | None,
    offset: int,
    newest_first: bool,
) -> JobPage:
    """Jobs in some of the states, by the time at which they were submitted."""
    way = "DESC" if newest_first else "ASC"
    most = -1 if limit is None else limit
    # Each state's own index gives its part in order: a page costs its length and offset, not the history's.
    parts = " UNION ALL ".join(
        f"SELECT * FROM (SELECT seq FROM jobs WHERE status = ? ORDER BY seq {way} LIMIT ?)" for _ in statuses
    )
    values: list[Any] = []
    for status in statuses:
        values += [status.value, -1 if limit is None else limit + offset]
    found = _jobs(
        connection,
        f"WHERE seq IN (SELECT seq FROM ({parts}) ORDER BY seq {way} LIMIT ? OFFSET ?)",
        f"seq {way}",
        [*values, most, offset],
    )
    numbers = counts(connection)
    return JobPage(found, sum(numbers[status] for status in statuses))


def counts(connection: sqlite3.Connection) -> Counts:
    """How many jobs are in each state."""
    found = dict(connection.execute("SELECT status, n FROM counts").fetchall())
    return {status: found[status.value] for status in JobStatus}


def paused(connection: sqlite3.Connection) -> bool:
    """Whether jobs are handed out."""
    (value,) = connection.execute("SELECT value FROM settings WHERE name = 'paused'").fetchone()
    return bool(value)
