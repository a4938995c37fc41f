"""The supervisor over a real store: with workers in threads where nothing dies, in processes where something does."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nodegraph.errors import NodegraphError, Problem
from nodegraph.jobs import Job, JobRequest, JobStatus, JobStore
from nodegraph.worker.inprocess import InProcessWorker
from nodegraph.worker.limits import Limits
from nodegraph.worker.messages import Done, Preview, Ready, RunEvents, WorkerSettings
from nodegraph.worker.process import Worker, WorkerProcess
from nodegraph.worker.states import Kept, Listener, News, Subscription
from nodegraph.worker.supervisor import Supervisor
from tests.nodegraph.worker.talk import document, steps

PID = document(n1=("WorkPid", {}))


@dataclass
class Log(Listener):
    """Notes what it is told."""

    told: list[tuple[str, str]] = field(default_factory=list)
    retries: list[Problem] = field(default_factory=list)

    def begun(self, job: Job) -> None:
        """Noted."""
        self.told.append(("begun", job.id))

    def said(self, job: Job, message: RunEvents | Preview) -> None:
        """Noted."""
        self.told.append(("said", job.id))

    def ending(self, job: Job, done: Done) -> Kept | None:
        """Keeps a message of its own."""
        self.told.append(("ending", job.id))
        return Kept(json.dumps(done.outputs), None, json.dumps([["own", {"status": done.status}]]))

    def ended(self, job: Job, done: Done) -> None:
        """Noted."""
        self.told.append(("ended", job.id))

    def retried(self, job: Job, why: Problem) -> None:
        """Noted."""
        self.told.append(("retried", job.id))
        self.retries.append(why)


@dataclass
class Bench:
    """A store and a supervisor over it."""

    store: JobStore
    supervisor: Supervisor
    log: Log

    async def submit(self, text: str, **more: Any) -> str:
        """Submit a document; the job's id."""
        (job,) = await self.store.submit(JobRequest(text, **more))
        return job.id

    async def end(self, *ids: str, seconds: float = 40.0) -> list[Job]:
        """The jobs once all have ended."""
        async with asyncio.timeout(seconds):
            for id in ids:
                while True:
                    seen = self.store.changed.version
                    job = await self.store.get(id)
                    if job is not None and job.status.final:
                        break
                    await self.store.changed.wait(seen)
        found = [await self.store.get(id) for id in ids]
        return [job for job in found if job is not None]

    async def running(self, id: str) -> None:
        """Wait until the job runs and says something."""
        async with asyncio.timeout(20):
            while ("said", id) not in self.log.told:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def bench(
    settings: WorkerSettings,
    folder: Path,
    make: Callable[[WorkerSettings], Worker] = InProcessWorker,
    count: int = 1,
    limits: Limits | None = None,
) -> AsyncIterator[Bench]:
    """A store with a supervisor that runs."""
    store = await JobStore.open(folder / "jobs.sqlite")
    log = Log()
    supervisor = Supervisor(store, settings, count, limits=limits, listener=log, make=make)
    try:
        await supervisor.start()
        yield Bench(store, supervisor, log)
    finally:
        await supervisor.stop()
        await store.close()


def problems(job: Job) -> list[dict[str, Any]]:
    """The problems that the history has of a job."""
    found: list[dict[str, Any]] = json.loads(job.problems or "[]")
    return found


async def test_jobs_run_and_are_kept_before_anybody_is_told(settings: WorkerSettings, tmp_path: Path) -> None:
    async with bench(settings, tmp_path) as b:
        news: list[News] = []
        statuses: list[JobStatus] = []

        async def listen() -> None:
            async for item in b.supervisor.subscribe():
                news.append(item)
                if isinstance(item.message, Done):
                    job = await b.store.get(item.message.job)
                    assert job is not None
                    statuses.append(job.status)

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0)
        one = await b.submit(steps(2))
        two = await b.submit(document(n1=("ToyFail", {}), n2=("WorkShow", {"item": ["n1", 0]})))
        three = await b.submit("{", targets=("n1",))
        first, second, third = await b.end(one, two, three)
        assert (first.status, json.loads(first.outputs or "")) == (
            JobStatus.FINISHED,
            {"n2": {"text": ["2"]}},
        )
        assert (first.worker, first.attempts) == ("worker-1", 1)
        assert json.loads(first.messages or "") == [["own", {"status": "success"}]]
        assert (second.status, problems(second)[0]["node"]) == (JobStatus.FAILED, "n1")
        assert (third.status, problems(third)[0]["code"]) == (JobStatus.FAILED, "invalid_json")
        for id in (one, two):
            parts = [what for what, job in b.log.told if job == id]
            assert (parts[0], parts[-2:]) == ("begun", ["ending", "ended"])
        statistics = b.supervisor.statistics
        assert statistics.jobs == {"success": 1, "failed": 2}
        assert (statistics.restarts, statistics.retries, statistics.nodes) == (0, 0, 2)
        assert statistics.busy_seconds > 0
        (worker,) = statistics.workers
        assert (worker.name, worker.ready, worker.job, worker.pid) == ("worker-1", True, None, os.getpid())
    await listening
    assert statuses == [JobStatus.FINISHED, JobStatus.FAILED, JobStatus.FAILED]
    assert any(isinstance(item.message, Ready) for item in news)
    assert {item.job.id for item in news if item.job is not None} == {one, two, three}


