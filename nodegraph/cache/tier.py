"""What a tier of the cache is, and what the cache gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from nodegraph.events import TierName


@dataclass(frozen=True, slots=True)
class Held:
    """A result that the cache holds."""

    outputs: tuple[Any, ...]
    ui: Mapping[str, tuple[Any, ...]]
    tier: TierName
    """Where it lay when it was asked for."""
    seconds: float
    """How long it took to make, upstream not included."""


@dataclass(frozen=True, slots=True)
class TierStats:
    """How full a tier is. Bytes are of distinct memory blocks: what entries share counts once."""

    entries: int
    bytes: int
    budget: int


class Tier(Protocol):
    """A slower, larger place below the host's memory, such as a disk.

    Methods may be called from any thread, never two at once. What is damaged is a miss.
    """

    name: TierName

    def has(self, key: bytes) -> bool:
        """Whether `load` would find the key; must be quick."""
        ...

    def load(self, key: bytes) -> Held | None:
        """The result, on the devices where it was made; None where it is not there."""
        ...

    def store(self, key: bytes, held: Held) -> bool:
        """Keep what host memory gives up; returns whether it was kept."""
        ...

    def discard(self, key: bytes) -> None:
        """Forget a key, known or not."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...

    def stats(self) -> TierStats:
        """How full it is."""
        ...
