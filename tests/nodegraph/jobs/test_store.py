"""The life of jobs: submitted, claimed, finished, put back; seen in pages and counts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from nodegraph.errors import Problem
from nodegraph.jobs import JobError, JobRequest, JobStatus, JobStore

GONE = Problem("worker_died", "The worker was killed by signal 9.")


def request(name: str = "a") -> JobRequest:
    return JobRequest(document=json.dumps({"name": name}))


async def test_a_job_comes_back_as_it_was_asked(store: JobStore) -> None:
    asked = JobRequest(
        document='{"prompt": {"1": {"class_type": "Größe", "inputs": {}}}}',
        id="mine",
        client_id="c",
        extra_data='{"extra_pnginfo": {}}',
        targets=("9", "10"),
        timeout=12.5,
        max_attempts=3,
        idempotency_key="k",
        webhook="http://127.0.0.1/done",
    )
    (job,) = await store.submit(asked)
    assert await store.get("mine") == job
    for name in JobRequest.__slots__:
        assert getattr(job, name) == getattr(asked, name), name
    assert job.status is JobStatus.QUEUED
    assert (job.attempts, job.started, job.finished, job.outputs) == (0, None, None, None)


async def test_a_job_runs_and_finishes_once(store: JobStore) -> None:
    (submitted,) = await store.submit(request())
    job = await store.claim("w1")
    assert job is not None
    assert (job.id, job.status, job.worker, job.attempts) == (submitted.id, JobStatus.RUNNING, "w1", 1)
    assert await store.claim("w2") is None
    await store.finish(job.id, JobStatus.FINISHED, outputs='{"9": {}}', messages="[]")
    done = await store.get(job.id)
    assert done is not None
    assert (done.status, done.outputs, done.messages, done.problems) == (
        JobStatus.FINISHED,
        '{"9": {}}',
        "[]",
        None,
    )
    assert done.started is not None and done.finished is not None
    assert done.created <= done.started <= done.finished
    with pytest.raises(JobError, match="ended already") as caught:
        await store.finish(job.id, JobStatus.FAILED)
    assert caught.value.code == "already_finished"
    assert await store.get(job.id) == done


async def test_jobs_are_claimed_in_the_order_in_which_they_came(store: JobStore) -> None:
    jobs = await store.submit(*(request(str(i)) for i in range(5)))
    assert [job.number for job in jobs] == sorted(job.number for job in jobs)
    claimed = [await store.claim("w") for _ in range(5)]
    assert [job and job.id for job in claimed] == [job.id for job in jobs]


async def test_no_job_is_claimed_twice(store: JobStore) -> None:
    jobs = await store.submit(*(request() for _ in range(50)))
    claimed = await asyncio.gather(*(store.claim(f"w{i}") for i in range(60)))
    ids = [job.id for job in claimed if job is not None]
    assert sorted(ids) == sorted(job.id for job in jobs)


async def test_a_job_that_cost_its_workers_fails_with_the_reason(store: JobStore) -> None:
    first, second = await store.submit(request(), request())
    assert (await store.claim("w")) is not None
    back = await store.requeue(first.id, GONE)
    assert (back.status, back.number, back.worker) == (JobStatus.QUEUED, first.number, None)
    again = await store.claim("w")
    assert again is not None
    assert (again.id, again.attempts) == (first.id, 2)
    failed = await store.requeue(first.id, GONE)
    assert failed.status is JobStatus.FAILED
    assert failed.problems is not None
    assert json.loads(failed.problems)[0]["message"] == GONE.message
    following = await store.claim("w")
    assert following is not None
    assert following.id == second.id


async def test_a_restart_keeps_everything_and_puts_back_what_ran(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    store = await JobStore.open(path)
    done, running, waiting = await store.submit(request("1"), request("2"), request("3"))
    await store.claim("w")
    await store.finish(done.id, JobStatus.FINISHED, outputs="{}")
    await store.claim("w")
    await store.close()

    store = await JobStore.open(path)
    assert await store.recover() == 1
    page = await store.queue()
    assert [job.id for job in page.queued] == [running.id, waiting.id]
    assert page.queued[0].document == running.document
    jobs, total = await store.history()
    assert [job.id for job in jobs] == [done.id]
    assert total == 1
    # The restart was not the job's fault: it still has both of its attempts.
    await store.claim("w")
    assert (await store.requeue(running.id, GONE)).status is JobStatus.QUEUED
    await store.close()


async def test_counts_follow_every_change(store: JobStore) -> None:
    jobs = await store.submit(*(request() for _ in range(6)))
    for _ in range(3):
        await store.claim("w")
    await store.finish(jobs[0].id, JobStatus.FINISHED)
    await store.finish(jobs[1].id, JobStatus.FAILED)
    counts = await store.counts()
    assert {status.value: n for status, n in counts.items()} == {
        "queued": 3, "running": 1, "finished": 1, "failed": 1, "cancelled": 0,
    }  # fmt: skip


async def test_a_dispatcher_misses_no_job(store: JobStore) -> None:
    async def dispatcher(name: str) -> list[str]:
        seen: list[str] = []
        while True:
            version = store.changed.version
            job = await store.claim(name)
            if job is None:
                await store.changed.wait(version)
            elif job.document == "end":
                return seen
            else:
                seen.append(job.id)
                await store.finish(job.id, JobStatus.FINISHED)

    tasks = [asyncio.create_task(dispatcher(f"w{i}")) for i in range(3)]
    submitted = []
    for i in range(40):
        submitted += [job.id for job in await store.submit(*[request()] * (i % 3 + 1))]
    await store.submit(*[JobRequest("end", priority=1e9)] * 3)
    done = await asyncio.wait_for(asyncio.gather(*tasks), 20)
    assert sorted(id for ids in done for id in ids) == sorted(submitted)


async def test_waiting_for_a_job_does_not_wake_itself(store: JobStore) -> None:
    version = store.changed.version
    assert await store.claim("w") is None
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(store.changed.wait(version), 0.1)
    await store.submit(request())
    assert await asyncio.wait_for(store.changed.wait(version), 5) > version
