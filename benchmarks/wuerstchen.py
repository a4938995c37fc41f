"""What a picture costs by Würstchen, Stable Cascade, Stable Diffusion 1.5 and XL: evaluations, FLOPs, memory, seconds.

    python benchmarks/wuerstchen.py [--sides 1024 2048 4096] [--only wuerstchen sdxl] [--table]
    python benchmarks/wuerstchen.py --measure [--device cuda] [--dtype fp16] [--rounds 3]

The architectures and steps are the published ones, the weights random. Evaluations, FLOPs and memory are counted on
tensors without memory (benchmarks/costs/counting.py says what is left out); memory is that of the network that
needs most, since they take turns on the device. With --measure one call of each network is timed at the first size,
in turn with the others, and multiplied by its calls; on a GPU the peak is measured too. Prints one JSON object with
the environment it ran in, or a table. Targets: Würstchen at least twice as fast as Stable Diffusion XL at 1024 pixels,
and 4096 pixels within 4 GiB of device memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.costs.measuring import GIB, measure
from benchmarks.costs.published import (
    CASCADE,
    CASCADE_LITE,
    PIPELINES,
    SD15,
    SDXL,
    WUERSTCHEN,
    WUERSTCHEN_QUICK,
    Pipeline,
)
from benchmarks.costs.rows import DTYPES, needs, row
from nodes.models.loading import Placement

BUDGET = 4 * GIB
FASTER = 2.0
NAMES = {
    "sd15": (SD15,),
    "sdxl": (SDXL,),
    "wuerstchen": (WUERSTCHEN, WUERSTCHEN_QUICK),
    "cascade": (CASCADE,),
    "cascade_lite": (CASCADE_LITE,),
}


def targets(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each target with whether the rows meet it: None, with the reason, where they do not tell."""
    return [_speed(rows), _memory(rows)]


def _find(rows: Sequence[dict[str, Any]], pipeline: Pipeline, side: int) -> dict[str, Any] | None:
    wanted = (pipeline.name, pipeline.schedule, side)
    return next((row for row in rows if (row["pipeline"], row["schedule"], row["side"]) == wanted), None)


def _speed(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "target": f"Würstchen at least {FASTER:g} times faster than Stable Diffusion XL at 1024 pixels",
        "met": None,
    }
    ours, theirs = _find(rows, WUERSTCHEN, 1024), _find(rows, SDXL, 1024)
    if ours is None or theirs is None:
        return found | {"reason": "both are needed at 1024 pixels"}
    found["flops_ratio"] = round(theirs["tflops"] / ours["tflops"], 2)
    if ours["seconds"] is None or theirs["seconds"] is None:
        return found | {"reason": "seconds were not measured; the ratio of FLOPs is counted"}
    if "cpu_seconds" in ours and "cpu_seconds" in theirs:
        found["cpu_seconds_ratio"] = round(theirs["cpu_seconds"] / ours["cpu_seconds"], 2)
    ratio = theirs["seconds"] / ours["seconds"]
    return found | {"met": ratio >= FASTER, "ratio": round(ratio, 2), "basis": ours["basis"]["seconds"]}


def _memory(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "target": f"Würstchen at 4096 pixels within {BUDGET / GIB:g} GiB of device memory",
        "met": None,
    }
    ours = _find(rows, WUERSTCHEN, 4096)
    if ours is None:
        return found | {"reason": "it is needed at 4096 pixels"}
    peak = ours["peak_gib"]["fp16"]
    return found | {
        "met": peak * GIB <= BUDGET,
        "peak_gib": round(peak, 2),
        "basis": f"counted, fp16, stages in turn, the worst is {ours['peak_in']['fp16']}",
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    head = (
        "pipeline",
        "schedule",
        "side",
        "evaluations",
        "TFLOP",
        "peak fp16, GiB",
        "peak fp32, GiB",
        "seconds",
        "basis",
    )
    lines = [head, tuple("---" for _ in head)]
    for one in rows:
        seconds = one["seconds"]
        lines.append(
            (
                one["pipeline"],
                one["schedule"],
                str(one["side"]),
                str(one["evaluations"]),
                f"{one['tflops']:,.0f}",
                f"{one['peak_gib']['fp16']:.2f} ({one['peak_in']['fp16']})",
                f"{one['peak_gib']['fp32']:.2f} ({one['peak_in']['fp32']})",
                "" if seconds is None else f"{seconds:,.1f}",
                f"evaluations and FLOPs counted; peak {one['basis']['peak_gib']}; seconds {one['basis']['seconds']}",
            )
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def environment(device: torch.device) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def main() -> None:
    """Count, measure where asked, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sides", type=int, nargs="+", default=[1024, 2048, 4096], help="pixels")
    parser.add_argument("--only", nargs="+", choices=tuple(NAMES), help="these pipelines alone")
    parser.add_argument("--measure", action="store_true", help="time one call of each network")
    parser.add_argument(
        "--measure-sides", type=int, nargs="+", help="sizes to measure at; the first of --sides"
    )
    parser.add_argument("--device", help="cuda where there is one, else cpu")
    parser.add_argument(
        "--dtype", choices=tuple(DTYPES), help="of what is measured: fp16 on a GPU, else fp32"
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds; nothing is timed after")
    parser.add_argument("--table", action="store_true", help="a Markdown table instead of JSON")
    given = parser.parse_args()
    device = torch.device(given.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = given.dtype or ("fp32" if device.type == "cpu" else "fp16")
    pipelines = tuple(one for name in given.only for one in NAMES[name]) if given.only else PIPELINES
    measurements = None
    if given.measure:
        sides = tuple(given.measure_sides or given.sides[:1])
        measurements = measure(
            needs(pipelines, sides, DTYPES[dtype]),
            Placement(device, DTYPES[dtype]),
            given.rounds,
            given.limit,
        )
    rows = [row(pipeline, side, BUDGET, measurements) for side in given.sides for pipeline in pipelines]
    if given.table:
        print(table(rows))
        for target in targets(rows):
            print("\n" + json.dumps(target, ensure_ascii=False))
        return
    report = {
        "benchmark": "wuerstchen",
        "environment": environment(device),
        "measured": given.measure,
        "budget_gib": BUDGET / GIB,
        "results": rows,
        "targets": targets(rows),
    }
    print(json.dumps(report, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
