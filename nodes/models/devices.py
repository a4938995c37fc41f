"""Where a session's networks compute, in which number formats, and how much memory they may take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from nodegraph.node import NodeError, Runtime
from nodes.models.loading import Placement
from nodes.values import Clip, ClipVision, Model, Vae

DTYPES: Mapping[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}
_CPU_SHARE, _GPU_SHARE = 0.6, 0.9
"""Of all memory: what models may take where the session sets no budget."""


def resolve_device(name: str) -> torch.device:
    """Return the device that `name` means; `auto` is the best there is. Raises NodeError for one that is not there."""
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise NodeError(
            f"the device {name!r} is not there.",
            code="no_device",
            allowed="auto, cpu, cuda, cuda:N or mps, where this machine and its torch have them",
        ) from error
    return device


def network_dtype(choice: str, device: torch.device) -> torch.dtype:
    """Return what networks compute in: `auto` is fp16 on a GPU and fp32 on the CPU. Raises NodeError for others."""
    if choice == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    if choice not in ("fp32", "bf16", "fp16"):
        raise NodeError(
            f"the dtype {choice!r} is unknown.", code="unknown_dtype", allowed="auto, fp32, bf16, fp16"
        )
    return DTYPES[choice]


def machine_memory() -> int:
    """Return the bytes of memory of this machine; 16 GB where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 16_000_000_000


def host_room(device: torch.device) -> int | None:
    """Return the bytes of host memory that feature maps may take; None where the device's memory is the host's."""
    return None if device.type in ("cpu", "mps") else machine_memory() // 2


def describe_devices(runtime: Runtime) -> list[dict[str, Any]]:
    """Return what there is to say of the runtime's device: name, type, index, bytes in all and free.

    `torch_vram_total` and `torch_vram_free` are of what torch has taken from a GPU's memory.
    """
    device = resolve_device(runtime.device)
    if device.type != "cuda":
        total, free = machine_memory(), _free_memory()
        return [
            {
                **{"name": runtime.device, "type": device.type, "index": device.index},
                **{
                    "vram_total": total,
                    "vram_free": free,
                    "torch_vram_total": total,
                    "torch_vram_free": free,
                },
            }
        ]
    free, total = torch.cuda.mem_get_info(device)
    reserved, used = torch.cuda.memory_reserved(device), torch.cuda.memory_allocated(device)
    index = device.index if device.index is not None else torch.cuda.current_device()
    return [
        {
            **{"name": torch.cuda.get_device_name(device), "type": "cuda", "index": index},
            **{"vram_total": total, "vram_free": free + reserved - used},
            **{"torch_vram_total": reserved, "torch_vram_free": reserved - used},
        }
    ]


def _free_memory() -> int:
    """Return the bytes of memory that programs can still have, all of it where the system does not say."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return machine_memory()
    found = next((line for line in text.splitlines() if line.startswith("MemAvailable:")), "")
    return int(found.split()[1]) * 1024 if found else machine_memory()


class Placing:
    """What a session's runtime says of its networks. Raises NodeError for a device or dtype that is not there."""

    def __init__(self, runtime: Runtime) -> None:
        self.device = resolve_device(runtime.device)
        self.dtype = network_dtype(runtime.dtype, self.device)
        self._given = runtime.device_budget

    @cached_property
    def budget(self) -> int:
        """Bytes of the device that models and what is computed with them may take together."""
        if self._given:
            return self._given
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[1] * _GPU_SHARE)
        return int(machine_memory() * _CPU_SHARE)

    def network(self, model: Model) -> tuple[Placement, torch.dtype]:
        """Return where a denoising network's weights lie, and what it computes in."""
        compute = self.dtype if model.dtype is None or model.dtype.startswith("fp8") else DTYPES[model.dtype]
        return Placement(self.device, DTYPES[model.dtype] if model.dtype is not None else compute), compute

    def as_stored(self, recipe: Clip | ClipVision) -> Placement:
        """Return where an encoder's weights lie: as stored (mapped, on a CPU); it computes in float32."""
        return Placement(self.device, DTYPES[recipe.dtype] if recipe.dtype is not None else None)

    def vae(self, vae: Vae) -> tuple[Placement, torch.dtype]:
        """Return where an autoencoder's weights lie, and what it computes in."""
        dtype = DTYPES[vae.dtype] if vae.dtype is not None else self._vae_dtype()
        # On a CPU the weights stay as stored, mapped: its peak is the run's peak, and the casts cost little beside it.
        kept = vae.dtype is None and self.device.type == "cpu"
        return Placement(self.device, None if kept else dtype), dtype

    def _vae_dtype(self) -> torch.dtype:
        if self.device.type == "cuda" and torch.cuda.is_bf16_supported():
            return torch.bfloat16
        return torch.float32
