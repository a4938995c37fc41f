"""Routes of the queue: what runs and waits, clearing, interrupting, pausing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from aiohttp import web

from nodegraph.jobs import QueuePage
from nodegraph.server.answers import done, dumps, raw, reply
from nodegraph.server.prompts import queue_item
from nodegraph.server.routing import Route, body_of, query_of
from nodegraph.server.state import STATE
from nodegraph.sockets import Range


@dataclass(frozen=True, slots=True)
class QueueQuery:
    """Which part of the queue; all of it where nothing is said."""

    limit: Annotated[int | None, Range(0, 10**9)] = None
    offset: Annotated[int, Range(0, 10**9)] = 0


@dataclass(frozen=True, slots=True)
class QueueBody:
    """What to take out of the queue."""

    clear: bool = False
    delete: tuple[str, ...] = ()
    """Ids of waiting jobs."""


@dataclass(frozen=True, slots=True)
class InterruptBody:
    """The running job to stop; every running one where none is named."""

    prompt_id: str | None = None


class QueueAnswer(TypedDict):
    """Jobs as lists of number, id, nodes, extra data and outputs."""

    queue_running: list[list[Any]]
    queue_pending: list[list[Any]]


class Paused(TypedDict):
    """Whether no further job is started."""

    paused: bool


async def get_queue(request: web.Request) -> web.Response:
    """What runs, and what waits in the order in which it will run."""
    asked = query_of(request, QueueQuery)
    page = await request.app[STATE].dispatch.store.queue(asked.limit, asked.offset)
    if len(page.queued) <= 20:
        return raw(_listed(page))
    return raw(await asyncio.to_thread(_listed, page))


def _listed(page: QueuePage) -> bytes:
    found: QueueAnswer = {
        "queue_running": [queue_item(job) for job in page.running],
        "queue_pending": [queue_item(job) for job in page.queued],
    }
    return dumps(found)


async def post_queue(request: web.Request) -> web.Response:
    """Take waiting jobs out of the queue."""
    asked = await body_of(request, QueueBody)
    await request.app[STATE].dispatch.unqueue(asked.delete, clear=asked.clear)
    return done()


async def interrupt(request: web.Request) -> web.Response:
    """Stop a running job, or all of them; one that does not run is left alone."""
    asked = await body_of(request, InterruptBody)
    await request.app[STATE].dispatch.interrupt(asked.prompt_id)
    return done()


async def pause(request: web.Request) -> web.Response:
    """Start no further job; what runs goes on."""
    await request.app[STATE].dispatch.pause(True)
    return reply({"paused": True})


async def paused(request: web.Request) -> web.Response:
    """Whether no further job is started."""
    return reply({"paused": request.app[STATE].dispatch.store.paused})


async def resume(request: web.Request) -> web.Response:
    """Start jobs again."""
    await request.app[STATE].dispatch.pause(False)
    return reply({"paused": False})


ROUTES = (
    Route(
        "GET", "/queue", get_queue, "What runs and what waits", query=QueueQuery, answers={200: QueueAnswer}
    ),
    Route(
        "POST",
        "/queue",
        post_queue,
        "Take waiting jobs out of the queue",
        body=QueueBody,
        answers={200: None},
    ),
    Route("GET", "/queue/pause", paused, "Whether no further job is started", answers={200: Paused}),
    Route("POST", "/queue/pause", pause, "Start no further job", answers={200: Paused}),
    Route("POST", "/queue/resume", resume, "Start jobs again", answers={200: Paused}),
    Route("POST", "/interrupt", interrupt, "Stop what runs", body=InterruptBody, answers={200: None}),
)
