"""What a node says of its outputs and its memory before it runs: what a `foresee` hook returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


class _Unknown:
    """Stands for a value of which nothing is known before the run."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


@dataclass(frozen=True, slots=True)
class Memory:
    """Device memory that one call of a node takes, in bytes."""

    works: int | None = 0
    """Needed while it runs, and free again afterwards; None where that is not known."""
    holds: Mapping[Any, int] | None = None
    """What it needs and leaves where it is (the weights of models), by identity: what nodes share counts once."""
    budget: int = 0
    """What there is in all, for things to be held in; 0 where the node does not know."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is known of a node's call before anything runs.

    `outputs` has one entry for each output: the value itself, a small description of it that the pack's hooks
    agree on, or UNKNOWN; empty where nothing is known of any. `memory` is called only where somebody asks.
    """

    outputs: tuple[Any, ...] = ()
    memory: Callable[[], Memory] | None = None
