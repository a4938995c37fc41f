"""Routes of jobs, whatever their state: a page of them, one of them, cancelling."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

from aiohttp import web

from nodegraph.jobs import Job, JobError, JobStatus
from nodegraph.server.answers import Refused, dumps, raw, reply
from nodegraph.server.prompts import files_of, plain_number, problems_of
from nodegraph.server.routing import Route, body_of, query_of
from nodegraph.server.state import STATE
from nodegraph.server.webhooks import shown
from nodegraph.sockets import Range

NAMES = {
    JobStatus.QUEUED: "pending",
    JobStatus.RUNNING: "in_progress",
    JobStatus.FINISHED: "completed",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "cancelled",
}
"""The states as editors call them."""
_BY_NAME = {name: status for status, name in NAMES.items()} | {status.value: status for status in JobStatus}


@dataclass(frozen=True, slots=True)
class JobsQuery:
    """Which jobs: their states, comma-separated, and which part of them."""

    status: str | None = None
    limit: Annotated[int, Range(1, 1000)] = 100
    offset: Annotated[int, Range(0, 10**9)] = 0
    sort_order: Literal["asc", "desc"] = "desc"


@dataclass(frozen=True, slots=True)
class MoveBody:
    """Where a job that waits goes: ahead of all others, or to a place by its number (lower runs first)."""

    front: bool = False
    number: float | None = None


class Pagination(TypedDict):
    """Which part of how many."""

    offset: int
    limit: int
    total: int
    has_more: bool


class JobsAnswer(TypedDict):
    """A page of jobs."""

    jobs: list[dict[str, Any]]
    pagination: Pagination


class Moved(TypedDict):
    """A job's new place in the queue."""

    id: str
    priority: float


class Cancelled(TypedDict):
    """How a job stands after it was asked to stop."""

    id: str
    status: str
    cancelled: bool


async def list_jobs(request: web.Request) -> web.Response:
    """A page of jobs, the newest first."""
    asked = query_of(request, JobsQuery)
    statuses = tuple(JobStatus)
    if asked.status:
        words = [word.strip() for word in asked.status.split(",") if word.strip()]
        unknown = [word for word in words if word not in _BY_NAME]
        if unknown:
            allowed = ", ".join(NAMES.values())
            text = f"there is no state {unknown[0][:50]!r}."
            raise Refused(400, "invalid_request", text, input="status", allowed=allowed)
        statuses = tuple(dict.fromkeys(_BY_NAME[word] for word in words))
    page = await request.app[STATE].dispatch.store.jobs(
        statuses, asked.limit, asked.offset, newest_first=asked.sort_order == "desc"
    )
    pagination: Pagination = {
        "offset": asked.offset,
        "limit": asked.limit,
        "total": page.total,
        "has_more": asked.offset + len(page.jobs) < page.total,
    }
    return raw(await asyncio.to_thread(_listed, page.jobs, pagination))


def _listed(jobs: Sequence[Job], pagination: Pagination) -> bytes:
    found: JobsAnswer = {"jobs": [short(job) for job in jobs], "pagination": pagination}
    return dumps(found)


async def get_job(request: web.Request) -> web.Response:
    """One job with its workflow and outputs."""
    store = request.app[STATE].dispatch.store
    job = await store.get(request.match_info["job_id"])
    if job is None:
        raise missing(request.match_info["job_id"])
    if job.webhook is None:
        return reply(whole(job))
    return reply({**whole(job), "webhook": shown(await store.deliveries.of(job.id))})


async def cancel_job(request: web.Request) -> web.Response:
    """Cancel a job that waits or runs; one that has ended stays as it is."""
    job = await request.app[STATE].dispatch.cancel(request.match_info["job_id"])
    if job is None:
        raise missing(request.match_info["job_id"])
    found: Cancelled = {
        "id": job.id,
        "status": NAMES[job.status],
        "cancelled": job.status is JobStatus.CANCELLED,
    }
    return reply(found)


async def move_job(request: web.Request) -> web.Response:
    """Give a job that waits another place in the queue."""
    asked = await body_of(request, MoveBody)
    if asked.front == (asked.number is not None):
        allowed = '{"front": true} or {"number": 1.5}'
        raise Refused(400, "invalid_request", "a move says either front or number.", allowed=allowed)
    try:
        store = request.app[STATE].dispatch.store
        job = await store.move(request.match_info["job_id"], front=asked.front, number=asked.number)
    except JobError as error:
        if error.code == "unknown_job":
            raise missing(request.match_info["job_id"]) from None
        raise
    found: Moved = {"id": job.id, "priority": plain_number(job.number)}
    return reply(found)


def missing(id: str) -> Refused:
    """The answer where there is no such job."""
    return Refused(404, "unknown_job", "there is no such job.", found=repr(id[:128]))


def short(job: Job) -> dict[str, Any]:
    """A job as a list shows it."""
    outputs = json.loads(job.outputs) if job.outputs else {}
    files = list(files_of(outputs))
    title = json.loads(job.document).get("title")
    found: dict[str, Any] = {
        "id": job.id,
        "title": title if isinstance(title, str) else "",
        "status": NAMES[job.status],
        "priority": plain_number(job.number),
        "create_time": _ms(job.created),
        "execution_start_time": _ms(job.started),
        "execution_end_time": _ms(job.finished),
        "outputs_count": len(files),
        "preview_output": _preview(outputs),
        "attempts": job.attempts,
    }
    if job.status is JobStatus.FAILED:
        problems = problems_of(job)
        first = problems[0] if problems else {}
        found["execution_error"] = {
            "prompt_id": job.id,
            "node_id": first.get("node") or "",
            "node_type": first.get("class_type") or "",
            "exception_message": first.get("message", ""),
            "exception_type": first.get("code", ""),
            "traceback": [],
        }
        found["problems"] = problems
    return found


def whole(job: Job) -> dict[str, Any]:
    """A job with all that is known of it."""
    document = json.loads(job.document)
    return {
        **short(job),
        "outputs": json.loads(job.outputs) if job.outputs else {},
        "document": document,
        "workflow": {"prompt": document.get("prompt", {}), "extra_data": json.loads(job.extra_data)},
        "targets": list(job.targets),
        "problems": problems_of(job),
    }


def _preview(outputs: dict[str, Any]) -> dict[str, Any] | None:
    """The first file that was saved, else the first that was shown."""
    listed = [
        {**file, "nodeId": node, "mediaType": kind}
        for node, shown in outputs.items()
        for kind, items in shown.items()
        for file in (items if isinstance(items, list) else ())
        if isinstance(file, dict) and "filename" in file
    ]
    return next((file for file in listed if file.get("type") == "output"), listed[0] if listed else None)


def _ms(seconds: float | None) -> int | None:
    return int(seconds * 1000) if seconds is not None else None


ROUTES = (
    Route("GET", "/jobs", list_jobs, "A page of jobs", query=JobsQuery, answers={200: JobsAnswer}),
    Route("GET", "/jobs/{job_id}", get_job, "One job", answers={200: dict[str, Any]}),
    Route("POST", "/jobs/{job_id}/cancel", cancel_job, "Cancel a job", answers={200: Cancelled}),
    Route(
        "POST",
        "/jobs/{job_id}/move",
        move_job,
        "Another place in the queue",
        body=MoveBody,
        answers={200: Moved},
    ),
)
