"""One memory's part of the cache: a byte budget, blocks counted once, and who goes first.

Eviction is GreedyDual-Size-Frequency (Cherkasova, 1998): an entry's rank is the tier's age when it was
last used plus uses x recompute seconds / bytes; the lowest rank goes and its rank becomes the tier's age.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence

from nodegraph.cache.budget import Budget
from nodegraph.cache.entry import OVERHEAD, Block, Entry
from nodegraph.cache.tier import TierStats


class Ledger:
    """Bytes of distinct memory blocks, by identity."""

    __slots__ = ("_blocks", "used")

    def __init__(self) -> None:
        self.used = 0
        self._blocks: dict[object, list[int]] = {}

    def add(self, blocks: Iterable[Block]) -> None:
        """Count blocks; one that is counted already costs nothing more."""
        for identity, size in blocks:
            count = self._blocks.get(identity)
            if count is None:
                self._blocks[identity] = [1, size]
                self.used += size
            else:
                count[0] += 1

    def remove(self, blocks: Iterable[Block]) -> None:
        """Undo `add`."""
        for identity, _ in blocks:
            count = self._blocks[identity]
            count[0] -= 1
            if not count[0]:
                del self._blocks[identity]
                self.used -= count[1]

    def share(self, blocks: Iterable[Block]) -> float:
        """Bytes that fall to one holder of these blocks, each split evenly among its holders."""
        return sum(size / self._blocks[identity][0] for identity, size in blocks if identity in self._blocks)


class MemoryTier:
    """Entries in one memory. Not thread-safe: the cache holds its lock around every call.

    `blocks(entry)` are the blocks of this memory, `overhead(entry)` further bytes; `cost(entry)` is what
    it would take to make the entry again, in seconds.
    """

    def __init__(
        self,
        budget: Budget,
        blocks: Callable[[Entry], Sequence[Block]],
        overhead: Callable[[Entry], int],
        cost: Callable[[Entry], float],
    ) -> None:
        self.budget = budget
        self.entries: dict[bytes, Entry] = {}
        self.age = 0.0
        self.ledger = Ledger()
        self._blocks = blocks
        self._overhead = overhead
        self._cost = cost
        # (rank, serial, key): with the entry itself, one that went would live on in here.
        self._heap: list[tuple[float, int, bytes]] = []
        self._serial = 0

    def used(self) -> int:
        """Bytes held."""
        return self.ledger.used

    def stats(self) -> TierStats:
        """How full the tier is."""
        return TierStats(len(self.entries), self.ledger.used, self.budget.room())

    def touch(self, entry: Entry) -> None:
        """Count one more use of an entry that is here."""
        entry.uses += 1
        entry.age = self.age
        self._push(entry)

    def add(self, entry: Entry) -> list[Entry] | None:
        """Take an entry in; returns those that had to go, or None where it is not worth them or does not fit."""
        self._charge(entry)
        room = self.budget.room()
        out: list[Entry] = []
        if self.ledger.used > room:
            out, enough = self._make_way(entry, room)
            if not enough:
                for victim in out:
                    self._charge(victim)
                    self._push(victim)
                self._discharge(entry)
                return None
        for victim in out:
            del self.entries[victim.key]
            self.age = max(self.age, victim.rank)
        self.entries[entry.key] = entry
        entry.age = self.age
        self._push(entry)
        return out

    def remove(self, entry: Entry) -> None:
        """Take an entry out."""
        del self.entries[entry.key]
        self._discharge(entry)
        self._serial += 1
        entry.serial = self._serial

    def shrink(self, room: int) -> list[Entry]:
        """Take out the entries of lowest rank, pinned ones excepted, until at most `room` bytes are held."""
        out: list[Entry] = []
        kept: list[Entry] = []
        while self.ledger.used > room:
            victim = self._pop()
            if victim is None:
                break
            if victim.pins:
                kept.append(victim)
                continue
            self.age = max(self.age, victim.rank)
            self.remove(victim)
            out.append(victim)
        for entry in kept:
            self._push(entry)
        return out

    def clear(self) -> None:
        """Take everything out."""
        self.entries.clear()
        self._heap.clear()
        self.ledger = Ledger()
        self.age = 0.0

    def _make_way(self, entry: Entry, room: int) -> tuple[list[Entry], bool]:
        """Discharge entries of lower rank than `entry` until it fits; says whether that was enough."""
        rank = self._rank(entry, self.age)
        out: list[Entry] = []
        kept: list[Entry] = []
        worth_it = True
        while self.ledger.used > room:
            victim = self._pop()
            if victim is None:
                worth_it = False
                break
            if victim.pins:
                kept.append(victim)
                continue
            if victim.rank > rank:
                # It ages the others, so that a new kind of work gets in after some tries.
                self.age = max(self.age, rank)
                kept.append(victim)
                worth_it = False
                break
            self._discharge(victim)
            out.append(victim)
        for one in kept:
            self._push(one)
        return out, worth_it

    def _pop(self) -> Entry | None:
        while self._heap:
            rank, serial, key = heapq.heappop(self._heap)
            entry = self.entries.get(key)
            if entry is None or entry.serial != serial:
                continue
            # Its cost may have grown since it was ranked, because its upstream went.
            now = self._rank(entry, entry.age)
            if now > rank * 1.001 + 1e-12:
                self._push(entry)
                continue
            return entry
        return None

    def _is_current(self, rank: float, serial: int, key: bytes) -> bool:
        entry = self.entries.get(key)
        return entry is not None and entry.serial == serial

    def _push(self, entry: Entry) -> None:
        entry.rank = self._rank(entry, entry.age)
        self._serial += 1
        entry.serial = self._serial
        heapq.heappush(self._heap, (entry.rank, self._serial, entry.key))
        if len(self._heap) > 64 + 4 * len(self.entries):
            self._heap = [item for item in self._heap if self._is_current(*item)]
            heapq.heapify(self._heap)

    def _rank(self, entry: Entry, age: float) -> float:
        blocks = self._blocks(entry)
        size = self._overhead(entry) + (self.ledger.share(blocks) if blocks else 0)
        return age + entry.uses * self._cost(entry) / max(1.0, size)

    def _charge(self, entry: Entry) -> None:
        self.ledger.add(self._blocks(entry))
        self.ledger.used += self._overhead(entry)

    def _discharge(self, entry: Entry) -> None:
        self.ledger.remove(self._blocks(entry))
        self.ledger.used -= self._overhead(entry)


def host_overhead(entry: Entry) -> int:
    """Host bytes of an entry outside its blocks."""
    return OVERHEAD + entry.small
