"""Node types as data and as text: ComfyUI's `/object_info` shape, and the Markdown of docs/nodes.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nodegraph.node import REQUIRED, InputSpec, NodeSpec

Listing = Callable[[str], list[str]]
"""Gives the names of the files of a folder kind."""
_HIDDEN = {
    "document": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
    "node_id": {"unique_id": "UNIQUE_ID"},
}


def describe(spec: NodeSpec, listing: Listing) -> dict[str, Any]:
    """One node type as clients of ComfyUI's `GET /object_info` expect it."""
    inputs: dict[str, dict[str, Any]] = {"required": {}}
    for name, item in spec.inputs.items():
        group = "optional" if item.optional else "required"
        inputs.setdefault(group, {})[name] = _input(item, listing)
    order = {group: list(items) for group, items in inputs.items()}
    hidden = {name: kind for what in sorted(spec.reads) for name, kind in _HIDDEN[what].items()}
    if hidden:
        inputs["hidden"] = hidden
    return {
        "input": inputs,
        "input_order": order,
        "output": [item.type for item in spec.outputs],
        "output_is_list": [item.many for item in spec.outputs],
        "output_name": [item.name for item in spec.outputs],
        "name": spec.name,
        "display_name": spec.display_name,
        "description": spec.description,
        "python_module": spec.module,
        "category": spec.category,
        "output_node": spec.output,
        "deprecated": spec.deprecated,
        "experimental": False,
    }


def describe_all(registry: Mapping[str, NodeSpec], listing: Listing) -> dict[str, Any]:
    """Every node type by name; each folder is listed once."""
    known: dict[str, list[str]] = {}

    def once(kind: str) -> list[str]:
        if kind not in known:
            known[kind] = listing(kind)
        return known[kind]

    return {name: describe(spec, once) for name, spec in registry.items()}


def options_of(item: InputSpec, listing: Listing) -> list[str] | None:
    """The choices of an input, None where it is no choice."""
    if item.choice is None:
        return None
    files = listing(item.choice.files) if item.choice.files is not None else []
    return [*item.choice.options, *files]


def _input(item: InputSpec, listing: Listing) -> list[Any]:
    facts: dict[str, Any] = {}
    if item.default is not REQUIRED and item.default is not None:
        facts["default"] = item.default
    if item.range is not None:
        facts |= {"min": item.range.min, "max": item.range.max}
        facts |= {"step": item.range.step} if item.range.step is not None else {}
        facts |= {"round": item.range.round} if item.range.round is not None else {}
    if item.widget.tooltip:
        facts["tooltip"] = item.widget.tooltip
    for name in ("multiline", "control_after_generate"):
        if getattr(item.widget, name):
            facts[name] = True
    if item.lazy:
        facts["lazy"] = True
    if item.choice is not None and item.choice.upload:
        facts["image_upload"] = True
    options = options_of(item, listing)
    return [options if options is not None else item.type, facts]


def markdown(registry: Mapping[str, NodeSpec]) -> str:
    """The reference of every node type, by category; the same text on every machine."""
    lines = [
        "# Nodes",
        "",
        "Made by `nodegraph nodes --markdown`. An input with a default may be left out.",
    ]
    category = None
    for spec in sorted(registry.values(), key=lambda spec: (spec.category, spec.name)):
        if spec.category != category:
            category = spec.category
            lines += ["", f"## {category}"]
        lines += ["", *_section(spec)]
    return "\n".join(lines) + "\n"


def _section(spec: NodeSpec) -> Iterator[str]:
    yield f"### {spec.name}"
    yield ""
    notes = [spec.display_name] if spec.display_name != spec.name else []
    notes += ["output node"] if spec.output else []
    notes += ["deprecated"] if spec.deprecated else []
    if notes:
        yield f"*{'; '.join(notes)}*"
        yield ""
    if spec.description:
        yield spec.description.strip()
        yield ""
    if spec.inputs or spec.takes_kwargs:
        yield "| input | type | default | allowed |"
        yield "|---|---|---|---|"
        for name, item in spec.inputs.items():
            yield f"| `{name}` | {type_text(item)} | {default_text(item)} | {_cell(allowed_text(item))} |"
        if spec.takes_kwargs:
            yield "| any other | * |  |  |"
        yield ""
    listed = ", ".join(f"`{item.name}` ({item.type}{' list' if item.many else ''})" for item in spec.outputs)
    yield f"Gives {listed or 'no outputs'}."


def type_text(item: InputSpec) -> str:
    """The socket type in words."""
    return item.type.replace(",", " or ") + (" list" if item.many else "")


def default_text(item: InputSpec) -> str:
    """The default as JSON would have it, empty where there is none."""
    if item.default is REQUIRED or item.default is None:
        return "" if item.default is REQUIRED else "none"
    text = repr(item.default) if not isinstance(item.default, bool) else str(item.default).lower()
    return f"`{_cell(text)}`"


def allowed_text(item: InputSpec) -> str:
    """What an input takes, in words; empty where its type says all."""
    if item.choice is not None:
        fixed = ", ".join(item.choice.options)
        files = f"a file of `{item.choice.files}`" if item.choice.files is not None else ""
        return " or ".join(part for part in (fixed, files) if part)
    if item.range is not None:
        return f"{item.range.min} to {item.range.max}"
    return ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
