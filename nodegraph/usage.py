"""What a run will take of the device's memory, node by node, by what the nodes' forecasts say."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from nodegraph.errors import NodeError
from nodegraph.forecast import Memory
from nodegraph.foresight import Foresight
from nodegraph.plan import Plan


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """Bytes that one node takes."""

    weights: int
    """What it needs held: the weights of its models."""
    works: int | None
    """What it needs besides, while it runs; None where that is not known."""
    peak: int
    """Both, and what earlier nodes left that still fits."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run takes."""

    nodes: Mapping[str, NodeUsage]
    """Of the nodes that say what they take, in the order in which they come up."""
    peak: int
    node: str | None
    """The node that the peak is at; None where no node says anything."""
    budget: int
    """What there is; 0 where no node knows."""
    complete: bool
    """Whether everything that the nodes take is known; else the peak is the least that it can be."""


def usage(plan: Plan, foresight: Foresight) -> Usage:
    """Go through the nodes that will run, in order; what they leave is let go, the oldest first, when it does not fit.

    Nothing is taken to be on the device beforehand. An expansion's nodes are not known yet and do not count.
    """
    held: dict[Hashable, int] = {}
    nodes: dict[str, NodeUsage] = {}
    budget, complete = 0, True
    for node_id in plan.ids("run"):
        forecast = foresight.forecasts.get(node_id)
        if forecast is None:
            complete = complete and plan.graph.nodes[node_id].spec.lane != "device"
            continue
        if forecast.memory is None:
            continue
        try:
            memory = forecast.memory()
        except NodeError:  # what is wrong with its files is told when they are read
            complete = False
            continue
        budget = max(budget, memory.budget)
        complete = complete and memory.works is not None
        nodes[node_id] = _step(held, memory)
    peak = max((node.peak for node in nodes.values()), default=0)
    place = next((node_id for node_id, node in nodes.items() if node.peak == peak), None)
    return Usage(nodes, peak, place, budget, complete)


def _step(held: dict[Hashable, int], memory: Memory) -> NodeUsage:
    """One node's usage; `held` becomes what is on the device after it, the latest last."""
    needed = memory.holds or {}
    for key in needed:
        held.pop(key, None)
    weights, works = sum(needed.values()), memory.works or 0
    while held and memory.budget and sum(held.values()) + weights + works > memory.budget:
        del held[next(iter(held))]
    held |= needed
    return NodeUsage(weights, memory.works, sum(held.values()) + works)
