"""What `nodegraph convert` does: a workflow in the format that is asked for, as text or inside a picture."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nodegraph.errors import Problem, did_you_mean
from nodegraph.formats import object_info
from nodegraph.formats.document_text import write
from nodegraph.formats.json_text import refuse
from nodegraph.formats.pictures import with_workflow
from nodegraph.formats.png import is_picture
from nodegraph.formats.ui_writing import to_ui
from nodegraph.modes import as_link, resolve
from nodegraph.node import NodeSpec
from nodegraph.workflow import Workflow, read_file

PICTURES = (".png", ".webp")
"""Suffixes of files into which a workflow is put, rather than over them."""
Registry = Mapping[str, NodeSpec]


def registry_of(here: Registry, described: Path | None) -> Registry:
    """The node types that are installed and those that a file describes, which is right about the widgets of its server."""
    return here if described is None else ChainMap(object_info.load(described), here)  # type: ignore[arg-type]


def missing(workflow: Workflow, here: Registry, known: Registry) -> Iterator[Problem]:
    """A warning for each node whose type is not installed here."""
    hints: dict[str, str | None] = {}
    for node_id, node in workflow.prompt.items():
        kind = node["class_type"]
        if kind in here:
            continue
        if kind not in hints:
            hints[kind] = did_you_mean(kind, list(here))
        kept = node.get("_meta", {}).get("ui", {})
        nameless = kind not in known and _nameless(kept, node) if isinstance(kept, dict) else False
        text = "this node type is not installed; its place and its values are kept"
        if nameless:
            text += ", but the file does not name all of these: give --object-info for the API format"
        title = node.get("_meta", {}).get("title")
        yield Problem(
            "unknown_node",
            f"{text}.",
            node=node_id,
            title=title if isinstance(title, str) else None,
            class_type=kind,
            hint=hints[kind],
            severity="warning",
        )


def text_of(workflow: Workflow, form: str, registry: Registry) -> str:
    """The workflow as text: a `document`, or ComfyUI's `api` or `ui` format. Raises ValidationError."""
    if form == "api":
        return resolved(workflow, registry).dumps_api()
    return write(to_ui(workflow, registry)) if form == "ui" else workflow.dumps()


def into_picture(workflow: Workflow, form: str, registry: Registry, file: Path, output: Path) -> bytes:
    """A picture that carries the workflow: `file` where that is one, else what `output` holds. Raises ValidationError."""
    data = read_file(file)
    source = file
    if not is_picture(data):
        source = output
        if not output.exists():
            refuse(
                f"{file.name} is no picture, and there is none at {output} to put it into.",
                code="cannot_write",
            )
        data = read_file(output)
    if (output.suffix.lower() == ".png") != data.startswith(b"\x89PNG"):
        refuse(f"{source.name} is no picture of the kind that {output.name} says.", code="cannot_write")
    texts: dict[str, Any] = {"prompt": resolved(workflow, registry).prompt}
    if form != "api":
        # The document as it is saved, without what belongs to one POST only.
        texts["workflow"] = to_ui(workflow, registry) if form == "ui" else workflow.saved()
    return with_workflow(data, texts, source.name)


def resolved(workflow: Workflow, registry: Registry) -> Workflow:
    """The workflow without its muted and bypassed nodes."""
    return replace(workflow, prompt=resolve(workflow.prompt, registry))


def _nameless(kept: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    """Whether a node has values of which it is not known what they are."""
    literals = [value for value in node.get("inputs", {}).values() if as_link(value) is None]
    return bool(kept.get("values")) and not literals
