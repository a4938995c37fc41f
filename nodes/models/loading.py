"""From a recipe's weights to a module: parameters assigned, never initialised and never held twice."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor, nn

from nodegraph.node import NodeError
from nodes.models.identity import files_identity
from nodes.models.ldm_keys import Source, sources
from nodes.models.networks import build
from nodes.models.tensor_file import TensorHeader, TensorReader, read_headers
from nodes.values import Architecture, Weights

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where tensors go: `dtype` None keeps the file's own."""

    device: torch.device
    dtype: torch.dtype | None

    def of(self, stored: torch.dtype) -> torch.dtype:
        """Return what a tensor stored as `stored` is kept as."""
        if self.dtype is not None:
            return self.dtype
        # Layers cast to what they compute in, but look-ups and some devices know neither of these.
        return torch.float16 if stored in FP8 else torch.float32 if stored == torch.float64 else stored

    @property
    def channels_last(self) -> bool:
        """Whether pictures and filters are laid out channels last: quicker on GPUs, and in half precision on CPUs."""
        return self.device.type == "cuda" or self.dtype in (torch.bfloat16, torch.float16)


def empty_module(architecture: Architecture) -> nn.Module:
    """Return the module without memory for its parameters."""
    with torch.device("meta"):
        return build(architecture).eval().requires_grad_(False)


@lru_cache(64)
def parameter_shapes(architecture: Architecture) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of all parameters and buffers by name."""
    state = empty_module(architecture).state_dict()
    return MappingProxyType({name: tuple(tensor.shape) for name, tensor in state.items()})


@dataclass(frozen=True)
class Loaded:
    """Tensors by parameter name, and the maps that some of them lie in."""

    tensors: dict[str, Tensor]
    maps: tuple[mmap.mmap, ...] = ()


def read_tensors(weights: Weights, module: nn.Module, placement: Placement) -> Loaded:
    """Return the tensors of `module` from the files of `weights`.

    Tensors that need no change on the CPU stay mapped to the file; the others are read one at a time, so that no
    part of the file counts as memory beside them. Raises NodeError where the files are gone or have changed.
    """
    header = header_of(weights)
    prefix = weights.prefix
    keys = [key[len(prefix) :] for key in header.tensors if key.startswith(prefix)]
    named = sources(weights.part, weights.layout, keys)
    with TensorReader(header) as reader:
        tensors = {
            name: _place(reader, prefix, named[name], wanted, placement)
            for name, wanted in module.state_dict().items()
        }
        return Loaded(tensors, reader.maps)


def header_of(weights: Weights) -> TensorHeader:
    """Return the header of the files of `weights`. Raises NodeError where they are gone or have changed."""
    try:
        unchanged = files_identity(weights.paths) == weights.identity
    except OSError as error:
        raise _gone(weights, "is gone") from error
    if not unchanged:
        raise _gone(weights, "has changed since it was loaded")
    return read_headers(weights.paths)


def _place(reader: TensorReader, prefix: str, source: Source, wanted: Tensor, placement: Placement) -> Tensor:
    key = prefix + source.key
    stored = reader.header.tensors[key].dtype
    dtype = placement.of(stored)
    on_cpu = placement.device.type == "cpu"
    relaid = placement.channels_last and len(reader.header.tensors[key].shape) == 4 and wanted.ndim == 4
    keep = on_cpu and dtype == stored and not source.transpose and not relaid
    tensor = reader.mapped(key) if keep else reader.read(key, dtype if on_cpu else None)
    if source.third is not None:
        tensor = tensor.chunk(3)[source.third]
    if source.transpose:
        tensor = tensor.t()
    tensor = tensor.reshape(wanted.shape).to(placement.device, dtype)
    if relaid:
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor.contiguous()


def assemble(architecture: Architecture, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return the module whose parameters are these very tensors."""
    module = empty_module(architecture)
    module.load_state_dict(dict(tensors), strict=True, assign=True)
    return module.requires_grad_(False)


def _gone(weights: Weights, what: str) -> NodeError:
    names = ", ".join(path.name for path in weights.paths)
    return NodeError(f"{names} {what}.", code="model_file_changed", hint="Run again to load it as it is now.")
