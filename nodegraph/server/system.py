"""Routes about the server itself: what it is, what it knows, and whether it is well."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from aiohttp import web

from nodegraph import __version__
from nodegraph.folders import OWN_KINDS
from nodegraph.jobs import JobError
from nodegraph.model_folders import KINDS
from nodegraph.server.answers import Refused, done, raw, reply
from nodegraph.server.routing import Route, body_of
from nodegraph.server.state import STATE

PROTOCOL = "0.3.64"
"""The release of ComfyUI whose protocol the server speaks, which clients read to know what it can do."""


@dataclass(frozen=True, slots=True)
class FreeBody:
    """What to give back; both where the body is empty."""

    unload_models: bool = False
    free_memory: bool = False


@dataclass(frozen=True, slots=True)
class LogsBody:
    """Whether logs are to be sent."""

    enabled: bool = True


class Health(TypedDict):
    """The server answers, since so many seconds."""

    status: str
    uptime: float


class Ready(TypedDict):
    """How many workers there are, and how many take jobs; with `damaged` none of them is given any."""

    status: Literal["ready", "starting", "damaged"]
    workers: int
    ready: int


class Stats(TypedDict):
    """The machine and its devices."""

    system: dict[str, Any]
    devices: list[dict[str, Any]]


async def object_info(request: web.Request) -> web.Response:
    """Every node type."""
    state = request.app[STATE]
    return raw(await asyncio.to_thread(state.catalogue.object_info, state.folders))


async def object_info_of(request: web.Request) -> web.Response:
    """One node type."""
    state = request.app[STATE]
    name = request.match_info["class"]
    return raw(await asyncio.to_thread(state.catalogue.object_info_of, name, state.folders))


async def system_stats(request: web.Request) -> web.Response:
    """The machine, versions and devices."""
    state = request.app[STATE]
    workers = state.dispatch.workers()
    versions: dict[str, Any] = next((worker["versions"] for worker in workers if worker.get("versions")), {})
    total, free = memory()
    system = {
        "os": {"linux": "posix", "darwin": "posix", "win32": "nt"}.get(sys.platform, os.name),
        "ram_total": total,
        "ram_free": free,
        "comfyui_version": PROTOCOL,
        "nodegraph_version": __version__,
        "required_frontend_version": "",
        "python_version": sys.version,
        "pytorch_version": str(versions.get("torch") or ""),
        "embedded_python": False,
        # Not the words that the server was started with: they may name what is nobody's business.
        "argv": ["nodegraph", "serve"],
        "platform": platform.platform(),
    }
    devices = [_device(item) for worker in workers for item in worker["devices"]]
    found: Stats = {"system": system, "devices": devices}
    return reply(found)


def _device(item: dict[str, Any]) -> dict[str, Any]:
    """A device with every field that clients read, 0 where the worker does not say."""
    total, free = memory() if item.get("type") == "cpu" else (0, 0)
    found = {"name": item.get("name", ""), "type": item.get("type", "cpu"), "index": item.get("index")}
    for name, default in (("vram_total", total), ("vram_free", free)):
        found[name] = int(item.get(name) or default)
        found[f"torch_{name}"] = int(item.get(f"torch_{name}") or found[name])
    return found


def memory() -> tuple[int, int]:
    """(all, available) bytes of the machine's memory; (0, 0) where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            found = {
                line.split(":")[0]: int(line.split()[1]) * 1024 for line in file if line.endswith("kB\n")
            }
        return found["MemTotal"], found["MemAvailable"]
    except (OSError, KeyError):
        pass
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0, 0


async def features(request: web.Request) -> web.Response:
    """What the server can do."""
    return reply(dict(request.app[STATE].features))


async def free(request: web.Request) -> web.Response:
    """Have the workers give back models, results, or both."""
    asked = await body_of(request, FreeBody)
    await request.app[STATE].dispatch.free(asked.unload_models, asked.free_memory)
    return done()


async def health(request: web.Request) -> web.Response:
    """The server answers."""
    found: Health = {"status": "ok", "uptime": round(time.time() - request.app[STATE].started, 3)}
    return reply(found)


