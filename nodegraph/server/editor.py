"""The editor's page, the examples that it offers, and the conversion of what is dropped onto it.

The page is a bundle of fixed names, built from web/src. It is read once; browsers ask by its hash whether their copy is still
right. Its policy lets it run its own script alone, whatever a workflow holds.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from aiohttp import web

import nodegraph
from nodegraph.server.answers import Refused, reply
from nodegraph.server.routing import Route, query_of
from nodegraph.server.state import STATE, State
from nodegraph.server.workflows import read_workflow, workflow_of

PAGE = "index.html"
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the bundle, as it is and packed."""

    kind: str
    body: bytes
    packed: bytes
    tag: str


@dataclass(frozen=True, slots=True)
class ConvertQuery:
    """The format that is wanted: nodegraph's own document, or one of ComfyUI's."""

    to: Literal["document", "api", "ui"] = "document"


def shipped(installed: str, checkout: str) -> Path:
    """A folder that a wheel has inside the package and a checkout beside it."""
    package = Path(nodegraph.__file__).parent
    inside = package / installed
    return inside if inside.is_dir() else package.parent / checkout


@lru_cache(maxsize=1)
def bundle() -> Mapping[str, Part]:
    """The files of the page by name; empty where the page was not built."""
    root = shipped("web", "web/bundle")
    found = {}
    for path in sorted(root.rglob("*")):
        if path.suffix in _TYPES:
            body = path.read_bytes()
            packed = gzip.compress(body, 9, mtime=0)
            tag = hashlib.sha256(body).hexdigest()[:32]
            found[path.name] = Part(_TYPES[path.suffix], body, packed, tag)
    return found


async def page(request: web.Request) -> web.Response:
    """The editor."""
    return await _answer(request, PAGE)


async def asset(request: web.Request) -> web.Response:
    """A script or a style sheet of the editor."""
    return await _answer(request, request.match_info["name"])


async def _answer(request: web.Request, name: str) -> web.Response:
    part = (await asyncio.to_thread(bundle)).get(name)
    if part is None:
        raise Refused(404, "not_found", "this is no part of the editor.", found=repr(name[:200]))
    packs = "gzip" in request.headers.get("Accept-Encoding", "")
    tag = f"{part.tag}-gz" if packs else part.tag
    found = web.Response(
        headers={
            "Cache-Control": "no-cache",
            "Content-Security-Policy": POLICY,
            "Vary": "Accept-Encoding",
        }
    )
    found.etag = tag
    if any(known.value in (tag, "*") for known in request.if_none_match or ()):
        found.set_status(304)
        return found
    found.content_type = part.kind
    found.charset = "utf-8"
    found.body = part.packed if packs else part.body
    if packs:
        found.headers["Content-Encoding"] = "gzip"
    return found


async def list_examples(request: web.Request) -> web.Response:
    """Names and titles of the workflows that ship."""

    def listed() -> list[dict[str, str]]:
        from nodegraph.workflow import Workflow

        paths = sorted(shipped("workflows", "workflows").glob("*.json"))
        return [{"name": path.stem, "title": Workflow.load(path).title or path.stem} for path in paths]

    return reply({"examples": await asyncio.to_thread(listed)})


async def get_example(request: web.Request) -> web.Response:
    """A workflow that ships, as it stands in its file."""
    name = request.match_info["name"]

    def read() -> bytes | None:
        paths = shipped("workflows", "workflows").glob("*.json")
        return next((path.read_bytes() for path in paths if path.stem == name), None)

    data = await asyncio.to_thread(read)
    if data is None:
        raise Refused(404, "not_found", "there is no such example.", found=repr(name[:200]))
    return web.Response(body=data, content_type="application/json", charset="utf-8")


async def convert(request: web.Request) -> web.Response:
    """A workflow of any format that is read, pictures that carry one included, in the format that is asked for.

    `problems` are warnings of what could not be carried over.
    """
    state = request.app[STATE]
    to = query_of(request, ConvertQuery).to
    data = await read_workflow(request)
    return await asyncio.to_thread(_converted, state, data, to)


def _converted(state: State, data: Any, to: str) -> web.Response:
    from nodegraph.formats.conversion import text_of

    workflow = workflow_of(state, data, "the file")
    text = text_of(workflow, to, state.catalogue.registry)
    problems = reply([problem.data() for problem in workflow.problems]).text
    # Joined as text: a number of the workflow goes through no other reader on its way.
    return web.Response(
        text=f'{{"workflow": {text.strip()}, "problems": {problems}}}', content_type="application/json"
    )


ROUTES = (
    Route("GET", "/", page, "The editor", gives="text/html"),
    Route("GET", "/assets/{name}", asset, "Scripts and styles of the editor", gives="text/javascript"),
    Route("GET", "/examples", list_examples, "Names and titles of the workflows that ship"),
    Route("GET", "/examples/{name}", get_example, "A workflow that ships"),
    Route("POST", "/convert", convert, "A workflow in another format", query=ConvertQuery, body=dict),
)
