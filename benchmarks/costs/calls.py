"""Networks with random weights, and the calls that a pipeline makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.costs.published import Case
from nodes.models.loading import Placement, assemble, empty_module
from nodes.values import Architecture

_BLOCK = 1 << 20
"""Random numbers that are drawn; larger tensors repeat them."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a network, ready to be made; `inputs` are the tensors that it is given."""

    run: Callable[[], Tensor]
    inputs: tuple[Tensor, ...]


def make_call(case: Case, module: nn.Module, placement: Placement) -> Call:
    """Return the call of `module`, as the engine makes it."""
    network: Any = module
    device, batch = placement.device, case.batch
    # Text is encoded in float32 whatever the weights are stored in.
    dtype = torch.float32 if case.role == "text" else placement.dtype

    def tensor(shape: tuple[int, ...]) -> Tensor:
        made = torch.randn(batch, *shape, device=device, dtype=dtype)
        # What is counted on the meta device stands for a GPU.
        if made.ndim == 4 and (placement.channels_last or device.type == "meta"):
            made = made.contiguous(memory_format=torch.channels_last)
        return made

    given = {name: tensor(shape) for name, shape in case.shapes}
    match case.role:
        case "text":
            ends = torch.full((batch,), given["embedded"].shape[1] - 1, device=device)
            layers = case.architecture["layers"]
            return Call(lambda: network(given["embedded"], ends, layers)[0], (*given.values(), ends))
        case "decoding":
            return Call(lambda: network.decode(given["latents"]), tuple(given.values()))
        case "sampling":
            time = torch.full((batch,), 0.5, device=device)
            x, context, pooled = given["x"], given["context"], given.get("pooled")
            extras = {"effnet": given["effnet"]} if "effnet" in given else {}
            return Call(lambda: network(x, time, context, pooled, extras=extras), (*given.values(), time))


def random_module(architecture: Architecture, placement: Placement) -> nn.Module:
    """Return the network with random weights, made where and as `placement` says."""
    block = torch.randn(_BLOCK, device=placement.device, dtype=placement.dtype)

    def tensor(name: str, shape: torch.Size) -> Tensor:
        made = torch.empty(shape, device=placement.device, dtype=placement.dtype)
        # By the number of inputs, so that what flows through the layers keeps its size.
        scale = (made[0].numel() if made.ndim > 1 else 100) ** -0.5
        for part in torch.split(made.view(-1), _BLOCK):
            torch.mul(block[: len(part)], scale, out=part)
        if name.endswith("running_var"):
            made.fill_(1.0)
        if made.ndim == 4 and placement.channels_last:
            made = made.contiguous(memory_format=torch.channels_last)
        return made

    wanted = empty_module(architecture).state_dict()
    return assemble(architecture, {name: tensor(name, like.shape) for name, like in wanted.items()})
