"""Session: the long-lived things that runs share: node types, runtime, cache and the packs' resources."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any

from nodegraph.cache import Cache
from nodegraph.context import CancelToken
from nodegraph.errors import Problem, ValidationError
from nodegraph.events import Event
from nodegraph.execute import execute
from nodegraph.fingerprint import Key, fingerprint
from nodegraph.folders import Folders, default_folders
from nodegraph.foresight import Foresight, foresee, has_foresight
from nodegraph.graph import Graph, Report, check, narrowed
from nodegraph.memory import Trimmer
from nodegraph.node import NodeSpec, Runtime
from nodegraph.plan import Plan, plan
from nodegraph.registry import Registry
from nodegraph.resources import Resources
from nodegraph.result import Recorder, Result
from nodegraph.workflow import Workflow

__all__ = ["OnEvent", "Session", "default_folders", "make_output_folder"]

OnEvent = Callable[[Event], None]


def make_output_folder(folders: Folders) -> None:
    """Make the output folder. Raises ValidationError where it cannot be made or written into."""
    path = folders.output
    try:
        if not path.is_dir():
            path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(None, "it is read-only for this user")
    except OSError as error:
        reason = (
            "a file of that name is in the way"
            if os.path.exists(path) and not os.path.isdir(path)
            else error.strerror
        )
        raise ValidationError(
            Problem(
                "cannot_write",
                f"the output folder {path} cannot be written into: {reason}.",
                hint="Name another one with --output-dir (output_dir in Python).",
            )
        ) from None


class Session:
    """Runs workflows one after another, keeping results and models between them.

    Without arguments: every installed pack, `default_folders`, a device of the packs' choice. A context manager;
    `close` gives up what the packs hold. Raises ValidationError for a device that is not there.
    """

    def __init__(
        self,
        registry: Mapping[str, NodeSpec] | None = None,
        runtime: Runtime | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.registry: Mapping[str, NodeSpec] = registry if registry is not None else Registry.load()
        if runtime is None:
            roots = self.registry.model_roots if isinstance(self.registry, Registry) else ()
            runtime = Runtime(default_folders(pack_roots=roots), device="auto")
        if isinstance(self.registry, Registry):
            runtime = self.registry.settle(runtime)
        self.runtime = runtime
        self.resources = Resources(runtime)
        self.cache = cache if cache is not None else Cache.for_runtime(runtime, self.resources)
        self._trim = Trimmer()
        self._ahead: set[Key] = set()
        """Keys of results that were made to check graphs, and that no run has told of yet."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Packs and nodes that could not be loaded."""
        return self.registry.problems if isinstance(self.registry, Registry) else ()

    def check(self, workflow: Workflow, targets: Sequence[str] | None = None) -> Report:
        """All that is wrong with a workflow, warnings included; the nodes' own foresight has its say too."""
        report = check(workflow, self.registry, self.runtime.folders, targets)
        if report.graph is None or not has_foresight(report.graph):
            return report
        try:
            found = self.foresee(report.graph).problems
        except ValidationError as error:
            found = error.problems
        return narrowed(report, found) if found else report

    def bind(self, workflow: Workflow, targets: Sequence[str] | None = None) -> Graph:
        """The graph of a workflow. Raises ValidationError with every problem."""
        return _graph_of(self.check(workflow, targets))

    def foresee(self, graph: Graph) -> Foresight:
        """What a graph will come to, as far as its nodes can say. Raises ValidationError as `plan` does."""
        foresight = foresee(graph, self.plan(graph), self.cache, self.runtime)
        self._ahead |= foresight.made
        return foresight

    def plan(self, graph: Graph) -> Plan:
        """What a run of this graph would do now; `Plan.rows(session.cache)` says why. Raises ValidationError."""
        return plan(graph, fingerprint(graph, self.runtime), self.cache, ahead=self._ahead)

    async def events(
        self,
        workflow: Workflow | Graph,
        targets: Sequence[str] | None = None,
        cancel: CancelToken | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Run a workflow or a graph that was bound here, and yield what happens.

        Raises ValidationError before the first event; closing the generator cancels the run.
        """
        graph = workflow if isinstance(workflow, Graph) else self.bind(workflow, targets)
        self._make_temp()
        made = self.plan(graph)
        self._ahead -= made.ahead
        stream = execute(
            made,
            self.registry,
            self.runtime,
            self.cache,
            resources=self.resources,
            cancel=cancel,
        )
        try:
            async for event in stream:
                yield event
        finally:
            await stream.aclose()
            self._trim()

    def run(
        self,
        workflow: Workflow | Graph,
        parameters: Mapping[str, Any] | None = None,
        *,
        targets: Sequence[str] | None = None,
        on_event: OnEvent | None = None,
        cancel: CancelToken | None = None,
    ) -> Result:
        """Run to the end and give the result, whatever its status; `on_event` is called with each event.

        Of a workflow, its warnings are among the result's problems. Raises ValidationError where the workflow cannot run.
        May be called where an event loop is running already.
        """
        warnings: tuple[Problem, ...] = ()
        if isinstance(workflow, Workflow):
            given = workflow.with_values(parameters) if parameters else workflow
            report = self.check(given, targets)
            graph, warnings = _graph_of(report), report.warnings
        else:
            graph = workflow
        token = cancel or CancelToken()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            result = asyncio.run(self._collect(graph, on_event, token))
        else:
            result = self._in_thread(graph, on_event, token)
        return replace(result, problems=(*warnings, *result.problems)) if warnings else result

    async def _collect(self, graph: Graph, on_event: OnEvent | None, token: CancelToken) -> Result:
        recorder = Recorder()
        result = None
        stream = self.events(graph, cancel=token)
        try:
            async for event in stream:
                result = recorder.note(event) or result
                if on_event is not None:
                    on_event(event)
        finally:
            await stream.aclose()
        assert result is not None
        return result

    def _in_thread(self, graph: Graph, on_event: OnEvent | None, token: CancelToken) -> Result:
        """A run beside the loop that this thread is in; an interrupt of the wait cancels it."""
        outcome: list[Result | BaseException] = []

        def work() -> None:
            try:
                outcome.append(asyncio.run(self._collect(graph, on_event, token)))
            except BaseException as error:
                outcome.append(error)

        thread = threading.Thread(target=work, name="nodegraph-run")
        thread.start()
        try:
            thread.join()
        except BaseException:
            token.cancel()
            thread.join()
            raise
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    def _make_temp(self) -> None:
        """Make the folder for temporary files where that can be done; the others are the person's to make.

        Where it cannot, a node that writes there says why, and a run that has none goes on.
        """
        temp = self.runtime.folders.temp
        with suppress(OSError):
            if not temp.is_dir():
                temp.mkdir(mode=0o700, parents=True, exist_ok=True)

    def close(self) -> None:
        """Close the packs' resources and forget every result."""
        try:
            self.resources.close()
        finally:
            self.cache.clear()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _graph_of(report: Report) -> Graph:
    if report.problems or report.graph is None:
        raise ValidationError(report.problems)
    return report.graph
