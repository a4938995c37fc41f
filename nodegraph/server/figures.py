"""What the supervisor counted, as figures with labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nodegraph.worker.states import Statistics, WorkerState

Sample = tuple[Mapping[str, str], float]
Figure = tuple[str, str, list[Sample]]
"""Kind (gauge or counter), what it is, and values by labels."""


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
