"""How near the estimates of `nodegraph plan --memory` come to what networks take.

    python benchmarks/memory_estimates.py [--device cpu]

Each network, with random weights, runs once in a process of its own; against the estimate of activations stand what torch
allocated at most and, on a CPU, what the process grew by (VmHWM, so Linux only), which counts the copies that libraries
make and what the C library keeps of what was freed. Prints one JSON object with the environment it ran in.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch

from nodes.diffusion.reads import CondForm, reads
from nodes.models.coding import coding
from nodes.models.devices import host_room
from nodes.models.memory import encoding_bytes, sampling_bytes
from nodes.models.networks import build
from nodes.models.networks.clip_text import ClipText
from nodes.models.networks.denoising import DenoisingModule
from nodes.models.seamless import choose, decode, whole_bytes
from nodes.values import Architecture

UNET: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 160,
    "channel_mult": (1, 2, 4, 4),
    "num_res_blocks": (2, 2, 2, 2),
    "depth_in": (1, 1, 1, 1, 1, 1, 0, 0),
    "depth_middle": 1,
    "depth_out": (0, 0, 0, *(1,) * 9),
    "cross_attention_dim": 768,
    "linear": False,
    "num_heads": 8,
}
KL = {
    "channels": 128,
    "channel_mult": (1, 2, 4, 4),
    "num_res_blocks": 2,
    "z_channels": 4,
    "latent_channels": 4,
}
VQ = {
    "picture_channels": 3,
    "latent_channels": 4,
    "channels": 384,
    "levels": 2,
    "bottleneck_blocks": 12,
    "codebook_size": 8192,
    "patch_size": 2,
}
CLIP = {
    "vocabulary": 49408,
    "positions": 77,
    "width": 768,
    "layers": 12,
    "heads": 12,
    "inner": 3072,
    "activation": "quick_gelu",
}
PRIOR = {"in_channels": 16, "channels": 768, "cross_attention_dim": 1280, "depth": 4, "num_heads": 12}
STAGE_B: dict[str, Any] = {
    "channels": (160, 320, 640, 640),
    "num_heads": (-1, 5, 10, 10),
    "blocks": (1, 1, 1, 1),
    "effnet_channels": 16,
    "cross_attention_dim": 1024,
}
Run = Callable[[], object]


def sampling(kind: str, arguments: dict[str, Any], size: int, device: torch.device) -> tuple[int, Run]:
    """A denoising network half as wide as published (less deep, too), batch 2."""
    architecture = Architecture(kind, tuple(arguments.items()))
    module = cast(DenoisingModule, build(architecture).eval().to(device))
    said = sampling_bytes(architecture, (1, size, size), [CondForm(tokens=77)] * 2, torch.float32)
    x = torch.randn(2, module.in_channels, size, size, device=device)
    context = torch.randn(2, 77, reads(architecture).context or 0, device=device)
    return said, partial(module, x, torch.full((2,), 0.5, device=device), context)


def decoding(
    kind: str, arguments: dict[str, Any], size: int, device: torch.device, share: int = 1
) -> tuple[int, Run]:
    """A decoder of the published size; in tiles where `share` of what the whole takes is all there is."""
    architecture = Architecture(kind, tuple(arguments.items()))
    module = build(architecture).eval().to(device)
    way = coding(architecture)
    assert way.steps is not None and way.decode is not None
    steps, latent = way.steps(module), torch.randn(1, 4, size, size, device=device)
    said = whole_bytes(steps, size * size, 4)
    if share == 1:
        return said, partial(way.decode, module, latent)
    tiling = choose(steps, (size, size), 4, said // share, host_room(device))
    return tiling.works, partial(decode, steps, latent, tiling, device)


def encoding(device: torch.device) -> tuple[int, Run]:
    """CLIP's text encoder of Stable Diffusion 1.x over two chunks."""
    architecture = Architecture("clip_text", tuple(CLIP.items()))
    module = cast(ClipText, build(architecture).eval().to(device))
    embedded = torch.randn(2, 77, 768, device=device)
    return encoding_bytes(architecture, 2), partial(
        module, embedded, torch.tensor([76, 76], device=device), 12
    )


CASES: dict[str, Callable[[torch.device], tuple[int, Run]]] = {
    "unet_512": partial(sampling, "unet", UNET, 64),
    "wuerstchen_prior_1024": partial(sampling, "wuerstchen_prior", PRIOR, 24),
    "wuerstchen_decoder_1024": partial(sampling, "wuerstchen_decoder", STAGE_B, 256),
    "autoencoder_kl_512": partial(decoding, "autoencoder_kl", KL, 64),
    "autoencoder_kl_512_in_tiles": partial(decoding, "autoencoder_kl", KL, 64, share=3),
    "paella_vq_512": partial(decoding, "paella_vq", VQ, 128),
    "paella_vq_512_in_tiles": partial(decoding, "paella_vq", VQ, 128, share=3),
    "clip_text": encoding,
}


def measure(name: str, device: torch.device) -> dict[str, float]:
    """Run one case in this process; MB of the estimate and of what was taken, and the ratio of what was allocated to it."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(0)
    with torch.no_grad():
        said, run = CASES[name](device)
        gc.collect()
        if device.type == "cuda":
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            run()
            found = {"allocated": torch.cuda.max_memory_allocated(device) - before}
        else:
            # The kernel counts from here on.
            Path("/proc/self/clear_refs").write_text("5")
            before = _status("VmRSS")
            run()
            found = {"resident": _status("VmHWM") - before}
            found["allocated"] = _allocated(run)
    sizes = {f"{name}_mb": round(size / 1e6, 1) for name, size in found.items()}
    return {"estimate_mb": round(said / 1e6, 1), **sizes, "ratio": round(found["allocated"] / said, 2)}


def _allocated(run: Run) -> int:
    """The most that torch's allocator on the CPU gave out at one time during a run."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        run()
    results = profile.profiler.kineto_results
    changes = sorted(
        (event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]"
    )
    totals: Iterator[int] = itertools.accumulate(size for _, size in changes)
    return max(totals)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:"))) * 1024


def main() -> None:
    """Measure every case and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--case", choices=CASES, help="one of them, in this process")
    given = parser.parse_args()
    if given.case:
        print(json.dumps(measure(given.case, torch.device(given.device))))
        return
    results = {}
    for name in CASES:
        command = [sys.executable, __file__, "--device", given.device, "--case", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        results[name] = json.loads(done.stdout)
    report = {
        "benchmark": "memory_estimates",
        "environment": {
            "python": platform.python_version(),
            "torch": version("torch"),
            "machine": platform.machine(),
            "device": torch.cuda.get_device_name() if given.device.startswith("cuda") else "cpu",
        },
        "results": results,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
