"""Storing what is asked: the check of a request, and the change that stores many of them at once."""

from __future__ import annotations

import json
import math
import sqlite3
import time
import uuid
from collections.abc import Sequence
from typing import Any

from nodegraph.errors import Problem
from nodegraph.jobs.record import Job, JobError, JobRequest, JobStatus, refuse
from nodegraph.jobs.rows import by_id

ROWS = 200
"""Rows of one INSERT, names of one look-up."""

INSERTED = (
    "seq", "id", "number", "status", "client_id", "targets", "priority", "front", "timeout", "max_attempts",
    "idempotency_key", "webhook", "created",
)  # fmt: skip


def check(requests: Sequence[JobRequest]) -> None:
    """Refuse what cannot be stored or ordered. JobError: `invalid_job`, each problem with the field as its input."""
    problems = [problem for request in requests for problem in _problems(request)]
    if problems:
        raise JobError(problems)


def _problems(request: JobRequest) -> list[Problem]:
    found = []

    def bad(field: str, message: str, allowed: str) -> None:
        value = repr(getattr(request, field))
        shown = value if len(value) <= 80 else f"{value[:77]}..."
        found.append(Problem("invalid_job", message, input=field, found=shown, allowed=allowed))

    if request.id == "":
        bad("id", "The id is empty.", "a text, such as a UUID")
    if request.priority is not None and not _finite(request.priority):
        bad("priority", "The priority puts the job nowhere in the queue.", "a finite number")
    if request.timeout is not None and not (_finite(request.timeout) and request.timeout > 0):
        bad("timeout", "The time limit is none.", "a positive number of seconds")
    if not 1 <= request.max_attempts <= 1_000:
        bad("max_attempts", "The number of attempts is out of range.", "1 to 1000")
    texts = ("document", "id", "client_id", "extra_data", "idempotency_key", "webhook")
    for field in texts:
        if not _encodable(getattr(request, field) or ""):
            bad(field, "The text holds half of a surrogate pair.", "text that can be written as UTF-8")
    return found


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def submit(
    connection: sqlite3.Connection, payloads: Sequence[Sequence[JobRequest]]
) -> list[tuple[Job, ...] | JobError]:
    """Store jobs, all requests of a payload or none; a payload's jobs are in the order of its requests."""
    intake = _Intake(connection, [request for payload in payloads for request in payload])
    results = [intake.take(payload) for payload in payloads]
    for start in range(0, len(intake.rows), ROWS):
        _insert(connection, intake.rows[start : start + ROWS])
    return results


class _Intake:
    """What is known of the jobs in the file and of those that come with this batch."""

    def __init__(self, connection: sqlite3.Connection, requests: Sequence[JobRequest]) -> None:
        ids = [request.id for request in requests if request.id is not None]
        keys = [request.idempotency_key for request in requests if request.idempotency_key is not None]
        self._ids = set(_lookup(connection, "id", ids))
        self._by_key: dict[str, Job] = {}
        for key, id in _lookup(connection, "idempotency_key", keys).items():
            job = by_id(connection, id)
            assert job is not None
            self._by_key[key] = job
        # Not the highest in use: a number is not given again when its job is deleted.
        last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()
        self._next = 1 if last is None else int(last[0]) + 1
        self._first = 0.0
        if any(request.front for request in requests):
            first = connection.execute("SELECT min(number) FROM jobs WHERE status = 'queued'").fetchone()[0]
            self._first = 0.0 if first is None else first
        self.rows: list[tuple[int, Job]] = []
        """New jobs and the places of their rows."""

    def take(self, requests: Sequence[JobRequest]) -> tuple[Job, ...] | JobError:
        """The jobs of requests that are stored together."""
        start = len(self.rows)
        jobs = []
        for request in requests:
            key = request.idempotency_key
            known = None if key is None else self._by_key.get(key)
            if known is not None:
                jobs.append(known)
                continue
            if request.id in self._ids:
                self._give_back(start)
                return _duplicate(request.id)
            job = self._new(request)
            self.rows.append((self._next, job))
            self._next += 1
            self._ids.add(job.id)
            if key is not None:
                self._by_key[key] = job
            jobs.append(job)
        return tuple(jobs)

    def _give_back(self, start: int) -> None:
        for _, job in self.rows[start:]:
            self._ids.discard(job.id)
            if job.idempotency_key is not None:
                del self._by_key[job.idempotency_key]
        del self.rows[start:]

    def _new(self, request: JobRequest) -> Job:
        number = float(self._next if request.priority is None else request.priority)
        if request.front:
            # ComfyUI's numbers of such jobs are negative ones that fall; ahead of a priority below them, too.
            number = min(self._first - 1.0, -float(self._next))
        self._first = min(self._first, number)
        return Job(
            id=str(uuid.uuid4()) if request.id is None else request.id,
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


def _duplicate(id: str | None) -> JobError:
    message = "A job with this id exists already."
    return refuse("duplicate_id", message, found=id, hint="Leave the id out, or choose another.")


def _lookup(connection: sqlite3.Connection, column: str, values: Sequence[str]) -> dict[str, str]:
    """Ids of the jobs that have one of the values in a column, by the value."""
    found: dict[str, str] = {}
    for start in range(0, len(values), ROWS):
        part = values[start : start + ROWS]
        marks = ", ".join("?" * len(part))
        query = f"SELECT {column}, id FROM jobs WHERE {column} IN ({marks})"
        found.update(connection.execute(query, part).fetchall())
    return found


def _insert(connection: sqlite3.Connection, rows: Sequence[tuple[int, Job]]) -> None:
    values: list[Any] = []
    documents: list[Any] = []
    for seq, job in rows:
        values += [seq, job.id, job.number, job.status.value, job.client_id, json.dumps(job.targets)]
        values += [job.priority, job.front, job.timeout, job.max_attempts]
        values += [job.idempotency_key, job.webhook, job.created]
        documents += [seq, job.document, job.extra_data]
    marks = f"({', '.join('?' * len(INSERTED))})"
    names = ", ".join(INSERTED)
    connection.execute(f"INSERT INTO jobs ({names}) VALUES {', '.join([marks] * len(rows))}", values)
    connection.execute(f"INSERT INTO documents VALUES {', '.join(['(?, ?, ?)'] * len(rows))}", documents)
