"""GET /openapi.json and a page that shows it: both from the routes and the shapes that check requests."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import web

from nodegraph import __version__
from nodegraph.server.answers import ErrorAnswer, dumps, raw
from nodegraph.server.routing import Route
from nodegraph.server.shapes import field_schema, schema


def routes(served: Sequence[Route]) -> tuple[Route, ...]:
    """The routes that describe the others."""
    own = (
        Route(
            "GET",
            "/openapi.json",
            _serving(lambda: raw(dumps(document([*served, *own])))),
            "This description",
        ),
        Route(
            "GET", "/docs", _serving(lambda: _page([*served, *own])), "The routes, to read", gives="text/html"
        ),
    )
    return own


def _serving(answer: Callable[[], web.Response]) -> Callable[[web.Request], Any]:
    async def serve(request: web.Request) -> web.Response:
        return answer()

    return serve


def document(served: Sequence[Route]) -> dict[str, Any]:
    """The routes in OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for route in served:
        if route.gives != "websocket":
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "nodegraph", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": {"Error": schema(ErrorAnswer)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(route: Route) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": field_schema(route.parts.get(name, str))}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    if route.query is not None:
        described = schema(route.query)
        parameters += [
            {"name": name, "in": "query", "required": name in described.get("required", ()), "schema": item}
            for name, item in described["properties"].items()
        ]
    found: dict[str, Any] = {
        "summary": route.summary,
        "parameters": parameters,
        "responses": {
            **{str(status): _answer(status, hint, route.gives) for status, hint in route.answers.items()},
            "default": {
                "description": "Refused",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if route.body is not None:
        shape: dict[str, Any] = {}
        if route.body is dict:
            shape = {"type": "object"}
        elif route.body is not object:
            shape = schema(route.body)
        taken: dict[str, Any] = {"application/json": {"schema": shape}}
        if route.form:
            taken["multipart/form-data"] = {"schema": _form(shape)}
        found["requestBody"] = {"content": taken}
        if shape.get("required"):
            found["requestBody"]["required"] = True
    elif route.upload is True:
        found["requestBody"] = {"content": {"application/octet-stream": {"schema": {}}}}
    elif route.upload:
        shape = schema(route.upload)
        found["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": shape}}}
    return found


def _answer(status: int, hint: Any, gives: str) -> dict[str, Any]:
    found: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if hint is not None:
        found["content"] = {gives: {"schema": field_schema(hint)}}
    return found


def _form(shape: dict[str, Any]) -> dict[str, Any]:
    """A form in place of a JSON body: the body as one of its parts where it has a shape, and parts by parameter."""
    if "properties" not in shape:
        return {"type": "object"}
    return {"type": "object", "required": ["workflow"], "properties": {"workflow": shape}}


_STYLE = "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}td{padding:.2rem .8rem .2rem 0}"


def _page(served: Sequence[Route]) -> web.Response:
    rows = "".join(
        f"<tr><td>{route.method}</td><td><code>{html.escape(route.path)}</code></td>"
        f"<td>{html.escape(route.summary)}</td></tr>"
        for route in served
    )
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>nodegraph</title><style>{_STYLE}</style><h1>nodegraph {html.escape(__version__)}</h1>"
        '<p>Every route is served under <code>/api</code> too. <a href="/openapi.json">openapi.json</a> describes '
        f"their bodies and answers.</p><table>{rows}</table></html>"
    )
    return web.Response(
        text=text,
        content_type="text/html",
        headers={
            "Content-Security-Policy": f"default-src 'none'; style-src '{_style_hash()}'; frame-ancestors 'none'"
        },
    )


def _style_hash() -> str:
    """The page's one style, by its hash: no other is applied, whatever gets into the page."""
    import base64
    import hashlib

    return "sha256-" + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
