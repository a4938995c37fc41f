"""The weight patch `lora`: adds what an adapter file says to the weights and biases of a network.

Input `file`: the `Weights` of the file. Parameter `strength`: how much of it, as `nodes.models.low_rank` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from nodes.models.adapters import Adapter, AdapterFile, matched, read_adapters
from nodes.models.identity import files_identity
from nodes.models.loading import header_of
from nodes.models.low_rank import changed
from nodes.models.tensor_file import TensorReader
from nodes.values import Architecture, Patch, Weights


def lora_patch(path: Path, strength: float) -> Patch:
    """Return the record of one file's changes."""
    weights = Weights(identity=files_identity((path,)), part="lora", layout="ldm", paths=(path,))
    return Patch("weights", "lora", parameters=(("strength", strength),), inputs=(("file", weights),))


class LoraPatch:
    """What `lora` means."""

    def changes(
        self, patch: Patch, architecture: Architecture, shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Callable[[Tensor], Tensor]]:
        """Return the change of each weight and bias that the file has something for. Raises NodeError."""
        file = read_adapters(header_of(cast(Weights, dict(patch.inputs)["file"])))
        strength = float(cast(float, dict(patch.parameters)["strength"]))
        found: dict[str, Callable[[Tensor], Tensor]] = {}
        for module, adapter in matched(file, architecture, shapes).items():
            if set(adapter.keys) - {"diff_b", "alpha"}:
                found[f"{module}.weight"] = partial(_changed, file, adapter, strength)
            if "diff_b" in adapter.keys:
                found[f"{module}.bias"] = partial(_shifted, file, adapter, strength)
        return found


def _factors(file: AdapterFile, adapter: Adapter, like: Tensor) -> dict[str, Tensor]:
    with TensorReader(file.header) as reader:
        return {role: reader.read(key, torch.float32).to(like.device) for role, key in adapter.keys.items()}


def _shifted(file: AdapterFile, adapter: Adapter, strength: float, bias: Tensor) -> Tensor:
    return bias + strength * _factors(file, adapter, bias)["diff_b"].view(bias.shape)


def _changed(file: AdapterFile, adapter: Adapter, strength: float, weight: Tensor) -> Tensor:
    return changed(adapter.kind, _factors(file, adapter, weight), weight, strength)
