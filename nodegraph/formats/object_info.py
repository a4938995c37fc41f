"""Node types as another server describes them: the answer of ComfyUI's `GET /object_info`, into NodeSpecs.

They serve to read and write files in the UI format whose nodes are not installed here; they cannot run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nodegraph.formats.json_text import parse, refuse
from nodegraph.node import REQUIRED, Choice, InputSpec, NodeError, NodeSpec, OutputSpec, Range, Widget
from nodegraph.sockets import LITERAL_TYPES
from nodegraph.workflow import read_file

Json = Mapping[str, Any]


def load(path: Path) -> dict[str, NodeSpec]:
    """The node types that a file describes. Raises ValidationError where it cannot be read or describes none."""
    return from_object_info(parse(read_file(path), path.name), path.name)


def from_object_info(data: Any, name: str = "the description") -> dict[str, NodeSpec]:
    """The node types of a description. Raises ValidationError where it is none."""
    if not isinstance(data, dict):
        refuse(f"{name} is not the answer of /object_info: it is no object.", code="invalid_object_info")
    found = {}
    for class_type, item in data.items():
        if not isinstance(item, dict) or not isinstance(item.get("input", {}), dict):
            refuse(
                f"{name} is not the answer of /object_info: it does not say which inputs {class_type[:80]!r} takes.",
                code="invalid_object_info",
            )
        found[class_type] = _spec(class_type, item)
    return found


def _spec(class_type: str, item: Json) -> NodeSpec:
    listed = item.get("input", {})
    inputs: dict[str, InputSpec] = {}
    for group in ("required", "optional"):
        inputs |= {spec.name: spec for spec in _inputs(listed.get(group), group == "optional")}
    texts = {key: item.get(key) for key in ("display_name", "category", "description")}
    shown = {key: text if isinstance(text, str) else "" for key, text in texts.items()}
    return NodeSpec(
        name=class_type,
        function=_not_here,
        inputs=inputs,
        outputs=tuple(_outputs(item)),
        category=shown["category"],
        display_name=shown["display_name"] or class_type,
        description=shown["description"],
        output=item.get("output_node") is True,
    )


def _not_here(**inputs: Any) -> Any:
    raise NodeError("this node type is known by its description only; it is not installed.")


def _inputs(group: Any, optional: bool) -> Iterator[InputSpec]:
    for name, described in group.items() if isinstance(group, dict) else ():
        parts = described if isinstance(described, list) and described else ["*"]
        facts = parts[1] if len(parts) > 1 and isinstance(parts[1], dict) else {}
        yield _input(name, parts[0], facts, optional)


def _input(name: str, kind: Any, facts: Json, optional: bool) -> InputSpec:
    options = kind if isinstance(kind, list) else facts.get("options")
    shown = facts.get("widgetType")
    socket = "COMBO" if isinstance(kind, list) else (kind if isinstance(kind, str) else "*")
    if isinstance(shown, str) and shown in LITERAL_TYPES:
        # The widget decides the place among the values, whatever the socket's type is called.
        socket = shown
    least, most = facts.get("min"), facts.get("max")
    bounded = isinstance(least, (int, float)) and isinstance(most, (int, float))
    choice = None
    if socket == "COMBO":
        texts = tuple(str(option) for option in options) if isinstance(options, list) else ()
        choice = Choice(texts, upload=facts.get("image_upload") is True)
    return InputSpec(
        name=name,
        type=socket,
        default=facts.get("default", None if optional else REQUIRED),
        range=Range(least or 0, most or 0) if bounded else None,
        choice=choice,
        widget=Widget(optional=optional, control_after_generate=bool(facts.get("control_after_generate"))),
        # A literal's socket without a widget has no place among the values.
        many=facts.get("forceInput") is True and socket in LITERAL_TYPES,
    )


def _outputs(item: Json) -> Iterator[OutputSpec]:
    kinds = item.get("output")
    names = item.get("output_name")
    for index, kind in enumerate(kinds if isinstance(kinds, list) else ()):
        socket = kind if isinstance(kind, str) else "COMBO"
        name = names[index] if isinstance(names, list) and index < len(names) else None
        yield OutputSpec(name if isinstance(name, str) else socket, socket)
