"""The documents name what there is: every node, command, workflow, parameter and module of the engine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nodegraph.cli import build_app
from nodegraph.describe import markdown
from nodegraph.registry import Registry
from nodegraph.workflow import Workflow
from nodes.pack import PACK

ROOT = Path(__file__).parents[1]
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
WORKFLOWS = (ROOT / "docs" / "workflows.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
IN_EVERY_WORKFLOW = {"seed", "steps", "cfg", "negative"}


@pytest.fixture(scope="module")
def registry() -> Registry:
    """The built-in pack alone, whatever else is installed."""
    return Registry.from_packs([PACK])


def test_the_reference_of_nodes_is_what_the_code_says(registry: Registry) -> None:
    written = (ROOT / "docs" / "nodes.md").read_text(encoding="utf-8")
    headings = {line.removeprefix("### ") for line in written.splitlines() if line.startswith("### ")}
    assert headings == set(registry), "run `make docs`"
    assert written == markdown(registry), "docs/nodes.md is out of date: run `make docs`"


def test_every_node_says_what_it_does_in_one_line(registry: Registry) -> None:
    cut = {name for name, spec in registry.items() if not spec.description.split("\n")[0].endswith(".")}
    assert cut == set(), "`nodegraph nodes` shows the first line of a description only"


def test_every_command_is_shown() -> None:
    commands = [command.name for command in build_app().registered_commands]
    assert "run" in commands
    missing = [name for name in commands if f"nodegraph {name}" not in README + WORKFLOWS]
    assert missing == []


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda path: path.name)
def test_every_workflow_is_listed_with_its_parameters(path: Path) -> None:
    assert f"`workflows/{path.name}`" in README
    row = next(line for line in WORKFLOWS.splitlines() if line.startswith(f"| `{path.name}` |"))
    listed = {word.strip() for word in row.strip("|").split("|")[-1].split(",")}
    assert listed == set(Workflow.load(path).parameters) - IN_EVERY_WORKFLOW


def test_every_module_of_the_engine_has_its_place_in_the_design() -> None:
    layout = DESIGN.partition("## Layout")[2].partition("\n## ")[0]
    files = [path.name for path in (ROOT / "nodegraph").glob("[!_]*.py")]
    files += [path.name for path in (ROOT / "nodegraph" / "formats").glob("[!_]*.py")]
    assert [name for name in files if name not in layout] == []


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (path.parent / link).exists()] == []


def test_every_benchmark_is_explained() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    scripts = [script.name for script in (ROOT / "benchmarks").glob("*.py")]
    assert scripts
    assert [name for name in scripts if f"`python benchmarks/{name}" not in text] == []
