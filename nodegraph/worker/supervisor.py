"""The supervisor: workers that are kept running, and the jobs of a store that they run."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from nodegraph.errors import NodegraphError, Problem
from nodegraph.jobs import Ending, Job, JobError, JobStatus, JobStore
from nodegraph.worker.limits import Limits
from nodegraph.worker.messages import (
    Answer,
    Cancel,
    Check,
    Describe,
    Done,
    Free,
    FromWorker,
    Plan,
    Preview,
    Ready,
    RunEvents,
    WorkerSettings,
)
from nodegraph.worker.process import Worker, WorkerProcess
from nodegraph.worker.slot import Slot
from nodegraph.worker.states import Kept, Listener, News, Statistics, Subscription, WorkerState

T = TypeVar("T")
LOG = logging.getLogger("nodegraph.worker")
STATUSES = {
    "success": JobStatus.FINISHED,
    "failed": JobStatus.FAILED,
    "cancelled": JobStatus.CANCELLED,
}
_ENCODER = json.JSONEncoder(ensure_ascii=False)
RETRY = 1.0
"""Seconds until the store is asked again, where the disk is full."""


GATHER = 0.01
"""Seconds that the end of a run waits for others, while a worker is at the next."""


class _Ended(NamedTuple):
    """A run that ended, and what the store is to keep of it."""

    job: Job
    done: Done
    ending: Ending


class Supervisor:
    """Starts `count` workers in the background and has them run the jobs of a store, one at a time each.

    A job whose worker dies, hangs or runs over its timeout is put back once (`max_attempts`) and has then failed, with the
    reason and the worker's last lines. `device` in the settings may name several, as in `cuda:0,cuda:1`: the workers take
    turns. `listener` is told at once and decides what the history keeps; `subscribe` is for everybody else.
    All of it belongs to the loop on which `start` was called.
    """

    def __init__(
        self,
        store: JobStore,
        settings: WorkerSettings,
        count: int = 1,
        *,
        limits: Limits | None = None,
        listener: Listener | None = None,
        make: Callable[[WorkerSettings], Worker] = WorkerProcess,
    ) -> None:
        self._store = store
        self._limits = limits or Limits()
        self._listener = listener or Listener()
        devices = settings.device.split(",")
        self._slots = []
        for index in range(count):
            own = replace(settings, device=devices[index % len(devices)].strip())
            name = f"worker-{index + 1}"
            self._slots.append(Slot(name, lambda own=own: make(own), store, self, self._limits))  # type: ignore[misc]
        self._tasks: list[asyncio.Task[None]] = []
        self._settling: set[asyncio.Task[None]] = set()
        self._endings: list[_Ended] = []
        """Runs that ended and are to be stored."""
        self._storing = False
        self._cancelled: dict[str, float] = {}
        """When the cancel of a running job was asked for."""
        self._subscriptions: list[Subscription] = []
        self._answers: dict[str, tuple[Slot, asyncio.Future[Answer]]] = {}
        self._ready = asyncio.Event()
        self._ended: Counter[str] = Counter()
        self._retries = self._nodes = 0
        self._node_seconds = 0.0

    async def start(self) -> None:
        """Start the workers; returns at once, they get ready in the background."""
        self._tasks = [asyncio.create_task(slot.run()) for slot in self._slots]

    async def stop(self) -> None:
        """End the workers. What they were at goes back to the queue, and no attempt of it is spent.

        Where the disk is full that is left to `JobStore.recover` at the next start.
        """
        await asyncio.gather(*(slot.stop() for slot in self._slots))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._limits.stop)
        await asyncio.gather(*(slot.kill() for slot in self._slots))
        await asyncio.gather(*self._tasks)
        try:
            async with asyncio.timeout(self._limits.stop):
                while self._settling:
                    await asyncio.wait(self._settling)
        except TimeoutError:
            LOG.error("the ends of %d jobs cannot be stored: they run again", len(self._settling))
            unsettled = tuple(self._settling)
            for task in unsettled:
                task.cancel()
            await asyncio.gather(*unsettled, return_exceptions=True)
        for subscription in self._subscriptions:
            subscription.close()

    def subscribe(self, limit: int = 10_000) -> Subscription:
        """News from now on. At most `limit` of them wait for the reader."""
        subscription = Subscription(limit)
        self._subscriptions.append(subscription)
        return subscription

    async def cancel(self, id: str) -> Job | None:
        """End a job: at once where it waits, at its next step where it runs. None where there is none."""
        # Noted first: a worker may be given the job at this very moment.
        fresh = id not in self._cancelled
        self._cancelled.setdefault(id, time.monotonic())
        job: Job | None = None
        try:
            job = await self._store.cancel(id)
        finally:
            if fresh and (job is None or job.status is not JobStatus.RUNNING):
                self._cancelled.pop(id, None)
        if job is not None and job.status is JobStatus.RUNNING:
            for slot in self._slots:
                if slot.has(id):
                    await slot.send(Cancel(id))
        return job

    async def free(self, *, unload_models: bool = False, free_memory: bool = False) -> None:
        """Have every worker give back models, results, or both, as far as no run uses them."""
        message = Free(unload_models, free_memory)
        await asyncio.gather(*(slot.send(message) for slot in self._slots if slot.state.ready))

    async def plan(
        self, document: str, targets: Sequence[str] | None = None, timeout: float = 60.0
    ) -> Answer:
        """What a run of a document would do now. Raises NodegraphError (`no_worker`) where none says so in time."""
        return await self._ask(Plan(uuid.uuid4().hex, document, _tuple(targets)), timeout)

    async def check(
        self, document: str, targets: Sequence[str] | None = None, timeout: float = 60.0
    ) -> Answer:
        """Everything that is wrong with a document, the nodes' own checks included. Raises as `plan` does."""
        return await self._ask(Check(uuid.uuid4().hex, document, _tuple(targets)), timeout)

    async def ready(self) -> None:
        """Wait until a worker is ready."""
        await self._ready.wait()

    @property
    def workers(self) -> tuple[WorkerState, ...]:
        """The workers as they are now."""
        return tuple(slot.state for slot in self._slots)

    @property
    def statistics(self) -> Statistics:
        """Counted since the start."""
        states = self.workers
        return Statistics(
            states,
            sum(state.restarts for state in states),
            sum(state.busy_seconds for state in states),
            dict(self._ended),
            self._retries,
            self._nodes,
            self._node_seconds,
        )

    async def _ask(self, question: Plan | Check, timeout: float) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                await self._ready.wait()
                ready = [slot for slot in self._slots if slot.state.ready]
                # One without work before the others.
                slot = min(ready, key=lambda slot: slot.state.job is not None)
                self._answers[question.id] = slot, future
                await slot.send(question)
                return await future
        except TimeoutError:
            raise _no_worker(f"no worker answered within {timeout:g} seconds.") from None
        finally:
            self._answers.pop(question.id, None)

    def cancel_asked(self, job: Job) -> float | None:
        """See Host."""
        if job.cancelling:
            self._cancelled.setdefault(job.id, time.monotonic())
        return self._cancelled.get(job.id)

    def begun(self, job: Job) -> None:
        """See Host."""
        self._tell(self._listener.begun, job)

    def said(self, job: Job, message: RunEvents | Preview) -> None:
        """See Host."""
        if isinstance(message, RunEvents):
            for event in message.events:
                if event["event"] == "node_finished":
                    self._nodes += 1
                    self._node_seconds += event["seconds"]
        self._tell(self._listener.said, job, message)
        self._publish(News(job, message))

    def heard(self, worker: WorkerState, message: FromWorker) -> None:
        """See Host."""
        if isinstance(message, Answer):
            _, future = self._answers.get(message.id, (None, None))
            if future is not None and not future.done():
                future.set_result(message)
            return
        if isinstance(message, Ready):
            self._ready.set()
            slot = next(slot for slot in self._slots if slot.state is worker)
            self._settle(slot.send(Describe()))
        self._tell(self._listener.heard, worker, message)
        self._publish(News(None, message))

    def finish(self, job: Job, done: Done) -> None:
        """See Host."""
        kept = self._tell(self._listener.ending, job, done)
        kept = kept or Kept(_ENCODER.encode(done.outputs))
        problems = _ENCODER.encode([item.data() for item in done.problems])
        ending = Ending(job.id, STATUSES[done.status], job.attempts, *kept, problems)
        self._endings.append(_Ended(job, done, ending))
        if not self._storing:
            self._storing = True
            self._settle(self._store_endings())

    def give_back(self, job: Job) -> None:
        """See Host."""
        self._settle(self._give_back(job))

    def lost(self, job: Job, why: Problem) -> None:
        """See Host."""
        self._settle(self._lost(job, why))

    def gone(self, worker: WorkerState) -> None:
        """See Host."""
        if not any(slot.state.ready for slot in self._slots):
            self._ready.clear()
        for slot, future in self._answers.values():
            if slot.state is worker and not future.done():
                future.set_exception(_no_worker(f"the worker that was asked died: {worker.ended}."))

    async def _give_back(self, job: Job) -> None:
        if self.cancel_asked(job) is not None:
            self.finish(job, Done(job.id, "cancelled"))
        else:
            await self._stored(job, lambda: self._store.release(job))

    async def _lost(self, job: Job, why: Problem) -> None:
        if self.cancel_asked(job) is not None:
            self.finish(job, Done(job.id, "cancelled"))
        elif job.attempts - job.interruptions >= job.max_attempts:
            self.finish(job, Done(job.id, "failed", problems=(why,)))
        else:
            self._retries += 1
            if await self._stored(job, lambda: self._store.requeue(job.id, why)):
                self._tell(self._listener.retried, job, why)

    async def _store_endings(self) -> None:
        """Store how runs ended; those that end one shortly after the other go together."""
        try:
            while self._endings:
                if any(slot.state.job is not None for slot in self._slots):
                    # A commit costs as much as a tiny job, and the next may have ended by then.
                    await asyncio.sleep(GATHER)
                endings, self._endings = self._endings, []
                await self._store_together(endings)
        finally:
            self._storing = False

    async def _store_together(self, endings: Sequence[_Ended]) -> None:
        try:
            refused = await self._store.finish_many(*(ended.ending for ended in endings))
        except JobError:
            # What one of them cannot have, room on the disk perhaps, is not the others' loss.
            for ended in endings:
                self._settle(self._store_alone(ended))
            return
        for ended, error in zip(endings, refused, strict=True):
            if error is not None:
                LOG.warning("job %s: %s", ended.job.id, error)
            self._stored_ending(ended)

    async def _store_alone(self, ended: _Ended) -> None:
        async def store() -> None:
            (error,) = await self._store.finish_many(ended.ending)
            if error is not None:
                raise error

        await self._stored(ended.job, store)
        self._stored_ending(ended)

    def _stored_ending(self, ended: _Ended) -> None:
        job, done, _ = ended
        self._cancelled.pop(job.id, None)
        self._ended[done.status] += 1
        self._tell(self._listener.ended, job, done)
        self._publish(News(job, done))

    async def _stored(self, job: Job, change: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        """Make a change of a job in the store, however long the disk is full; False where the store refuses."""
        told = False
        while True:
            try:
                await change()
                return True
            except JobError as error:
                if error.code != "disk_full":
                    # It was deleted, another attempt has ended it, or the store is damaged.
                    LOG.warning("job %s: %s", job.id, error)
                    return False
                if not told:
                    LOG.error("the end of job %s cannot be stored yet: %s", job.id, error)
                    told = True
                await asyncio.sleep(RETRY)

    def _tell(self, method: Callable[..., T], *arguments: Any) -> T | None:
        """Call the listener; a fault of its own must not end the supervisor."""
        try:
            return method(*arguments)
        except Exception:
            LOG.exception("the listener failed")
            return None

    def _settle(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do it in the background, and hold the supervisor's end up for it."""
        task = asyncio.ensure_future(work)
        self._settling.add(task)
        task.add_done_callback(self._settled)

    def _settled(self, task: asyncio.Task[Any]) -> None:
        self._settling.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.error("a job's end went wrong", exc_info=error)

    def _publish(self, news: News) -> None:
        self._subscriptions = [item for item in self._subscriptions if item.put(news)]


def _tuple(targets: Sequence[str] | None) -> tuple[str, ...] | None:
    return tuple(targets) if targets else None


def _no_worker(text: str) -> NodegraphError:
    return NodegraphError(Problem("no_worker", text))
