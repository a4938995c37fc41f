"""Websockets: greeting, features, broadcasts, and clients that do not read."""

from __future__ import annotations

import asyncio
import socket as sockets
from pathlib import Path

import pytest
from aiohttp import WSMsgType

from nodegraph.server.config import Limits
from nodegraph.server.hub import Hub, Payload
from tests.nodegraph.server.serving import served


async def test_the_first_message_is_the_status_with_the_clients_id(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        for path in ("/ws", "/api/ws"):
            async with server.session.ws_connect(f"{server.url}{path}?clientId=me") as socket:
                first = await socket.receive_json(timeout=5)
                assert first == {
                    "type": "status",
                    "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "me"},
                }
        async with server.session.ws_connect(f"{server.url}/ws") as socket:
            assert len((await socket.receive_json(timeout=5))["data"]["sid"]) == 32
        assert await server.error("GET", "/ws?clientId=a%20b", 400) == "invalid_request"


async def test_features_are_exchanged(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.websocket("me") as socket:
        await socket.receive_json(timeout=5)
        for junk in ("{", "[]", '"x"', '{"type": "feature_flags", "data": 3}', "[" * 5000):
            await socket.send_str(junk)
        await socket.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        found = await socket.receive_json(timeout=5)
        while found["type"] == "status":
            found = await socket.receive_json(timeout=5)
        assert found["type"] == "feature_flags"
        assert found["data"] == await server.get("/features")
        (client,) = server.state.hub.of("me")
        assert client.supports("supports_preview_metadata") and not client.supports("other")


async def test_the_state_of_the_queue_goes_to_everybody(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.websocket("me") as me, server.websocket("you") as you:
        prompt = {"prompt": {"1": {"class_type": "ToyShow", "inputs": {"item": 1}}}}
        await server.post("/prompt", {**prompt, "client_id": "me"})
        for socket in (me, you):
            while True:
                found = await socket.receive_json(timeout=5)
                assert found["type"] == "status"
                if found["data"]["status"]["exec_info"]["queue_remaining"] == 1:
                    break


async def test_a_client_that_does_not_read_is_dropped_and_slows_nobody(tmp_path: Path) -> None:
    limits = Limits(client_bytes=2**20)
    async with served(tmp_path, limits=limits) as server:
        port = int(server.url.rpartition(":")[2])
        # A real socket with a small buffer that shakes hands and then never reads.
        raw = sockets.socket()
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", port))
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        request = f"GET /ws?clientId=deaf HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        await loop.sock_sendall(raw, (request + key).encode())
        async with server.websocket("me", max_msg_size=0) as me:
            while server.state.hub.count < 2:
                await asyncio.sleep(0.01)
            payload = "x" * 50_000
            read = 0
            for _ in range(400):
                server.state.hub.broadcast(payload)
                message = await me.receive(timeout=5)
                assert message.type is WSMsgType.TEXT
                read += message.data == payload
                if server.state.hub.dropped:
                    break
            assert server.state.hub.dropped == 1
            while server.state.hub.count > 1:
                await asyncio.sleep(0.01)
            assert not list(server.state.hub.of("deaf"))
            server.state.hub.broadcast("{}")
            while (await me.receive(timeout=5)).data != "{}":
                pass
        raw.close()


async def test_what_waits_is_bounded_and_a_newer_snapshot_takes_an_olders_place() -> None:
    hub = Hub(Limits(client_messages=3))
    hold = asyncio.Event()
    got: list[Payload] = []
    cut: list[bool] = []

    async def transmit(payload: Payload) -> None:
        await hold.wait()
        got.append(payload)

    async with hub.holding("me", transmit, lambda: cut.append(True)) as client:
        client.send("first")
        await asyncio.sleep(0)
        client.send("old", slot="state")
        client.send("between")
        client.send("new", slot="state")
        hold.set()
        await client.flushed()
        assert got == ["first", "between", "new"]
        hold.clear()
        for index in range(6):
            client.send(str(index))
        assert cut == [True] and client.dropped
    assert hub.count == 0 and hub.dropped == 1


async def test_no_more_clients_than_the_server_takes(tmp_path: Path) -> None:
    async with served(tmp_path, limits=Limits(clients=1)) as server, server.websocket("me") as me:
        await me.receive_json(timeout=5)
        assert await server.error("GET", "/ws", 503) == "unavailable"


@pytest.mark.parametrize("size", [2**20 + 1])
async def test_a_message_that_is_too_large_ends_the_connection(tmp_path: Path, size: int) -> None:
    async with served(tmp_path) as server, server.websocket("me") as me:
        await me.receive_json(timeout=5)
        await me.send_str("x" * size)
        while (message := await me.receive(timeout=5)).type is WSMsgType.TEXT:
            pass
        assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING)
        await server.get("/health")
