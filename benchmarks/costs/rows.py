"""Rows of the comparison: a pipeline and a size, with what each figure rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from benchmarks.costs.counting import cost_of
from benchmarks.costs.measuring import GIB, Measurements
from benchmarks.costs.published import Case, Pipeline, Stage
from nodes.models.loading import empty_module
from nodes.models.seamless import choose

DTYPES: Mapping[str, torch.dtype] = {"fp16": torch.float16, "fp32": torch.float32}
SAMPLERS_LATENTS = 6
"""Latents in float32 beside a network's call: x, its noise, the output, the estimate and two earlier ones."""
HOST = 16 * GIB
"""Memory beside the device's, where feature maps lie between the segments of a decoder in tiles."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A stage's cost for a picture: FLOPs of all its calls, bytes of its weights and of its worst moment."""

    flops: int
    weights: int
    peak: int
    tile: int | None = None
    """Pixels of the side of the largest tile where it decodes in tiles; FLOPs are those of the whole all the same."""


def counted(stage: Stage, side: int, dtype: torch.dtype, budget: int) -> Counted:
    """Return the stage's cost; a decoder that does not fit into `budget` bytes goes on in tiles, as the engine's does."""
    whole = cost_of(stage.case(side), dtype)
    flops, peak = whole.flops * stage.calls, whole.peak
    if stage.role == "sampling":
        peak += SAMPLERS_LATENTS * 4 * stage.batch * prod(stage.inputs(side)["x"])
    if stage.role != "decoding" or peak <= budget:
        return Counted(flops, whole.weights, peak)
    decoder: Any = empty_module(stage.architecture)
    height, width = stage.inputs(side)["latents"][1:]
    room = budget - whole.weights
    tiling = choose(decoder.steps(), (height, width), dtype.itemsize, room, HOST)
    return Counted(flops, whole.weights, whole.weights + tiling.works, max(tiling.tiles))


def row(
    pipeline: Pipeline, side: int, budget: int, measurements: Measurements | None = None
) -> dict[str, Any]:
    """Return the pipeline's figures for a picture of `side` pixels; each stage and the whole say what is measured."""
    by_dtype = {
        name: [counted(stage, side, dtype, budget) for stage in pipeline.stages]
        for name, dtype in DTYPES.items()
    }
    stages = []
    for index, stage in enumerate(pipeline.stages):
        costs = {name: found[index] for name, found in by_dtype.items()}
        stages.append(_stage_row(stage, side, costs, measurements))
    known = [entry["seconds"] for entry in stages]
    complete = all(seconds is not None for seconds in known)
    sampled = [stage for stage in pipeline.stages if stage.role == "sampling"]
    peaks = {name: max(entry["peak_gib"][name] for entry in stages) for name in DTYPES}
    measured_peaks = [entry["peak_gib_measured"] for entry in stages if "peak_gib_measured" in entry]
    found: dict[str, Any] = {
        "pipeline": pipeline.name,
        "schedule": pipeline.schedule,
        "side": side,
        "evaluations": sum(stage.evaluations for stage in sampled),
        "tflops": round(sum(entry["tflops"] for entry in stages), 2),
        "peak_gib": peaks,
        "peak_in": {name: _worst(stages, name) for name in DTYPES},
        "seconds": sum(known) if complete else None,
        "basis": {
            "evaluations": "counted",
            "tflops": "counted",
            "peak_gib": "counted",
            "seconds": _basis(stages, measurements),
        },
        "stages": stages,
    }
    if all("cpu_seconds" in entry for entry in stages):
        found["cpu_seconds"] = sum(entry["cpu_seconds"] for entry in stages)
    if measurements is not None and len(measured_peaks) == len(stages):
        found["peak_gib_measured"] = max(measured_peaks)
        found["basis"]["peak_gib"] = f"counted, and measured in {measurements.dtype}, decoded whole"
    return found


def _worst(stages: Sequence[dict[str, Any]], dtype: str) -> str:
    """The stage that needs most memory."""
    name: str = max(stages, key=lambda entry: entry["peak_gib"][dtype])["stage"]
    return name


def _stage_row(
    stage: Stage, side: int, costs: Mapping[str, Counted], measurements: Measurements | None
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "stage": stage.name,
        "evaluations": stage.evaluations,
        "tflops": round(costs["fp16"].flops / 1e12, 3),
        "weights_gib": {name: round(cost.weights / GIB, 3) for name, cost in costs.items()},
        "peak_gib": {name: round(cost.peak / GIB, 3) for name, cost in costs.items()},
        "seconds": None,
    }
    if stage.role == "decoding":
        found["decoded"] = {
            name: "whole" if cost.tile is None else f"in tiles of up to {cost.tile} pixels"
            for name, cost in costs.items()
        }
    if measurements is None:
        return found
    case = stage.case(side)
    if (measured := measurements.found.get(case)) is not None:
        found["seconds"] = measured.seconds * stage.evaluations / measured.batch
        found["seconds_of_a_call"] = measured.seconds
        if measured.cpu_seconds is not None:
            found["cpu_seconds"] = measured.cpu_seconds * stage.evaluations / measured.batch
        found["batch_of_a_call"] = measured.batch
        found["rounds"] = measured.rounds
        if measured.peak is not None:
            found["peak_gib_measured"] = round(measured.peak / GIB, 3)
    elif case in measurements.refused:
        found["not_measured"] = measurements.refused[case]
    return found


def _basis(stages: list[dict[str, Any]], measurements: Measurements | None) -> str:
    if measurements is None or all(entry["seconds"] is None for entry in stages):
        return "not measured"
    missing = [entry["stage"] for entry in stages if entry["seconds"] is None]
    if missing:
        return f"not measured: {', '.join(missing)}"
    batches = sorted({entry["batch_of_a_call"] for entry in stages})
    batch = " or ".join(str(number) for number in batches)
    return (
        f"one call of each network measured ({measurements.dtype}, {measurements.device}, batch {batch}), "
        "times its calls"
    )


def needs(pipelines: Sequence[Pipeline], sides: Sequence[int], dtype: torch.dtype) -> dict[Case, int]:
    """Return each call that the pipelines make for these sizes, once, with the bytes that are counted for it."""
    cases = (stage.case(side) for side in sides for pipeline in pipelines for stage in pipeline.stages)
    return {case: cost_of(case, dtype).peak for case in cases}
