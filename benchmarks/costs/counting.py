"""Counts what a call computes and holds, on tensors without memory: at any size, on any machine.

FLOPs are those of convolutions, matrix products and attention, two for each multiplication with its addition;
what is done element by element is left out. Bytes are those of tensors: of the weights and inputs, and of what
the call makes for as long as something refers to it. What a kernel allocates inside itself, and what the device's
own context takes, is left out. Attention does not hold the matrix of its weights, as on GPUs.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

META = torch.device("meta")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call takes."""

    flops: int
    activations: int
    """Bytes of what the call makes, at the worst moment."""
    held: int
    """Bytes of weights and inputs."""

    @property
    def peak(self) -> int:
        """Bytes in all."""
        return self.held + self.activations


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the FLOPs of the operations while it is on, and follows the tensors that they make.

    `peak` is the most bytes that were alive at one time; tensors that share a storage count once, those in `held`
    never.
    """

    def __init__(self, held: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.alive = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in held}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, count it and what is new in its result."""
        given = kwargs or {}
        result = func(*args, **given)
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **given, out_val=result)
        for leaf in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(leaf, Tensor):
                self._see(leaf.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size


class FusedAttention(TorchFunctionMode):
    """Sends attention to the kernel that GPUs take for it; tensors without memory would get the plain one."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace attention without a mask."""
        given = dict(kwargs or {})
        if func is F.scaled_dot_product_attention and given.get("attn_mask") is None:
            fused = torch.ops.aten._scaled_dot_product_efficient_attention
            return fused(*args, None, False, is_causal=given.get("is_causal", False))[0]
        return func(*args, **given)


def count(call: Callable[[], object], held: Iterable[Tensor]) -> Cost:
    """Return what `call` takes; `held` are its weights and inputs, which may be on the meta device."""
    tensors = list(held)
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    meter = Meter(tensors)
    with torch.no_grad(), FusedAttention(), meter:
        call()
    return Cost(meter.flops, meter.peak, sum(storages.values()))


def weights(module: nn.Module) -> list[Tensor]:
    """Return the parameters and statistics of a module."""
    return [*module.parameters(), *module.buffers()]


def tile_shapes(latent: tuple[int, int], tile: int, overlap: int) -> Counter[tuple[int, int]]:
    """Return how often the decoder of a latent (height, width) is called with tiles of which (height, width).

    The tilings are those of `nodes.models.tiling.average_of_tilings`.
    """
    from nodes.models.tiling import positions

    found: Counter[tuple[int, int]] = Counter()
    for shape in ((tile * 2, tile // 2), (tile // 2, tile * 2), (tile, tile)):
        sides = []
        for length, size in zip(latent, shape, strict=True):
            starts = (max(0, min(length - overlap, start)) for start in positions(length, size, overlap))
            sides.append([min(size, length - start) for start in starts])
        found.update((height, width) for height in sides[0] for width in sides[1])
    return found
