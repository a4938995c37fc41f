"""How many bytes the cache may hold, and who shares them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

HOST_SHARE = 0.25
"""Part of the machine's memory that cached values may take by default."""
UNKNOWN_MACHINE = 8 * 1024**3
UNKNOWN_DEVICE = 2 * 1024**3


class Budget:
    """Bytes of one memory that several holders share: cached values take what the others leave."""

    def __init__(self, total: int) -> None:
        if total < 0:
            raise ValueError(f"a budget cannot be negative: {total}")
        self.total = total
        self._others: tuple[Callable[[], int], ...] = ()
        self._capacity: Callable[[], int] | None = None

    def share(self, held: Callable[[], int]) -> None:
        """Let another holder take part; `held` returns the bytes that it holds now (a pool of models)."""
        self._others = (*self._others, held)

    def follow(self, capacity: Callable[[], int]) -> None:
        """Take the total from `capacity()` wherever that is known (not 0)."""
        self._capacity = capacity

    def others(self) -> int:
        """Bytes that the other holders have now."""
        return sum(held() for held in self._others)

    def room(self) -> int:
        """Bytes that cached values may take now."""
        total = (self._capacity() if self._capacity is not None else 0) or self.total
        return max(0, total - self.others()) if self._others else total


def host_default() -> int:
    """A quarter of the machine's memory, or of the control group's limit where that is less."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        total = UNKNOWN_MACHINE
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = Path(name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if limit.isdigit():
            total = min(total, int(limit))
    return int(total * HOST_SHARE)