async def test_many_quick_jobs_run_once_each_and_share_their_commits(
    settings: WorkerSettings, tmp_path: Path
) -> None:
    async with bench(settings, tmp_path, count=2) as b:
        jobs = await b.store.submit(
            *(JobRequest(document(n1=("WorkPid", {"seed": number}))) for number in range(200))
        )
        found = await b.end(*(job.id for job in jobs))
        assert {job.status for job in found} == {JobStatus.FINISHED}
        assert [json.loads(job.outputs or "")["n1"]["text"][1] for job in found] == [
            f"seed {number}" for number in range(200)
        ]
        assert sum(what == "ended" for what, _ in b.log.told) == 200
        assert {job.attempts for job in found} == {1}


async def test_a_long_job_keeps_no_others_behind_it(settings: WorkerSettings, tmp_path: Path) -> None:
    async with bench(settings, tmp_path, count=2) as b:
        await b.end(*[await b.submit(PID) for _ in range(30)])
        long = [await b.submit(steps(400 + number, 0.01)) for number in range(2)]
        short = [await b.submit(document(n1=("WorkPid", {"seed": seed}))) for seed in range(6)]
        found = await b.end(*short, *long)
        assert {job.status for job in found} == {JobStatus.FINISHED}
        assert {job.attempts for job in found} == {1}


async def test_cancels(settings: WorkerSettings, tmp_path: Path) -> None:
    async with bench(settings, tmp_path) as b:
        running, waiting = await b.submit(steps(5000, 0.01)), await b.submit(PID)
        await b.running(running)
        job = await b.supervisor.cancel(waiting)
        assert job is not None and job.status is JobStatus.CANCELLED
        for _ in range(2):
            job = await b.supervisor.cancel(running)
            assert job is not None
        (job,) = await b.end(running)
        assert (job.status, job.attempts) == (JobStatus.CANCELLED, 1)
        assert await b.supervisor.cancel(running) == job
        assert await b.supervisor.cancel("nobody's") is None
        (job,) = await b.end(await b.submit(PID))
        assert job.status is JobStatus.FINISHED


async def test_a_cancel_at_the_very_moment_of_the_claim(settings: WorkerSettings, tmp_path: Path) -> None:
    async with bench(settings, tmp_path) as b:
        await b.end(await b.submit(PID))
        ids = []
        for _ in range(20):
            id = await b.submit(steps(5000, 0.01))
            ids.append(id)
            await b.supervisor.cancel(id)
        found = await b.end(*ids)
        assert {job.status for job in found} == {JobStatus.CANCELLED}


async def test_a_job_over_its_timeout_fails_after_its_attempts(
    settings: WorkerSettings, tmp_path: Path
) -> None:
    async with bench(settings, tmp_path) as b:
        id = await b.submit(steps(5000, 0.01), timeout=0.3)
        fine = await b.submit(steps(2), timeout=20)
        job, other = await b.end(id, fine)
        assert (job.status, job.attempts, problems(job)[0]["code"]) == (JobStatus.FAILED, 2, "job_timeout")
        assert other.status is JobStatus.FINISHED
        assert [why.code for why in b.log.retries] == ["job_timeout"]
        assert b.supervisor.statistics.restarts == 0, "the worker itself did nothing wrong"


async def test_what_runs_when_the_supervisor_stops_waits_again(
    settings: WorkerSettings, tmp_path: Path
) -> None:
    async with bench(settings, tmp_path) as b:
        id = await b.submit(steps(5000, 0.01))
        await b.running(id)
        await b.supervisor.stop()
        job = await b.store.get(id)
        assert job is not None and (job.status, job.attempts) == (JobStatus.QUEUED, 0)


async def test_questions_are_answered_by_a_worker(settings: WorkerSettings, tmp_path: Path) -> None:
    async with bench(settings, tmp_path) as b:
        answer = await b.supervisor.plan(steps(2))
        assert {row["node"]: row["state"] for row in answer.rows} == {"n1": "run", "n2": "run"}
        await b.end(await b.submit(steps(2)))
        assert (await b.supervisor.plan(steps(2), ["n1"])).rows[0]["state"] == "cached"
        answer = await b.supervisor.check(document(n1=("Nothing", {})))
        assert answer.problems[0].code == "unknown_node"
        await b.supervisor.free(free_memory=True, unload_models=True)
        async with asyncio.timeout(10):
            while (await b.supervisor.plan(steps(2), ["n1"])).rows[0]["state"] == "cached":
                await asyncio.sleep(0.01)
    async with bench(settings, tmp_path, count=0) as b:
        with pytest.raises(NodegraphError, match="no worker answered"):
            await b.supervisor.plan(steps(2), timeout=0.05)


