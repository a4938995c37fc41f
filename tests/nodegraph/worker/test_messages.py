"""Messages and events as bytes and data."""

from __future__ import annotations

import json
import math
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from nodegraph.errors import NodeError, Problem
from nodegraph.events import (
    Event,
    NodeCached,
    NodeExpanded,
    NodeFailed,
    NodeFinished,
    NodeProgress,
    NodeSkipped,
    NodeStarted,
    RunFinished,
    RunStarted,
)
from nodegraph.node import SavedFile
from nodegraph.worker.messages import (
    Answer,
    Cancel,
    Check,
    Describe,
    Descriptions,
    Done,
    Free,
    Heartbeat,
    Hello,
    Message,
    Plan,
    Preview,
    Ready,
    Run,
    RunEvents,
    Stop,
    WorkerSettings,
    decode,
    encode,
    event_data,
)
from nodegraph.worker.pipe import Frames, Pipe

PROBLEM = Problem("unknown_node", "there is no node type 'X'.", node="1", class_type="X", hint="Is it 'Y'?")
WARNING = Problem("broken_pack", "left out.", severity="warning")
MESSAGES: list[Message] = [
    Hello(WorkerSettings(("a", "b"), "in", None, None, "cuda:1", "fp16", 1, 2, ("m:P",), ("/p",))),
    Hello(WorkerSettings()),
    Run("j", '{"1": {"class_type": "Äpfel \ud800"}}', ("1",), 2),
    Run("j", "{}"),
    Cancel("j"),
    Plan("a", "{}", ("1", "2")),
    Check("b", "{}"),
    Free(True, False),
    Describe(),
    Stop(),
    Ready(7, ({"name": "cpu", "index": None},), {"python": "3.11"}, ({"name": "nodes"},), (WARNING,)),
    Descriptions(({"name": "nodes", "nodes": {"A": {"inputs": [{"default": 2**64 - 1}]}}},), (WARNING,)),
    Heartbeat(123, (), {"hits": 1}, "j"),
    RunEvents("j", ({"event": "run_started", "to_run": ["1"], "cached": []},)),
    Preview("j", "1", bytes(range(256))),
    Done("j", "failed", {"1": {"text": ["x"]}}, (PROBLEM, WARNING), 1.5),
    Answer("a", (PROBLEM,), (WARNING,), ("1",), ("2",), ({"node": "1", "state": "run"},)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.tag)
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    assert decode(encode(message)) == message


def test_every_message_is_tried_above() -> None:
    from nodegraph.worker.messages import _KINDS

    assert {type(message) for message in MESSAGES} == set(_KINDS.values())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode(Stop())[:-1],
        encode(Stop()) + b"x",
        b"\0\0\0\x02{}\0\0\0\0",
        b"\0\0\0\x02[]\0\0\0\0",
        b"\0\0\0\x01{\0\0\0\0",
        b'\0\0\0\x0e{"tag":"nope"}\0\0\0\0',
        b'\0\0\0\x16{"tag":"stop","more":1}'[:26] + b"\0\0\0\0",
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data)


def failure() -> NodeFailed:
    try:
        raise NodeError("no luck.", input="x")
    except NodeError as error:
        return NodeFailed("1", PROBLEM, error)


FILE = SavedFile("a.png", "sub", "output", Path("/secret/a.png"), 5, "0123")
EVENTS: list[tuple[Event, dict[str, Any]]] = [
    (RunStarted(("1",), ("2",)), {"event": "run_started", "to_run": ["1"], "cached": ["2"]}),
    (NodeStarted("1", 2, 3), {"event": "node_started", "node": "1", "item": 2, "items": 3}),
    (NodeProgress("1", 1, 2.5, object()), {"event": "node_progress", "node": "1", "value": 1, "total": 2.5}),
    (
        NodeCached("1", "host", {"text": ("x", 1, None)}),
        {"event": "node_cached", "node": "1", "tier": "host", "ui": {"text": ["x", 1, None]}},
    ),
    (NodeExpanded("1", ("1:1",)), {"event": "node_expanded", "node": "1", "children": ["1:1"]}),
    (
        NodeFinished("1", 0.5, {"images": (FILE,), "odd": (math.nan, {1: (2,)}, Path("x"))}),
        {
            "event": "node_finished",
            "node": "1",
            "seconds": 0.5,
            "ui": {
                "images": [{"filename": "a.png", "subfolder": "sub", "type": "output"}],
                "odd": [None, {"1": [2]}, "x"],
            },
        },
    ),
    (
        NodeSkipped("1", "blocked", "why"),
        {"event": "node_skipped", "node": "1", "reason": "blocked", "message": "why"},
    ),
    (
        RunFinished("success", 1.0, {"1": (object(),)}, {"1": {}}),
        {"event": "run_finished", "status": "success", "seconds": 1.0},
    ),
]


@pytest.mark.parametrize(("event", "data"), EVENTS, ids=lambda item: type(item).__name__)
def test_events_are_plain_data(event: Event, data: dict[str, Any]) -> None:
    assert event_data(event) == data
    json.dumps(event_data(event), allow_nan=False)


def test_a_failure_tells_its_exception() -> None:
    data = event_data(failure())
    assert data["exception_type"] == "nodegraph.errors.NodeError"
    assert data["exception_message"] == "no luck."
    assert "test_messages.py" in data["traceback"][-1]
    assert data["problem"]["code"] == "unknown_node" and "title" not in data["problem"]
    assert event_data(NodeFailed("1", PROBLEM))["traceback"] == []


def test_a_pipe_carries_messages_of_any_size_from_many_threads() -> None:
    ours, theirs = socket.socketpair()
    one, other = Pipe(ours), Pipe(theirs)
    big = [Preview(str(index), "n", bytes([index]) * 300_000) for index in range(6)]
    threads = [threading.Thread(target=one.send, args=(message, Stop())) for message in big]
    for thread in threads:
        thread.start()
    received: list[Message] = []
    while len(received) < 12:
        received += other.receive()
    for thread in threads:
        thread.join()
    assert received[1::2] == [Stop()] * 6
    assert sorted(item.job for item in received[::2] if isinstance(item, Preview)) == list("012345")
    assert all(item in big for item in received[::2])
    ours.sendall(encode(Stop())[:3])
    one.close()
    assert other.receive() == ()
    with pytest.raises(OSError):
        for _ in range(100):
            other.send(big[0])
    other.release()
    one.release()


@pytest.mark.parametrize("size", [1, 3, 7, 1000, 10**6])
def test_messages_come_out_of_pieces_of_any_size(size: int) -> None:
    sent: list[Message] = [Preview("1", "n", bytes(5000)), Stop(), Cancel("\u00e4"), Preview("2", "n", b"")]
    data = b"".join(encode(message) for message in sent)
    frames = Frames()
    found: list[Message] = []
    for start in range(0, len(data), size):
        found += frames.take(data[start : start + size])
    assert found == sent
    assert list(frames.take(encode(Stop())[:-1])) == []


def test_what_came_before_the_damage_is_told() -> None:
    messages = Frames().take(encode(Stop()) + b"\xff\xff\xff\xff")
    assert next(messages) == Stop()
    with pytest.raises(ValueError, match="no message"):
        next(messages)


def test_a_length_that_is_none_is_damage() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pipe = Pipe(theirs)
        ours.sendall(b"\xff\xff\xff\xff")
        with pytest.raises(ValueError, match="no message"):
            pipe.receive()
        pipe.release()
