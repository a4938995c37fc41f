"""What patches mean: the name of a `Patch` record -> the code that carries it out.

Weight patches change tensors when a module is made; every other network patch becomes hooks of the one call that it
is handed to and is never stored on a module. Sampling and guidance patches belong to `nodes.diffusion`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from nodegraph.node import NodeError
from nodes.models.networks.hooks import NO_HOOKS, Hooks
from nodes.models.patches.lora import LoraPatch
from nodes.values import Architecture, Patch


class WeightPatch(Protocol):
    """A change to some tensors of a network."""

    def changes(
        self, patch: Patch, architecture: Architecture, shapes: Mapping[str, tuple[int, ...]]
    ) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """Return by parameter name what gives the changed tensor for the tensor, both float32; the given one stays.

        `shapes` are those of all parameters. Raises NodeError where the patch does not fit the network.
        """


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


PATCHES = PatchRegistry(weights={"lora": LoraPatch()}, calls={})
"""The built-in patches."""
