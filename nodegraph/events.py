"""The events of a run: frozen records that `execute` yields, in the order in which things happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nodegraph.errors import Problem

TierName = Literal["device", "host", "disk"]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """First event: how many nodes the plan means to run, and which are held already."""

    to_run: tuple[str, ...]
    cached: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """A node's function is about to be called. `item` counts calls of a mapped node from 0."""

    node: str
    item: int = 0
    items: int = 1


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """A node got on: `value` of `total` steps done. `preview` is whatever the node gave, or None.

    An object with a method `jpeg(max_side) -> bytes` is shown as a picture where somebody looks on.
    """

    node: str
    value: float
    total: float
    preview: Any = None


@dataclass(frozen=True, slots=True)
class NodeCached:
    """A node was not run because its result is held; `ui` is what it showed when it ran."""

    node: str
    tier: TierName
    ui: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeExpanded:
    """A node returned a sub-graph; `children` are the ids of the nodes it added (`parent:local`)."""

    node: str
    children: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeFinished:
    """A node ran to its end. `ui` is what it shows (saved files, texts)."""

    node: str
    seconds: float
    ui: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeSkipped:
    """A node did not run: something upstream returned Block, failed, or the branch was not needed."""

    node: str
    reason: Literal["blocked", "upstream_failed"]
    message: str | None = None


@dataclass(frozen=True, slots=True)
class NodeFailed:
    """A node failed; what does not depend on it goes on."""

    node: str
    problem: Problem
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class RunFinished:
    """Last event of every run that was not abandoned."""

    status: Literal["success", "failed", "cancelled"]
    seconds: float
    outputs: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Values of the requested nodes by node id, one entry an output socket (a mapped node: a tuple of items in each)."""
    ui: Mapping[str, Mapping[str, tuple[Any, ...]]] = field(default_factory=dict)
    """What the output nodes show, by node id, cached or not."""
    problems: tuple[Problem, ...] = ()


Event = (
    RunStarted
    | NodeStarted
    | NodeProgress
    | NodeCached
    | NodeExpanded
    | NodeFinished
    | NodeSkipped
    | NodeFailed
    | RunFinished
)
