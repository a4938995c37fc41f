"""What a check finds, kept small: a hostile workflow may have a million faults, and nobody reads them all."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from nodegraph.errors import Problem, Severity, nearest
from nodegraph.limits import MAX_PROBLEMS

_EFFORT = 10_000_000
"""What all suggestions of a check may cost, in pairs of compared letters: well under a second."""
_LOOKUP = 2_000
"""What one costs at least."""
_COMPARISON = 100
"""What comparing two names costs at least."""


class Findings:
    """Problems of one severity: the first in full, and of the others how many there are."""

    def __init__(self, severity: Severity = "error", most: int = MAX_PROBLEMS) -> None:
        self.nodes: set[str] = set()
        """Every node that has a problem, told in full or not."""
        self._severity: Severity = severity
        self._most = most
        self._kept: list[Problem] = []
        self._more = 0

    def __len__(self) -> int:
        return len(self._kept) + self._more

    def add(self, node: str | None, make: Callable[[], Problem]) -> None:
        """Count a problem of a node (None: of the whole workflow), and keep it where there is room."""
        if node is not None:
            self.nodes.add(node)
        if len(self._kept) < self._most:
            problem = make()
            same = problem.severity == self._severity
            self._kept.append(problem if same else replace(problem, severity=self._severity))
        else:
            self._more += 1

    def told(self) -> tuple[Problem, ...]:
        """The problems in the order in which they came, and one that says how many more there are."""
        if not self._more:
            return tuple(self._kept)
        text = f"there are {self._more:,} more problems, which are not listed."
        return (*self._kept, Problem("more_problems", text, severity=self._severity))


class Suggestions:
    """The known names most like a wrong one. Each is looked for once, and none when all effort is spent."""

    def __init__(self, effort: int = _EFFORT) -> None:
        self._left = effort
        self._found: dict[tuple[str, str], list[str]] = {}

    def nearest(self, what: str, name: str, known: Collection[str]) -> list[str]:
        """Names among `known`, which are those of `what` (`"node type"`); none once the effort is spent."""
        if self._left <= 0 or not known:
            return []
        found = self._found.get((what, name))
        if found is None:
            self._left -= _LOOKUP + len(known) * _COMPARISON + len(name[:200]) * sum(map(len, known))
            found = nearest(name, list(known)) if self._left > 0 else []
            self._found[what, name] = found
        return found

    def hint(self, what: str, name: str, known: Collection[str]) -> str | None:
        """`Did you mean 'a' or 'b'?`, or None."""
        found = self.nearest(what, name, known)
        return f"Did you mean {' or '.join(map(repr, found))}?" if found else None
