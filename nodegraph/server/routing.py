"""Routes as data: what the application serves and what OpenAPI says come from the same records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web

from nodegraph.server.answers import read_json
from nodegraph.server.shapes import checked, from_query
from nodegraph.server.state import STATE

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path. Every route is served under `/api` as well."""

    method: str
    path: str
    handler: Handler
    summary: str
    query: type | None = None
    """Shape of the query string."""
    body: type | None = None
    """Shape of the JSON body."""
    form: bool = False
    """The body may be a multipart form instead, whose parts are values by parameter."""
    upload: bool | type = False
    """The body is a file, or a multipart form of this shape."""
    gives: str = "application/json"
    """Media type of the answers."""
    answers: Mapping[int, Any] = field(default_factory=lambda: {200: Any})
    """Annotation of the body by status, None for an empty one; every other status is an error's."""
    parts: Mapping[str, Any] = field(default_factory=dict)
    """Annotation of the path's parts that are not any text."""


async def body_of(request: web.Request, shape: type[T]) -> T:
    """The JSON body as a shape. Raises ValidationError and Refused."""
    return checked(shape, await read_json(request, request.app[STATE].config.limits.body, empty={}))


def query_of(request: web.Request, shape: type[T]) -> T:
    """The query string as a shape. Raises ValidationError."""
    return from_query(shape, request.query)
