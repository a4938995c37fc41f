"""Deliveries: made by the end of a job whoever ends it, once, and gone with what they were about."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from nodegraph.errors import Problem
from nodegraph.jobs import JobRequest, JobStatus, JobStore
from nodegraph.jobs.file import prepare
from nodegraph.jobs.schema import MIGRATIONS

HOOK = "https://example.org/hook"
LATE = 2.0**40
"""A moment at which everything is due."""


def asking(*ids: str) -> list[JobRequest]:
    return [JobRequest(document="{}", id=id, webhook=HOOK, max_attempts=1) for id in ids]


async def told(store: JobStore) -> dict[str, JobStatus]:
    """Which ends of jobs are to be told."""
    due, _ = await store.deliveries.due(LATE, 100)
    return {item.job: item.status for item in due}


async def test_every_way_of_ending_is_told_once(store: JobStore) -> None:
    await store.submit(
        *asking("finished", "failed", "lost", "waits", "cleared"), JobRequest("{}", id="quiet")
    )
    assert await told(store) == {}
    for job in await store.claim_many("w", 3):
        if job.id == "lost":
            await store.requeue(job.id, Problem("worker_died", "It died."))
        else:
            await store.finish(job.id, JobStatus(job.id), outputs="{}")
    await store.cancel("waits")
    await store.cancel("waits")
    await store.cancel_queued()
    assert await told(store) == {
        "finished": JobStatus.FINISHED,
        "failed": JobStatus.FAILED,
        "lost": JobStatus.FAILED,
        "waits": JobStatus.CANCELLED,
        "cleared": JobStatus.CANCELLED,
    }
    ids = {item.id for item in (await store.deliveries.due(LATE, 100))[0]}
    assert len(ids) == 5 and all(id.startswith("msg_") for id in ids)


async def test_an_attempt_is_noted_and_tried_again_when_it_is_due(store: JobStore) -> None:
    await store.submit(*asking("a"))
    await store.cancel("a")
    ((item,), later) = await store.deliveries.due(1.0, 10)
    assert (item.url, item.body, item.attempts, later) == (HOOK, None, 0, None)
    await store.deliveries.write(item.id, "body")
    await store.deliveries.attempted(item.id, problem="HTTP 500", again=100.0)
    assert await store.deliveries.due(99.0, 10) == ((), 100.0)
    ((again,), _) = await store.deliveries.due(100.0, 10)
    assert (again.id, again.body, again.attempts, again.problem) == (item.id, "body", 1, "HTTP 500")
    await store.deliveries.attempted(item.id, problem=None, again=None)
    assert await store.deliveries.due(LATE, 10) == ((), None)
    done = await store.deliveries.of("a")
    assert done is not None and (done.delivered, done.attempts, done.body) == (True, 2, None)


async def test_a_delivery_outlives_its_job_until_it_is_settled(store: JobStore) -> None:
    await store.submit(*asking("a", "b"))
    await store.cancel_queued()
    first, second = (await store.deliveries.due(LATE, 10))[0]
    await store.deliveries.attempted(first.id, problem=None, again=None)
    await store.clear_history()
    assert await store.deliveries.of(first.job) is None
    assert await store.deliveries.of(second.job) == second
    await store.deliveries.attempted(second.id, problem="gone", again=None)
    assert await store.deliveries.of(second.job) is None


async def test_a_job_of_an_older_release_is_told_too(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    prepare(path, MIGRATIONS[:1])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO jobs (id, number, status, targets, front, max_attempts, webhook, created)"
            " VALUES ('old', 1, 'queued', ?, 0, 2, ?, 1)",
            (json.dumps([]), HOOK),
        )
        connection.execute("INSERT INTO documents VALUES (1, '{}', '{}')")
        connection.commit()
    store = await JobStore.open(path)
    assert store.backup == tmp_path / "jobs.db.v1.backup"
    await store.cancel("old")
    assert await told(store) == {"old": JobStatus.CANCELLED}
    await store.close()
