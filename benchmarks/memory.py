"""Peak resident memory of a whole run, text to saved picture, for each number format.

    python benchmarks/memory.py CHECKPOINT [--size 128] [--steps 8]

Each run is a process of its own, started as a person would start it; its peak is what the kernel reports (VmHWM).
Targets for a full-size Stable Diffusion 1.5 file in fp16: under 5.2 GB in fp32 and 3.2 GB in bf16 (GB = 1e9).
Without a checkpoint it takes the embedded model. Prints one JSON object with the environment it ran in.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

EMBEDDED = Path(__file__).parents[1] / "nodes/models/embedded/checkpoints/shapes-sd.safetensors"


def workflow(checkpoint: str, size: int, steps: int) -> dict[str, Any]:
    """Text to image, saved."""

    def entry(class_type: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": class_type, "inputs": inputs}

    return {
        "3": entry(
            "KSampler",
            seed=42,
            steps=steps,
            cfg=7.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
            model=["4", 0],
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["5", 0],
        ),
        "4": entry("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "5": entry("EmptyLatentImage", width=size, height=size, batch_size=1),
        "6": entry("CLIPTextEncode", text="a red circle", clip=["4", 1]),
        "7": entry("CLIPTextEncode", text="", clip=["4", 1]),
        "8": entry("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": entry("SaveImage", images=["8", 0], filename_prefix="memory"),
    }


def measure(checkpoint: Path, dtype: str, size: int, steps: int) -> dict[str, float]:
    """Run once; return the peak in GB and the seconds. Raises CalledProcessError where the run fails."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "models" / "checkpoints").mkdir(parents=True)
        (place / "models" / "checkpoints" / checkpoint.name).symlink_to(checkpoint.resolve())
        (place / "workflow.json").write_text(json.dumps(workflow(checkpoint.name, size, steps)))
        command = [sys.executable, "-m", "nodegraph", "run", str(place / "workflow.json"), "--device", "cpu"]
        command += [
            "--dtype",
            dtype,
            "--models-dir",
            str(place / "models"),
            "--output-dir",
            str(place / "out"),
        ]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        # Linux counts in KiB, macOS in bytes.
        unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_gb": round(usage.ru_maxrss * unit / 1e9, 3), "seconds": round(seconds, 2)}


def main() -> None:
    """Measure each format and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=EMBEDDED)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8)
    given = parser.parse_args()
    report = {
        "benchmark": "memory",
        "environment": {
            "python": platform.python_version(),
            "torch": version("torch"),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
        },
        "checkpoint": given.checkpoint.name,
        "size": given.size,
        "steps": given.steps,
        "results": {
            dtype: measure(given.checkpoint, dtype, given.size, given.steps) for dtype in ("fp32", "bf16")
        },
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
