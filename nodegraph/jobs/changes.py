"""The way of a job through its states, each step a `Work` of the writer: it takes the payloads of several requests.

A change looks before it writes: it decides for every payload whether it is refused, and writes what is left.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import NamedTuple

from nodegraph.errors import Problem
from nodegraph.jobs.record import FINAL, Ending, Job, JobError, JobStatus, refuse
from nodegraph.jobs.rows import QUEUED, by_id, by_seq, paused, present

INTERRUPTIONS = 10
"""Times that the server may die while a job runs: one that takes the machine down must not do so for ever."""


def claim(connection: sqlite3.Connection, workers: Sequence[tuple[str, int]]) -> list[tuple[Job, ...]]:
    """Hand the first of the queue to workers, to each up to its number."""
    if paused(connection):
        return [() for _ in workers]
    results = []
    for worker, limit in workers:
        taken = connection.execute(
            "UPDATE jobs SET status = 'running', worker = ?, started = ?, attempts = attempts + 1 WHERE seq IN"
            f" ({QUEUED}) RETURNING seq",
            (worker, time.time(), limit, 0),
        ).fetchall()
        results.append(by_seq(connection, [seq for (seq,) in taken]) if taken else ())
    return results


def finish(
    connection: sqlite3.Connection, payloads: Sequence[Sequence[Ending]]
) -> list[tuple[JobError | None, ...]]:
    """Running jobs get their final state and what they made, each once; a refusal is that ending's alone."""
    endings = [ending for payload in payloads for ending in payload]
    refusals = iter(_finish(connection, endings))
    return [tuple(next(refusals) for _ in payload) for payload in payloads]


def _finish(connection: sqlite3.Connection, endings: Sequence[Ending]) -> list[JobError | None]:
    results: list[JobError | None] = []
    known = _states(connection, [ending.id for ending in endings])
    ended: list[tuple[int, Ending]] = []
    for ending in endings:
        state = known.get(ending.id)
        refused = unknown(ending.id) if state is None else _unfinishable(state, ending)
        if state is not None and refused is None:
            ended.append((state.seq, ending))
            known[ending.id] = state._replace(status=ending.status)
        results.append(refused)
    _end(connection, ended)
    return results


class _State(NamedTuple):
    seq: int
    status: JobStatus
    attempts: int


def _states(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, _State]:
    """Where jobs stand, by their ids."""
    marks = ", ".join("?" * len(ids))
    # As one row: each that is fetched is a hand-over of the interpreter's lock.
    columns = "json_group_array(json_array(id, seq, status, attempts))"
    (text,) = connection.execute(f"SELECT {columns} FROM jobs WHERE id IN ({marks})", ids).fetchone()
    return {id: _State(seq, JobStatus(status), attempts) for id, seq, status, attempts in json.loads(text)}


def _unfinishable(state: _State, ending: Ending) -> JobError | None:
    _, status, attempts = state
    if status in FINAL:
        return refuse("already_finished", "The job has ended already.", found=f"{ending.id}, {status}")
    if status is not JobStatus.RUNNING:
        return refuse("not_running", "Only a job that runs can finish.", found=f"{ending.id}, {status}")
    if ending.attempt not in (None, attempts):
        return refuse(
            "stale_attempt",
            "The job has been given to another worker since.",
            found=f"{ending.id}, attempt {ending.attempt}",
            allowed=f"attempt {attempts}",
        )
    return None


def _end(connection: sqlite3.Connection, ended: Sequence[tuple[int, Ending]]) -> None:
    """Write how the jobs in these rows ended."""
    if not ended:
        return
    states = [value for seq, ending in ended for value in (seq, ending.status.value)]
    connection.execute(
        "UPDATE jobs SET status = ended.column2, finished = ?, cancelling = 0"
        f" FROM (VALUES {', '.join(['(?, ?)'] * len(ended))}) AS ended WHERE seq = ended.column1",
        [time.time(), *states],
    )
    results: list[int | str | None] = []
    for seq, ending in ended:
        results += (seq, ending.outputs, ending.meta, ending.messages, ending.problems)
    marks = ", ".join(["(?, ?, ?, ?, ?)"] * len(ended))
    connection.execute(f"INSERT INTO results VALUES {marks}", results)


def unknown(id: str) -> JobError:
    """There is no such job."""
    return refuse("unknown_job", "There is no job with this id.", found=id)


def requeue(connection: sqlite3.Connection, payloads: Sequence[tuple[str, Problem]]) -> list[Job | JobError]:
    """Running jobs whose worker has gone wait again, or have failed if that was their last attempt."""
    results: list[Job | JobError] = []
    for id, why in payloads:
        job = by_id(connection, id)
        if job is None:
            results.append(unknown(id))
        elif job.status is not JobStatus.RUNNING:
            message = "Only a job that runs can go back to the queue."
            results.append(refuse("not_running", message, found=f"{id}, {job.status}"))
        else:
            exhausted = job.attempts - job.interruptions >= job.max_attempts
            results.append(_back(connection, job, why if exhausted else None))
    return results


def _back(connection: sqlite3.Connection, job: Job, why_not: Problem | None) -> Job:
    """Put a running job back, or end it where it may not run again."""
    (seq,) = connection.execute("SELECT seq FROM jobs WHERE id = ?", (job.id,)).fetchone()
    if job.cancelling:
        _end(connection, [(seq, Ending(job.id, JobStatus.CANCELLED))])
    elif why_not is not None:
        problems = json.dumps([asdict(why_not)], ensure_ascii=False)
        _end(connection, [(seq, Ending(job.id, JobStatus.FAILED, problems=problems))])
    else:
        back = "UPDATE jobs SET status = 'queued', worker = NULL, started = NULL WHERE seq = ?"
        connection.execute(back, (seq,))
    return present(connection, job.id)


def release(connection: sqlite3.Connection, payloads: Sequence[tuple[str, int]]) -> list[None]:
    """Jobs (id, attempt) that were claimed and never begun wait again as if nobody had taken them."""
    for id, attempt in payloads:
        job = by_id(connection, id)
        if job is not None and job.status is JobStatus.RUNNING and job.attempts == attempt:
            connection.execute("UPDATE jobs SET attempts = attempts - 1 WHERE id = ?", (id,))
            _back(connection, job, None)
    return [None] * len(payloads)


def recover(connection: sqlite3.Connection, payloads: Sequence[None]) -> list[int]:
    """Every running job goes back, for the server that ran them is gone; the number of those that wait again."""
    results = []
    for _ in payloads:
        connection.execute("UPDATE jobs SET interruptions = interruptions + 1 WHERE status = 'running'")
        running = connection.execute("SELECT id FROM jobs WHERE status = 'running'").fetchall()
        jobs = [present(connection, id) for (id,) in running]
        ended = [
            _back(connection, job, _interrupted(job) if job.interruptions > INTERRUPTIONS else None)
            for job in jobs
        ]
        results.append(sum(job.status is JobStatus.QUEUED for job in ended))
    return results


def _interrupted(job: Job) -> Problem:
    return Problem(
        "job_interrupted",
        f"The server ended {job.interruptions} times while the job ran.",
        allowed=f"{INTERRUPTIONS} times",
        hint="The job may be what ends it: look into the server's log, then submit the job again.",
    )
