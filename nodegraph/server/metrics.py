"""GET /metrics: figures in Prometheus' text format."""

from __future__ import annotations

import time
from collections.abc import Iterable

from aiohttp import web

from nodegraph.server.figures import Sample
from nodegraph.server.routing import Route
from nodegraph.server.state import STATE

TEXT = "text/plain; version=0.0.4; charset=utf-8"


async def metrics(request: web.Request) -> web.Response:
    """Queue, workers, clients, seconds by node type, cache."""
    state = request.app[STATE]
    lines: list[str] = []
    counts = await state.dispatch.store.counts()
    _add(lines, "jobs", "gauge", "Jobs by state.", [({"status": str(key)}, counts[key]) for key in counts])
    _add(lines, "uptime_seconds", "gauge", "Seconds since the start.", [({}, time.time() - state.started)])
    _add(lines, "websocket_clients", "gauge", "Open websockets.", [({}, state.hub.count)])
    _add(
        lines,
        "websocket_dropped_total",
        "counter",
        "Clients dropped for not reading.",
        [({}, state.hub.dropped)],
    )
    for name, (kind, text, samples) in state.dispatch.figures().items():
        _add(lines, name, kind, text, samples)
    return web.Response(body=("\n".join(lines) + "\n").encode(), headers={"Content-Type": TEXT})


def _add(lines: list[str], name: str, kind: str, text: str, samples: Iterable[Sample]) -> None:
    lines.append(f"# HELP nodegraph_{name} {text}")
    lines.append(f"# TYPE nodegraph_{name} {kind}")
    for labels, value in samples:
        inner = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
        lines.append(
            f"nodegraph_{name}{{{inner}}} {value:.12g}" if inner else f"nodegraph_{name} {value:.12g}"
        )


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


ROUTES = (Route("GET", "/metrics", metrics, "Figures for Prometheus", gives="text/plain"),)
