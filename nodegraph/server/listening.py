"""Connections as they come in, and what is answered to requests that are no HTTP: those reach no route."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from nodegraph.server.answers import Refused, error_reply
from nodegraph.server.config import Limits
from nodegraph.server.connections import LINGERING, connection_log
from nodegraph.server.security import HEADERS

BACKLOG = 1024
"""Connections that wait to be taken."""


class Connection(web.RequestHandler):
    """Tells of what cannot be read as everything else is told: as JSON, without a word of what was sent."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that no route could answer. Raises ConnectionError where one was begun."""
        # It logs, and looks whether something was sent.
        super().handle_error(request, status, exc, message)
        if status < 500:
            error = Refused(status, "bad_request", "the request cannot be read: it is no HTTP.")
        else:
            error = Refused(status, "internal_error", "the server failed; its log says why.")
        answer = error_reply(error)
        answer.headers.update({**HEADERS, "Server": "nodegraph"})
        answer.force_close()
        return answer


def handler_args(limits: Limits) -> dict[str, Any]:
    """How connections are read and how long they are kept."""
    return {
        "auto_decompress": False,
        "keepalive_timeout": limits.idle,
        "lingering_time": LINGERING,
        "logger": connection_log(),
    }


async def listen(server: web.Server, host: str, port: int, limits: Limits) -> asyncio.Server:
    """Take connections, and have `server` answer what they ask. Raises OSError."""
    loop = asyncio.get_running_loop()
    # In place of aiohttp's TCPSite, which knows only its own kind of connection.
    more = {"access_log": None, **handler_args(limits)}
    return await loop.create_server(
        lambda: Connection(server, loop=loop, **more), host, port, backlog=BACKLOG
    )
