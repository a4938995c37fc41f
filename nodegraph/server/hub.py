"""Clients that are told what happens: each has a bounded queue that a task empties; one that stops reading is dropped."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from nodegraph.server.config import Limits

Payload = str | bytes
GOODBYE = 2.0
"""Seconds that a client has to answer a closing handshake."""


class _Waiting:
    """A message in a queue; `payload` is None once a newer one took its place."""

    __slots__ = ("payload", "slot")

    def __init__(self, payload: Payload, slot: str | None) -> None:
        self.payload: Payload | None = payload
        self.slot = slot


class Client:
    """One connection of a client. `id` is what it calls itself; several connections may share it."""

    def __init__(
        self,
        id: str,
        limits: Limits,
        transmit: Callable[[Payload], Awaitable[None]],
        abort: Callable[[], None],
    ) -> None:
        """`transmit` sends one message and waits while the connection is full; `abort` cuts the connection."""
        self.id = id
        self.features: Mapping[str, Any] = {}
        """What the client said that it supports."""
        self.dropped = False
        self._transmit = transmit
        self._abort = abort
        self._limits = limits
        self._queue: deque[_Waiting] = deque()
        self._slots: dict[str, _Waiting] = {}
        self._bytes = 0
        self._sending = False
        self._ready = asyncio.Event()

    def supports(self, feature: str) -> bool:
        """Whether the client announced a feature."""
        return bool(self.features.get(feature))

    def send(self, payload: Payload, slot: str | None = None) -> None:
        """Queue a message. One of the same slot (a snapshot, a preview) that still waits is replaced by it."""
        if self.dropped:
            return
        if slot is not None:
            older = self._slots.pop(slot, None)
            if older is not None and older.payload is not None:
                self._bytes -= len(older.payload)
                older.payload = None
        waiting = _Waiting(payload, slot)
        if slot is not None:
            self._slots[slot] = waiting
        self._queue.append(waiting)
        self._bytes += len(payload)
        if len(self._queue) > self._limits.client_messages or self._bytes > self._limits.client_bytes:
            self.drop()
        self._ready.set()

    def drop(self) -> None:
        """Cut the connection; nothing more is kept for the client."""
        self.dropped = True
        self._queue.clear()
        self._slots.clear()
        self._bytes = 0
        self._ready.set()
        self._abort()

    async def flushed(self) -> None:
        """Wait until everything that was queued before is sent, or the connection ends."""
        while (self._queue or self._sending) and not self.dropped:
            await asyncio.sleep(0.005)

    async def write(self) -> None:
        """Send what is queued until the connection ends."""
        while not self.dropped:
            while self._queue:
                waiting = self._queue.popleft()
                if waiting.slot is not None and self._slots.get(waiting.slot) is waiting:
                    del self._slots[waiting.slot]
                payload = waiting.payload
                if payload is None:
                    continue
                self._bytes -= len(payload)
                self._sending = True
                await self._transmit(payload)
                self._sending = False
            self._ready.clear()
            await self._ready.wait()


class Hub:
    """The connected clients, by id."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clients: dict[str, list[Client]] = {}
        self._sockets: set[web.WebSocketResponse] = set()
        self.count = 0
        self.dropped = 0
        """Clients that were dropped because they did not read."""

    @property
    def full(self) -> bool:
        """Whether no further client is taken."""
        return self.count >= self._limits.clients

    def of(self, *ids: str) -> tuple[Client, ...]:
        """The connections of some clients."""
        # Most jobs are posted by scripts, to whom nothing is told.
        if not self._clients:
            return ()
        return tuple([client for id in ids for client in self._clients.get(id, ())])

    def broadcast(self, payload: Payload, slot: str | None = None) -> None:
        """Queue a message for every client."""
        for clients in list(self._clients.values()):
            for client in clients:
                client.send(payload, slot)

    @asynccontextmanager
    async def holding(
        self, id: str, transmit: Callable[[Payload], Awaitable[None]], abort: Callable[[], None]
    ) -> AsyncIterator[Client]:
        """A client for as long as the context lasts, with the task that writes to it."""

        def cut() -> None:
            self.dropped += 1
            abort()

        client = Client(id, self._limits, transmit, cut)
        self._clients.setdefault(id, []).append(client)
        self.count += 1
        writer = asyncio.create_task(_write(client))
        try:
            yield client
        finally:
            client.dropped = True
            writer.cancel()
            self._clients[id].remove(client)
            if not self._clients[id]:
                del self._clients[id]
            self.count -= 1

    async def serve(
        self,
        request: web.Request,
        id: str,
        greet: Callable[[Client], None],
        receive: Callable[[Client, Mapping[str, Any]], None],
    ) -> web.WebSocketResponse:
        """Hold a websocket to its end. `greet` is called once it is open, `receive` with each JSON object that comes."""
        socket = web.WebSocketResponse(timeout=GOODBYE, heartbeat=30, max_msg_size=2**20, compress=False)
        await socket.prepare(request)

        async def transmit(payload: Payload) -> None:
            if isinstance(payload, str):
                await socket.send_str(payload)
            else:
                await socket.send_bytes(payload)

        def abort() -> None:
            if request.transport is not None:
                # Not a closing handshake, which a client that does not read would never answer.
                request.transport.abort()

        self._sockets.add(socket)
        try:
            async with self.holding(id, transmit, abort) as client:
                greet(client)
                async for message in socket:
                    if message.type is web.WSMsgType.TEXT:
                        data = _object(message.data)
                        if data is not None:
                            receive(client, data)
        finally:
            self._sockets.discard(socket)
        return socket

    async def close(self) -> None:
        """Say good-bye to every websocket."""
        closing = [socket.close(code=1001, message=b"the server stops") for socket in self._sockets]
        await asyncio.gather(*closing, return_exceptions=True)


async def _write(client: Client) -> None:
    try:
        await client.write()
    except (ConnectionError, RuntimeError):
        # The connection ended under the write; its reader sees that too and cleans up.
        client.dropped = True


def _object(text: str) -> Mapping[str, Any] | None:
    """A client's message, None where it is no JSON object: nobody answers for what another program sends."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None
