"""What a run will do before it does it: which nodes run, which are held, and why."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nodegraph.cache import Cache
from nodegraph.events import TierName
from nodegraph.fingerprint import Key, Keys
from nodegraph.graph import BoundNode, Graph

State = Literal["run", "cached", "lazy", "unneeded"]
"""`lazy`: runs only if a node upstream of a target asks for it. `unneeded`: a held result makes it so."""
Reason = Literal[
    "first_time",
    "input_changed",
    "node_changed",
    "file_changed",
    "evicted",
    "files_missing",
    "never_cached",
    "not_held",
    "held",
    "not_needed",
]


@dataclass(frozen=True, slots=True)
class Row:
    """One node of a plan, for tables and JSON."""

    node: str
    title: str
    class_type: str
    state: State
    tier: TierName | None
    reason: Reason
    text: str
    """The reason in words."""
    input: str | None = None
    """The input that changed, where that is the reason."""


@dataclass(frozen=True)
class Plan:
    """What a run of `targets` will do. `rank` orders the nodes depth-first, so that values are used soon."""

    graph: Graph
    keys: Keys
    targets: tuple[str, ...]
    states: Mapping[str, State]
    """Of the nodes that were looked at; what is missing is unneeded."""
    tiers: Mapping[str, TierName]
    rank: Mapping[str, int]
    ahead: frozenset[Key] = frozenset()
    """Of the nodes that will run, those whose results are held already: they were made to check the graph."""

    def ids(self, state: State) -> tuple[str, ...]:
        """The nodes in a state, in the order in which they come up."""
        return tuple(node_id for node_id in self.rank if self.states[node_id] == state)

    def rows(self, cache: Cache) -> tuple[Row, ...]:
        """Every node of the graph with what will happen to it and why, in the order of the document."""
        return tuple(self._row(node, cache) for node in self.graph.nodes.values())

    def _row(self, node: BoundNode, cache: Cache) -> Row:
        state = self.states.get(node.id, "unneeded")
        tier = self.tiers.get(node.id)
        reason: Reason
        name: str | None = None
        if state == "cached":
            reason, text = "held", "held on disk" if tier == "disk" else f"held in {tier} memory"
        elif state == "unneeded":
            reason, text = "not_needed", "what needs it is held"
        else:
            reason, text, name = self._why(node, cache)
            if state == "lazy":
                text = f"only if asked for; {text}"
        return Row(node.id, node.title, node.spec.name, state, tier, reason, text, name)

    def _why(self, node: BoundNode, cache: Cache) -> tuple[Reason, str, str | None]:
        """Why a node is not held."""
        key = self.keys.by_node[node.id]
        last = cache.history.last(node.id)
        if node.id in self.keys.volatile:
            source = next((name for name, (src, _) in node.links.items() if src in self.keys.volatile), None)
            if source is None:
                return "never_cached", "it says that its result must never be reused", None
            return "never_cached", f"what feeds {source} is never reused", source
        loss = cache.lost(key)
        if loss == "evicted":
            return "evicted", "its result was held and had to make room", None
        if loss == "files_missing":
            return "files_missing", "a file that it wrote is gone or was changed", None
        if last is None or last.node.spec.name != node.spec.name:
            return "first_time", "it has not run before", None
        if last.key == key:
            return "not_held", "it ran before, but its result was not kept", None
        name = _changed_input(node, last.node, self.keys.by_node, last.sources)
        if name is not None:
            return "input_changed", f"input {name} changed", name
        if last.node.spec.version != node.spec.version:
            return "node_changed", "the node type has a new version", None
        return "file_changed", "a file that it reads, or where it runs, changed", None


def plan(
    graph: Graph,
    keys: Keys,
    cache: Cache,
    targets: Sequence[str] | None = None,
    ahead: Container[Key] = frozenset(),
) -> Plan:
    """What has to run for `targets` (by default the graph's). Where a result is held, its upstream is not looked at.

    Results with a key in `ahead` were made for this run before it began: their nodes count as such that run.
    Raises KeyError for a target that is not in the graph.
    """
    wanted = tuple(dict.fromkeys(graph.targets if targets is None else targets))
    states: dict[str, State] = {}
    tiers: dict[str, TierName] = {}
    rank: dict[str, int] = {}
    lazy: list[str] = []
    _visit(wanted, "run", graph, keys, cache, states, tiers, rank, lazy, ahead)
    while lazy:
        later: list[str] = []
        _visit(lazy, "lazy", graph, keys, cache, states, tiers, rank, later, ahead)
        lazy = later
    made: frozenset[Key] = frozenset()
    if ahead:
        running = (keys.by_node[node_id] for node_id, state in states.items() if state == "run")
        made = frozenset(key for key in running if key in ahead)
    return Plan(graph, keys, wanted, states, tiers, rank, made)


def _visit(
    starts: Sequence[str],
    state: State,
    graph: Graph,
    keys: Keys,
    cache: Cache,
    states: dict[str, State],
    tiers: dict[str, TierName],
    rank: dict[str, int],
    lazy: list[str],
    ahead: Container[Key],
) -> None:
    """Depth-first from `starts`, without recursion; a node is ranked after all that it needs."""
    nodes = graph.nodes
    stack = list(reversed(starts))
    while stack:
        node_id = stack[-1]
        if node_id in states:
            stack.pop()
            if node_id not in rank:
                rank[node_id] = len(rank)
            continue
        node = nodes[node_id]
        key = keys.by_node[node_id]
        tier = None if node_id in keys.volatile or key in ahead else cache.peek(key)
        if tier is not None:
            states[node_id], tiers[node_id] = "cached", tier
            continue
        states[node_id] = state
        inputs = node.spec.inputs
        for name, (source, _) in reversed(tuple(node.links.items())):
            declared = inputs.get(name)
            if declared is not None and declared.lazy:
                lazy.append(source)
            elif source not in states:
                stack.append(source)


def _changed_input(
    new: BoundNode, old: BoundNode, keys: Mapping[str, bytes], old_keys: Mapping[str, bytes]
) -> str | None:
    """The first input in which two bindings of a node differ."""
    for name in (*new.spec.inputs, *new.extra, *new.links):
        now, before = new.links.get(name), old.links.get(name)
        if (now is None) != (before is None):
            return name
        if now is not None and before is not None:
            if now[1] != before[1] or keys[now[0]] != old_keys.get(before[0]):
                return name
            continue
        literal, earlier = _literal(new, name), _literal(old, name)
        if type(literal) is not type(earlier) or literal != earlier:
            return name
    gone = [name for name in (*old.links, *old.literals, *old.extra) if not _given(new, name)]
    return gone[0] if gone else None


def _literal(node: BoundNode, name: str) -> object:
    return node.literals.get(name, node.extra.get(name))


def _given(node: BoundNode, name: str) -> bool:
    return name in node.links or name in node.literals or name in node.extra
