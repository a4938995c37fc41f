"""The widgets of ComfyUI's nodes: the list of values in its UI format to named inputs, and back.

The list follows the schema, required inputs first. After a seed stands what its control does next (`fixed`,
`randomize`), after the required inputs of a node with a picture upload stands its button (`image`). Both are no inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nodegraph.node import REQUIRED, InputSpec, NodeSpec
from nodegraph.sockets import LITERAL_TYPES

CONTROLS = frozenset({"fixed", "increment", "decrement", "randomize"})
_SEEDS = ("seed", "noise_seed")
_UPLOAD = "image"


@dataclass
class Widgets:
    """What was typed into a node's widgets."""

    inputs: dict[str, Any] = field(default_factory=dict)
    """By input, as the API format has them."""
    control: dict[str, str] = field(default_factory=dict)
    """What the control of a seed does after each run, by input, where it is not `fixed`."""
    surplus: list[Any] = field(default_factory=list)
    """Values behind those of all inputs."""
    named: dict[str, Any] | None = None
    """Where the file names its values: those that no input has."""


def has_widget(item: InputSpec) -> bool:
    """Whether ComfyUI draws a widget for an input."""
    return item.type in LITERAL_TYPES and not item.many


def widgets_of(spec: NodeSpec) -> list[InputSpec]:
    """The inputs with widgets in the order of their values."""
    return sorted((item for item in spec.inputs.values() if has_widget(item)), key=lambda item: item.optional)


def literal(value: Any) -> Any:
    """A value as the API format writes it: a list is wrapped, for a bare one is a link."""
    return {"__value__": value} if isinstance(value, list) else value


def bare(value: Any) -> Any:
    """The inverse of `literal`."""
    return value["__value__"] if isinstance(value, dict) and set(value) == {"__value__"} else value


def read(values: list[Any] | dict[str, Any], spec: NodeSpec) -> Widgets:
    """The values of a known node by name; defaults where the file is older than the widget."""
    if isinstance(values, dict):
        known = {key: literal(value) for key, value in values.items() if key in spec.inputs}
        return Widgets(known, named={key: value for key, value in values.items() if key not in spec.inputs})
    found = Widgets()
    widgets = widgets_of(spec)
    required = sum(not item.optional for item in widgets)
    upload = _uploads(widgets)
    position = 0
    for index, item in enumerate(widgets):
        following = widgets[index + 1 :]
        if index == required and upload and _left(values, position) > len(following) + 1:
            position += isinstance(values[position], str)
            upload = False
        if position >= len(values):
            files = item.default is REQUIRED and item.choice is not None and not item.choice.options
            if item.default is not None and not files:
                found.inputs[item.name] = blank(item)
            continue
        found.inputs[item.name] = literal(values[position])
        position += 1
        surplus = _left(values, position) > len(following)
        if position < len(values) and _is_control(item, values[position], surplus, following[:1]):
            then = "randomize" if values[position] is True else values[position]
            if then in CONTROLS and then != "fixed":
                found.control[item.name] = then
            position += 1
            filters = item.type == "COMBO" and _left(values, position) > len(following)
            position += filters and values[position] == ""
        elif surplus and item.choice is not None and item.choice.upload and values[position] == _UPLOAD:
            # Old files have the button right behind its input.
            position += 1
            upload = False
    if upload and _left(values, position) and isinstance(values[position], str):
        position += 1
    found.surplus = values[position:]
    return found


def write(spec: NodeSpec, inputs: Mapping[str, Any], kept: Mapping[str, Any]) -> list[Any] | dict[str, Any]:
    """The values of a known node's widgets.

    `inputs` are literals as the API format has them. `kept` is what `read` found besides: `control`, `surplus`,
    `named`, and `beneath`, the values of widgets that a link overrides.
    """
    beneath, control, named = (_mapping(kept.get(key)) for key in ("beneath", "control", "named"))
    widgets = widgets_of(spec)
    values: dict[str, Any] = {}
    for item in widgets:
        if item.name in inputs:
            values[item.name] = bare(inputs[item.name])
        else:
            values[item.name] = bare(beneath[item.name]) if item.name in beneath else blank(item)
    if isinstance(kept.get("named"), Mapping):
        return {**values, **named}
    found: list[Any] = []
    upload = _uploads(widgets)
    for item in widgets:
        if item.optional and upload:
            found.append(_UPLOAD)
            upload = False
        found.append(values[item.name])
        if has_control(item):
            found.append(control.get(item.name, "fixed"))
            found += [""] if item.type == "COMBO" else []
    found += [_UPLOAD] if upload else []
    surplus = kept.get("surplus")
    return found + (surplus if isinstance(surplus, list) else [])


def blank(item: InputSpec) -> Any:
    """What a widget shows that nobody touched."""
    if item.default is not REQUIRED:
        return item.default
    if item.choice is not None:
        return next(iter(item.choice.options), "")
    plain = {"STRING": "", "BOOLEAN": False}
    return plain.get(item.type, item.range.min if item.range is not None else 0)


def has_control(item: InputSpec) -> bool:
    """Whether the value of a widget is followed by what its control does."""
    return item.widget.control_after_generate or (item.type == "INT" and item.name in _SEEDS)


def places(names: list[str], values: list[Any]) -> dict[str, int]:
    """Where the values of an unknown node's widgets stand, by the names of its sockets with a widget."""
    found: dict[str, int] = {}
    position = 0
    for index, name in enumerate(names):
        if position >= len(values):
            break
        found[name] = position
        position += 1
        spare = _left(values, position) > len(names) - index - 1
        if spare and isinstance(values[position], str) and values[position] in CONTROLS:
            position += 1
    return found


def _uploads(widgets: list[InputSpec]) -> bool:
    return any(item.choice is not None and item.choice.upload and not item.optional for item in widgets)


def _left(values: list[Any], position: int) -> int:
    return len(values) - position


def _is_control(item: InputSpec, value: Any, surplus: bool, following: list[InputSpec]) -> bool:
    if not has_control(item) or not isinstance(value, (bool, str)):
        return False
    # Old files hold a boolean here. Without a surplus it is a control only if no input could take it.
    takers = ("STRING", "COMBO", "BOOLEAN") if isinstance(value, bool) else ("STRING", "COMBO")
    taken = bool(following) and following[0].type in takers
    return (isinstance(value, bool) or value in CONTROLS) and (surplus or not taken)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
