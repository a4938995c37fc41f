"""A slot: one worker after another, and the jobs that it is given."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from nodegraph.errors import Problem
from nodegraph.jobs import Job, JobError, JobStore
from nodegraph.worker.limits import Limits
from nodegraph.worker.messages import (
    Cancel,
    Done,
    FromWorker,
    Heartbeat,
    Preview,
    Ready,
    Run,
    RunEvents,
    Stop,
    ToWorker,
)
from nodegraph.worker.process import Worker
from nodegraph.worker.states import Host, WorkerState

LOG = logging.getLogger("nodegraph.worker")
TICK = 0.1
"""Seconds between two looks at what takes too long."""
HEALTHY = 30.0
"""Seconds after which a worker that dies counts as one that worked."""
SHOWN_LINES = 12
"""Of a dead worker's log, in a job's problem."""
MEMORY_HINT = "Use a smaller picture or batch, or a machine with more memory."


class Slot:
    """Keeps a worker running, feeds it jobs from the store, and sees what becomes of them."""

    def __init__(
        self, name: str, make: Callable[[], Worker], store: JobStore, host: Host, limits: Limits
    ) -> None:
        self.state = WorkerState(name)
        self._make = make
        self._store = store
        self._host = host
        self._limits = limits
        self._worker: Worker | None = None
        self._jobs: dict[str, Job] = {}
        """What the worker has, the first of them running."""
        self._changed = asyncio.Event()
        """A job ended, or the worker became ready."""
        self._stopping = asyncio.Event()
        self._typical: float | None = None
        """Seconds that a job takes, of late; None before the first."""
        self._worked = False
        self._head_since = self._last_event = 0.0
        self._heard: float | None = None
        """When the worker said something; None before its first word."""
        self._told: dict[str, float] = {}
        """When a job was told to end because of its timeout, or to make room."""
        self._timed_out: set[str] = set()
        self._killing: asyncio.Future[None] | None = None
        self._verdict: Problem | None = None
        """Why the supervisor killed the worker."""

    async def run(self) -> None:
        """Keep a worker running until `stop`."""
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            worker = self._worker = self._make()
            self._verdict, self._worked = None, False
            failed = ""
            try:
                await worker.start()
                if not self._stopping.is_set():
                    await self._live(worker, began)
            except OSError as error:
                failed = f"no process could be made: {error.strerror or error}"
            finally:
                await worker.kill()
                self._down(worker, failed or worker.reason)
            if self._stopping.is_set():
                break
            LOG.warning("worker %s: %s", self.state.name, self.state.ended)
            healthy = self._worked or time.monotonic() - began > HEALTHY
            failures = 0 if healthy else failures + 1
            self.state.restarts += 1
            pause = min(self._limits.backoff * 2**failures, self._limits.backoff_most)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def stop(self) -> None:
        """Ask the worker to end; `run` returns once it has. What it was at goes back to the queue."""
        self._stopping.set()
        await self.send(Stop())

    async def kill(self) -> None:
        """End the worker at once."""
        if self._worker is not None:
            await self._worker.kill()

    async def send(self, *messages: ToWorker) -> None:
        """Send the worker messages, if there is one."""
        if self._worker is not None:
            await self._worker.send(*messages)

    def has(self, job: str) -> bool:
        """Whether the worker has a job."""
        return job in self._jobs

    async def _live(self, worker: Worker, began: float) -> None:
        self._heard = None
        feed = asyncio.create_task(self._feed(worker))
        watch = asyncio.create_task(self._watch(worker, began))
        for task in (feed, watch):
            task.add_done_callback(lambda done: self._faulty(worker, done))
        try:
            async for message in worker.messages():
                self._on(message)
        finally:
            for task in (feed, watch):
                task.cancel()
            await asyncio.gather(feed, watch, return_exceptions=True)

    def _faulty(self, worker: Worker, task: asyncio.Task[None]) -> None:
        """A fault of the supervisor's own must not leave a worker that nobody feeds."""
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.error("worker %s cannot be kept", self.state.name, exc_info=error)
            self._killing = asyncio.ensure_future(worker.kill())

    def _on(self, message: FromWorker) -> None:
        now = self._heard = time.monotonic()
        state = self.state
        match message:
            case Ready():
                state.pid, state.ready = message.pid, True
                state.devices, state.versions = message.devices, message.versions
                state.packs, state.problems = message.packs, message.problems
                self._changed.set()
            case Heartbeat():
                state.rss, state.cache = message.rss, message.cache
                state.devices = message.devices or state.devices
                if self._worker is not None:
                    state.last_lines = self._worker.last_lines or state.last_lines
            case RunEvents() | Preview():
                self._last_event = now
                job = self._jobs.get(message.job)
                if job is not None:
                    self._host.said(job, message)
            case Done():
                self._done(message, now)
        if not isinstance(message, (RunEvents, Preview, Done)):
            self._host.heard(state, message)

    async def _feed(self, worker: Worker) -> None:
        while True:
            self._changed.clear()
            most = self._most()
            room = most - len(self._jobs)
            # Half of them at a time: one commit for several.
            if not self.state.ready or self._stopping.is_set() or room <= (most // 2 if self._jobs else 0):
                await self._changed.wait()
                continue
            seen = self._store.changed.version
            jobs = await self._claim(room)
            # All at once: should the worker die in the midst of it, they are known to have been its.
            self._jobs |= {job.id: job for job in jobs}
            if jobs and self.state.job is None:
                self._begin(jobs[0])
            await worker.send(*(message for job in jobs for message in self._orders(job)))
            if not jobs:
                await self._store.changed.wait(seen)

    def _most(self) -> int:
        """How many jobs the worker may have."""
        limits = self._limits
        if self._typical is None or self._typical >= limits.quick:
            return 1
        if self._jobs and time.monotonic() - self._head_since > limits.quick:
            # The one that runs is not quick: what is not claimed can still be taken out of the queue.
            return 1
        ahead = int(limits.ahead / max(self._typical, 1e-6))
        return min(limits.most_ahead, max(limits.least_ahead, ahead))

    async def _claim(self, room: int) -> tuple[Job, ...]:
        """Jobs from the queue; should this task be cancelled meanwhile, they go back."""
        claiming = asyncio.ensure_future(self._store.claim_many(self.state.name, room))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with suppress(JobError):
                for job in await claiming:
                    self._host.give_back(job)
            raise
        except JobError as error:
            # A full disk, perhaps: nothing is lost, and there may be room later.
            if error.code != "store_corrupt":
                # Of that the store has told, and it stays so.
                LOG.warning("no job can be claimed: %s", error)
            await asyncio.sleep(1.0)
            return ()

    def _orders(self, job: Job) -> tuple[ToWorker, ...]:
        run = Run(job.id, job.document, job.targets or None, job.attempts)
        return (run,) if self._host.cancel_asked(job) is None else (run, Cancel(job.id))

    def _begin(self, job: Job) -> None:
        self._head_since = self._last_event = time.monotonic()
        self.state.job = job.id
        self._host.begun(job)

    def _done(self, done: Done, now: float) -> None:
        job = self._jobs.pop(done.job, None)
        if job is None:
            return
        self._told.pop(job.id, None)
        timed_out = job.id in self._timed_out
        self._timed_out.discard(job.id)
        if job.id == self.state.job:
            self.state.busy_seconds += now - self._head_since
            self.state.job = None
        if done.status != "cancelled":
            self._worked = True
            # However long one took: a busy machine makes a quick job last now and then.
            seconds = min(done.seconds, 2 * self._limits.quick)
            self._typical = 0.5 * (seconds if self._typical is None else self._typical) + 0.5 * seconds
        if done.status != "cancelled" or self._host.cancel_asked(job) is not None:
            self._host.finish(job, done)
        elif timed_out:
            self._host.lost(job, _timeout(job))
        else:
            # It was told to make room, or to end because the supervisor stops.
            self._host.give_back(job)
        if self._jobs and self.state.job is None:
            self._begin(next(iter(self._jobs.values())))
        self._changed.set()

    def _down(self, worker: Worker, reason: str) -> None:
        """The worker is gone: the job that it ran is lost with it, those behind go back."""
        verdict = self._verdict
        self.state.last_lines = worker.last_lines or self.state.last_lines
        self.state.ended = verdict.message if verdict is not None else reason
        self.state.ready, self.state.job, self.state.pid = False, None, None
        jobs, self._jobs = list(self._jobs.values()), {}
        if jobs:
            self.state.busy_seconds += time.monotonic() - self._head_since
        for number, job in enumerate(jobs):
            if number or self._stopping.is_set():
                self._host.give_back(job)
            else:
                self._host.lost(job, verdict or _death(reason, worker.last_lines))
        self._told.clear()
        self._timed_out.clear()
        self._typical = None
        self._host.gone(self.state)

    async def _watch(self, worker: Worker, began: float) -> None:
        limits = self._limits
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            if self._heard is not None and now - self._heard > limits.silence:
                text = f"the worker said nothing for {limits.silence:g} seconds and was ended."
                await self._end(worker, Problem("worker_hung", text))
            elif not self.state.ready and now - began > limits.start:
                text = f"the worker was not ready after {limits.start:g} seconds and was ended."
                await self._end(worker, Problem("worker_hung", text))
            elif self._jobs:
                await self._watch_job(worker, next(iter(self._jobs.values())), now)

    async def _watch_job(self, worker: Worker, job: Job, now: float) -> None:
        limits = self._limits
        ran = now - self._head_since
        asked = self._host.cancel_asked(job)
        told = self._told.get(job.id) if job.id in self._timed_out else asked
        if told is not None and now - told > limits.cancel:
            text = f"it did not end within {limits.cancel:g} seconds of being cancelled, and its worker was ended."
            why = _timeout(job) if asked is None else Problem("worker_hung", text)
            await self._end(worker, why)
        elif now - self._last_event > limits.hang:
            text = f"nothing happened in the run for {limits.hang:g} seconds, and its worker was ended."
            await self._end(worker, Problem("worker_hung", text))
        elif job.timeout is not None and ran > job.timeout and job.id not in self._timed_out:
            self._timed_out.add(job.id)
            self._told[job.id] = now
            await worker.send(Cancel(job.id))
        elif len(self._jobs) > 1 and ran > limits.give_back:
            self._typical = 2 * limits.quick
            for behind in list(self._jobs)[1:]:
                if behind not in self._told:
                    self._told[behind] = now
                    await worker.send(Cancel(behind))

    async def _end(self, worker: Worker, why: Problem) -> None:
        self._verdict = why
        await worker.kill()


def _timeout(job: Job) -> Problem:
    return Problem(
        "job_timeout",
        f"it ran longer than its {job.timeout:g} seconds and was ended.",
        hint="Give it a longer timeout, or ask for less.",
    )


def _death(reason: str, lines: tuple[str, ...]) -> Problem:
    """What is told of a job whose worker died under it."""
    shown = "\n".join(line[:300] for line in lines[-SHOWN_LINES:])
    return Problem(
        "worker_died",
        f"the worker that ran it died: {reason}.",
        found=f"last lines of its log:\n{shown}" if shown else None,
        hint=MEMORY_HINT if "memory" in reason else None,
    )
