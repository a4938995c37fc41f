"""Answers: JSON out, JSON in, and errors in one shape.

An error's body is ComfyUI's `{"error": {type, message, details, extra_info}, "node_errors": {}}`; `problems` beside it
holds nodegraph's own records of what is wrong.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any, NotRequired, TypedDict

from aiohttp import web

from nodegraph.errors import NodegraphError, Problem
from nodegraph.formats.json_text import parse
from nodegraph.server.config import Limits
from nodegraph.server.connections import Patience

JSON = "application/json"
LARGE = 2**18
"""Bytes of JSON that are read beside the loop."""
# Made once: json.dumps makes one anew for whoever asks for other separators.
_STRICT = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_STORED = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
LIMITS: web.AppKey[Limits] = web.AppKey("limits", Limits)
_STATUS = {
    "not_found": 404,
    "unknown_job": 404,
    "duplicate_id": 409,
    "already_there": 409,
    "already_finished": 409,
    "not_queued": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "too_many": 429,
    "disk_full": 507,
    "io_error": 507,
    "unavailable": 503,
    "no_worker": 503,
    "store_closed": 503,
    "store_failed": 503,
    "store_unwritable": 503,
    "store_corrupt": 503,
}


class ErrorItem(TypedDict):
    """What is wrong, in ComfyUI's shape."""

    type: str
    message: str
    details: str
    extra_info: dict[str, Any]


class ErrorAnswer(TypedDict):
    """The body of an error; `problems` says everything that is wrong."""

    error: ErrorItem
    node_errors: dict[str, Any]
    problems: NotRequired[list[dict[str, Any]]]


class Refused(NodegraphError):
    """A request that is answered with an error; `status` is the HTTP status."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(Problem(code, message, **more))
        self.status = status


def reply(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """JSON data as an answer."""
    return web.Response(body=dumps(data), status=status, content_type=JSON, charset="utf-8", headers=headers)


def raw(body: bytes) -> web.Response:
    """JSON that is text already."""
    return web.Response(body=body, content_type=JSON, charset="utf-8")


def done() -> web.Response:
    """200 without a body, as ComfyUI answers where there is nothing to say."""
    return web.Response()


def dumps(data: Any) -> bytes:
    """Compact JSON; integers of any size exact."""
    return _STRICT.encode(data).encode()


def compact(data: Any) -> str:
    """Compact JSON for the store, letters as they are."""
    return _STORED.encode(data)


def error_item(problem: Problem) -> ErrorItem:
    """A problem as an item of ComfyUI's error lists."""
    details = [f"Found: {problem.found}." if problem.found else "", problem.hint or ""]
    if problem.allowed:
        details.insert(1, f"Allowed: {problem.allowed}.")
    extra = {
        "input_name": problem.input,
        "received_value": problem.found,
        "allowed": problem.allowed,
        "hint": problem.hint,
    }
    text = " ".join(part for part in details if part)
    return {
        "type": problem.code,
        "message": problem.message,
        "details": f"{problem.input}: {text}" if problem.input and text else text or problem.input or "",
        "extra_info": {key: value for key, value in extra.items() if value is not None},
    }


def error_data(problems: Iterable[Problem], node_errors: Mapping[str, Any] | None = None) -> ErrorAnswer:
    """The body of an error answer; the first problem is the one that clients show."""
    listed = list(problems)
    return {
        "error": error_item(listed[0]),
        "node_errors": dict(node_errors or {}),
        "problems": [problem.data() for problem in listed],
    }


def error_reply(error: NodegraphError) -> web.Response:
    """The answer to a request that was refused."""
    status = error.status if isinstance(error, Refused) else _STATUS.get(error.problems[0].code, 400)
    return reply(error_data(error.problems), status)


async def read_json(request: web.Request, most: int, *, empty: Any = None) -> Any:
    """The JSON body of a request, `empty` where there is none.

    Raises Refused for another type of content, ValidationError for what is not JSON, nests too deeply or is too large.
    A script's client may leave the type out, or give a form's, as urllib does; a browser must say JSON, because a
    page of another site cannot say that without being asked first.
    """
    browser = "Origin" in request.headers or "Sec-Fetch-Site" in request.headers
    kind = request.content_type
    allowed = {JSON} if browser else {JSON, "application/x-www-form-urlencoded", "application/octet-stream"}
    if not request.body_exists:
        return empty
    if kind not in allowed and not kind.endswith("+json"):
        raise Refused(415, "unsupported_media_type", "the body must be JSON.", found=kind, allowed=JSON)
    data = await read_body(request, most)
    if not data.strip():
        return empty
    if len(data) > LARGE:
        # Beside the loop, so that others are answered.
        return await asyncio.to_thread(parse, data, "the body")
    return parse(data, "the body")


async def read_body(request: web.Request, most: int) -> bytes:
    """The whole body. Raises Refused where it is larger than `most` bytes, TooSlow."""
    if (request.content_length or 0) > most:
        raise too_large(most)
    patience = Patience(request.app[LIMITS].stall)
    parts = bytearray()
    while not request.content.at_eof():
        parts += await patience.read(request.content, 2**16)
        if len(parts) > most:
            raise too_large(most)
    return bytes(parts)


def too_large(most: int) -> Refused:
    """The refusal of a body of more than `most` bytes."""
    return Refused(413, "too_large", f"the body is larger than {most} bytes, the most that is taken.")
