"""A server that is killed, a disk that is full: what was acknowledged is there, and the store goes on."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nodegraph.jobs import JobError, JobRequest, JobStatus, JobStore

STORM = Path(__file__).with_name("storm.py")


def said(output: bytes, word: str) -> list[str]:
    """What follows a word in the whole lines of an output."""
    lines = output.decode().split("\n")[:-1]
    return [line.partition(" ")[2] for line in lines if line.split(" ")[0] == word]


def killed_storm(path: Path, after: int, delay: float) -> bytes:
    """The output of a storm that is killed some time after so many submits were acknowledged."""
    process = subprocess.Popen([sys.executable, str(STORM), str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    output = b""
    while output.count(b"submitted") < after:
        part = os.read(process.stdout.fileno(), 65_536)
        assert part, "the storm ended by itself"
        output += part
    time.sleep(delay)
    process.kill()
    output += process.stdout.read()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    return output


async def test_whatever_was_acknowledged_outlives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    chance = random.Random(1)
    submitted: list[str] = []
    finished: list[str] = []
    for turn in range(4):
        output = killed_storm(path, 100 * (turn + 1), chance.uniform(0, 0.05))
        submitted += said(output, "submitted")
        finished += said(output, "finished")
    store = await JobStore.open(path)
    await store.recover()
    for id in submitted:
        job = await store.get(id)
        assert job is not None, "an acknowledged job is lost"
        assert len(job.document) > 2_000
    for id in finished:
        job = await store.get(id)
        assert job is not None
        assert (job.status, job.attempts - job.interruptions) == (JobStatus.FINISHED, 1)
    assert len(submitted) >= 1_000
    assert len(set(finished)) == len(finished) > 10
    # The counters, kept by triggers, say what the rows say; nothing runs; whatever is left can run.
    counts = await store.counts()
    listed = (await store.jobs()).jobs
    assert {status: sum(job.status is status for job in listed) for status in JobStatus} == counts
    assert counts[JobStatus.RUNNING] == 0
    assert counts[JobStatus.FAILED] == 0
    left = counts[JobStatus.QUEUED]
    assert len(await store.claim_many("w", 100_000)) == left
    await store.close()


async def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    done = subprocess.run(
        [sys.executable, str(STORM), str(path), str(2**20)], stdout=subprocess.PIPE, check=True, timeout=100
    )
    submitted, finished = said(done.stdout, "submitted"), said(done.stdout, "finished")
    assert set(said(done.stdout, "refused")) == {"disk_full"}
    # It was full after a good number, could be read while it was, and took all that came once there was room.
    before = said(done.stdout.partition(b"readable")[0], "submitted")
    assert len(before) > 50
    assert int(said(done.stdout, "readable")[0]) >= len(before)
    after = done.stdout.partition(b"readable")[2]
    assert (len(said(after, "submitted")), len(said(after, "finished")), said(after, "refused")) == (
        20,
        20,
        [],
    )
    assert done.stdout.endswith(b"again\n")

    store = await JobStore.open(path)
    for id in submitted:
        assert await store.get(id) is not None
    for id in finished:
        job = await store.get(id)
        assert job is not None
        assert job.status is JobStatus.FINISHED
    await store.close()


async def test_a_disk_without_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2**20))
    store = await JobStore.open(small_disk / "jobs.db")
    stored: list[str] = []
    with pytest.raises(JobError) as caught:
        for _ in range(2_000):
            stored += [job.id for job in await store.submit(JobRequest("x" * 10_000))]
    assert caught.value.code == "disk_full"
    assert "make room" in str(caught.value)
    assert len(stored) > 50
    for id in stored:
        assert await store.get(id) is not None
    ballast.unlink()
    stored += [job.id for job in await store.submit(JobRequest("x" * 10_000))]
    await store.close()

    store = await JobStore.open(small_disk / "jobs.db")
    assert (await store.counts())[JobStatus.QUEUED] == len(stored)
    assert [job.id for job in (await store.queue()).queued] == stored
    await store.close()


async def test_a_disk_without_room_for_a_new_store(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(4 * 2**20 - 16_384))
    with pytest.raises(JobError) as caught:
        await JobStore.open(small_disk / "jobs.db")
    assert caught.value.code in ("disk_full", "store_unwritable")
    (small_disk / "ballast").unlink()
    store = await JobStore.open(small_disk / "jobs.db")
    await store.submit(JobRequest("{}"))
    await store.close()


async def test_a_document_that_does_not_fit_is_its_own_loss(small_disk: Path) -> None:
    store = await JobStore.open(small_disk / "jobs.db")
    big, small = JobRequest("x" * 8 * 2**20), JobRequest("{}")
    results = await asyncio.gather(
        store.submit(small), store.submit(big), store.submit(small), return_exceptions=True
    )
    assert [isinstance(result, JobError) for result in results] == [False, True, False]
    assert (await store.counts())[JobStatus.QUEUED] == 2
    await store.close()


async def test_a_job_that_takes_the_server_down_again_and_again_fails(tmp_path: Path) -> None:
    for turn in range(11):
        store = await JobStore.open(tmp_path / "jobs.db")
        assert await store.recover() == min(turn, 1)
        if turn == 0:
            await store.submit(JobRequest("{}", id="a"), JobRequest("{}", id="b"))
        job = await store.claim("w")
        assert job is not None
        assert job.id == "a"
        await store.close()
    store = await JobStore.open(tmp_path / "jobs.db")
    assert await store.recover() == 0
    job = await store.get("a")
    assert job is not None
    assert (job.status, job.interruptions) == (JobStatus.FAILED, 11)
    assert job.problems is not None
    assert "job_interrupted" in job.problems
    assert [job.id for job in (await store.queue()).queued] == ["b"]
    await store.close()
