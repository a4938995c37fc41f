"""What people do to jobs and to the queue: cancel, move, pause, delete. Each is a `Work` of the writer."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nodegraph.jobs.changes import unknown
from nodegraph.jobs.record import FINAL, Job, JobError, JobStatus, refuse
from nodegraph.jobs.rows import by_id, counts, present

CHUNK = 500
"""Jobs that one change of many takes at a time, so that others are answered in between."""


def cancel(connection: sqlite3.Connection, ids: Sequence[str]) -> list[Job | None]:
    """Jobs that wait have ended; those that run are marked; the rest stays as it is."""
    results = []
    for id in ids:
        job = by_id(connection, id)
        if job is not None and job.status is JobStatus.QUEUED:
            end = "UPDATE jobs SET status = 'cancelled', finished = ? WHERE id = ?"
            connection.execute(end, (time.time(), id))
            job = present(connection, id)
        elif job is not None and job.status is JobStatus.RUNNING and not job.cancelling:
            connection.execute("UPDATE jobs SET cancelling = 1 WHERE id = ?", (id,))
            job = present(connection, id)
        results.append(job)
    return results


def latest(connection: sqlite3.Connection, payloads: Sequence[None]) -> list[tuple[int, float]]:
    """(place of the latest row, time of the latest end): what comes later is past them."""
    row = connection.execute(
        "SELECT (SELECT max(seq) FROM jobs), (SELECT max(finished) FROM jobs)"
    ).fetchone()
    return [(row[0] or 0, row[1] or 0.0)] * len(payloads)


def cancel_queued(connection: sqlite3.Connection, lasts: Sequence[int]) -> list[int]:
    """Up to CHUNK jobs that wait, none past a place, have ended; how many."""
    return [
        connection.execute(
            "UPDATE jobs SET status = 'cancelled', finished = ? WHERE seq IN"
            " (SELECT seq FROM jobs WHERE status = 'queued' AND seq <= ? ORDER BY seq LIMIT ?)",
            (time.time(), last, CHUNK),
        ).rowcount
        for last in lasts
    ]


def move(
    connection: sqlite3.Connection, moves: Sequence[tuple[str, bool, float | None]]
) -> list[Job | JobError]:
    """Jobs (id, to the front, number) that wait get another place."""
    results: list[Job | JobError] = []
    for id, front, number in moves:
        job = by_id(connection, id)
        if job is None:
            results.append(unknown(id))
            continue
        if job.status is not JobStatus.QUEUED:
            message = "Only a job that waits can be moved."
            results.append(refuse("not_queued", message, found=f"{id}, {job.status}"))
            continue
        if front:
            (first,) = connection.execute("SELECT min(number) FROM jobs WHERE status = 'queued'").fetchone()
            number = min(first, 0.0) - 1.0
        connection.execute("UPDATE jobs SET number = ? WHERE id = ?", (number, id))
        results.append(present(connection, id))
    return results


def pause(connection: sqlite3.Connection, states: Sequence[bool]) -> list[None]:
    """Whether jobs are handed out."""
    for state in states:
        connection.execute("UPDATE settings SET value = ? WHERE name = 'paused'", (int(state),))
    return [None] * len(states)


def delete(
    connection: sqlite3.Connection, payloads: Sequence[tuple[Sequence[str], Collection[JobStatus]]]
) -> list[int]:
    """Jobs go if they are in one of the states; how many went."""
    results = []
    for ids, statuses in payloads:
        marks = ", ".join("?" * len(statuses))
        query = f"DELETE FROM jobs WHERE id = ? AND status IN ({marks})"
        results.append(sum(connection.execute(query, (id, *statuses)).rowcount for id in ids))
    return results


@dataclass(frozen=True, slots=True)
class Excess:
    """What of the history goes: what ended up to a time, and what is beyond a number."""

    until: float | None
    count: int | None


def forget(connection: sqlite3.Connection, payloads: Sequence[Excess]) -> list[int]:
    """Up to CHUNK of the oldest ended jobs go; how many went."""
    results = []
    for excess in payloads:
        numbers = counts(connection)
        over = 0 if excess.count is None else sum(numbers[status] for status in FINAL) - excess.count
        old = 0
        if excess.until is not None:
            query = "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE finished <= ? LIMIT ?)"
            (old,) = connection.execute(query, (excess.until, CHUNK)).fetchone()
        oldest = "SELECT seq FROM jobs WHERE finished IS NOT NULL ORDER BY finished, seq LIMIT ?"
        going = max(0, min(CHUNK, max(over, old)))
        results.append(connection.execute(f"DELETE FROM jobs WHERE seq IN ({oldest})", (going,)).rowcount)
    return results
