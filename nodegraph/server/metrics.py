"""GET /metrics: figures in Prometheus' text format."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from aiohttp import web

from nodegraph.server.routing import Route
from nodegraph.server.state import STATE

if TYPE_CHECKING:
    from nodegraph.worker.states import Statistics, WorkerState

TEXT = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[Mapping[str, str], float]
Figure = tuple[str, str, list[Sample]]
"""Kind (gauge or counter), what it is, and values by labels."""


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


def worker_figures(counted: Statistics) -> dict[str, Figure]:
    """What the supervisor counted, by the name of the figure."""
    states = counted.workers

    def each(value: Callable[[WorkerState], float]) -> list[Sample]:
        return [({"worker": state.name}, value(state)) for state in states]

    found: dict[str, Figure] = {
        "worker_ready": ("gauge", "Whether a worker takes jobs.", each(lambda state: float(state.ready))),
        "worker_restarts_total": (
            "counter",
            "Workers that were started anew.",
            each(lambda state: state.restarts),
        ),
        "worker_busy_seconds_total": (
            "counter",
            "Seconds spent on jobs.",
            each(lambda state: state.busy_seconds),
        ),
        "worker_resident_bytes": ("gauge", "Memory of a worker.", each(lambda state: state.rss)),
        "jobs_ended_total": (
            "counter",
            "Jobs that ended since the start.",
            [({"status": status}, count) for status, count in counted.jobs.items()],
        ),
        "job_retries_total": ("counter", "Attempts that were lost and made again.", [({}, counted.retries)]),
        "nodes_total": ("counter", "Nodes that ran.", [({}, counted.nodes)]),
        "node_seconds_total": ("counter", "Seconds that nodes ran.", [({}, counted.node_seconds)]),
    }
    for name in ("hits", "misses", "evictions"):
        samples: list[Sample] = [({"worker": state.name}, state.cache.get(name, 0)) for state in states]
        found[f"cache_{name}_total"] = ("counter", f"Cache {name}.", samples)
    sizes: list[Sample] = []
    for state in states:
        tiers = state.cache.get("tiers", {})
        for tier, facts in tiers.items() if isinstance(tiers, Mapping) else ():
            sizes.append(({"worker": state.name, "tier": tier}, facts.get("bytes", 0)))
    found["cache_bytes"] = ("gauge", "Bytes that the cache holds.", sizes)
    return found


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
