"""Jobs as rows: the columns, the way back from them, and the readings of the store."""

from __future__ import annotations

import json
import re
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
STATUS, TARGETS, FRONT, CANCELLING = map(COLUMNS.index, ("status", "targets", "front", "cancelling"))

LONGEST = 2**31
"""Jobs of a page at most, and before it."""

QUEUED = "SELECT seq FROM jobs INDEXED BY jobs_queued WHERE status = 'queued' ORDER BY number, seq LIMIT ? OFFSET ?"
"""Places of the rows that wait. The planner, left alone, sorts the whole queue."""


def _page(limit: int | None, offset: int) -> tuple[int, int]:
    """LIMIT and OFFSET in SQLite's terms, whatever a client asks for."""
    return -1 if limit is None else max(0, min(limit, LONGEST)), max(0, min(offset, LONGEST))


def job_of(row: Sequence[Any]) -> Job:
    """A row of COLUMNS as a Job."""
    values = list(row)
    try:
        values[STATUS] = JobStatus(values[STATUS])
        values[TARGETS] = tuple(json.loads(values[TARGETS])) if values[TARGETS] != "[]" else ()
    except (ValueError, TypeError) as error:
        # Nobody wrote that. SQLite looks at how its pages hang together, not at what they say.
        damaged = sqlite3.DatabaseError(f"a row of the jobs holds what is none: {error}")
        damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damaged from error
    values[FRONT] = bool(values[FRONT])
    values[CANCELLING] = bool(values[CANCELLING])
    return Job(*values)


def _jobs(connection: sqlite3.Connection, chosen: str, order: str, values: Iterable[Any]) -> tuple[Job, ...]:
    """The jobs of which a condition holds. A page's is `seq IN (...)`: an index alone says which rows it has."""
    names = ", ".join(COLUMNS)
    joined = "jobs CROSS JOIN documents USING (seq) LEFT JOIN results USING (seq)"
    query = f"SELECT {names} FROM {joined} WHERE {chosen} ORDER BY {order}"
    return tuple(job_of(row) for row in connection.execute(query, tuple(values)))


def by_id(connection: sqlite3.Connection, id: str) -> Job | None:
    """The job, or None."""
    return next(iter(_jobs(connection, "id = ?", "seq", [id])), None)


def present(connection: sqlite3.Connection, id: str) -> Job:
    """A job that is known to be there."""
    job = by_id(connection, id)
    assert job is not None, id
    return job


def by_seq(connection: sqlite3.Connection, seqs: Sequence[int]) -> tuple[Job, ...]:
    """Jobs by the places of their rows, in the order of the queue."""
    # As one value, for the number of marks in a statement has a limit.
    chosen = "seq IN (SELECT value FROM json_each(?))"
    return _jobs(connection, chosen, "number, seq", [json.dumps(seqs)])


def queue(connection: sqlite3.Connection, limit: int | None, offset: int) -> QueuePage:
    """What runs, and what waits from `offset` on."""
    running = _jobs(connection, "status = 'running'", "started, seq", [])
    queued = _jobs(connection, f"seq IN ({QUEUED})", "number, seq", _page(limit, offset))
    return QueuePage(running, queued, counts(connection)[JobStatus.QUEUED])


def named(connection: sqlite3.Connection, mark: str, pattern: re.Pattern[str]) -> frozenset[str]:
    """What a pattern finds, in lower case, in the documents that hold `mark` of jobs that wait or run."""
    found: set[str] = set()
    for (document,) in connection.execute(
        "SELECT document FROM jobs CROSS JOIN documents USING (seq)"
        " WHERE status IN ('queued', 'running') AND instr(document, ?)",
        (mark,),
    ):
        found.update(pattern.findall(document.lower()))
    return frozenset(found)


def history(connection: sqlite3.Connection, limit: int | None, offset: int, newest_first: bool) -> JobPage:
    """Jobs that have ended, by the time at which they did."""
    order = "finished DESC, seq DESC" if newest_first else "finished, seq"
    found = _jobs(
        connection,
        f"seq IN (SELECT seq FROM jobs WHERE finished IS NOT NULL ORDER BY {order} LIMIT ? OFFSET ?)",
        order,
        _page(limit, offset),
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
    if not statuses:
        return JobPage((), 0)
    most, skipped = _page(limit, offset)
    # Each state's own index gives its part in order: a page costs its length and offset, not the history's.
    parts = " UNION ALL ".join(
        f"SELECT * FROM (SELECT seq FROM jobs WHERE status = ? ORDER BY seq {way} LIMIT ?)" for _ in statuses
    )
    values: list[Any] = []
    for status in statuses:
        values += [status.value, -1 if limit is None else most + skipped]
    found = _jobs(
        connection,
        f"seq IN (SELECT seq FROM ({parts}) ORDER BY seq {way} LIMIT ? OFFSET ?)",
        f"seq {way}",
        [*values, most, skipped],
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
