"""Events of a run as ComfyUI's messages: order, shapes, rates, and what history keeps."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from nodegraph.server.comfy import (
    DELTAS,
    INTERVAL,
    PREVIEW_METADATA,
    Stream,
    listener_id,
    status_text,
    text_frame,
)
from nodegraph.server.config import Limits
from nodegraph.server.hub import Client, Hub, Payload


def types(node: str) -> str:
    """The class of a node."""
    return {"1": "ToyAdd", "2": "ToyShow"}.get(node, "")


class Ear:
    """What one client got."""

    def __init__(self, client: Client, got: list[Payload]) -> None:
        self.client = client
        self.got = got

    async def texts(self) -> list[tuple[str, Any]]:
        """(type, data) of the text messages so far."""
        await self.client.flushed()
        found = [json.loads(item) for item in self.got if isinstance(item, str)]
        return [(item["type"], item["data"]) for item in found]

    async def kinds(self) -> list[str]:
        """Types of the text messages so far."""
        return [kind for kind, _ in await self.texts()]

    async def frames(self) -> list[bytes]:
        """The binary messages so far."""
        await self.client.flushed()
        return [item for item in self.got if isinstance(item, bytes)]


@asynccontextmanager
async def ear(hub: Hub, id: str, **features: bool) -> AsyncIterator[Ear]:
    """A client that listens."""
    got: list[Payload] = []

    async def transmit(payload: Payload) -> None:
        got.append(payload)

    async with hub.holding(id, transmit, lambda: None) as client:
        client.features = features
        yield Ear(client, got)


def started(node: str) -> dict[str, Any]:
    """A node began."""
    return {"event": "node_started", "node": node, "item": 0, "items": 1}


def progress(node: str, value: float, total: float) -> dict[str, Any]:
    """A node got on."""
    return {"event": "node_progress", "node": node, "value": value, "total": total}


def finished(node: str, **ui: Any) -> dict[str, Any]:
    """A node ended."""
    return {"event": "node_finished", "node": node, "seconds": 0.1, "ui": ui}


def run(stream: Stream) -> None:
    """A run of two nodes, the second of which shows something."""
    stream.start(1)
    stream.events([{"event": "run_started", "to_run": ["1", "2"], "cached": ["0"]}])
    stream.events([started("1"), progress("1", 1, 2), progress("1", 2, 2), finished("1")])
    stream.events([started("2"), finished("2", text=["3.0"])])
    stream.finish("success", [])
    stream.end(0)


async def test_the_order_of_a_run() -> None:
    hub = Hub(Limits())
    async with ear(hub, "me") as me:
        stream = Stream(hub, "job", "me", types)
        run(stream)
        kinds = await me.kinds()
        without = [kind for kind in kinds if kind != "progress_state"]
        assert without == [
            *("status", "execution_start", "execution_cached"),
            *("executing", "progress", "progress"),
            *("executing", "executed", "execution_success", "status", "executing"),
        ]
        last = (await me.texts())[-1]
        assert last == ("executing", {"node": None, "prompt_id": "job"})
        assert kinds.index("progress_state") < kinds.index("execution_success")


async def test_the_shapes_of_messages() -> None:
    hub = Hub(Limits())
    async with ear(hub, "me") as me:
        stream = Stream(hub, "job", "me", types, clock=lambda: 12.5)
        run(stream)
        found: dict[str, Any] = {}
        for kind, data in await me.texts():
            found.setdefault(kind, data)
        assert found["status"] == {"status": {"exec_info": {"queue_remaining": 1}}}
        assert found["execution_start"] == {"prompt_id": "job", "timestamp": 12500}
        assert found["execution_cached"] == {"nodes": ["0"], "prompt_id": "job", "timestamp": 12500}
        assert found["executing"] == {"node": "1", "display_node": "1", "prompt_id": "job"}
        assert found["progress"] == {"value": 1, "max": 2, "prompt_id": "job", "node": "1"}
        assert found["executed"] == {
            "node": "2",
            "display_node": "2",
            "output": {"text": ["3.0"]},
            "prompt_id": "job",
        }
        states = [data for kind, data in await me.texts() if kind == "progress_state"][-1]
        assert set(states["nodes"]) == {"0", "1", "2"}
        assert states["nodes"]["1"] == {
            "value": 2,
            "max": 2,
            "state": "finished",
            "prompt_id": "job",
            "node_id": "1",
            "display_node_id": "1",
            "parent_node_id": None,
            "real_node_id": "1",
        }
    assert [kind for kind, _ in stream.messages] == [
        "execution_start",
        "execution_cached",
        "execution_success",
    ]
    assert stream.outputs == {"2": {"text": ["3.0"]}}
    assert stream.meta() == {
        "2": {"node_id": "2", "display_node": "2", "parent_node": None, "real_node_id": "2"}
    }
    assert json.loads(status_text(3, "x"))["data"] == {
        "status": {"exec_info": {"queue_remaining": 3}},
        "sid": "x",
    }


async def test_others_hear_nothing_of_it() -> None:
    hub = Hub(Limits())
    async with ear(hub, "me") as me, ear(hub, "you") as you, ear(hub, "me") as again:
        run(Stream(hub, "job", "me", types))
        run(Stream(hub, "nobody's", None, types))
        stream = Stream(hub, "job", "me", types)
        stream.preview("1", b"x", "image/jpeg")
        assert await you.texts() == [] and await you.frames() == []
        assert await me.texts() == await again.texts() != []


async def test_who_waits_for_a_job_hears_it_too() -> None:
    hub = Hub(Limits())
    async with ear(hub, listener_id("job")) as one, ear(hub, listener_id("other")) as other:
        run(Stream(hub, "job", None, types))
        assert "execution_success" in await one.kinds()
        assert await other.kinds() == []


async def test_a_failure_is_told_once_with_its_place() -> None:
    hub = Hub(Limits())
    problem = {
        "code": "node_failed",
        "message": "no.",
        "node": "1",
        "class_type": "ToyAdd",
        "hint": "Mend it.",
    }
    failed = {
        "event": "node_failed",
        "node": "1",
        "problem": problem,
        "exception_type": "ValueError",
        "exception_message": "no",
        "traceback": ["line"],
    }
    async with ear(hub, "me") as me:
        stream = Stream(hub, "job", "me", types)
        stream.start(1)
        stream.events([{"event": "run_started", "to_run": ["1", "2", "3"], "cached": []}])
        stream.events([started("1"), failed, started("3"), {**failed, "node": "3"}])
        stream.finish("failed", [problem])
        stream.end(0)
        errors = [data for kind, data in await me.texts() if kind == "execution_error"]
        assert len(errors) == 1
        expected = {"node_id": "1", "node_type": "ToyAdd", "exception_type": "ValueError", "executed": []}
        assert {key: errors[0][key] for key in expected} == expected
        assert errors[0]["exception_message"] == "no. Mend it."
        assert set(errors[0]) >= {"traceback", "current_inputs", "current_outputs", "timestamp", "prompt_id"}
        states = [data for kind, data in await me.texts() if kind == "progress_state"][-1]["nodes"]
        assert states["1"]["state"] == "error"


async def test_a_worker_that_died_is_an_error_without_a_node() -> None:
    hub = Hub(Limits())
    async with ear(hub, "me") as me:
        stream = Stream(hub, "job", "me", types)
        stream.start(1)
        stream.finish("failed", [{"code": "worker_died", "message": "the worker was killed."}])
        (data,) = [data for kind, data in await me.texts() if kind == "execution_error"]
        assert (data["node_id"], data["exception_type"]) == ("", "worker_died")


async def test_an_interruption_names_where_it_stopped() -> None:
    hub = Hub(Limits())
    async with ear(hub, "me") as me:
        stream = Stream(hub, "job", "me", types)
        stream.start(1)
        stream.events([started("1"), finished("1"), started("2")])
        stream.finish("cancelled", [])
        (data,) = [data for kind, data in await me.texts() if kind == "execution_interrupted"]
        assert (data["node_id"], data["node_type"], data["executed"]) == ("2", "ToyShow", ["1"])


async def test_snapshots_are_ten_a_second_at_most_and_the_last_is_whole() -> None:
    hub = Hub(Limits())
    async with ear(hub, "me") as me:
        stream = Stream(hub, "job", "me", types)
        loop = asyncio.get_running_loop()
        began = loop.time()
        stream.start(1)
        stream.events([{"event": "run_started", "to_run": [], "cached": []}, started("1")])
        while loop.time() - began < 0.5:
            stream.events([progress("1", loop.time() - began, 1)])
            await asyncio.sleep(0.005)
        took = loop.time() - began
        sent = (await me.kinds()).count("progress_state")
        assert 2 <= sent <= took / INTERVAL + 2
        stream.events([finished("1")])
        stream.finish("success", [])
        stream.end(0)
        states = [data for kind, data in await me.texts() if kind == "progress_state"]
        assert len(states) <= sent + 2
        assert states[-1]["nodes"]["1"]["state"] == "finished"


async def test_who_takes_deltas_gets_what_changed() -> None:
    hub = Hub(Limits())
    async with ear(hub, "me", **{DELTAS: True}) as delta, ear(hub, "me") as whole:
        stream = Stream(hub, "job", "me", types)
        stream.start(1)
        for index in range(300):
            stream.events([started(str(index)), finished(str(index))])
            if index % 100 == 0:
                await asyncio.sleep(INTERVAL * 1.2)
        stream.finish("success", [])
        seen: dict[str, Any] = {}
        count = 0
        for kind, data in await delta.texts():
            if kind == "progress_state":
                assert data["delta"] is True
                seen |= data["nodes"]
                count += len(data["nodes"])
        last = [data for kind, data in await whole.texts() if kind == "progress_state"][-1]
        assert seen == last["nodes"] and len(seen) == 300
        assert count < 2 * 300 + 10
        assert "delta" not in last


async def test_what_was_skipped_is_told_to_who_takes_deltas() -> None:
    hub = Hub(Limits())
    async with ear(hub, "me", **{DELTAS: True}) as delta, ear(hub, "me") as whole:
        stream = Stream(hub, "job", "me", types)
        stream.start(1)
        skipped = {"event": "node_skipped", "node": "2", "reason": "blocked", "message": None}
        stream.events([started("1"), finished("1"), skipped])
        stream.finish("success", [])

        async def states(of: Ear) -> dict[str, str]:
            told = [data["nodes"] for kind, data in await of.texts() if kind == "progress_state"]
            return {node: state["state"] for nodes in told for node, state in nodes.items()}

        assert await states(delta) == {"1": "finished", "2": "skipped"}
        assert await states(whole) == {"1": "finished"}


async def test_the_messages_of_a_long_chain_are_linear() -> None:
    async def size(count: int) -> int:
        hub = Hub(Limits())
        async with ear(hub, "me") as me:
            stream = Stream(hub, "job", "me", str)
            stream.start(1)
            stream.events([{"event": "run_started", "to_run": [], "cached": []}])
            for index in range(count):
                stream.events([started(str(index)), finished(str(index))])
            stream.finish("success", [])
            stream.end(0)
            await me.client.flushed()
            return sum(len(item) for item in me.got)

    assert await size(900) < 500_000
    assert await size(1800) < 2.5 * await size(900)


async def test_nodes_of_an_expansion_are_shown_at_the_node_that_made_them() -> None:
    hub = Hub(Limits())
    async with ear(hub, "me") as me:
        stream = Stream(hub, "job", "me", types)
        stream.start(1)
        stream.events([started("1"), {"event": "node_expanded", "node": "1", "children": ["1:a"]}])
        stream.events([started("1:a"), {"event": "node_expanded", "node": "1:a", "children": ["1:a:b"]}])
        stream.events([started("1:a:b"), finished("1:a:b", text=["x"])])
        (shown,) = [data for kind, data in await me.texts() if kind == "executed"]
        assert (shown["node"], shown["display_node"]) == ("1:a:b", "1")
        assert stream.place("1:a:b") == {
            "node_id": "1:a:b",
            "display_node_id": "1",
            "parent_node_id": "1:a",
            "real_node_id": "1",
        }


async def test_previews_go_as_each_client_takes_them() -> None:
    hub = Hub(Limits())
    async with ear(hub, "me") as plain, ear(hub, "me", **{PREVIEW_METADATA: True}) as full:
        stream = Stream(hub, "job", "me", types)
        stream.preview("1", b"jpeg", "image/jpeg")
        (frame,) = await plain.frames()
        assert frame == struct.pack(">II", 1, 1) + b"jpeg"
        (frame,) = await full.frames()
        event, length = struct.unpack_from(">II", frame)
        about = json.loads(frame[8 : 8 + length])
        assert event == 4 and frame[8 + length :] == b"jpeg"
        assert about == {**stream.place("1"), "prompt_id": "job", "image_type": "image/jpeg"}
        stream.preview("1", b"png", "image/png")
        assert (await plain.frames())[-1] == struct.pack(">II", 1, 2) + b"png"
    assert text_frame("é", "hi") == struct.pack(">II", 3, 2) + "éhi".encode()


async def test_a_client_that_comes_back_is_told_where_its_job_stands() -> None:
    hub = Hub(Limits())
    stream = Stream(hub, "job", "me", types)
    stream.start(1)
    stream.events([started("1"), finished("1"), started("2")])
    async with ear(hub, "me") as me:
        stream.catch_up(me.client)
        (executing, states) = await me.texts()
        assert executing == ("executing", {"node": "2", "display_node": "2", "prompt_id": "job"})
        assert set(states[1]["nodes"]) == {"1", "2"}
    stream.finish("success", [])
    stream.end(0)
