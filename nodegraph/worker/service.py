"""What a worker does: one session, messages in, messages out; whatever carries them."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nodegraph.context import CancelToken
from nodegraph.errors import Problem, ValidationError
from nodegraph.events import NodeProgress, RunFinished
from nodegraph.node import Runtime
from nodegraph.registry import ENTRY_POINT_GROUP, Registry
from nodegraph.session import Session, default_folders, make_output_folder
from nodegraph.worker.batch import Batch
from nodegraph.worker.descriptions import described
from nodegraph.worker.messages import (
    Answer,
    Cancel,
    Check,
    Describe,
    Descriptions,
    Done,
    Free,
    Heartbeat,
    Message,
    Plan,
    Ready,
    Run,
    Status,
    Stop,
    WorkerSettings,
    ui_data,
)
from nodegraph.worker.previews import Previewer
from nodegraph.workflow import Workflow

_Outcome = tuple[Status, dict[str, Any], tuple[Problem, ...]]
"""How a run ended: its status, what its output nodes show, and its problems."""
HEARTBEAT = 1.0
"""Seconds between two heartbeats."""


def entry_points_of(settings: WorkerSettings) -> list[importlib.metadata.EntryPoint]:
    """The packs that a worker loads."""
    if settings.packs is None:
        return list(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP))
    return [importlib.metadata.EntryPoint(value, value, ENTRY_POINT_GROUP) for value in settings.packs]


def open_session(settings: WorkerSettings) -> Session:
    """The session that the settings ask for. Raises ValidationError for a device that is not there."""
    registry = Registry.load(entry_points_of(settings))
    folders = default_folders(
        settings.models, input=settings.input, output=settings.output, pack_roots=registry.model_roots
    )
    if settings.temp is not None:
        folders = replace(folders, temp=Path(settings.temp).absolute())
    runtime = Runtime(
        folders,
        device=settings.device,
        dtype=settings.dtype,
        device_budget=settings.device_budget,
        host_budget=settings.host_budget,
    )
    return Session(registry, runtime)


class Service:
    """Serves a session. `receive` and `closed` may be called from any thread, `serve` runs on a loop of its own."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._pass_on = send
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: Session | None = None
        self._points: list[importlib.metadata.EntryPoint] = []
        self._lock = threading.Lock()
        self._waiting: list[Message] = []
        """What came before the loop ran."""
        self._tokens: dict[str, CancelToken] = {}
        self._runs: dict[str, Run] = {}
        """Those that wait, in their order."""
        self._changed = asyncio.Event()
        """A run came, or a Stop."""
        self._stopped = False
        self._others: set[asyncio.Task[None]] = set()
        self._previews = Previewer(self._send)
        self._ended = threading.Event()
        """Set when heartbeats must stop."""
        self._over = False
        """Nothing is served any more: the loop may be gone."""
        self._job: str | None = None

    def receive(self, *messages: Message) -> None:
        """Take messages; a Cancel acts at once, whatever the loop is at."""
        with self._lock:
            for message in messages:
                if isinstance(message, Run):
                    self._tokens[message.job] = CancelToken()
                elif isinstance(message, Cancel):
                    token = self._tokens.get(message.job)
                    if token is not None:
                        token.cancel()
                elif isinstance(message, Stop):
                    self._cancel_all()
            if self._over:
                return
            if self._loop is None:
                self._waiting += messages
            else:
                self._loop.call_soon_threadsafe(self._take, messages)

    def closed(self) -> None:
        """Nobody is at the other end any more: cancel everything and end."""
        self._ended.set()
        self.receive(Stop())

    async def serve(self, settings: WorkerSettings) -> None:
        """Open the session, and serve until a Stop. Raises ValidationError where the session cannot be opened."""
        beats = threading.Thread(target=self._beat, name="nodegraph-heartbeat", daemon=True)
        beats.start()
        try:
            for path in reversed(settings.paths):
                if path not in sys.path:
                    sys.path.insert(0, path)
            self._points = entry_points_of(settings)
            with open_session(settings) as session:
                self._session = session
                self._send(self._ready(session))
                with self._lock:
                    self._loop = asyncio.get_running_loop()
                    waiting, self._waiting = self._waiting, []
                self._take(waiting)
                while not self._stopped:
                    self._changed.clear()
                    if not self._runs:
                        await self._changed.wait()
                        continue
                    await self._run(session, self._runs.pop(next(iter(self._runs))))
                await asyncio.gather(*self._others)
        finally:
            with self._lock:
                self._over = True
            self._ended.set()
            self._previews.close()
            # It says nothing after the last message.
            await asyncio.to_thread(beats.join)

    def _send(self, *messages: Message) -> None:
        try:
            self._pass_on(*messages)
        except OSError:
            # The one who would read it is gone; `closed` ends all the rest.
            self._ended.set()

    def _take(self, messages: Sequence[Message]) -> None:
        assert self._session is not None
        for message in messages:
            self._take_one(self._session, message)

    def _take_one(self, session: Session, message: Message) -> None:
        match message:
            case Run():
                self._runs[message.job] = message
                self._changed.set()
            case Cancel():
                # One that runs is told by its token; one that waits has ended.
                if self._runs.pop(message.job, None) is not None:
                    with self._lock:
                        del self._tokens[message.job]
                    self._send(Done(message.job, "cancelled"))
            case Stop():
                self._stopped = True
                self._changed.set()
            case Plan() | Check():
                self._send(self._answer(session, message))
            case Describe():
                packs, problems = described(session.registry, self._points)
                self._send(Descriptions(packs, problems))
            case Free():
                task = asyncio.get_running_loop().create_task(self._free(session, message))
                self._others.add(task)
                task.add_done_callback(self._others.discard)
            case _:
                raise ValueError(f"a worker takes no message {message.tag!r}")

    def _cancel_all(self) -> None:
        for token in self._tokens.values():
            token.cancel()

    async def _run(self, session: Session, run: Run) -> None:
        """One job, to its Done whatever happens."""
        token = self._tokens[run.job]
        batch = Batch(run.job, self._send, asyncio.get_running_loop())
        self._job = run.job
        self._previews.begin(run.job)
        started = time.perf_counter()
        outcome: _Outcome
        try:
            outcome = await self._events(session, run, token, batch)
        except ValidationError as error:
            outcome = "failed", {}, error.problems
        except Exception as error:  # a fault of the engine fails the run; the worker goes on
            traceback.print_exc()
            outcome = "failed", {}, (_fault(error),)
        finally:
            self._job = None
            with self._lock:
                del self._tokens[run.job]
            self._previews.end()
        batch.end(Done(run.job, *outcome, time.perf_counter() - started))

    async def _events(self, session: Session, run: Run, token: CancelToken, batch: Batch) -> _Outcome:
        if token.cancelled:
            return "cancelled", {}, ()
        workflow = Workflow.loads(run.document, session.registry)
        make_output_folder(session.runtime.folders)
        report = session.check(workflow, run.targets)
        if report.graph is None:
            return "failed", {}, (*report.problems, *report.warnings)
        # As in a run where a node fails: what does not depend on it goes on.
        refused = report.problems
        finished: RunFinished | None = None
        async for event in session.events(report.graph, cancel=token):
            if isinstance(event, NodeProgress) and event.preview is not None:
                self._previews.offer(run.job, event.node, event.preview)
            elif isinstance(event, RunFinished):
                finished = event
            batch.note(event)
        assert finished is not None
        status: Status = "failed" if refused and finished.status == "success" else finished.status
        outputs = {node: ui_data(shown) for node, shown in finished.ui.items()}
        return status, outputs, (*refused, *finished.problems)

    def _answer(self, session: Session, asked: Plan | Check) -> Answer:
        try:
            report = session.check(Workflow.loads(asked.document, session.registry), asked.targets)
            rows: tuple[dict[str, Any], ...] = ()
            if report.graph is not None and isinstance(asked, Plan):
                rows = tuple(asdict(row) for row in session.plan(report.graph).rows(session.cache))
        except ValidationError as error:
            return Answer(asked.id, error.problems)
        except Exception as error:  # a pack's fault is the answer; the worker goes on
            traceback.print_exc()
            return Answer(asked.id, (_fault(error),))
        targets = report.graph.targets if report.graph is not None else ()
        return Answer(asked.id, report.problems, report.warnings, targets, report.failed, rows)

    async def _free(self, session: Session, asked: Free) -> None:
        """In a thread: a model may take its time to leave."""
        try:
            if asked.free_memory:
                await asyncio.to_thread(session.cache.shed)
            if asked.unload_models:
                await asyncio.to_thread(session.resources.release)
        except Exception:  # nobody waits for an answer: the log has it
            traceback.print_exc()

    def _ready(self, session: Session) -> Ready:
        names = ("nodegraph", "torch")
        versions = {"python": sys.version.split()[0]} | {name: _version(name) for name in names}
        packs, _ = described(session.registry, self._points)
        return Ready(
            os.getpid(),
            devices_of(session),
            versions,
            tuple({"name": pack["name"], "version": pack["version"]} for pack in packs),
            session.problems,
        )

    def _beat(self) -> None:
        while True:
            session = self._session
            if session is None:
                self._send(Heartbeat(resident_bytes()))
            else:
                stats = session.cache.stats()
                self._send(Heartbeat(resident_bytes(), devices_of(session), asdict(stats), self._job))
            if self._ended.wait(HEARTBEAT):
                return


def devices_of(session: Session) -> tuple[dict[str, Any], ...]:
    """The session's devices as its packs describe them, with how much their resources hold."""
    if isinstance(session.registry, Registry):
        found = session.registry.devices(session.runtime)
        if found:
            return tuple({**item, "held": session.resources.held()} for item in found)
    kind, _, index = session.runtime.device.partition(":")
    return ({"name": session.runtime.device, "type": kind, "index": int(index) if index else None},)


def resident_bytes() -> int:
    """Bytes of memory that this process has now; at its peak where the system says no more."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _fault(error: Exception) -> Problem:
    """What is told of an error that no node raised; the worker's log has its trace."""
    return Problem("internal_error", f"the worker failed: {type(error).__name__}: {str(error)[:300]}.")
