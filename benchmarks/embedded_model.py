"""How often the embedded models draw what they are asked for, judged from pixels.

Held-out prompts (combinations of attributes that training never saw), each with its own seed, go through the model's
workflow as a user runs it; the pixel-space model draws each of its classes in turn. Prints JSON; `--output FILE` writes it
as well, `--sheet FILE` saves the first pictures.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import nodegraph
from nodes.models.embedded.captions import words
from nodes.models.embedded.evaluate import Verdict, held_out_scenes, judge, shares
from nodes.models.embedded.preview import contact_sheet
from nodes.models.embedded.shapes import Scene
from nodes.models.embedded.train_pixels import ANYTHING, CLASSES, random_class_scene

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Case:
    """One asked-for picture: what is asked, as parameters of the workflow, and the scene that would be right."""

    parameters: Mapping[str, Any]
    scene: Scene


@dataclass(frozen=True)
class Model:
    """An embedded model: the workflow that draws with it, the cases, and the least shares that are to be right."""

    workflow: Mapping[str, Any] | str
    cases: Callable[[int, int], list[Case]]
    targets: Mapping[str, float]
    inputs: Mapping[str, Any]
    """Inputs of the workflow that are set for the measurement."""
    times: int = 1
    """Pixels a side that each pixel becomes before it is judged."""


def prompted(count: int, seed: int) -> list[Case]:
    """Held-out scenes and their plain wording."""
    return [Case({"prompt": words(scene)}, scene) for scene in held_out_scenes(count, seed)]


def classes(count: int, seed: int) -> list[Case]:
    """The classes of the pixel-space model in turn."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        label = index % ANYTHING
        found.append(Case({"shape": CLASSES[label]}, random_class_scene(rng, label)))
    return found


def pixel_workflow() -> dict[str, Any]:
    """One picture of a class: loader, conditioning, KSampler, decode, save."""
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    settings = {"seed": 1, "steps": 30, "cfg": 1.0, "sampler_name": "ddim", "scheduler": "ddim_uniform"}
    nodes = {
        "1": ("PixelModelLoader", {"model_path": "ddpm-shapes"}),
        "2": ("ClassConditioning", {"class_name": "red star", "model": ["1", 0]}),
        "3": ("ClassConditioning", {"class_name": "anything", "model": ["1", 0]}),
        "4": ("EmptyPixelLatent", {"width": 32, "height": 32, "batch_size": 1}),
        "5": ("KSampler", {**settings, "denoise": 1.0, **links}),
        "6": ("VAEDecode", {"samples": ["5", 0], "vae": ["1", 1]}),
        "7": ("SaveImage", {"filename_prefix": "pixels", "images": ["6", 0]}),
    }
    parameters = {"shape": {"node": "2", "input": "class_name"}, "seed": {"node": "5", "input": "seed"}}
    prompt = {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}
    return {"nodegraph": 1, "title": "A class", "parameters": parameters, "prompt": prompt}


MODELS = {
    "shapes-sd": Model(
        "text_to_image",
        prompted,
        {"background": 0.95, "colour": 0.95, "shape": 0.90},
        {"3.sampler_name": "euler", "3.scheduler": "normal", "3.steps": 20, "3.cfg": 5.0},
    ),
    "shapes-wuerstchen": Model(
        "wuerstchen", prompted, {"background": 0.95, "colour": 0.95, "shape": 0.85}, {}
    ),
    "ddpm-shapes": Model(pixel_workflow(), classes, {"colour": 0.95, "shape": 0.85}, {}, times=4),
}


def measure(
    name: str, count: int, seed: int, inputs: Mapping[str, Any], sheet: Path | None
) -> dict[str, Any]:
    """Draw and judge `count` cases; returns the result as plain data."""
    model = MODELS[name]
    cases = model.cases(count, seed)
    pictures, verdicts, wrong = [], [], []
    judged = tuple(model.targets)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, _program(model, folder, inputs) as program:
        for index, case in enumerate(cases):
            pixels = _drawn(program, case, seed + index, model.times)
            verdict = judge(pixels, case.scene)
            pictures.append(pixels)
            verdicts.append(verdict)
            if not all(getattr(verdict, part) for part in judged):
                met = [part for part in judged if getattr(verdict, part)]
                wrong.append({**case.parameters, "seed": seed + index, "right": met})
    if sheet is not None:
        contact_sheet(np.stack(pictures[:48]), sheet)
    right = shares(verdicts)
    return {
        "what": "share of pictures drawn right, judged from pixels",
        "model": name,
        "prompts": count,
        "first_seed": seed,
        "inputs": {**model.inputs, **inputs},
        "right": _rounded(right),
        "targets": dict(model.targets),
        "met": all(right[part] >= share for part, share in model.targets.items()),
        **_by_number(cases, verdicts),
        "wrong": wrong,
        "seconds_a_picture": round((time.perf_counter() - started) / count, 2),
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }


def _program(model: Model, folder: str, inputs: Mapping[str, Any]) -> nodegraph.Program:
    source: Any = model.workflow
    if isinstance(source, str):
        source = ROOT / "workflows" / f"{source}.json"
    return nodegraph.load(source, output_dir=folder).with_inputs({**model.inputs, **inputs})


def _drawn(program: nodegraph.Program, case: Case, seed: int, times: int) -> NDArray[np.uint8]:
    image = program.run({**case.parameters, "seed": seed}).images[0]
    pixels: NDArray[np.uint8] = np.asarray(image.convert("RGB"))
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def _by_number(cases: Sequence[Case], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    found = {}
    for name, single in (("one_thing", True), ("two_things", False)):
        some = [v for v, c in zip(verdicts, cases, strict=True) if (c.scene.layout == "single") == single]
        if some:
            found[name] = {"prompts": len(some), "right": _rounded(shares(some))}
    return found


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say with the exit code whether the targets are met."""
    parser = argparse.ArgumentParser(description="Judge the embedded models from what they draw.")
    parser.add_argument("--model", choices=tuple(MODELS), default="shapes-sd")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        help="set an input of the workflow, such as 3.steps=30",
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args(arguments)
    pairs = (item.partition("=") for item in options.input)
    inputs = {name: _literal(value) for name, _, value in pairs}
    result = measure(options.model, options.count, options.seed, inputs, options.sheet)
    text = json.dumps(result, indent=2)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n", encoding="utf-8")
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
