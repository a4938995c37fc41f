"""The text of a document: indented by two, lists of plain values on one line, so that changes read well in a diff."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def write(data: Any) -> str:
    """JSON text with a final newline; the same text for the same data."""
    return "".join(_pieces(data, "")) + "\n"


def _pieces(value: Any, indent: str) -> Iterator[str]:
    inner = indent + "  "
    if isinstance(value, Mapping) and value:
        yield "{"
        separator = "\n"
        for key, item in value.items():
            yield f"{separator}{inner}{_scalar(key)}: "
            yield from _pieces(item, inner)
            separator = ",\n"
        yield f"\n{indent}}}"
    elif isinstance(value, list) and any(isinstance(item, (Mapping, list)) for item in value):
        yield "["
        separator = "\n"
        for item in value:
            yield f"{separator}{inner}"
            yield from _pieces(item, inner)
            separator = ",\n"
        yield f"\n{indent}]"
    elif isinstance(value, list):
        yield f"[{', '.join(_scalar(item) for item in value)}]"
    elif isinstance(value, Mapping):
        yield "{}"
    else:
        yield _scalar(value)


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
