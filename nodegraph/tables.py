"""Tables of the command line: plans, node types, model files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nodegraph.describe import default_text, options_of, type_text
from nodegraph.errors import NodeError, Problem, ValidationError, did_you_mean
from nodegraph.folders import Folders
from nodegraph.model_folders import ModelFolder
from nodegraph.node import InputSpec, NodeSpec
from nodegraph.plan import Row
from nodegraph.report import printable
from nodegraph.usage import Usage

_STYLES = {"run": "green", "cached": "cyan", "lazy": "yellow", "unneeded": "dim"}
_NOT_MODELS = frozenset({"input", "output", "temp"})


def show_table(table: Table) -> None:
    """Print a table on stdout; where that is no terminal, wide and without padding."""
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(table)
        return
    wide = Console(highlight=False, width=200)
    with wide.capture() as capture:
        wide.print(table)
    for line in capture.get().splitlines():
        console.print(Text(line.rstrip()), soft_wrap=True)


def plan_table(rows: Iterable[Row], usage: Usage | None = None) -> Table:
    """One line a node, with what it takes of the device where that was estimated."""
    table = Table("node", "type", "what", "why", box=None, pad_edge=False)
    for title in ("weights", "working", "peak") if usage is not None else ():
        table.add_column(title, justify="right")
    for row in rows:
        what = f"cached ({row.tier})" if row.state == "cached" else row.state
        name = row.node if row.title in ("", row.class_type) else f"{row.node} {row.title}"
        cells = [Text(name), Text(row.class_type), Text(what, _STYLES[row.state]), Text(row.text)]
        taken = usage.nodes.get(row.node) if usage is not None else None
        if taken is not None:
            works = "?" if taken.works is None else size_text(taken.works)
            cells += [Text(size_text(taken.weights)), Text(works), Text(size_text(taken.peak))]
        table.add_row(*cells)
    return table


def memory_text(usage: Usage) -> str:
    """The estimated peak of a run in one line."""
    if usage.node is None:
        return "no node says what it takes of the device"
    least = "" if usage.complete else "at least "
    of = f" of {size_text(usage.budget)}" if usage.budget else ""
    return f"estimated peak: {least}{size_text(usage.peak)}{of}, at node {printable(usage.node)}"


def size_text(size: int) -> str:
    """Bytes as MB, or GB from 1000 MB on."""
    return f"{size / 1e9:.2f} GB" if size >= 999_500_000 else f"{size / 1e6:.1f} MB"


def row_data(row: Row, usage: Usage | None = None) -> dict[str, Any]:
    """A row of a plan as JSON data, with the node's bytes of the device where they were estimated."""
    taken = usage.nodes.get(row.node) if usage is not None else None
    return asdict(row) | ({} if taken is None else {"memory": asdict(taken)})


def usage_data(usage: Usage) -> dict[str, Any]:
    """What a run takes of the device as JSON data."""
    return {"peak": usage.peak, "node": usage.node, "budget": usage.budget, "complete": usage.complete}


def nodes_table(registry: Mapping[str, NodeSpec]) -> Table:
    """One line a node type, by category."""
    table = Table("node", "category", "gives", "", box=None, pad_edge=False)
    for spec in sorted(registry.values(), key=lambda spec: (spec.category, spec.name)):
        outputs = ", ".join(item.type for item in spec.outputs)
        first = spec.description.split("\n", 1)[0]
        table.add_row(Text(spec.name, "bold"), Text(spec.category), Text(outputs), Text(first))
    return table


def spec_of_name(registry: Mapping[str, NodeSpec], name: str) -> dict[str, NodeSpec]:
    """The one node type. Raises ValidationError with the nearest names."""
    spec = registry.get(name)
    if spec is None:
        hint = did_you_mean(name, list(registry)) or "`nodegraph nodes` lists them all."
        raise ValidationError(Problem("unknown_node", f"there is no node type {name!r}.", hint=hint))
    return {name: spec}


def node_page(spec: NodeSpec, folders: Folders) -> None:
    """Print what a node type is, takes and gives."""
    console = Console(highlight=False, soft_wrap=True)
    notes = [
        spec.category,
        *(["output node"] if spec.output else []),
        *(["deprecated"] if spec.deprecated else []),
    ]
    title = "" if spec.display_name == spec.name else f"  {spec.display_name}"
    console.print(Text.assemble((spec.name, "bold"), title, (f"  ({', '.join(notes)})", "dim")))
    if spec.description:
        console.print(Text(spec.description.strip()))
    inputs = Table("input", "type", "default", "allowed", box=None, pad_edge=False)
    for name, item in spec.inputs.items():
        default = default_text(item).strip("`")
        inputs.add_row(
            Text(name, "bold"), Text(type_text(item)), Text(default), Text(_allowed(item, folders))
        )
    if spec.takes_kwargs:
        inputs.add_row(Text("any other", "bold"), Text("*"), "", "")
    if inputs.row_count:
        console.print()
        show_table(inputs)
    if spec.outputs:
        outputs = Table("output", "name", "type", box=None, pad_edge=False)
        for index, output in enumerate(spec.outputs):
            outputs.add_row(
                str(index), Text(output.name, "bold"), Text(output.type + (" list" if output.many else ""))
            )
        console.print()
        show_table(outputs)


def _allowed(item: InputSpec, folders: Folders) -> str:
    options = options_of(item, folders.list)
    if options is not None:
        return ", ".join(options) or "nothing is there"
    return f"{item.range.min} to {item.range.max}" if item.range is not None else ""


def model_rows(registry: Mapping[str, NodeSpec], folders: Folders) -> list[dict[str, Any]]:
    """Every file that a node of the registry may choose: kind, name, path and bytes."""
    choices = (item.choice for spec in registry.values() for item in spec.inputs.values())
    kinds = sorted({choice.files for choice in choices if choice is not None and choice.files} - _NOT_MODELS)
    rows = []
    for kind in kinds:
        for name in folders.list(kind):
            try:
                path = folders.find(kind, name)
                size = path.stat().st_size if path.is_file() else None
            except (NodeError, OSError):
                # Gone since it was listed, or not to be read by this person.
                continue
            rows.append({"kind": kind, "name": name, "path": str(path), "bytes": size})
    return rows


def folder_rows(folders: Iterable[ModelFolder]) -> list[dict[str, Any]]:
    """Every model folder in the order of the search: its path and kind, who names it and in what file, whether it is there."""
    return [
        {
            "path": str(item.path),
            "kind": item.kind,
            "origin": item.origin.value,
            "file": None if item.file is None else str(item.file),
            "there": item.path.is_dir(),
        }
        for item in folders
    ]


def show_models(folders: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """Print where models are looked for and what is there."""
    places = Table("folder", "kind", "from", "", box=None, pad_edge=False)
    for item in folders:
        origin = item["origin"] if item["file"] is None else f"{item['origin']}, {item['file']}"
        there = "" if item["there"] else "not there"
        places.add_row(Text(item["path"], "bold"), item["kind"] or "all", Text(origin), Text(there, "dim"))
    show_table(places)
    console = Console(highlight=False, soft_wrap=True)
    table = Table("kind", "name", "size", "path", box=None, pad_edge=False)
    for row in rows:
        size = "" if row["bytes"] is None else f"{row['bytes'] / 1e6:,.1f} MB"
        table.add_row(Text(row["kind"]), Text(row["name"], "bold"), Text(size), Text(row["path"], "dim"))
    console.print()
    if rows:
        show_table(table)
    else:
        console.print("No model files were found.")
