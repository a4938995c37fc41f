"""The websocket's messages about one job, as the events that a local run yields."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any

from nodegraph.client.records import STATUSES, JobState, problem_of
from nodegraph.events import (
    Event,
    NodeExpanded,
    NodeFailed,
    NodeFinished,
    NodeProgress,
    NodeStarted,
    RunFinished,
    RunStarted,
)
from nodegraph.modes import as_link

FEATURES = {
    "type": "feature_flags",
    "data": {"supports_progress_deltas": True, "supports_preview_metadata": True},
}
"""What a client says first: `progress_state` with changes only, previews with their job and node."""
_PREVIEW_WITH_METADATA = 4


class Told:
    """What a job's client has been told; `ended` once the last message came."""

    def __init__(self, job: JobState) -> None:
        self.ended = False
        self._job = job
        self._begun = False
        self._started: dict[str, float] = {}
        self._done: set[str] = set()
        self._failed: set[str] = set()
        self._children: set[str] = set()
        self._steps: dict[str, tuple[float, float]] = {}
        self._ui: dict[str, Mapping[str, tuple[Any, ...]]] = {}

    @property
    def late(self) -> bool:
        """Whether the job's beginning was missed."""
        return not self._begun

    def take(self, message: str | bytes) -> Iterator[Event]:
        """The events of a message; none for those of other jobs."""
        if isinstance(message, bytes):
            yield from self._binary(message)
            return
        found = json.loads(message)
        data = found.get("data")
        if isinstance(data, dict) and data.get("prompt_id") == self._job.id:
            handler = getattr(self, f"_on_{found.get('type')}", None)
            if handler is not None:
                yield from handler(data)

    def finish(self, job: JobState, cached: tuple[str, ...] = ()) -> Iterator[Event]:
        """The last events, from the job as it ended; `cached` are the held results where the beginning was missed."""
        if not self._begun and job.prompt:
            self._begun = True
            yield RunStarted(needed(job.prompt, job.targets, cached), cached)
        for problem in job.problems:
            if problem.node is not None and problem.severity == "error" and problem.node not in self._failed:
                self._failed.add(problem.node)
                yield NodeFailed(problem.node, problem)
        order = dict.fromkeys((*job.targets, *job.outputs))
        ui = {node: _shown(job.outputs[node]) for node in order if node in job.outputs}
        yield RunFinished(STATUSES[job.status], job.seconds, {}, ui, job.problems)

    def _on_execution_start(self, data: Mapping[str, Any]) -> Iterator[Event]:
        # Once more where a worker was lost: what was done there is done again.
        self._started.clear()
        self._done.clear()
        yield from ()

    def _on_execution_cached(self, data: Mapping[str, Any]) -> Iterator[Event]:
        if not self._begun:
            self._begun = True
            cached = tuple(data["nodes"])
            yield RunStarted(needed(self._job.prompt, self._job.targets, cached), cached)

    def _on_executing(self, data: Mapping[str, Any]) -> Iterator[Event]:
        node = data["node"]
        if node is None:
            self.ended = True
        elif node not in self._started:
            self._started[node] = time.monotonic()
            yield NodeStarted(node)

    def _on_progress(self, data: Mapping[str, Any]) -> Iterator[Event]:
        self._steps[data["node"]] = (data["value"], data["max"])
        yield NodeProgress(data["node"], data["value"], data["max"])

    def _on_executed(self, data: Mapping[str, Any]) -> Iterator[Event]:
        self._ui[data["node"]] = _shown(data["output"])
        yield from ()

    def _on_progress_state(self, data: Mapping[str, Any]) -> Iterator[Event]:
        for node, state in data["nodes"].items():
            parent = state.get("parent_node_id")
            if parent is not None and node not in self._children:
                self._children.add(node)
                yield NodeExpanded(parent, (node,))
            # A held result is finished too, but was never begun.
            if state["state"] == "finished" and node in self._started and node not in self._done:
                self._done.add(node)
                seconds = time.monotonic() - self._started[node]
                yield NodeFinished(node, seconds, self._ui.get(node, {}))

    def _on_execution_error(self, data: Mapping[str, Any]) -> Iterator[Event]:
        node = data["node_id"]
        if node and node not in self._failed:
            self._failed.add(node)
            yield NodeFailed(node, problem_of(data.get("problem") or {}))

    def _binary(self, frame: bytes) -> Iterator[Event]:
        if len(frame) < 8:
            return
        kind, length = struct.unpack(">II", frame[:8])
        if kind != _PREVIEW_WITH_METADATA:
            return
        about = json.loads(frame[8 : 8 + length])
        node = about.get("node_id")
        # Pictures are sent at once, and may be here before the node is said to have begun.
        if about.get("prompt_id") == self._job.id and node in self._started:
            yield NodeProgress(node, *self._steps.get(node, (0.0, 1.0)), preview=frame[8 + length :])


def needed(prompt: Mapping[str, Any], targets: tuple[str, ...], cached: tuple[str, ...]) -> tuple[str, ...]:
    """The nodes that the targets need and whose results are not held."""
    found: dict[str, None] = {}
    held = set(cached)
    waiting = list(targets)
    while waiting:
        node = waiting.pop()
        if node in found or node in held or node not in prompt:
            continue
        found[node] = None
        for value in prompt[node].get("inputs", {}).values():
            for item in (value, *(value if isinstance(value, list) else ())):
                link = as_link(item)
                if link is not None:
                    waiting.append(link[0])
    return tuple(found)


def _shown(items: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {name: tuple(listed) if isinstance(listed, list) else (listed,) for name, listed in items.items()}
