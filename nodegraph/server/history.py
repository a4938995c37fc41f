"""Routes of the history: jobs that have ended, in ComfyUI's shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, TypedDict

from aiohttp import web

from nodegraph.jobs import Job, JobStatus
from nodegraph.server.answers import done, dumps, raw, reply
from nodegraph.server.prompts import problems_of, queue_item
from nodegraph.server.routing import Route, body_of, query_of
from nodegraph.server.state import STATE
from nodegraph.sockets import Range

MOST = 1000
"""Jobs that are answered where nobody says how many: each comes with its whole workflow."""


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """Which part of the history: `max_items` from `offset` on, or the newest where no offset is given."""

    max_items: Annotated[int | None, Range(-1, 10**9)] = None
    offset: Annotated[int, Range(-1, 10**9)] = -1


@dataclass(frozen=True, slots=True)
class HistoryBody:
    """What to forget."""

    clear: bool = False
    delete: tuple[str, ...] = ()


class HistoryItem(TypedDict):
    """A job that has ended."""

    prompt: list[Any]
    outputs: dict[str, Any]
    status: dict[str, Any]
    meta: dict[str, Any]
    problems: NotRequired[list[dict[str, Any]]]


async def get_history(request: web.Request) -> web.Response:
    """Jobs that have ended by id, the oldest first; the newest `max_items` where no offset is given."""
    asked = query_of(request, HistoryQuery)
    store = request.app[STATE].dispatch.store
    most = asked.max_items if asked.max_items is not None and asked.max_items >= 0 else MOST
    if asked.offset < 0:
        page = await store.history(most, 0, newest_first=True)
        jobs: Sequence[Job] = page.jobs[::-1]
    else:
        jobs = (await store.history(most, asked.offset, newest_first=False)).jobs
    return raw(await asyncio.to_thread(_listed, jobs))


def _listed(jobs: Sequence[Job]) -> bytes:
    return dumps({job.id: item(job) for job in jobs if not unborn(job)})


async def get_one(request: web.Request) -> web.Response:
    """One job by id; an empty object until it has ended."""
    job = await request.app[STATE].dispatch.store.get(request.match_info["prompt_id"])
    return reply({job.id: item(job)} if job is not None and job.status.final and not unborn(job) else {})


def unborn(job: Job) -> bool:
    """Whether a job was cancelled before it ever ran: ComfyUI forgets such."""
    return job.status is JobStatus.CANCELLED and job.started is None


def item(job: Job) -> HistoryItem:
    """A job that has ended, as the history gives it."""
    messages: list[Any] = json.loads(job.messages) if job.messages else _messages(job)
    found: HistoryItem = {
        "prompt": queue_item(job),
        "outputs": json.loads(job.outputs) if job.outputs else {},
        "status": {
            "status_str": "success" if job.status is JobStatus.FINISHED else "error",
            "completed": job.status is JobStatus.FINISHED,
            "messages": messages,
        },
        "meta": json.loads(job.meta) if job.meta else {},
    }
    problems = problems_of(job)
    if problems:
        found["problems"] = problems
    return found


def _messages(job: Job) -> list[Any]:
    """What a client would have been told of a job whose messages were lost with its server."""
    started = int((job.started or job.created) * 1000)
    ended = int((job.finished or job.created) * 1000)
    found: list[Any] = [["execution_start", {"prompt_id": job.id, "timestamp": started}]]
    data: dict[str, Any] = {"prompt_id": job.id, "timestamp": ended}
    if job.status is JobStatus.FINISHED:
        found.append(["execution_success", data])
    elif job.status is JobStatus.CANCELLED:
        found.append(["execution_interrupted", {**data, "node_id": "", "node_type": "", "executed": []}])
    else:
        problem = next(iter(problems_of(job)), {})
        error = {
            "node_id": problem.get("node") or "",
            "node_type": problem.get("class_type") or "",
            "executed": [],
            "exception_message": problem.get("message", ""),
            "exception_type": problem.get("code", "run_failed"),
            "traceback": [],
            "current_inputs": {},
            "current_outputs": [],
        }
        found.append(["execution_error", {**data, **error}])
    return found


async def post_history(request: web.Request) -> web.Response:
    """Forget jobs that have ended."""
    asked = await body_of(request, HistoryBody)
    store = request.app[STATE].dispatch.store
    if asked.clear:
        await store.clear_history()
    if asked.delete:
        await store.delete(*asked.delete)
    return done()


ROUTES = (
    Route(
        "GET",
        "/history",
        get_history,
        "Jobs that have ended",
        query=HistoryQuery,
        answers={200: dict[str, HistoryItem]},
    ),
    Route(
        "GET",
        "/history/{prompt_id}",
        get_one,
        "A job that has ended",
        answers={200: dict[str, HistoryItem]},
    ),
    Route(
        "POST",
        "/history",
        post_history,
        "Forget jobs that have ended",
        body=HistoryBody,
        answers={200: None},
    ),
)
