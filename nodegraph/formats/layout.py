"""Places for nodes that have none: a column for each step from the sources, in the order of the document."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

GAP = 60
Point = tuple[float, float]


def arrange(
    sizes: Mapping[str, Point], edges: Iterable[tuple[str, str]], placed: Mapping[str, Point]
) -> dict[str, Point]:
    """Positions (left, top) of the items that are not `placed`, below all that are; `sizes` are (width, height)."""
    columns, _ = steps(sizes, edges)
    missing = [item for item in sizes if item not in placed]
    bottom = max((top + sizes[item][1] for item, (_, top) in placed.items()), default=-GAP)
    left = min((left for left, _ in placed.values()), default=0.0)
    widths: dict[int, float] = {}
    for item in missing:
        widths[columns[item]] = max(widths.get(columns[item], 0), sizes[item][0])
    lefts: dict[int, float] = {}
    for column in sorted(widths):
        lefts[column] = left
        left += widths[column] + GAP
    tops = dict.fromkeys(widths, bottom + GAP)
    found = {}
    for item in missing:
        column = columns[item]
        found[item] = (lefts[column], tops[column])
        tops[column] += sizes[item][1] + GAP
    return found


def steps(items: Iterable[str], edges: Iterable[tuple[str, str]]) -> tuple[dict[str, int], list[str]]:
    """For each item the longest way to it from a source, and all items in an order in which links go forward.

    Items in a circle, and those behind one, come last, at step 0.
    """
    targets: dict[str, list[str]] = {item: [] for item in items}
    waiting = dict.fromkeys(targets, 0)
    for source, target in edges:
        if source in targets and target in targets:
            targets[source].append(target)
            waiting[target] += 1
    found = dict.fromkeys(targets, 0)
    ready = deque(item for item, count in waiting.items() if count == 0)
    order = []
    while ready:
        item = ready.popleft()
        order.append(item)
        for target in targets[item]:
            found[target] = max(found[target], found[item] + 1)
            waiting[target] -= 1
            if waiting[target] == 0:
                ready.append(target)
    rest = [item for item, count in waiting.items() if count > 0]
    return found | dict.fromkeys(rest, 0), [*order, *rest]