async def ready(request: web.Request) -> web.Response:
    """Whether a worker waits for jobs; 503 until one does, and where the job store is damaged."""
    state = request.app[STATE]
    store = state.dispatch.store
    if store.damage is None:
        # Nobody may have asked for anything since.
        with suppress(JobError):
            await store.counts()
    workers = state.dispatch.workers()
    up = [worker for worker in workers if worker["ready"]]
    # Without the reason, which names files: no token is asked for here.
    status: Literal["ready", "starting", "damaged"] = "ready" if up else "starting"
    if store.damage is not None:
        status = "damaged"
    found: Ready = {"status": status, "workers": len(workers), "ready": len(up)}
    return reply(found, 200 if status == "ready" else 503)


async def nothing_listed(request: web.Request) -> web.Response:
    """An empty list: the server has no scripts of its own for another editor."""
    return reply([])


async def nothing_named(request: web.Request) -> web.Response:
    """An empty object."""
    return reply({})


async def logs(request: web.Request) -> web.Response:
    """The last lines of the workers' logs, as an editor's terminal reads them."""
    lines = request.app[STATE].dispatch.last_lines()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S")
    entries = [{"t": stamp, "m": f"{line}\n"} for line in lines]
    return reply({"entries": entries, "size": {"cols": 80, "rows": 24}})


async def subscribe_logs(request: web.Request) -> web.Response:
    """Accepted and without effect: logs are asked for, not sent."""
    await body_of(request, LogsBody)
    return done()


async def folder_paths(request: web.Request) -> web.Response:
    """The folders of each kind of model."""
    folders = request.app[STATE].folders
    kinds = dict.fromkeys((*KINDS, *folders.named))
    return reply({kind: [str(root) for root in folders.roots(kind)] for kind in kinds})


async def list_folder(request: web.Request) -> web.Response:
    """Names of the files in the input, output or temporary folder, newest first."""
    state = request.app[STATE]
    kind = request.match_info["directory_type"]
    if kind not in OWN_KINDS:
        raise Refused(
            400, "bad_type", "there is no such folder.", found=repr(kind[:50]), allowed=", ".join(OWN_KINDS)
        )
    root = state.folders.roots(kind)[0]
    most = state.config.limits.files

    def listed() -> list[str]:
        found = []
        try:
            with os.scandir(root) as entries:
                for item in entries:
                    # What cannot be looked at, a link in a circle or a file that has just gone, is left out.
                    with suppress(OSError):
                        if item.is_file() and item.name[0] != ".":
                            found.append((item.stat().st_mtime, item.name))
        except FileNotFoundError:
            return []
        return [name for _, name in sorted(found, reverse=True)[:most]]

    return reply(await asyncio.to_thread(listed))


ROUTES = (
    Route("GET", "/object_info", object_info, "Every node type", answers={200: dict[str, Any]}),
    Route("GET", "/object_info/{class}", object_info_of, "One node type", answers={200: dict[str, Any]}),
    Route("GET", "/system_stats", system_stats, "The machine, versions and devices", answers={200: Stats}),
    Route("GET", "/features", features, "What the server can do", answers={200: dict[str, Any]}),
    Route("POST", "/free", free, "Give back models or results", body=FreeBody, answers={200: None}),
    Route("GET", "/health", health, "The server answers", answers={200: Health}),
    Route("GET", "/ready", ready, "A worker waits for jobs", answers={200: Ready, 503: Ready}),
    Route("GET", "/extensions", nothing_listed, "Scripts for an editor: none", answers={200: list[str]}),
    Route(
        "GET", "/workflow_templates", nothing_named, "Templates of packs: none", answers={200: dict[str, Any]}
    ),
    Route("GET", "/i18n", nothing_named, "Translations of packs: none", answers={200: dict[str, Any]}),
    Route(
        "GET", "/internal/logs", logs, "The last lines of the workers' logs", answers={200: dict[str, Any]}
    ),
    Route(
        "GET",
        "/internal/logs/raw",
        logs,
        "The last lines of the workers' logs",
        answers={200: dict[str, Any]},
    ),
    Route(
        "PATCH",
        "/internal/logs/subscribe",
        subscribe_logs,
        "Accepted, without effect",
        body=LogsBody,
        answers={200: None},
    ),
    Route(
        "GET",
        "/internal/folder_paths",
        folder_paths,
        "The folders of each kind of model",
        answers={200: dict[str, list[str]]},
    ),
    Route(
        "GET",
        "/internal/files/{directory_type}",
        list_folder,
        "Files of a folder, newest first",
        parts={"directory_type": Literal["input", "output", "temp"]},
        answers={200: list[str]},
    ),
)
