"""The cache of node results: by content key, in device and host memory, with a seam for slower tiers."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nodegraph.cache.budget import UNKNOWN_DEVICE, Budget, host_default
from nodegraph.cache.entry import Entry, blocks_of, moved, written_files
from nodegraph.cache.history import History
from nodegraph.cache.memory import MemoryTier, host_overhead
from nodegraph.cache.tier import Held, Tier, TierStats
from nodegraph.events import TierName
from nodegraph.node import Runtime
from nodegraph.resources import Resources

LINEAGE = 100_000
"""Of how many results that are gone the cost and the upstream keys are remembered."""
STALE_RUNS = 16
"""After so many runs a result that nobody came back for is let go, if it is cheap."""
CHEAP = 1e-5
"""Recompute seconds per byte under which a result is cheap: 10 s a megabyte. A decoded picture is, a latent is not."""
Loss = Literal["evicted", "files_missing"]


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Hits and misses since the start, and how full each tier is."""

    hits: int
    misses: int
    evictions: int
    tiers: Mapping[TierName, TierStats]


class Cache:
    """Results by key. Safe to use from any thread.

    A result whose blocks lie on a device is kept there and moves to host memory when the device's budget is
    short; what host memory gives up goes to `lower`, or is dropped. Values are shared with the runs that use
    them, never copied. Keys are those of `nodegraph.fingerprint`. What is cheap to make again and was not asked for
    within `STALE_RUNS` runs goes too, so that a long series of changing seeds does not fill the memory.
    """

    def __init__(self, host_budget: int = 0, device_budget: int = 0, *, lower: Tier | None = None) -> None:
        self.host = Budget(host_budget or host_default())
        self.device = Budget(device_budget or UNKNOWN_DEVICE)
        self.history = History()
        self.lower = lower
        self._lock = threading.RLock()
        self._device = MemoryTier(self.device, _all_blocks, host_overhead, self._cost)
        self._host = MemoryTier(self.host, _all_blocks, host_overhead, self._cost)
        self._lineage: dict[bytes, tuple[float, tuple[bytes, ...]]] = {}
        self._lost: OrderedDict[bytes, Loss] = OrderedDict()
        self._hits = self._misses = self._evictions = 0
        self._runs = 0
        self._untried: deque[tuple[int, list[bytes]]] = deque()
        """By the runs that had ended: keys of the results made since then."""

    @classmethod
    def for_runtime(
        cls, runtime: Runtime, resources: Resources | None = None, *, lower: Tier | None = None
    ) -> Cache:
        """A cache with the budgets that a runtime asks for; the device's is shared with what `resources` hold."""
        cache = cls(runtime.host_budget, runtime.device_budget, lower=lower)
        if resources is not None:
            cache.device.share(resources.held)
            if not runtime.device_budget:
                cache.device.follow(resources.capacity)
        return cache

    def peek(self, key: bytes) -> TierName | None:
        """Where a result lies, or None. Counts as no use; an entry whose files are gone is removed."""
        entry = self._device.entries.get(key)
        tier: TierName = "device"
        if entry is None:
            entry, tier = self._host.entries.get(key), "host"
        if entry is None:
            if self.lower is None:
                return None
            with self._lock:
                return self.lower.name if self.lower.has(key) else None
        if entry.files and not all(file.intact() for file in entry.files):
            with self._lock:
                self._forget(key, "files_missing")
            return None
        return tier

    def at_hand(self, key: bytes) -> bool:
        """Whether `get` would give the result at once: it lies where it was made."""
        if key in self._device.entries:
            return True
        entry = self._host.entries.get(key)
        return entry is not None and (not entry.homes or entry.homes == ("cpu",))

    def get(self, key: bytes, *, pin: bool = False) -> Held | None:
        """A result, its blocks back on the devices where they were made; None where it is not held.

        With `pin` it is not evicted until `unpin`: whoever asked holds its values, so eviction would free nothing.
        """
        tier = self.peek(key)
        with self._lock:
            entry = self._device.entries.get(key) or self._host.entries.get(key)
            if entry is None:
                held = self._load(key) if tier is not None else None
                self._hits += held is not None
                self._misses += held is None
                if held is not None:
                    self.put(key, held.outputs, held.ui, held.seconds, pin=pin)
                return held
            self._hits += 1
            if key in self._device.entries:
                tier = "device"
                self._device.touch(entry)
            else:
                tier = "host"
                self._host.touch(entry)
                if entry.homes and entry.homes != ("cpu",):
                    return self._promote(entry, pin)
            if pin:
                entry.pins += 1
            return Held(entry.outputs, entry.ui, tier, entry.seconds)

    def put(
        self,
        key: bytes,
        outputs: tuple[Any, ...],
        ui: Mapping[str, tuple[Any, ...]],
        seconds: float,
        *,
        parents: Iterable[bytes] = (),
        effect: bool = False,
        pin: bool = False,
    ) -> bool:
        """Keep a result that took `seconds` to make from `parents`; returns whether there was room for it.

        With `effect` the files that `ui` shows are recorded; the entry is a hit only while they are as they are now.
        """
        files = written_files(ui) if effect else ()
        if files is None:
            return False
        device, host, homes, small = blocks_of(outputs)
        if ui:
            small += blocks_of(ui.values())[3]
        entry = Entry(key, outputs, ui, seconds, tuple(parents), small)
        entry.device_blocks, entry.host_blocks = tuple(device), tuple(host)
        entry.homes, entry.files, entry.pins, entry.run = tuple(homes), files, int(pin), self._runs
        with self._lock:
            old = self._take(key)
            if old is not None:
                entry.uses, entry.pins = old.uses, old.pins + int(pin)
            kept = self._admit(entry)
            if kept:
                self._lost.pop(key, None)
                if entry.uses == 1:
                    if not self._untried or self._untried[-1][0] != self._runs:
                        self._untried.append((self._runs, []))
                    self._untried[-1][1].append(key)
            return kept

    def unpin(self, key: bytes) -> None:
        """Undo one `pin`; a key that is not held is fine."""
        entry = self._device.entries.get(key) or self._host.entries.get(key)
        if entry is not None:
            with self._lock:
                entry.pins = max(0, entry.pins - 1)

    def lost(self, key: bytes) -> Loss | None:
        """Why a result that was held is not any more, as far as that is remembered."""
        return self._lost.get(key)

    def end_run(self) -> None:
        """Count a finished run: let go of cheap results that nobody came back for, and fit the budgets again."""
        with self._lock:
            self._runs += 1
            while self._untried and self._untried[0][0] + STALE_RUNS < self._runs:
                made, keys = self._untried.popleft()
                for key in keys:
                    entry = self._device.entries.get(key) or self._host.entries.get(key)
                    if entry is None or entry.run != made or entry.uses > 1 or entry.pins:
                        continue
                    if self._is_cheap(entry):
                        self._take(key)
                        self._drop(entry)
        self.trim()

    def trim(self) -> int:
        """Fit the budgets again after other holders grew; returns the bytes that left the device."""
        return self.release(0)

    def release(self, wanted: int) -> int:
        """Move up to `wanted` bytes of cheap results off the device; returns how many went."""
        with self._lock:
            before = self._device.used()
            if before:
                room = min(self.device.room(), before - wanted) if wanted else self.device.room()
                for victim in self._device.shrink(max(0, room)):
                    self._demote(victim)
            for victim in self._host.shrink(self.host.room()):
                self._drop(victim)
            return before - self._device.used()

    def shed(self) -> int:
        """Drop everything that no run holds, to survive a shortage of memory; returns the bytes dropped."""
        with self._lock:
            before = self._device.used() + self._host.used()
            for tier in (self._device, self._host):
                for victim in tier.shrink(0):
                    self._drop(victim)
            return before - self._device.used() - self._host.used()

    def clear(self) -> None:
        """Forget every result and all that is remembered of runs."""
        with self._lock:
            self._device.clear()
            self._host.clear()
            self._lineage.clear()
            self._lost.clear()
            self._untried.clear()
            self.history.clear()
            if self.lower is not None:
                self.lower.clear()

    def stats(self) -> CacheStats:
        """Counts and sizes now."""
        with self._lock:
            tiers: dict[TierName, TierStats] = {"device": self._device.stats(), "host": self._host.stats()}
            if self.lower is not None:
                tiers[self.lower.name] = self.lower.stats()
            return CacheStats(self._hits, self._misses, self._evictions, tiers)

    def _admit(self, entry: Entry) -> bool:
        tier = self._device if entry.device_blocks else self._host
        victims = tier.add(entry)
        if victims is None:
            self._remember(entry)
            return tier is self._device and self._demote(entry)
        for victim in victims:
            if tier is self._device:
                self._demote(victim)
            else:
                self._drop(victim)
        return True

    def _demote(self, entry: Entry) -> bool:
        """From the device to host memory, where it is worth that and fits."""
        size = sum(size for _, size in entry.device_blocks)
        if entry.mixed or entry.pins or size > self.host.room():
            return self._drop(entry)
        entry.outputs = moved(entry.outputs, "cpu")
        self._recount(entry)
        return self._admit(entry) or self._drop(entry)

    def _promote(self, entry: Entry, pin: bool) -> Held:
        """From host memory back to its device; stays where it is if the device has no room for it."""
        outputs = moved(entry.outputs, entry.homes[0])
        held = Held(outputs, entry.ui, "host", entry.seconds)
        device, host, _, _ = blocks_of(outputs)
        back = Entry(entry.key, outputs, entry.ui, entry.seconds, entry.parents, entry.small)
        back.device_blocks, back.host_blocks, back.homes = tuple(device), tuple(host), entry.homes
        back.files, back.uses, back.pins = entry.files, entry.uses, entry.pins + int(pin)
        self._host.remove(entry)
        victims = self._device.add(back)
        if victims is None:
            self._admit(entry)
        for victim in victims or ():
            self._demote(victim)
        return held

    def _drop(self, entry: Entry) -> bool:
        """Out of memory, into the lower tier if there is one; returns whether it is still held."""
        self._evictions += 1
        self._remember(entry)
        self._note_loss(entry.key, "evicted")
        if self.lower is None or entry.files or entry.pins:
            return False
        outputs = entry.outputs
        if entry.homes and entry.homes != ("cpu",) and not entry.mixed and not entry.device_blocks:
            outputs = moved(outputs, entry.homes[0])
        return self.lower.store(entry.key, Held(outputs, entry.ui, self.lower.name, entry.seconds))

    def _load(self, key: bytes) -> Held | None:
        return self.lower.load(key) if self.lower is not None else None

    def _recount(self, entry: Entry) -> None:
        device, host, _, _ = blocks_of(entry.outputs)
        entry.device_blocks, entry.host_blocks = tuple(device), tuple(host)

    def _take(self, key: bytes) -> Entry | None:
        for tier in (self._device, self._host):
            entry = tier.entries.get(key)
            if entry is not None:
                tier.remove(entry)
                return entry
        return None

    def _forget(self, key: bytes, why: Loss) -> None:
        entry = self._take(key)
        if entry is not None:
            self._remember(entry)
            self._note_loss(key, why)

    def _note_loss(self, key: bytes, why: Loss) -> None:
        self._lost[key] = why
        if len(self._lost) > LINEAGE:
            self._lost.popitem(last=False)

    def _remember(self, entry: Entry) -> None:
        self._lineage[entry.key] = (entry.seconds, entry.parents)
        if len(self._lineage) > LINEAGE:
            for key in list(self._lineage)[: LINEAGE // 4]:
                del self._lineage[key]

    def _cost(self, entry: Entry) -> float:
        """Seconds to make an entry again: its own, and those of its upstream as far as that is not held."""
        total = entry.seconds
        pending = [key for key in entry.parents if not self._holds(key)]
        if not pending:
            return total
        seen = set(pending)
        while pending and len(seen) < 512:
            seconds, parents = self._lineage.get(pending.pop(), (0.0, ()))
            total += seconds
            for key in parents:
                if key not in seen and not self._holds(key):
                    seen.add(key)
                    pending.append(key)
        return total

    def _is_cheap(self, entry: Entry) -> bool:
        size = host_overhead(entry) + sum(size for _, size in (*entry.device_blocks, *entry.host_blocks))
        return self._cost(entry) < CHEAP * size

    def _holds(self, key: bytes) -> bool:
        return (
            key in self._device.entries
            or key in self._host.entries
            or (self.lower is not None and self.lower.has(key))
        )


def _all_blocks(entry: Entry) -> tuple[tuple[object, int], ...]:
    """Every block of an entry; the host blocks of a result that lies in both memories count with the device's."""
    return entry.device_blocks + entry.host_blocks if entry.device_blocks else entry.host_blocks
