"""Where one call of a denoising network can be changed from outside, without touching the module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Stage = Literal["input", "middle", "output"]


@dataclass(frozen=True, slots=True)
class Place:
    """A block: its stage and its index there.

    In U-Nets as in the checkpoint's `input_blocks.N`. In Würstchen's networks a block is one residual block with the
    time and attention that follow it; they count through the levels from the first, those of a network without levels
    as the middle.
    """

    stage: Stage
    index: int


@dataclass(frozen=True, slots=True)
class AttentionPlace:
    """One attention: its block, the transformer layer in it, and whether it reads the context.

    Würstchen's attentions read the picture and the context at once: they count as `cross`.
    """

    block: Place
    layer: int
    cross: bool
    heads: int


BlockHook = Callable[[Place, Tensor], Tensor]
"""(place, hidden) -> hidden, after the block."""
SkipHook = Callable[[Place, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(place, hidden, skip) -> (hidden, skip), before an output block joins them."""
AttentionHook = Callable[[AttentionPlace, Tensor, Tensor, Tensor], "Tensor | None"]
"""(place, q, k, v), each (batch, tokens, width) -> what attention gives, or None for the usual."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """The changes to one call; those of a kind apply in order, the first attention hook that answers wins."""

    block: tuple[BlockHook, ...] = ()
    skip: tuple[SkipHook, ...] = ()
    attention: tuple[AttentionHook, ...] = ()

    def __add__(self, other: Hooks) -> Hooks:
        return Hooks(self.block + other.block, self.skip + other.skip, self.attention + other.attention)


NO_HOOKS = Hooks()
