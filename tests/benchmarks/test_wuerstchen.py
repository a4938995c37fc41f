"""The comparison's rows: every figure says whether it is counted or measured, and targets what they rest on."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import torch

from benchmarks.costs.measuring import GIB, measure
from benchmarks.costs.published import SDXL, WUERSTCHEN, Pipeline, Stage, architecture
from benchmarks.costs.rows import counted, needs, row
from benchmarks.wuerstchen import main, table, targets
from nodes.models.loading import Placement

CPU = Placement(torch.device("cpu"), torch.float32)
PRIOR = Stage(
    "Stage C",
    "sampling",
    architecture(
        "wuerstchen_prior", channels=32, cross_attention_dim=24, ratio_width=16, depth=2, num_heads=2
    ),
    lambda side: {"x": (16, side // 32, side // 32), "context": (7, 24)},
    calls=5,
    batch=2,
)
STAGE_A = Stage(
    "Stage A",
    "decoding",
    architecture("paella_vq", channels=32, bottleneck_blocks=1, codebook_size=16),
    lambda side: {"latents": (4, side // 4, side // 4)},
)
TINY = Pipeline("tiny", "5 steps, guided", (PRIOR, STAGE_A))
PLENTY = 4 * GIB


def test_a_row_without_measurements_says_that_it_is_counted() -> None:
    found = row(TINY, 256, PLENTY)
    assert found["evaluations"] == 10
    assert found["seconds"] is None
    assert found["basis"] == {
        "evaluations": "counted",
        "tflops": "counted",
        "peak_gib": "counted",
        "seconds": "not measured",
    }
    costs = [counted(stage, 256, torch.float16, PLENTY) for stage in TINY.stages]
    assert found["tflops"] == pytest.approx(sum(cost.flops for cost in costs) / 1e12, abs=0.01)
    assert found["peak_gib"]["fp16"] == pytest.approx(max(cost.peak for cost in costs) / GIB, abs=1e-3)
    assert "seconds not measured" in table([found])


def test_calls_and_guidance_multiply_what_is_counted() -> None:
    once = Stage(PRIOR.name, PRIOR.role, PRIOR.architecture, PRIOR.inputs)
    alone, whole = (counted(stage, 256, torch.float32, PLENTY) for stage in (once, PRIOR))
    assert whole.flops == PRIOR.evaluations * alone.flops == 10 * alone.flops
    assert whole.peak > alone.peak


def test_a_measured_row_says_what_was_timed() -> None:
    torch.manual_seed(0)
    measured = measure(needs([TINY], [256], torch.float32), CPU, rounds=2)
    assert measured.refused == {}
    found = row(TINY, 256, PLENTY, measured)
    assert found["basis"]["seconds"] == (
        "one call of each network measured (float32, cpu, batch 1), times its calls"
    )
    prior, stage_a = found["stages"]
    assert prior["seconds"] == pytest.approx(10 * prior["seconds_of_a_call"])
    assert stage_a["seconds"] == pytest.approx(stage_a["seconds_of_a_call"])
    assert found["seconds"] == pytest.approx(prior["seconds"] + stage_a["seconds"])
    assert found["seconds"] > 0
    assert found["cpu_seconds"] == pytest.approx(prior["cpu_seconds"] + stage_a["cpu_seconds"])
    # Another size was not measured, and says so.
    other = row(TINY, 512, PLENTY, measured)
    assert other["seconds"] is None
    assert other["basis"]["seconds"] == "not measured"


def test_what_does_not_fit_is_not_measured_and_says_why() -> None:
    wanted = needs([TINY], [256], torch.float32)
    too_large = PRIOR.case(256)
    measured = measure(wanted | {too_large: 10**18}, CPU, rounds=1)
    found = row(TINY, 256, PLENTY, measured)
    assert found["seconds"] is None
    assert found["basis"]["seconds"] == "not measured: Stage C"
    assert "GiB needed" in found["stages"][0]["not_measured"]
    assert found["stages"][1]["seconds"] > 0


def test_nothing_is_timed_after_the_limit() -> None:
    measured = measure(needs([TINY], [256], torch.float32), CPU, rounds=1, limit=0.0)
    assert measured.found == {}
    found = row(TINY, 256, PLENTY, measured)
    assert found["seconds"] is None
    assert found["stages"][0]["not_measured"] == "the 0 seconds were over"


def test_a_decoder_over_the_budget_goes_on_in_tiles() -> None:
    side = 1024
    whole = counted(STAGE_A, side, torch.float16, PLENTY)
    assert whole.tile is None
    budget = whole.peak // 2
    tiled = counted(STAGE_A, side, torch.float16, budget)
    assert tiled.tile is not None and 0 < tiled.tile < side
    assert tiled.weights < tiled.peak <= budget
    assert tiled.flops == whole.flops
    found = row(TINY, side, budget)
    assert found["stages"][1]["decoded"]["fp16"] == f"in tiles of up to {tiled.tile} pixels"


def _row(pipeline: Pipeline, side: int, tflops: float, peak: float, seconds: float | None) -> dict[str, Any]:
    return {
        "pipeline": pipeline.name,
        "schedule": pipeline.schedule,
        "side": side,
        "tflops": tflops,
        "peak_gib": {"fp16": peak},
        "peak_in": {"fp16": "Stage B"},
        "seconds": seconds,
        "basis": {"seconds": "timed"},
    }


def test_targets_are_met_missed_or_open() -> None:
    ours, theirs = _row(WUERSTCHEN, 1024, 100, 2, 30.0), _row(SDXL, 1024, 400, 5, 75.0)
    speed, memory = targets(
        [
            ours | {"cpu_seconds": 50.0},
            theirs | {"cpu_seconds": 150.0},
            _row(WUERSTCHEN, 4096, 6000, 3.6, None),
        ]
    )
    assert speed["cpu_seconds_ratio"] == 3.0
    assert (speed["met"], speed["ratio"], speed["flops_ratio"]) == (True, 2.5, 4.0)
    assert (memory["met"], memory["peak_gib"]) == (True, 3.6)
    speed, memory = targets([ours, theirs | {"seconds": 59.0}, _row(WUERSTCHEN, 4096, 6000, 4.1, None)])
    assert (speed["met"], memory["met"]) == (False, False)
    speed, memory = targets([ours | {"seconds": None}, theirs])
    assert (speed["met"], memory["met"]) == (None, None)
    assert "not measured" in speed["reason"] and speed["flops_ratio"] == 4.0
    assert "4096" in memory["reason"]


def test_the_script_prints_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["wuerstchen.py", "--only", "sd15", "--sides", "64"])
    main()
    report = json.loads(capsys.readouterr().out)
    assert report["benchmark"] == "wuerstchen"
    assert report["environment"]["torch"] == torch.__version__
    (found,) = report["results"]
    assert (found["pipeline"], found["side"], found["evaluations"]) == ("Stable Diffusion 1.5", 64, 100)
    assert [target["met"] for target in report["targets"]] == [None, None]
