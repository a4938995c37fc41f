"""Tiny random networks of Würstchen's kind, and the way of one through a file into our module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nodes.models.identity import files_identity
from nodes.models.ldm_keys import sources
from nodes.models.loading import Placement, assemble, read_tensors
from nodes.models.networks import build
from nodes.models.tensor_file import read_header
from nodes.values import Architecture, Weights

CPU = torch.device("cpu")
Reader = Callable[[Mapping[str, tuple[int, ...]], Mapping[str, Any]], Architecture]


def randomise(module: nn.Module, damped: str = "") -> nn.Module:
    """Give every parameter and statistic a size that matters; the layer called `damped` a twentieth of it.

    Networks that divide by what they computed are chaotic with undamped random weights.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            scale = 1.0 / max(1.0, tensor[0].numel() ** 0.5) if tensor.ndim > 1 else 0.1
            if damped and name.startswith(damped):
                scale *= 0.05
            noise = torch.randn_like(tensor) * scale
            tensor.copy_(noise.abs() + 0.5 if name.endswith("running_var") else noise)
    return module.eval().requires_grad_(False)


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors under our names."""
    found = {}
    for ours, source in sources("unet", "ldm", tensors).items():
        shape = tuple(tensors[source.key].shape)
        found[ours] = (shape[0] // 3, *shape[1:]) if source.third is not None else shape
    return found


def load(
    tensors: Mapping[str, Tensor],
    reader: Reader,
    place: Path,
    hints: Mapping[str, Any],
    stored: torch.dtype | None = None,
) -> nn.Module:
    """Our module of the tensors, through a file; `stored` is what weights are kept in."""
    path = place / "network.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    header = read_header(path)
    architecture = reader(shapes_of(tensors), hints)
    weights = Weights(files_identity(header.paths), "unet", "diffusers", paths=header.paths)
    with torch.device("meta"):
        module = build(architecture)
    loaded = read_tensors(weights, module, Placement(CPU, stored))
    return assemble(architecture, loaded.tensors).eval()


def built_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The shapes of our module's parameters and statistics, without memory for them."""
    with torch.device("meta"):
        return {key: tuple(tensor.shape) for key, tensor in build(architecture).state_dict().items()}


def parameter_count(architecture: Architecture) -> int:
    """How many parameters our module has."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(architecture).parameters())


def relative(found: Tensor, wanted: Tensor) -> float:
    """The largest difference over the largest magnitude."""
    return float((found - wanted).abs().max() / wanted.abs().max())
