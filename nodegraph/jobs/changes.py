"""The changes of the store, each a `Work` of the writer: it takes the payloads of several requests at once.

A change looks before it writes: it decides for every payload whether it is refused, and writes what is left.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nodegraph.errors import Problem
from nodegraph.jobs.record import FINAL, Job, JobError, JobRequest, JobStatus, refuse
from nodegraph.jobs.rows import by_id, by_seq, paused

ROWS = 200
"""Rows of one INSERT, names of one look-up."""
INTERRUPTIONS = 10
"""Times that a job may be under way when the server dies: a job that takes the machine down must not do so for ever."""

INSERTED = (
    "seq", "id", "number", "status", "client_id", "targets", "priority", "front", "timeout", "max_attempts",
    "idempotency_key", "webhook", "created",
)  # fmt: skip


def submit(
    connection: sqlite3.Connection, payloads: Sequence[Sequence[JobRequest]]
) -> list[tuple[Job, ...] | JobError]:
    """Store jobs; all requests of a payload or none. A payload's result is in the order of its requests."""
    requests = [request for payload in payloads for request in payload]
    taken = _existing(connection, "id", [r.id for r in requests if r.id is not None])
    keys = {
        key: by_id(connection, id)
        for key, id in _existing(
            connection,
            "idempotency_key",
            [r.idempotency_key for r in requests if r.idempotency_key is not None],
        ).items()
    }
    seq = _last_seq(connection)
    first = None
    if any(request.front for request in requests):
        first = (
            connection.execute("SELECT min(number) FROM jobs WHERE status = 'queued'").fetchone()[0] or 0.0
        )
    results: list[tuple[Job, ...] | JobError] = []
    rows: list[tuple[int, Job]] = []
    for payload in payloads:
        new: list[tuple[int, Job]] = []
        jobs: list[Job] = []
        mine: dict[str, Job] = {}
        for request in payload:
            known = request.idempotency_key and (
                mine.get(request.idempotency_key) or keys.get(request.idempotency_key)
            )
            if known:
                jobs.append(known)
                continue
            id = request.id if request.id is not None else str(uuid.uuid4())
            if id in taken or any(id == job.id for _, job in new):
                results.append(_duplicate(id))
                break
            place = seq + len(rows) + len(new) + 1
            number = float(place) if request.priority is None else float(request.priority)
            if request.front and first is not None:
                first = number = min(first - 1.0, -float(place))
            job = _job(request, id, number)
            new.append((place, job))
            jobs.append(job)
            if request.idempotency_key is not None:
                mine[request.idempotency_key] = job
        else:
            rows += new
            taken.update((job.id, job.id) for _, job in new)
            keys.update(mine)
            results.append(tuple(jobs))
    for start in range(0, len(rows), ROWS):
        _insert(connection, rows[start : start + ROWS])
    return results


def _job(request: JobRequest, id: str, number: float) -> Job:
    return Job(
        id=id,
        number=number,
        status=JobStatus.QUEUED,
        document=request.document,
        client_id=request.client_id,
        extra_data=request.extra_data,
        targets=request.targets,
        priority=request.priority,
        front=request.front,
        timeout=request.timeout,
        max_attempts=request.max_attempts,
        idempotency_key=request.idempotency_key,
        webhook=request.webhook,
        created=time.time(),
    )


def _duplicate(id: str) -> JobError:
    return refuse(
        "duplicate_id",
        "A job with this id exists already.",
        found=id,
        hint="Leave the id out, or choose another.",
    )


def _existing(connection: sqlite3.Connection, column: str, values: Sequence[str]) -> dict[str, str]:
    """Ids of the jobs that have one of the values in a column, by the value."""
    found: dict[str, str] = {}
    for start in range(0, len(values), ROWS):
        part = values[start : start + ROWS]
        marks = ", ".join("?" * len(part))
        found.update(
            connection.execute(f"SELECT {column}, id FROM jobs WHERE {column} IN ({marks})", part).fetchall()
        )
    return found