async def test_a_listener_that_fails_costs_nothing(
    settings: WorkerSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Listener):
        def begun(self, job: Job) -> None:
            raise LookupError("broken")

        def ending(self, job: Job, done: Done) -> Kept | None:
            raise LookupError("broken")

    store = await JobStore.open(tmp_path / "jobs.sqlite")
    supervisor = Supervisor(store, settings, listener=Broken(), make=InProcessWorker)
    await supervisor.start()
    b = Bench(store, supervisor, Log())
    with caplog.at_level(logging.ERROR):
        (job,) = await b.end(await b.submit(steps(1)))
    assert (job.status, json.loads(job.outputs or "")) == (JobStatus.FINISHED, {"n2": {"text": ["1"]}})
    assert "the listener failed" in caplog.text
    await supervisor.stop()
    await store.close()


async def test_a_subscriber_that_falls_behind_loses_pictures_and_then_its_place() -> None:
    subscription = Subscription(3)
    picture = News(None, Preview("j", "n", b""))
    other = News(None, RunEvents("j", ()))
    assert [subscription.put(item) for item in (other, picture, other, picture, picture)] == [True] * 5
    assert not subscription.put(other) and not subscription.put(other)
    seen = []
    with pytest.raises(NodegraphError, match="3 messages behind"):
        async for item in subscription:
            seen.append(item)
    assert seen == [other, picture, other]
    fresh = Subscription(3)
    fresh.put(other)
    fresh.close()
    assert [item async for item in fresh] == [other]
    assert not fresh.put(other)


async def test_jobs_outlive_their_workers(settings: WorkerSettings, tmp_path: Path) -> None:
    async with bench(settings, tmp_path, WorkerProcess) as b:
        show = ("WorkShow", {"item": ["n1", 0]})
        once = await b.submit(document(n1=("WorkDie", {"once": True, "signal": 11}), n2=show))
        always = await b.submit(document(n1=("WorkDie", {"signal": 9}), n2=show))
        killed = await b.submit(steps(100, 0.01))
        after = await b.submit(PID)
        await b.running(killed)
        (worker,) = b.supervisor.workers
        assert worker.pid is not None and worker.restarts == 3
        os.kill(worker.pid, signal.SIGKILL)
        first, second, third, fourth = await b.end(once, always, killed, after)
        assert (first.status, first.attempts) == (JobStatus.FINISHED, 2)
        assert (second.status, second.attempts) == (JobStatus.FAILED, 2)
        (problem,) = problems(second)
        assert problem["code"] == "worker_died" and "signal 9 (SIGKILL)" in problem["message"]
        assert "about to die" in problem["found"] and "memory" in problem["hint"]
        assert (third.status, third.attempts) == (JobStatus.FINISHED, 2)
        assert (fourth.status, fourth.attempts) == (JobStatus.FINISHED, 1)
        assert b.supervisor.statistics.restarts == 4
        assert b.supervisor.statistics.retries == 3
        assert worker.ended.startswith("killed by signal 9")


async def test_workers_that_hang_are_ended(settings: WorkerSettings, tmp_path: Path) -> None:
    silent = document(n1=("WorkSleep", {"seconds": 100.0}), n2=("WorkShow", {"item": ["n1", 0]}))
    limits = Limits(hang=6.0, silence=4.0, cancel=0.3)
    async with bench(settings, tmp_path, WorkerProcess, limits=limits) as b:
        hung = await b.submit(silent, max_attempts=1)
        stopped = await b.submit(steps(60, 0.01))
        (job,) = await b.end(hung)
        assert (job.status, problems(job)[0]["code"]) == (JobStatus.FAILED, "worker_hung")
        assert "nothing happened in the run for 6 seconds" in problems(job)[0]["message"]
        await b.running(stopped)
        (worker,) = b.supervisor.workers
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGSTOP)
        (job,) = await b.end(stopped)
        assert (job.status, job.attempts) == (JobStatus.FINISHED, 2)
        assert "said nothing for 4 seconds" in b.log.retries[0].message
        deaf = await b.submit(silent)
        await b.running(deaf)
        started = time.monotonic()
        await b.supervisor.cancel(deaf)
        (job,) = await b.end(deaf)
        assert (job.status, job.attempts) == (JobStatus.CANCELLED, 1)
        assert time.monotonic() - started < 3.0


async def test_a_worker_that_cannot_start_is_tried_less_and_less_often(
    settings: WorkerSettings, tmp_path: Path
) -> None:
    def broken(given: WorkerSettings) -> Worker:
        return WorkerProcess(given, {**os.environ, "PYTHONHOME": "/nowhere"})

    limits = Limits(backoff=0.1, backoff_most=100.0)
    async with bench(settings, tmp_path, broken, limits=limits) as b:
        id = await b.submit(PID)
        started = time.monotonic()
        async with asyncio.timeout(20):
            while b.supervisor.statistics.restarts < 3:
                await asyncio.sleep(0.01)
        assert time.monotonic() - started > 0.2 + 0.4
        job = await b.store.get(id)
        assert job is not None and (job.status, job.attempts) == (JobStatus.QUEUED, 0)
        (worker,) = b.supervisor.workers
        assert worker.ended.startswith("it ended with status") and worker.last_lines
        assert not worker.ready
