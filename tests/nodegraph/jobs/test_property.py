"""Whatever is done in whatever order: the store agrees with a plain model of it."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph.errors import Problem
from nodegraph.jobs import FINAL, JobError, JobRequest, JobStatus, JobStore

GONE = Problem("worker_died", "The worker was killed.")
IDS = st.sampled_from("abcdef")
STEPS = st.one_of(
    st.tuples(st.just("submit"), IDS, st.sampled_from([None, -1.0, 0.0, 5.0]), st.booleans()),
    st.tuples(st.sampled_from(["finish", "requeue", "cancel", "delete", "front"]), IDS),
    st.tuples(st.sampled_from(["claim", "claim", "recover", "cancel_queued", "clear_history"])),
)


@dataclass
class Modelled:
    """What the model knows of a job."""

    id: str
    order: tuple[float, int]
    status: JobStatus = JobStatus.QUEUED
    attempts: int = 0
    interruptions: int = 0
    cancelling: bool = False


class Model:
    """The store as its documentation tells it."""

    def __init__(self) -> None:
        self.jobs: dict[str, Modelled] = {}
        self.count = 0

    def of(self, status: JobStatus) -> list[Modelled]:
        """Jobs in a state, in the order of claims."""
        return sorted((job for job in self.jobs.values() if job.status is status), key=lambda job: job.order)

    def first(self) -> float:
        """The number ahead of all that wait."""
        return min([0.0, *(job.order[0] for job in self.of(JobStatus.QUEUED))]) - 1

    def submit(self, id: str, priority: float | None, front: bool) -> str:
        if id in self.jobs:
            return "duplicate_id"
        self.count += 1
        number = float(self.count) if priority is None else priority
        if front:
            number = min(self.first(), -float(self.count))
        self.jobs[id] = Modelled(id, (number, self.count))
        return ""

    def claim(self) -> str:
        waiting = self.of(JobStatus.QUEUED)
        if not waiting:
            return ""
        waiting[0].status = JobStatus.RUNNING
        waiting[0].attempts += 1
        return waiting[0].id

    def finish(self, id: str) -> str:
        job = self.jobs.get(id)
        if job is None:
            return "unknown_job"
        if job.status is not JobStatus.RUNNING:
            return "already_finished" if job.status in FINAL else "not_running"
        job.status, job.cancelling = JobStatus.FINISHED, False
        return ""

    def back(self, job: Modelled, exhausted: bool) -> None:
        if job.cancelling:
            job.status, job.cancelling = JobStatus.CANCELLED, False
        else:
            job.status = JobStatus.FAILED if exhausted else JobStatus.QUEUED

    def requeue(self, id: str) -> str:
        job = self.jobs.get(id)
        if job is None:
            return "unknown_job"
        if job.status is not JobStatus.RUNNING:
            return "not_running"
        self.back(job, job.attempts - job.interruptions >= 2)
        return ""

    def recover(self) -> str:
        for job in self.of(JobStatus.RUNNING):
            job.interruptions += 1
            self.back(job, False)
        return ""

    def cancel(self, id: str) -> str:
        job = self.jobs.get(id)
        if job is not None and job.status is JobStatus.RUNNING:
            job.cancelling = True
        elif job is not None and job.status is JobStatus.QUEUED:
            job.status = JobStatus.CANCELLED
        return ""

    def cancel_queued(self) -> str:
        for job in self.of(JobStatus.QUEUED):
            job.status = JobStatus.CANCELLED
        return ""

    def delete(self, id: str) -> str:
        if id in self.jobs and self.jobs[id].status is not JobStatus.RUNNING:
            del self.jobs[id]
        return ""

    def clear_history(self) -> str:
        self.jobs = {id: job for id, job in self.jobs.items() if job.status not in FINAL}
        return ""

    def front(self, id: str) -> str:
        job = self.jobs.get(id)
        if job is None:
            return "unknown_job"
        if job.status is not JobStatus.QUEUED:
            return "not_queued"
        job.order = (self.first(), job.order[1])
        return ""


async def done(store: JobStore, step: tuple[object, ...]) -> str:
    """Do a step on the store: the code of its refusal, the id of what was claimed, or nothing."""
    name, *rest = step
    id = str(rest[0]) if rest else ""
    try:
        if name == "submit":
            priority = rest[1] if isinstance(rest[1], float) else None
            await store.submit(JobRequest("{}", id=id, priority=priority, front=bool(rest[2])))
        elif name == "claim":
            job = await store.claim("w")
            return "" if job is None else job.id
        elif name == "finish":
            await store.finish(id, JobStatus.FINISHED)
        elif name == "requeue":
            await store.requeue(id, GONE)
        elif name == "front":
            await store.move(id, front=True)
        elif name == "cancel":
            await store.cancel(id)
        elif name == "delete":
            await store.delete(id)
        else:
            await getattr(store, str(name))()
    except JobError as error:
        return error.code
    return ""


async def compare(steps: list[tuple[object, ...]]) -> None:
    """Do the same in the store and the model, and look at both after each step."""
    with tempfile.TemporaryDirectory() as folder:
        store, model = await JobStore.open(Path(folder) / "jobs.db"), Model()
        for step in steps:
            assert await done(store, step) == getattr(model, str(step[0]))(*step[1:]), step
            page = await store.queue()
            assert [job.id for job in page.queued] == [job.id for job in model.of(JobStatus.QUEUED)]
            assert await store.counts() == {status: len(model.of(status)) for status in JobStatus}
            for job in (await store.jobs()).jobs:
                known = model.jobs[job.id]
                assert (job.status, job.attempts, job.interruptions, job.cancelling) == (
                    known.status, known.attempts, known.interruptions, known.cancelling,
                )  # fmt: skip
                assert (job.finished is not None) == (job.status in FINAL)
                assert (job.worker is not None) == (job.status is JobStatus.RUNNING) or job.status in FINAL
        await store.close()


@settings(max_examples=15, deadline=None)
@given(st.lists(STEPS, min_size=5, max_size=25))
def test_the_store_agrees_with_its_model(steps: list[tuple[object, ...]]) -> None:
    asyncio.run(compare(steps))