def _last_seq(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()
    return 0 if row is None else int(row[0])


def _insert(connection: sqlite3.Connection, rows: Sequence[tuple[int, Job]]) -> None:
    values: list[Any] = []
    documents: list[Any] = []
    for seq, job in rows:
        values += [
            seq,
            job.id,
            job.number,
            job.status.value,
            job.client_id,
            json.dumps(job.targets),
            job.priority,
            job.front,
        ]
        values += [job.timeout, job.max_attempts, job.idempotency_key, job.webhook, job.created]
        documents += [seq, job.document, job.extra_data]
    marks = f"({', '.join('?' * len(INSERTED))})"
    connection.execute(
        f"INSERT INTO jobs ({', '.join(INSERTED)}) VALUES {', '.join([marks] * len(rows))}", values
    )
    connection.execute(f"INSERT INTO documents VALUES {', '.join(['(?, ?, ?)'] * len(rows))}", documents)


def claim(connection: sqlite3.Connection, workers: Sequence[tuple[str, int]]) -> list[tuple[Job, ...]]:
    """Hand the first of the queue to workers, to each up to its number."""
    if paused(connection):
        return [() for _ in workers]
    results = []
    for worker, limit in workers:
        seqs = connection.execute(
            "UPDATE jobs SET status = 'running', worker = ?, started = ?, attempts = attempts + 1 WHERE seq IN"
            " (SELECT seq FROM jobs WHERE status = 'queued' ORDER BY number, seq LIMIT ?) RETURNING seq",
            (worker, time.time(), limit),
        ).fetchall()
        results.append(by_seq(connection, [seq for (seq,) in seqs]) if seqs else ())
    return results


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run of a job ended."""

    id: str
    status: JobStatus
    attempt: int | None = None
    outputs: str | None = None
    meta: str | None = None
    messages: str | None = None
    problems: str | None = None


def finish(connection: sqlite3.Connection, endings: Sequence[Ending]) -> list[JobError | None]:
    """Running jobs get their final state and what they made, each once."""
    results: list[JobError | None] = []
    for ending in endings:
        row = connection.execute(
            "SELECT seq, status, attempts FROM jobs WHERE id = ?", (ending.id,)
        ).fetchone()
        refused = _unfinishable(row, ending)
        if refused is None:
            _end(connection, row[0], ending)
        results.append(refused)
    return results


def _unfinishable(row: tuple[int, str, int] | None, ending: Ending) -> JobError | None:
    if row is None:
        return unknown(ending.id)
    status, attempts = JobStatus(row[1]), row[2]
    if status in FINAL:
        return refuse("already_finished", "The job has ended already.", found=f"{ending.id}, {status.value}")
    if status is not JobStatus.RUNNING:
        return refuse("not_running", "Only a job that runs can finish.", found=f"{ending.id}, {status.value}")
    if ending.attempt not in (None, attempts):
        return refuse(
            "stale_attempt",
            "The job has been given to another worker since.",
            found=f"{ending.id}, attempt {ending.attempt}",
            allowed=f"attempt {attempts}",
        )
    return None


def _end(connection: sqlite3.Connection, seq: int, ending: Ending) -> None:
    connection.execute(
        "UPDATE jobs SET status = ?, finished = ?, cancelling = 0 WHERE seq = ?",
        (ending.status.value, time.time(), seq),
    )
    result = (ending.outputs, ending.meta, ending.messages, ending.problems)
    if any(part is not None for part in result):
        connection.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", (seq, *result))


def unknown(id: str) -> JobError:
    """There is no such job."""
    return refuse("unknown_job", "There is no job with this id.", found=id)


def problems_text(*problems: Problem) -> str:
    """Problems as a job keeps them."""
    return json.dumps([asdict(problem) for problem in problems], ensure_ascii=False)


def requeue(connection: sqlite3.Connection, payloads: Sequence[tuple[str, Problem]]) -> list[Job | JobError]:
    """Running jobs whose worker has gone wait again, or have failed if that was their last attempt."""
    results: list[Job | JobError] = []
    for id, why in payloads:
        job = by_id(connection, id)
        if job is None:
            results.append(unknown(id))
        elif job.status is not JobStatus.RUNNING:
            results.append(
                refuse(
                    "not_running",
                    "Only a job that runs can go back to the queue.",
                    found=f"{id}, {job.status.value}",
                )
            )
        else:
            _back(connection, job, job.attempts - job.interruptions >= job.max_attempts, why)
            results.append(_present(connection, id))
    return results


def _back(connection: sqlite3.Connection, job: Job, exhausted: bool, why: Problem) -> None:
    """Put a running job back, or end it where it may not run again."""
    (seq,) = connection.execute("SELECT seq FROM jobs WHERE id = ?", (job.id,)).fetchone()
    if job.cancelling:
        _end(connection, seq, Ending(job.id, JobStatus.CANCELLED))
    elif exhausted:
        _end(connection, seq, Ending(job.id, JobStatus.FAILED, problems=problems_text(why)))
    else:
        connection.execute(
            "UPDATE jobs SET status = 'queued', worker = NULL, started = NULL WHERE seq = ?", (seq,)
        )


def _present(connection: sqlite3.Connection, id: str) -> Job:
    job = by_id(connection, id)
    assert job is not None
    return job


def recover(connection: sqlite3.Connection, payloads: Sequence[None]) -> list[int]:
    """Every running job goes back, for the server that ran them is gone; the number of those that wait again."""
    results = []
    for _ in payloads:
        running = connection.execute("SELECT id FROM jobs WHERE status = 'running'").fetchall()
        connection.execute("UPDATE jobs SET interruptions = interruptions + 1 WHERE status = 'running'")
        waiting = 0
        for (id,) in running:
            job = _present(connection, id)
            exhausted = job.interruptions > INTERRUPTIONS
            _back(connection, job, exhausted, _interrupted(job))
            waiting += not exhausted and not job.cancelling
        results.append(waiting)
    return results


def _interrupted(job: Job) -> Problem:
    return Problem(
        "job_interrupted",
        f"The server ended {job.interruptions} times while the job ran.",
        allowed=f"{INTERRUPTIONS} times",
        hint="The job may be what ends it: look into the server's log, then submit the job again.",
    )
