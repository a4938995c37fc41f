"""Dispatch: the job store, the workers that empty it, and those who wait for a job."""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph.errors import Problem, ValidationError
from nodegraph.jobs import Job, JobError, JobRequest, JobStatus, JobStore
from nodegraph.server import data_directory
from nodegraph.server.answers import Refused
from nodegraph.server.catalogue import Catalogue
from nodegraph.server.comfy import Stream, status_text
from nodegraph.server.config import ServerConfig
from nodegraph.server.contents import Contents
from nodegraph.server.figures import Figure, worker_figures
from nodegraph.server.hub import Client, Hub
from nodegraph.server.listing import server_folders
from nodegraph.server.received import FOLDER, Received
from nodegraph.server.tidying import tidying

if TYPE_CHECKING:
    from nodegraph.worker.supervisor import Supervisor

LOG = logging.getLogger("nodegraph.server")
STATUS_INTERVAL = 0.1
"""Seconds between two `status` messages to every client."""
START_DELAY = 0.2
"""Seconds before the workers are started: they read large libraries, and the first requests should not wait for that."""
CLIENTS_A_SECOND = 2000
"""How many clients are told of the queue in a second: 1,000 are told every half second."""
PLAN_TIMEOUT = 60.0


class Dispatch:
    """Takes jobs in, has workers run them, tells clients, and answers those who wait."""

    received: Received
    """The files that came with runs; there while the application runs."""

    def __init__(self, config: ServerConfig, catalogue: Catalogue, hub: Hub, contents: Contents) -> None:
        self._config = config
        self._catalogue = catalogue
        self._hub = hub
        self._contents = contents
        self._store: JobStore | None = None
        self._supervisor: Supervisor | None = None
        self._starting: asyncio.Task[None] | None = None
        self.streams: dict[str, Stream] = {}
        """Messages of the jobs that run, by the job's id."""
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.left = 0
        """Jobs that run or wait, as far as it was told; read anew whenever the queue changes."""

    @property
    def store(self) -> JobStore:
        """The job store; it is open while the application runs."""
        assert self._store is not None
        return self._store

    async def open(self) -> None:
        """Open the data directory and its store, put back what was interrupted, start the workers.

        Raises NodegraphError where the directory is another server's or a later release's, damaged or cannot be written.
        """
        config = self._config
        prepare = functools.partial(data_directory.prepare, config.data_dir)
        self._store = await JobStore.open(config.database, first=prepare)
        try:
            folders = server_folders(config)
            for folder in (folders.input, folders.output, folders.temp):
                _make(folder)
            self.received = Received(folders.input / FOLDER, self._contents)
            await self._store.recover()
            self.left = await self.remaining()
        except BaseException:
            await self._store.close()
            raise
        self._starting = asyncio.create_task(self._start_workers())
        self._starting.add_done_callback(_told)
        self.background(self._tell_status())
        self.background(tidying(self._store, folders, config, self.received))

    async def _start_workers(self) -> None:
        """In the background: what workers take is loaded while the first requests are answered."""
        config = self._config
        await asyncio.sleep(START_DELAY)
        telling = await asyncio.to_thread(importlib.import_module, "nodegraph.server.telling")
        self._supervisor = telling.supervisor_of(
            config, server_folders(config), self, self._catalogue, self._hub
        )
        await self._supervisor.start()

    async def _supervisor_up(self) -> Supervisor:
        assert self._starting is not None
        # Shielded: one who gives up waiting must not stop the start. An error of the start is told to all who need the workers.
        await asyncio.shield(self._starting)
        assert self._supervisor is not None
        return self._supervisor

    async def close(self) -> None:
        """Stop the workers and close the store; what ran goes back to the queue."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._supervisor is not None:
            await self._supervisor.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._store is not None:
            await self._store.close()

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside everything else, and at the latest end it with the server."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def submit(self, *requests: JobRequest) -> tuple[Job, ...]:
        """Store jobs; they are on the disk when this returns.

        Raises Refused where the queue is full, JobError as `JobStore.submit`.
        """
        if self.left + len(requests) > self._config.limits.queued:
            raise Refused(429, "too_many", f"more than {self._config.limits.queued} jobs would wait.")
        asked = time.time()
        jobs = await self.store.submit(*requests)
        # Not those that an earlier request with the same idempotency key made.
        self.left += sum(job.created >= asked for job in jobs)
        return jobs

    async def remaining(self) -> int:
        """How many jobs run or wait."""
        counts = await self.store.counts()
        return counts[JobStatus.QUEUED] + counts[JobStatus.RUNNING]

    async def wait(self, ids: Sequence[str], seconds: float | None) -> list[Job]:
        """The jobs as they are once all have ended, or after so many seconds."""
        loop = asyncio.get_running_loop()
        ends: dict[str, asyncio.Future[None]] = {}
        try:
            for id in ids:
                ends[id] = loop.create_future()
                self._waiting.setdefault(id, []).append(ends[id])
            # Looked at after the wait is set up, so that no end falls between.
            found = await self._read(ids)
            for job in found:
                if job.status.final and not ends[job.id].done():
                    ends[job.id].set_result(None)
            left = [end for end in ends.values() if not end.done()]
            if left:
                await asyncio.wait(left, timeout=seconds)
            return await self._read(ids)
        finally:
            for id, end in ends.items():
                self._waiting[id].remove(end)
                if not self._waiting[id]:
                    del self._waiting[id]

    async def _read(self, ids: Iterable[str]) -> list[Job]:
        found = [await self.store.get(id) for id in ids]
        return [job for job in found if job is not None]

    def wake(self, id: str) -> None:
        """Tell those who wait for a job that it has ended."""
        for end in self._waiting.get(id, ()):
            if not end.done():
                end.set_result(None)

    async def cancel(self, id: str) -> Job | None:
        """Cancel a job that waits or runs; None where there is none."""
        job = await (await self._supervisor_up()).cancel(id)
        if job is not None and job.status is JobStatus.CANCELLED:
            self.wake(id)
        return job

    async def unqueue(self, ids: Sequence[str], *, clear: bool) -> None:
        """Cancel waiting jobs; what runs is left alone."""
        if clear:
            await self.store.cancel_queued()
            for job in await self._read(list(self._waiting)):
                if job.status.final:
                    self.wake(job.id)
        for job in await self._read(ids):
            if job.status is JobStatus.QUEUED:
                await self.cancel(job.id)

    async def interrupt(self, id: str | None) -> None:
        """Cancel a running job, or all of them."""
        page = await self.store.queue(limit=0)
        for job in page.running:
            if id is None or job.id == id:
                await self.cancel(job.id)

    async def pause(self, paused: bool) -> None:
        """Start no further jobs, or start them again."""
        await (self.store.pause() if paused else self.store.resume())

    async def free(self, unload_models: bool, free_memory: bool) -> None:
        """Have the workers give back models, results, or both."""
        await (await self._supervisor_up()).free(unload_models=unload_models, free_memory=free_memory)

    async def plan(self, document: str, targets: Sequence[str]) -> dict[str, Any]:
        """What a run would do now, by a worker's word. Raises NodegraphError (`no_worker`)."""
        if not self._config.workers:
            raise Refused(503, "no_worker", "the server has no workers, which would say.")
        found = await (await self._supervisor_up()).plan(document, targets, PLAN_TIMEOUT)
        return {
            "nodes": [dict(row) for row in found.rows],
            "problems": [item.data() for item in (*found.problems, *found.warnings)],
        }

    def catch_up(self, client: Client) -> None:
        """Tell a client that came back how its running jobs stand."""
        for stream in self.streams.values():
            if stream.client == client.id:
                stream.catch_up(client)

    def workers(self) -> list[dict[str, Any]]:
        """What is known of each worker."""
        found = []
        for state in self._supervisor.workers if self._supervisor is not None else ():
            data = asdict(state)
            data["problems"] = [problem.data() for problem in state.problems]
            found.append(data)
        return found

    def last_lines(self) -> list[str]:
        """The ends of the workers' logs."""
        return [
            line
            for state in (self._supervisor.workers if self._supervisor is not None else ())
            for line in state.last_lines
        ]

    def figures(self) -> Mapping[str, Figure]:
        """Figures of the workers, for metrics."""
        return worker_figures(self._supervisor.statistics) if self._supervisor is not None else {}

    async def _tell_status(self) -> None:
        """Tell every client of the queue when its length changed, but not more often than many of them can be told."""
        told = -1
        while True:
            seen = self.store.changed.version
            try:
                self.left = await self.remaining()
            except JobError as error:
                if error.code != "store_corrupt":
                    # Of that the store has told.
                    LOG.warning("the queue cannot be read: %s", error)
            if self.left != told:
                told = self.left
                self._hub.broadcast(status_text(told), slot="status")
            await self.store.changed.wait(seen)
            await asyncio.sleep(max(STATUS_INTERVAL, self._hub.count / CLIENTS_A_SECOND))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValidationError(
            Problem(
                "cannot_write",
                f"the folder {folder} cannot be made: {error.strerror}.",
                hint="Look at who owns what it lies in and whether the disk is full, or name another folder.",
            )
        ) from error


def _told(starting: asyncio.Task[None]) -> None:
    if not starting.cancelled() and (error := starting.exception()) is not None:
        LOG.error("the workers cannot be started", exc_info=error)
