"""create_app: the application with its parts, routes and guards."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from nodegraph.errors import NodeError, NodegraphError
from nodegraph.registry import Registry
from nodegraph.server import (
    editor,
    files,
    history,
    jobs,
    metrics,
    models,
    openapi,
    prompts,
    queue,
    run,
    system,
    userdata,
    websocket,
    workflows,
)
from nodegraph.server.answers import LIMITS, Refused, error_reply
from nodegraph.server.catalogue import Catalogue
from nodegraph.server.config import ServerConfig
from nodegraph.server.connections import TooSlow
from nodegraph.server.contents import Contents
from nodegraph.server.dispatch import Dispatch
from nodegraph.server.hub import Hub
from nodegraph.server.listening import handler_args
from nodegraph.server.outgoing import Outgoing
from nodegraph.server.routing import Route
from nodegraph.server.security import Guard, dressing, guarding
from nodegraph.server.settings import Settings
from nodegraph.server.state import STATE, State
from nodegraph.server.webhooks import Webhooks

LOG = logging.getLogger("nodegraph.server")
ROUTES: tuple[Route, ...] = (
    *prompts.ROUTES,
    *queue.ROUTES,
    *history.ROUTES,
    *jobs.ROUTES,
    *run.ROUTES,
    *workflows.ROUTES,
    *files.ROUTES,
    *models.ROUTES,
    *userdata.ROUTES,
    *system.ROUTES,
    *metrics.ROUTES,
    *websocket.ROUTES,
    *editor.ROUTES,
)


def create_app(config: ServerConfig, registry: Registry | None = None) -> web.Application:
    """The application; its store is opened and its workers are started when it starts up.

    `registry` stands for the node types that ship, until a worker says what there is. Raises ValidationError for a
    configuration that would be unsafe.
    """
    config.checked()
    catalogue = Catalogue(config.data_dir, registry)
    hub = Hub(config.limits)
    guard = Guard(config)
    app = web.Application(
        middlewares=[_telling, guarding(guard)],
        # Bodies are bounded where they are read, each by its own limit.
        client_max_size=2**40,
        handler_args=handler_args(config.limits),
    )
    app[LIMITS] = config.limits
    contents = Contents(config.data_dir / "contents")
    app[STATE] = State(
        config=config,
        catalogue=catalogue,
        hub=hub,
        settings=Settings(config.user_dir / "settings.json"),
        dispatch=Dispatch(config, catalogue, hub, contents),
        outgoing=Outgoing(config.internal),
        contents=contents,
    )
    for route in (*ROUTES, *openapi.routes(ROUTES)):
        # Pages have one address: what reads /api wants JSON, and a page in its place breaks it.
        for prefix in ("",) if route.gives in ("text/html", "text/javascript") else ("", "/api"):
            resource = app.router.add_resource(prefix + _pattern(route.path))
            resource.add_route(route.method, route.handler)
            if route.method == "GET" and route.gives != "websocket":
                resource.add_route("HEAD", route.handler)
    app.on_response_prepare.append(dressing(guard))
    app.cleanup_ctx.extend((_dispatching, _reaching_out))
    app.on_shutdown.append(_closing)
    return app


def _pattern(path: str) -> str:
    """A path for the router; a file's name may have slashes in it, encoded or not."""
    return path.replace("{file}", "{file:.+}").replace("{dest}", "{dest:.+}")


async def _dispatching(app: web.Application) -> AsyncIterator[None]:
    dispatch = app[STATE].dispatch
    await dispatch.open()
    yield
    await dispatch.close()


async def _reaching_out(app: web.Application) -> AsyncIterator[None]:
    state = app[STATE]
    secret = state.config.webhook_secret
    tasks = []
    if secret is not None:
        webhooks = Webhooks(
            state.dispatch.store,
            state.outgoing,
            secret,
            state.config.webhook_delays,
            lambda job: run.result(state, job, "links"),
        )
        tasks.append(asyncio.create_task(webhooks.run()))
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await state.outgoing.close()


async def _closing(app: web.Application) -> None:
    await app[STATE].hub.close()


@web.middleware
async def _telling(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Make answers of errors, in one place; nothing but JSON, whatever went wrong."""
    try:
        return await handler(request)
    except NodegraphError as error:
        return error_reply(error)
    except NodeError as error:
        return error_reply(NodegraphError(error.problem(None, None, None)))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _http_error(request, error)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except TooSlow:
        return error_reply(Refused(408, "too_slow", "the body did not come in time."))
    except (web.RequestPayloadError, HttpProcessingError):
        return error_reply(Refused(400, "bad_request", "the body cannot be read: it is no HTTP."))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error_reply(Refused(507, "disk_full", "the disk is full; nothing was changed."))
        LOG.exception("%s %s failed", request.method, request.path)
        return error_reply(
            Refused(500, "io_error", f"the server cannot do this: {error.strerror or 'I/O error'}.")
        )
    except Exception:
        LOG.exception("%s %s failed", request.method, request.path)
        text = "the server failed; its log says why."
        return error_reply(Refused(500, "internal_error", text))


def _http_error(request: web.Request, error: web.HTTPException) -> web.Response:
    code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(error.status, "bad_request")
    text = {404: "there is no such route.", 405: f"{request.method} is not taken here."}.get(error.status)
    found = error_reply(Refused(error.status, code, text or f"{error.reason}."))
    if "Allow" in error.headers:
        found.headers["Allow"] = error.headers["Allow"]
    return found
