"""How much memory networks take, before they are loaded: weights by their recipe, activations by a run without data.

A network on torch's meta device makes every tensor that it makes on a real one, without memory for its numbers; the
sizes of those that live at once are summed up, so that whatever a network does is counted. Scores of attention are not,
as fused kernels do not form them. What libraries need besides, for copies in layouts of their own, is not known to
torch; benchmarks/memory_estimates.py measures how far that goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nodes.diffusion.reads import CondForm, reads
from nodes.models.coding import coding
from nodes.models.ldm_keys import sources
from nodes.models.loading import Placement, empty_module, parameter_shapes
from nodes.models.networks.denoising import DenoisingModule
from nodes.models.tensor_file import read_headers
from nodes.values import Architecture, Weights

TOKENS = 77
"""Of a prompt of which nothing is known."""


def peak_of(call: Callable[[], Any], module: nn.Module) -> int:
    """Return the bytes of the tensors that live at once while `call` runs `module`, its parameters not counted.

    Module and inputs are on the meta device; inputs that `call` makes count.
    """
    live = _Live(module)
    with torch.no_grad(), _Fused(), live:
        call()
    return live.peak


class _Fused(TorchFunctionMode):
    """Attention as fused kernels do it: its output and nothing else."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            query, _, value = args[:3]
            return query.new_empty((*query.shape[:-1], value.shape[-1]))
        return func(*args, **(kwargs or {}))


class _Live(TorchDispatchMode):
    """Counts the memory of tensors from their making to their end."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._own = {tensor.untyped_storage()._cdata for tensor in module.state_dict().values()}
        self._blocks: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._note(tensor)
        gone = [key for key, (block, _) in self._blocks.items() if _ended(block)]
        for key in gone:
            del self._blocks[key]
        self.peak = max(self.peak, sum(size for _, size in self._blocks.values()))
        return made

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._own:
            reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
            self._blocks[key] = (reference, storage.nbytes())


def _ended(block: StorageWeakRef) -> bool:
    return bool(block.expired())  # type: ignore[no-untyped-call]


def sampling_bytes(
    architecture: Architecture, size: tuple[int, int, int], forms: Sequence[CondForm], dtype: torch.dtype
) -> int:
    """Return what one call of a denoising network takes for latents of (batch, height, width).

    `forms` are the conditionings that it is given together, in one batch; what is not known of them is taken for small.
    """
    tokens = max((form.tokens or TOKENS for form in forms), default=TOKENS)
    extras = tuple(
        (
            name,
            next(
                (form.extras[name][1:] for form in forms if None not in form.extras.get(name, (None,))), None
            ),
        )
        for name in reads(architecture).extras
    )
    batch, height, width = size
    return _sampling(architecture, batch * max(1, len(forms)), height, width, tokens, extras, dtype)


@lru_cache(maxsize=64)
def _sampling(
    architecture: Architecture,
    batch: int,
    height: int,
    width: int,
    tokens: int,
    extras: tuple[tuple[str, tuple[int, ...] | None], ...],
    dtype: torch.dtype,
) -> int:
    module = cast(DenoisingModule, empty_module(architecture).to(dtype))
    wanted = reads(architecture)

    def call() -> None:
        x = _empty((batch, module.in_channels, height, width), dtype)
        context = _empty((batch, tokens, wanted.context or 0), dtype)
        pooled = None if wanted.pooled is None else _empty((batch, wanted.pooled), dtype)
        given = {
            name: _empty((batch, *(shape or _small(name, wanted.extras[name]))), dtype)
            for name, shape in extras
        }
        if wanted.classes is not None:
            given["class_labels"] = torch.empty(batch, dtype=torch.int64, device="meta")
        module(x, _empty((batch,), torch.float32), context, pooled, extras=given)

    return peak_of(call, module)


def _small(name: str, channels: int) -> tuple[int, ...]:
    """The shape of an extra of which nothing is known."""
    return (1, channels) if name == "clip_img" else (channels, 8, 8)


@lru_cache(maxsize=64)
def encoding_bytes(architecture: Architecture, chunks: int) -> int:
    """Return what encoding so many chunks of a prompt takes; text encoders compute in float32."""
    module = empty_module(architecture).to(torch.float32)
    positions, width = architecture["positions"], architecture["width"]

    def call() -> None:
        ends = torch.empty(chunks, dtype=torch.int64, device="meta")
        module(_empty((chunks, positions, width), torch.float32), ends, architecture["layers"])

    return peak_of(call, module)


@lru_cache(maxsize=64)
def latent_bytes(architecture: Architecture, height: int, width: int, dtype: torch.dtype) -> int:
    """Return what decoding a latent of (height, width) takes, for an autoencoder that has no formula for it."""
    module = empty_module(architecture).to(dtype)
    way = coding(architecture)
    assert way.decode is not None
    return peak_of(
        partial(way.decode, module, _empty((1, way.latent_channels, height, width), dtype)), module
    )


@lru_cache(maxsize=64)
def vision_bytes(architecture: Architecture, batch: int) -> int:
    """Return what a vision encoder takes for a batch of pictures; it computes in float32."""
    module = empty_module(architecture).to(torch.float32)
    size = architecture["size"]
    return peak_of(lambda: module(_empty((batch, 3, size, size), torch.float32)), module)


@lru_cache(maxsize=64)
def weight_bytes(weights: Weights, architecture: Architecture, placement: Placement) -> int:
    """Return what a network's weights take where they are placed. Raises NodeError where their files are gone."""
    counts = {name: math.prod(shape) for name, shape in parameter_shapes(architecture).items()}
    if placement.dtype is not None:
        return sum(counts.values()) * placement.dtype.itemsize
    header = read_headers(weights.paths)
    keys = [key.removeprefix(weights.prefix) for key in header.tensors if key.startswith(weights.prefix)]
    named = sources(weights.part, weights.layout, keys)
    stored = {name: header.tensors[weights.prefix + named[name].key].dtype for name in counts}
    return sum(count * placement.of(stored[name]).itemsize for name, count in counts.items())


@lru_cache(maxsize=64)
def picture_bytes(architecture: Architecture, height: int, width: int, dtype: torch.dtype) -> int:
    """Return what encoding a picture of (height, width) takes, for an autoencoder that has no formula for it."""
    module = empty_module(architecture).to(dtype)
    way = coding(architecture)
    assert way.encode is not None
    return peak_of(partial(way.encode, module, _empty((1, 3, height, width), dtype)), module)


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")
