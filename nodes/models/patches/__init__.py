"""What patches mean: the name of a `Patch` record -> the code that carries it out.

Weight patches change tensors when a module is made; every other network patch becomes hooks of the one call that it
is handed to and is never stored on a module. Sampling and guidance patches belong to `nodes.diffusion`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from nodegraph.node import NodeError
from nodes.models.networks.hooks import NO_HOOKS, Hooks
from nodes.values import Patch


class WeightPatch(Protocol):
    """A change to some tensors of a network."""

    def keys(self, patch: Patch, names: Iterable[str]) -> frozenset[str]:
        """Return which of the network's parameter names it changes."""

    def apply(self, patch: Patch, name: str, tensor: Tensor) -> Tensor:
        """Return the changed tensor, float32, for `tensor`, float32; the given one stays as it is."""


class CallPatch(Protocol):
    """A change to one call of the network."""

    def hooks(self, patch: Patch) -> Hooks:
        """Return where and how it reaches into the call."""


@dataclass(frozen=True)
class PatchRegistry:
    """Names of patches and their meaning."""

    weights: Mapping[str, WeightPatch]
    calls: Mapping[str, CallPatch]

    def weight(self, patch: Patch) -> WeightPatch:
        """Return the meaning of a weight patch. Raises NodeError for an unknown one."""
        if patch.name not in self.weights:
            raise _unknown(patch)
        return self.weights[patch.name]

    def hooks(self, patches: Iterable[Patch]) -> Hooks:
        """Return the hooks of all patches, in order. Raises NodeError for an unknown one."""
        total = NO_HOOKS
        for patch in patches:
            if patch.name not in self.calls:
                raise _unknown(patch)
            total += self.calls[patch.name].hooks(patch)
        return total


def _unknown(patch: Patch) -> NodeError:
    return NodeError(f"nothing here knows the {patch.kind} patch {patch.name!r}.", code="unknown_patch")


PATCHES = PatchRegistry(weights={}, calls={})
"""The built-in patches."""
