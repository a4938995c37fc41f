"""Every node of the built-in pack against the descriptions that shared workflows rely on.

`data/comfyui_nodes.json` lists inputs in widget order (type, default, range, options), outputs and categories.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from nodegraph.node import InputSpec, NodeSpec, spec_of
from nodes.pack import PACK

DESCRIPTIONS: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "comfyui_nodes.json").read_text())

EXCEPTIONS: dict[tuple[str, str], str] = {}
"""(node, input) whose declaration differs on purpose, and why."""


def _declared() -> dict[str, NodeSpec]:
    found = {}
    for name in PACK.modules:
        for item in vars(importlib.import_module(name)).values():
            spec = spec_of(item)
            if spec is not None:
                found[spec.name] = spec
    return found


DECLARED = _declared()
KNOWN = sorted(set(DECLARED) & set(DESCRIPTIONS))


OWN = {
    "ClassConditioning",
    "EmptyConditioning",
    "EmptyPixelLatent",
    "ForwardDiffusion",
    "ImageGrid",
    "PixelModelLoader",
    "SamplerDDIM",
    "SamplerTrajectory",
    "TimestepScheduler",
    "WuerstchenCompressorLoader",
    "WuerstchenDecoderLoader",
    "WuerstchenEmptyLatents",
    "WuerstchenImageEncode",
    "WuerstchenPriorLoader",
    "WuerstchenScheduler",
    "WuerstchenStageBConditioning",
}
"""Nodes that only this pack has."""


def _stated(described: dict[str, Any]) -> dict[str, Any]:
    """The description without what says nothing: an empty list of files, a text widget of one line."""
    silent = {"options": [], "multiline": False}
    return {key: value for key, value in described.items() if key not in silent or silent[key] != value}


def _as_described(spec: InputSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"type": spec.type}
    if spec.required is False and spec.default is not None:
        found["default"] = spec.default
    if spec.range is not None:
        found |= {"min": spec.range.min, "max": spec.range.max}
        found |= {} if spec.range.step is None else {"step": spec.range.step}
        found |= {} if spec.range.round is None else {"round": spec.range.round}
    if spec.choice is not None and spec.choice.options:
        found["options"] = list(spec.choice.options)
    if spec.optional:
        found["optional"] = True
    for name in ("multiline", "control_after_generate"):
        if getattr(spec.widget, name):
            found[name] = True
    if spec.choice is not None and spec.choice.upload:
        found["image_upload"] = True
    return found


@pytest.mark.parametrize("name", KNOWN)
def test_inputs_are_as_described(name: str) -> None:
    described = DESCRIPTIONS[name]["inputs"]
    spec = DECLARED[name]
    assert list(spec.inputs) == list(described), "names or order"
    for key, item in spec.inputs.items():
        if (name, key) not in EXCEPTIONS:
            assert _as_described(item) == _stated(described[key]), key


@pytest.mark.parametrize("name", KNOWN)
def test_outputs_and_category_are_as_described(name: str) -> None:
    described, spec = DESCRIPTIONS[name], DECLARED[name]
    assert [[item.name, item.type] for item in spec.outputs] == described["outputs"]
    assert [item.many for item in spec.outputs] == described.get(
        "output_is_list", [False] * len(spec.outputs)
    )
    assert spec.category == described["category"]
    assert spec.output == described.get("output_node", False)


def test_exceptions_are_still_needed() -> None:
    for (name, key), reason in EXCEPTIONS.items():
        assert reason
        assert _as_described(DECLARED[name].inputs[key]) != _stated(DESCRIPTIONS[name]["inputs"][key])


def test_nodes_with_other_names_are_listed() -> None:
    assert set(DECLARED) - set(DESCRIPTIONS) == OWN
