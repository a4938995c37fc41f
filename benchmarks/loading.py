"""Seconds from a checkpoint file to recipes and to modules, each part in a process of its own state.

    python benchmarks/loading.py [CHECKPOINT] [--dtype fp32]

`recipes` reads the header alone; `network`, `text_encoder` and `vae` make the modules, `first_call` runs the network
once on a small latent (pages that were only mapped are read then). Prints one JSON object with the environment.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
EMBEDDED = Path(__file__).parents[1] / "nodes/models/embedded/checkpoints/shapes-sd.safetensors"


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=EMBEDDED)
    parser.add_argument("--dtype", default="fp32", choices=("fp32", "bf16", "fp16"))
    given = parser.parse_args()
    seconds: dict[str, float] = {}

    def timed(name: str, function: Callable[[], T]) -> T:
        start = time.perf_counter()
        result = function()
        seconds[name] = round(time.perf_counter() - start, 3)
        return result

    timed("import_torch", lambda: __import__("torch"))
    timed("import_nodes", lambda: __import__("nodes.stable_diffusion.loaders", fromlist=["x"]))
    import torch

    from nodegraph.node import Folders, Runtime
    from nodes.models.pool import ModelPool
    from nodes.stable_diffusion.loaders import load_checkpoint

    model, clip, vae = timed("recipes", lambda: load_checkpoint(given.checkpoint))
    here = given.checkpoint.parent
    folders = Folders((here,), here, here, here)
    pool = ModelPool.open(Runtime(folders, device="cpu", dtype=given.dtype))
    with ExitStack() as stack:
        encoder = timed("text_encoder", lambda: stack.enter_context(pool.text_encoder(clip)))
        context, _ = timed("encode_prompt", lambda: encoder.encode("a red circle"))
        network = timed("network", lambda: stack.enter_context(pool.network(model)))
        latent, times = torch.randn(1, 4, 16, 16), torch.tensor([500.0])
        timed("first_call", lambda: network(latent, times, context))
        timed("second_call", lambda: network(latent, times, context))
        timed("vae", lambda: stack.enter_context(pool.vae(vae)))
    report = {
        "benchmark": "loading",
        "environment": {
            "python": platform.python_version(),
            "torch": version("torch"),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
        },
        "checkpoint": given.checkpoint.name,
        "dtype": given.dtype,
        "model_gb": round(pool.held() / 1e9, 3),
        "seconds": seconds,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
