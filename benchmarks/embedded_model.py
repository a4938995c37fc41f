"""How often the embedded model draws what it is asked for, judged from pixels.

Held-out prompts (combinations of attributes that training never saw), each with its own seed, go through the text-to-image
workflow as a user runs it. Prints JSON; `--output FILE` writes it as well, `--sheet FILE` saves the first pictures.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import nodegraph
from nodes.models.embedded.captions import words
from nodes.models.embedded.evaluate import Verdict, held_out_scenes, judge, shares
from nodes.models.embedded.preview import contact_sheet

ROOT = Path(__file__).parents[1]
TARGETS = {"background": 0.95, "colour": 0.95, "shape": 0.90}


def measure(
    count: int, seed: int, sampler: str, scheduler: str, steps: int, cfg: float, sheet: Path | None
) -> dict[str, Any]:
    """Draw and judge `count` held-out scenes; returns the result as plain data."""
    scenes = held_out_scenes(count, seed)
    pictures, verdicts, wrong = [], [], []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, _program(folder, sampler, scheduler, steps, cfg) as program:
        for index, scene in enumerate(scenes):
            image = program.run(prompt=words(scene), seed=seed + index).images[0]
            pixels = np.asarray(image.convert("RGB"))
            verdict = judge(pixels, scene)
            pictures.append(pixels)
            verdicts.append(verdict)
            if not (verdict.background and verdict.colour and verdict.shape):
                wrong.append({"prompt": words(scene), "seed": seed + index, "right": _right(verdict)})
    if sheet is not None:
        contact_sheet(np.stack(pictures[:48]), sheet)
    singles = [v for v, scene in zip(verdicts, scenes, strict=True) if scene.layout == "single"]
    pairs = [v for v, scene in zip(verdicts, scenes, strict=True) if scene.layout != "single"]
    right = shares(verdicts)
    return {
        "what": "share of held-out prompts drawn right, judged from pixels",
        "prompts": count,
        "first_seed": seed,
        "sampler": sampler,
        "scheduler": scheduler,
        "steps": steps,
        "cfg": cfg,
        "right": _rounded(right),
        "targets": TARGETS,
        "met": all(right[name] >= share for name, share in TARGETS.items()),
        "one_thing": {"prompts": len(singles), "right": _rounded(shares(singles))},
        "two_things": {"prompts": len(pairs), "right": _rounded(shares(pairs))},
        "wrong": wrong,
        "seconds_a_picture": round((time.perf_counter() - started) / count, 2),
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }


def _program(folder: str, sampler: str, scheduler: str, steps: int, cfg: float) -> nodegraph.Program:
    program = nodegraph.load(ROOT / "workflows" / "text_to_image.json", output_dir=folder)
    return program.with_inputs(
        {"3.sampler_name": sampler, "3.scheduler": scheduler, "3.steps": steps, "3.cfg": cfg}
    )


def _right(verdict: Verdict) -> list[str]:
    return [name for name in ("background", "colour", "shape") if getattr(verdict, name)]


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say with the exit code whether the targets are met."""
    parser = argparse.ArgumentParser(description="Judge the embedded model on held-out prompts.")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--sampler", default="euler")
    parser.add_argument("--scheduler", default="normal")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=5.0)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args(arguments)
    result = measure(
        options.count,
        options.seed,
        options.sampler,
        options.scheduler,
        options.steps,
        options.cfg,
        options.sheet,
    )
    text = json.dumps(result, indent=2)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n", encoding="utf-8")
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
