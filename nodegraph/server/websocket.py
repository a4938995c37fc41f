"""The websocket: a client's id, its features, and what it is told first."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from nodegraph.server.answers import Refused
from nodegraph.server.comfy import status_text, text
from nodegraph.server.hub import Client
from nodegraph.server.routing import Route
from nodegraph.server.state import STATE

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_MOST_FEATURES = 64


async def websocket(request: web.Request) -> web.StreamResponse:
    """Messages of the jobs that the client posts, and the state of the queue."""
    state = request.app[STATE]
    id = request.query.get("clientId") or uuid.uuid4().hex
    if not _ID.fullmatch(id):
        raise Refused(400, "invalid_request", "clientId must be 1 to 128 letters, digits and any of _ . : -")
    if state.hub.full:
        raise Refused(503, "unavailable", "the server holds as many connections as it takes.")
    remaining = await state.dispatch.remaining()

    def greet(client: Client) -> None:
        client.send(status_text(remaining, sid=id))
        state.dispatch.catch_up(client)

    def receive(client: Client, message: Mapping[str, Any]) -> None:
        data = message.get("data")
        if message.get("type") == "feature_flags" and isinstance(data, dict):
            client.features = dict(list(data.items())[:_MOST_FEATURES])
            client.send(text("feature_flags", state.features))

    return await state.hub.serve(request, id, greet, receive)


ROUTES = (Route("GET", "/ws", websocket, "Messages of a client's jobs", gives="websocket"),)
