"""Whether memory stays where it is: many runs with changing seeds in one session.

Runs the text-to-image workflow on the embedded model (or on --checkpoint NAME with --models-dir) and prints JSON:
resident bytes after 20 runs and at the end, their ratio, and what the cache holds by its own account.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import nodegraph

WORKFLOW = Path(__file__).parents[1] / "workflows" / "text_to_image.json"
SETTLED = 20


def resident() -> int:
    """Resident bytes of this process (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("no VmRSS here: this benchmark needs Linux")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--checkpoint", help="a checkpoint of --models-dir instead of the embedded model")
    parser.add_argument("--models-dir", action="append", default=[])
    arguments = parser.parse_args()
    sizes: list[int] = []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        program = nodegraph.load(WORKFLOW, output_dir=folder, models_dir=arguments.models_dir)
        if arguments.checkpoint:
            program = program.with_inputs({"4.ckpt_name": arguments.checkpoint})
        for seed in range(arguments.runs):
            program.run(seed=seed, steps=arguments.steps)
            sizes.append(resident())
            if sys.stderr.isatty():
                print(f"\r{seed + 1}/{arguments.runs}", end="", file=sys.stderr)
        tiers = program.session.cache.stats().tiers
        program.close()
    settled, last = sizes[min(SETTLED, len(sizes)) - 1], sizes[-1]
    print(
        json.dumps(
            {
                "runs": arguments.runs,
                "resident_after_20": settled,
                "resident_at_end": last,
                "ratio": round(last / settled, 4),
                "highest_ratio": round(max(sizes[SETTLED - 1 :]) / settled, 4),
                "cache_bytes": {tier: found.bytes for tier, found in tiers.items()},
                "seconds": round(time.perf_counter() - started, 1),
                "environment": {
                    "python": platform.python_version(),
                    "machine": platform.machine(),
                    "cpus": os.cpu_count(),
                    "torch": version("torch"),
                    "nodegraph": nodegraph.__version__,
                },
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
