"""Nodes that hold or show a single value, and join texts."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Annotated, Any

from torch import Tensor

from nodegraph.node import Range, Shown, Widget, node

LARGEST = 2**63 - 1


@node("PrimitiveString", category="utils/primitive", display_name="String", ahead=True)
def primitive_string(value: str) -> str:
    """A text on one line, to feed several inputs from one place."""
    return value


@node("PrimitiveStringMultiline", category="utils/primitive", display_name="String (Multiline)", ahead=True)
def primitive_string_multiline(value: Annotated[str, Widget(multiline=True)]) -> str:
    """A text of several lines, to feed several inputs from one place."""
    return value


@node("PrimitiveInt", category="utils/primitive", display_name="Int", ahead=True)
def primitive_int(
    value: Annotated[int, Range(-LARGEST, LARGEST), Widget(control_after_generate=True)],
) -> int:
    """A whole number, to feed several inputs from one place."""
    return value


@node("PrimitiveFloat", category="utils/primitive", display_name="Float", ahead=True)
def primitive_float(value: Annotated[float, Range(-LARGEST, LARGEST)]) -> float:
    """A number, to feed several inputs from one place."""
    return value


@node("PrimitiveBoolean", category="utils/primitive", display_name="Boolean", ahead=True)
def primitive_boolean(value: bool) -> bool:
    """True or false, to feed several inputs from one place."""
    return value


@node("StringConcatenate", category="utils/string", display_name="Concatenate", ahead=True)
def string_concatenate(
    string_a: Annotated[str, Widget(multiline=True)],
    string_b: Annotated[str, Widget(multiline=True)],
    delimiter: str = "",
) -> str:
    """Joins two texts, with `delimiter` between them."""
    return f"{string_a}{delimiter}{string_b}"


@node("StringReplace", category="utils/string", display_name="Replace", ahead=True)
def string_replace(
    string: Annotated[str, Widget(multiline=True)],
    find: Annotated[str, Widget(multiline=True)],
    replace: Annotated[str, Widget(multiline=True)],
) -> str:
    """Replaces every occurrence of `find` in a text by `replace`."""
    return string.replace(find, replace)


@node("PreviewAny", category="utils", display_name="Preview Any", output=True)
def preview_any(source: Any) -> Shown:
    """Shows any value as text: texts and numbers as they are, tensors by shape, range and precision."""
    return Shown({"text": (_text(source),)})


def _text(source: Any) -> str:
    if source is None or isinstance(source, (str, bool, int, float)):
        return str(source)
    return json.dumps(_plain(source), ensure_ascii=False, indent=1)


def _plain(item: Any) -> Any:
    """What JSON can hold of a value."""
    if isinstance(item, Tensor):
        low, high = (f"{float(edge):.4g}" for edge in item.float().aminmax()) if item.numel() else ("-", "-")
        return f"tensor {tuple(item.shape)} {str(item.dtype).removeprefix('torch.')}, {low} to {high}"
    if is_dataclass(item) and not isinstance(item, type):
        parts = {one.name: _plain(getattr(item, one.name)) for one in fields(item)}
        return {
            type(item).__name__: {name: part for name, part in parts.items() if part not in (None, {}, [])}
        }
    if isinstance(item, dict):
        return {str(key): _plain(part) for key, part in item.items()}
    if isinstance(item, (list, tuple)):
        return [_plain(part) for part in item]
    return item if item is None or isinstance(item, (str, bool, int, float)) else str(item)
