"""What each node was when it last ran: it explains why a node has to run now."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LIMIT = 50_000


@dataclass(frozen=True, slots=True)
class Last:
    """A node's last run."""

    node: Any
    """The BoundNode."""
    key: bytes
    sources: Mapping[str, bytes]
    """Keys of the nodes that fed it, by their ids."""


class History:
    """Last keys by node id; of an id that several workflows use, the latest."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, tuple[Any, bytes, Mapping[str, bytes]]] = OrderedDict()

    def note(self, nodes: Iterable[tuple[str, Any]], keys: Mapping[str, bytes]) -> None:
        """Remember nodes (id, BoundNode) and the keys of their whole graph, which must not change afterwards."""
        for node_id, node in nodes:
            self._last[node_id] = (node, keys[node_id], keys)
        while len(self._last) > LIMIT:
            self._last.popitem(last=False)

    def last(self, node_id: str) -> Last | None:
        """What is known of a node's last run."""
        found = self._last.get(node_id)
        return None if found is None else Last(*found)

    def clear(self) -> None:
        """Forget everything."""
        self._last.clear()
