"""A web server that keeps what it was sent, for the tests of what leaves the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from nodegraph.server.addresses import Internal

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Received:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Receiver:
    """A running web server; `statuses` are those of its next answers, then 200."""

    port: int = 0
    statuses: list[int] = field(default_factory=list)
    got: list[Received] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    """What answers by path, in place of a status."""

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        """An address here."""
        return f"http://{host}:{self.port}{path}"

    @property
    def allowed(self) -> tuple[Internal, ...]:
        """What lets a server reach this one and nothing else in the own network."""
        return (Internal.of(f"127.0.0.1:{self.port}"),)

    async def until(self, count: int) -> list[Received]:
        """The requests, once so many came."""
        async with asyncio.timeout(30):
            while len(self.got) < count:
                await asyncio.sleep(0.02)
        return self.got

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Keep a request and answer it."""
        self.got.append(Received(request.path, dict(request.headers), await request.read()))
        if request.path in self.answers:
            return await self.answers[request.path](request)
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@asynccontextmanager
async def receiving(*statuses: int) -> AsyncIterator[Receiver]:
    """A running receiver on this machine."""
    found = Receiver(statuses=list(statuses))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.take)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    assert server.port is not None
    found.port = server.port
    try:
        yield found
    finally:
        await server.close()
