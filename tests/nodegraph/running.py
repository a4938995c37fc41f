"""Runs prompts of toy nodes and keeps what happened, for the tests of the executor."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from nodegraph.cache import Cache
from nodegraph.events import (
    Event,
    NodeCached,
    NodeFailed,
    NodeFinished,
    NodeSkipped,
    NodeStarted,
    RunFinished,
)
from nodegraph.execute import CancelToken, execute
from nodegraph.fingerprint import Keys, fingerprint
from nodegraph.graph import Graph, bind
from nodegraph.node import NodeSpec, Runtime
from nodegraph.plan import Plan, plan
from nodegraph.resources import Resources
from nodegraph.workflow import Workflow
from tests.nodegraph.toy import Journal, toy_folders, toy_registry

E = TypeVar("E")
Prompt = dict[str, dict[str, Any]]


def n(class_type: str, **inputs: Any) -> dict[str, Any]:
    """A node of a prompt."""
    return {"class_type": class_type, "inputs": inputs}


@dataclass
class Ran:
    """The events of a run."""

    events: list[Event]

    def of(self, kind: type[E]) -> list[E]:
        """The events of a type."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def end(self) -> RunFinished:
        """The last event."""
        last = self.events[-1]
        assert isinstance(last, RunFinished)
        return last

    @property
    def started(self) -> list[str]:
        """Nodes that were called."""
        return [event.node for event in self.of(NodeStarted)]

    @property
    def finished(self) -> list[str]:
        """Nodes that ran to their end."""
        return [event.node for event in self.of(NodeFinished)]

    @property
    def cached(self) -> list[str]:
        """Nodes that were not run because their results were held."""
        return [event.node for event in self.of(NodeCached)]

    @property
    def skipped(self) -> dict[str, str]:
        """Reasons by the nodes that were skipped."""
        return {event.node: event.reason for event in self.of(NodeSkipped)}

    @property
    def failed(self) -> dict[str, str]:
        """Codes by the nodes that failed."""
        return {event.node: event.problem.code for event in self.of(NodeFailed)}

    def value(self, node: str, index: int = 0) -> Any:
        """An output of a requested node."""
        return self.end.outputs[node][index]


@dataclass
class Bench:
    """A registry, a runtime and a cache that several runs share."""

    root: Path
    options: dict[str, Any] = field(default_factory=dict)
    cache: Cache = field(default_factory=lambda: Cache(10**8, 10**8))
    registry: Mapping[str, NodeSpec] = field(default_factory=toy_registry)
    device: str = "cpu"
    resources: Resources | None = None

    def __post_init__(self) -> None:
        self.journal = Journal()
        self.runtime = Runtime(
            toy_folders(self.root), device=self.device, options={"journal": self.journal, **self.options}
        )

    def bound(self, prompt: Prompt, targets: Sequence[str] | None = None) -> Graph:
        """The bound graph of a prompt."""
        return bind(Workflow.from_data(prompt), self.registry, self.runtime.folders, targets)

    def keys(self, prompt: Prompt, targets: Sequence[str] | None = None) -> Keys:
        """The keys of a prompt."""
        return fingerprint(self.bound(prompt, targets), self.runtime)

    def plan(self, prompt: Prompt, targets: Sequence[str] | None = None) -> Plan:
        """What a run would do now."""
        graph = self.bound(prompt, targets)
        return plan(graph, fingerprint(graph, self.runtime), self.cache)

    def events(
        self, prompt: Prompt, targets: Sequence[str] | None = None, cancel: CancelToken | None = None
    ) -> AsyncGenerator[Event, None]:
        """The stream of a run."""
        return execute(
            self.plan(prompt, targets),
            self.registry,
            self.runtime,
            self.cache,
            resources=self.resources,
            cancel=cancel,
        )

    async def run(
        self, prompt: Prompt, targets: Sequence[str] | None = None, cancel: CancelToken | None = None
    ) -> Ran:
        """Run a prompt to its end."""
        return Ran([event async for event in self.events(prompt, targets, cancel)])

    def on(self, **changes: Any) -> Bench:
        """Another bench with the same cache and folders and a changed runtime."""
        other = Bench(self.root, self.options, self.cache, self.registry, self.device, self.resources)
        other.journal = self.journal
        other.runtime = replace(self.runtime, **changes)
        return other
