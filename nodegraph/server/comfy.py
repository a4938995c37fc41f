"""What happens in a run, as the messages that ComfyUI's clients read.

The order of a run's messages is ComfyUI's: status, execution_start, execution_cached, then for each node (progress_state,
executing, progress..., executed, progress_state), execution_success, execution_error or execution_interrupted, status,
`executing {node: null}`. They go to the client that posted the job; `status` goes to every client.

`progress_state` is a snapshot of every node that has begun, so sending one for each step costs the square of the graph.
Here a snapshot goes out at most ten times a second, less often for a large graph, and once more at the end. A client
whose feature flags have `supports_progress_deltas` gets only the nodes that changed, with `"delta": true`,
and those as well that were skipped.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nodegraph.server.hub import Client, Hub

INTERVAL = 0.1
"""Seconds between two progress_state messages of a job."""
NODES_A_SECOND = 2000
"""Nodes that the snapshots of a job may list in a second: one of 900 nodes goes out every 0.45 s."""
DELTAS = "supports_progress_deltas"
SKIPPED = "skipped"
"""What a node did not run for lies upstream. ComfyUI has no such state: it is told to those alone that take deltas."""
PREVIEW_METADATA = "supports_preview_metadata"
_PREVIEW, _TEXT, _PREVIEW_WITH_METADATA = 1, 3, 4
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_FORMATS = {"image/jpeg": 1, "image/png": 2}

Event = Mapping[str, Any]


def text(kind: str, data: Mapping[str, Any]) -> str:
    """A text message."""
    return _ENCODER.encode({"type": kind, "data": data})


def status_text(remaining: int, sid: str | None = None) -> str:
    """The `status` message; `sid` only in the first that a connection gets."""
    data: dict[str, Any] = {"status": {"exec_info": {"queue_remaining": remaining}}}
    return text("status", data | ({"sid": sid} if sid is not None else {}))


def preview_frame(image: bytes, mime: str) -> bytes:
    """The binary frame of a preview: event 1, format, image."""
    return struct.pack(">II", _PREVIEW, _FORMATS.get(mime, 1)) + image


def preview_frame_with_metadata(image: bytes, mime: str, place: Mapping[str, Any]) -> bytes:
    """The binary frame of a preview for clients that take metadata: event 4, length, JSON, image."""
    about = json.dumps({**place, "image_type": mime}, separators=(",", ":")).encode()
    return struct.pack(">II", _PREVIEW_WITH_METADATA, len(about)) + about + image


def text_frame(node: str, message: str) -> bytes:
    """The binary frame of a node's own text: event 3, length of the node's id, id, text."""
    name = node.encode()
    return struct.pack(">II", _TEXT, len(name)) + name + message.encode()


def listener_id(job: str) -> str:
    """The id in the hub of those that listen to one job. No client can take it: it has a space in it."""
    return f"job {job}"


class Stream:
    """One job's messages to the client that posted it, and what of them the history keeps."""

    def __init__(
        self,
        hub: Hub,
        job: str,
        client: str | None,
        types: Callable[[str], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.job = job
        self.client = client
        self.messages: list[tuple[str, dict[str, Any]]] = []
        """What the history keeps: start, cached, and how it ended."""
        self.outputs: dict[str, Any] = {}
        """What the output nodes showed, by id."""
        self._hub = hub
        self._listeners = (listener_id(job),) if client is None else (client, listener_id(job))
        self._types = types
        self._clock = clock
        self._parents: dict[str, str] = {}
        self._states: dict[str, dict[str, Any]] = {}
        self._changed: dict[str, None] = {}
        self._running: dict[str, None] = {}
        self._done: list[str] = []
        self._failure: Event | None = None
        self._sent = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def _clients(self) -> tuple[Client, ...]:
        """Who is told: the connections of the client that posted the job, and those that wait for this job alone."""
        return self._hub.of(*self._listeners)

    @property
    def current(self) -> str | None:
        """The node that began last of those that are under way."""
        return next(reversed(self._running), None)

    def place(self, node: str) -> dict[str, Any]:
        """A node's id and those of the nodes that it stands for, where a node in a sub-graph has others."""
        top = node
        while top in self._parents:
            top = self._parents[top]
        return {
            "node_id": node,
            "display_node_id": top,
            "parent_node_id": self._parents.get(node),
            "real_node_id": top,
        }

    def meta(self) -> dict[str, dict[str, Any]]:
        """The history's `meta`: the place of each node that showed something."""
        found = {}
        for node in self.outputs:
            place = self.place(node)
            found[node] = {
                "node_id": node,
                "display_node": place["display_node_id"],
                "parent_node": place["parent_node_id"],
                "real_node_id": place["real_node_id"],
            }
        return found

    def start(self, remaining: int) -> None:
        """The job was taken by a worker."""
        self._each(lambda client: status_text(remaining))
        self._note("execution_start", {"prompt_id": self.job, "timestamp": self._now()})

    def events(self, events: Iterable[Event]) -> None:
        """What happened in the run, in order."""
        for event in events:
            handler = getattr(self, f"_on_{event['event']}", None)
            if handler is not None:
                handler(event)

    def preview(self, node: str, image: bytes, mime: str) -> None:
        """A picture of what a node is at; one that still waits for the client is replaced."""
        clients = self._clients
        if not clients:
            return
        plain = preview_frame(image, mime)
        place = {**self.place(node), "prompt_id": self.job}
        for client in clients:
            full = client.supports(PREVIEW_METADATA)
            frame = preview_frame_with_metadata(image, mime, place) if full else plain
            client.send(frame, slot=f"preview {self.job}")

    def finish(self, status: str, problems: Sequence[Mapping[str, Any]]) -> None:
        """The run ended; `end` follows once the history has it."""
        node = self.current
        for left in list(self._running):
            self._set(left, state="error" if status == "failed" else "finished")
        self._snapshot()
        data: dict[str, Any] = {"prompt_id": self.job}
        if status == "success":
            self._note("execution_success", {**data, "timestamp": self._now()})
        elif status == "cancelled":
            data |= {"node_id": node or "", "node_type": self._types(node or "")}
            self._note(
                "execution_interrupted", {**data, "executed": list(self._done), "timestamp": self._now()}
            )
        else:
            self._note("execution_error", {**data, **self._error(problems), "timestamp": self._now()})

    def end(self, remaining: int) -> None:
        """The last messages, by which clients know that the history can be read."""
        self.close()
        self._each(lambda client: status_text(remaining))
        self._send("executing", {"node": None, "prompt_id": self.job})

    def close(self) -> None:
        """Send nothing more by itself: the run ended, or its attempt was lost."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def catch_up(self, client: Client) -> None:
        """What a client that came back needs to go on drawing."""
        node = self.current
        if node is not None:
            place = self.place(node)
            data = {"node": node, "display_node": place["display_node_id"], "prompt_id": self.job}
            client.send(text("executing", data))
        states = self._states if client.supports(DELTAS) else self._plain()
        client.send(text("progress_state", self._state_data(states)))

    def _on_run_started(self, event: Event) -> None:
        for node in event["cached"]:
            self._states[node] = self._state(node, 1.0, 1.0, "finished")
            self._changed[node] = None
            self._done.append(node)
        data = {"nodes": list(event["cached"]), "prompt_id": self.job, "timestamp": self._now()}
        self._note("execution_cached", data)

    def _on_node_started(self, event: Event) -> None:
        node = event["node"]
        if event.get("item", 0):
            return
        self._running[node] = None
        self._set(node, value=0.0, max=1.0, state="running")
        place = self.place(node)
        self._send(
            "executing", {"node": node, "display_node": place["display_node_id"], "prompt_id": self.job}
        )

    def _on_node_progress(self, event: Event) -> None:
        node, value, total = event["node"], event["value"], event["total"]
        self._set(node, value=value, max=total, state="running")
        self._send("progress", {"value": value, "max": total, "prompt_id": self.job, "node": node})

    def _on_node_cached(self, event: Event) -> None:
        self._show(event["node"], event.get("ui") or {})
        self._set(event["node"], value=1.0, max=1.0, state="finished")

    def _on_node_expanded(self, event: Event) -> None:
        for child in event["children"]:
            self._parents[child] = event["node"]

    def _on_node_finished(self, event: Event) -> None:
        node = event["node"]
        self._show(node, event.get("ui") or {})
        self._done.append(node)
        state = self._states.get(node)
        most = state["max"] if state is not None else 1.0
        self._set(node, value=most, max=most, state="finished")

    def _on_node_skipped(self, event: Event) -> None:
        self._set(event["node"], state=SKIPPED)

    def _on_node_failed(self, event: Event) -> None:
        if self._failure is None:
            self._failure = event
        self._set(event["node"], state="error")

    def _show(self, node: str, ui: Mapping[str, Any]) -> None:
        if not ui:
            return
        self.outputs[node] = ui
        display = self.place(node)["display_node_id"]
        self._send("executed", {"node": node, "display_node": display, "output": ui, "prompt_id": self.job})

    def _error(self, problems: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        failure = self._failure or {}
        problem = failure.get("problem") or (problems[0] if problems else {})
        node = failure.get("node") or problem.get("node") or ""
        parts = [problem.get("message", "the run failed.")]
        parts += [f"Found: {problem['found']}."] if problem.get("found") else []
        parts += [f"Allowed: {problem['allowed']}."] if problem.get("allowed") else []
        parts += [problem["hint"]] if problem.get("hint") else []
        return {
            "node_id": node,
            "node_type": problem.get("class_type") or self._types(node),
            "executed": list(self._done),
            "exception_message": " ".join(parts),
            "exception_type": failure.get("exception_type") or problem.get("code", "run_failed"),
            "traceback": list(failure.get("traceback") or ()),
            "current_inputs": {},
            "current_outputs": list(self._done),
            "problem": problem,
        }

    def _state(self, node: str, value: float, most: float, state: str) -> dict[str, Any]:
        return {"value": value, "max": most, "state": state, "prompt_id": self.job, **self.place(node)}

    def _set(self, node: str, *, state: str, **values: Any) -> None:
        known = self._states.get(node)
        if known is None:
            known = self._states[node] = self._state(node, 0.0, 1.0, state)
        known["state"] = state
        known.update(values)
        if state != "running":
            self._running.pop(node, None)
        self._changed[node] = None
        self._soon()

    def _soon(self) -> None:
        """Send a snapshot now where the last is long enough ago, else once it is; none where nobody listens."""
        if self._timer is not None or not self._clients:
            return
        wait = self._sent + max(INTERVAL, len(self._states) / NODES_A_SECOND) - time.monotonic()
        if wait <= 0:
            self._snapshot()
        else:
            self._timer = asyncio.get_running_loop().call_later(wait, self._snapshot)

    def _snapshot(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._changed:
            return
        # The first is never replaced by a newer one: however quick the run, it comes before `executing`.
        slot = f"progress {self.job}" if self._sent else None
        self._sent = time.monotonic()
        changed, self._changed = self._changed, {}
        whole = part = None
        for client in self._clients:
            if client.supports(DELTAS):
                if part is None:
                    nodes = {node: self._states[node] for node in changed}
                    part = text("progress_state", {**self._state_data(nodes), "delta": True})
                client.send(part)
            else:
                if whole is None:
                    whole = text("progress_state", self._state_data(self._plain()))
                client.send(whole, slot=slot)

    def _plain(self) -> dict[str, Any]:
        """The states that ComfyUI has, too."""
        return {node: state for node, state in self._states.items() if state["state"] != SKIPPED}

    def _state_data(self, nodes: Mapping[str, Any]) -> dict[str, Any]:
        return {"prompt_id": self.job, "nodes": nodes}

    def _note(self, kind: str, data: dict[str, Any]) -> None:
        self.messages.append((kind, data))
        self._send(kind, data)

    def _send(self, kind: str, data: Mapping[str, Any]) -> None:
        payload = None
        for client in self._clients:
            if payload is None:
                payload = text(kind, data)
            client.send(payload)

    def _each(self, message: Callable[[Client], str]) -> None:
        for client in self._clients:
            client.send(message(client))

    def _now(self) -> int:
        return int(self._clock() * 1000)
