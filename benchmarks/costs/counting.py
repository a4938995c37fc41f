"""Counts what a call computes and holds, on tensors without memory: at any size, on any machine.

FLOPs are those of convolutions, matrix products and attention, two for each multiplication with its addition; what is
done element by element is left out. Bytes are those of tensors, as `nodes.models.memory` counts them: of the weights,
of the inputs, and of what the call makes for as long as something refers to it. What a kernel allocates inside itself
and what the device's own context takes are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.costs.calls import make_call
from benchmarks.costs.published import Case
from nodes.models.loading import Placement, empty_module
from nodes.models.memory import peak_of

META = torch.device("meta")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call takes."""

    flops: int
    weights: int
    """Bytes of parameters and statistics."""
    activations: int
    """Bytes of its inputs and of what it makes, at the worst moment."""

    @property
    def peak(self) -> int:
        """Bytes in all."""
        return self.weights + self.activations


class _Attention(TorchFunctionMode):
    """Sends attention to the kernel that GPUs take for it, which FLOPs are known of; elsewhere it has several."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is F.scaled_dot_product_attention and given.get("attn_mask") is None:
            fused = torch.ops.aten._scaled_dot_product_efficient_attention
            return fused(*args, None, False, is_causal=given.get("is_causal", False))[0]
        return func(*args, **given)


def count(case: Case, module: nn.Module, dtype: torch.dtype) -> Cost:
    """Return what a call of `module`, which is on the meta device, takes."""

    def call() -> None:
        # The inputs are made here, so that they count.
        made = make_call(case, module, Placement(META, dtype))
        with _Attention():
            made.run()

    with FlopCounterMode(display=False) as counter:
        activations = peak_of(call, module)
    held = {
        tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in module.state_dict().values()
    }
    return Cost(counter.get_total_flops(), sum(storage.nbytes() for storage in held.values()), activations)


@cache
def cost_of(case: Case, dtype: torch.dtype) -> Cost:
    """Return what a call of the network takes with its weights in `dtype`."""
    return count(case, empty_module(case.architecture).to(dtype), dtype)
