"""The borders between the packages hold: what may import what, and what costs what to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "diffusers", "transformers", "numpy", "scipy", "PIL", "aiohttp", "yaml")


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import in a file, also inside functions."""
    for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(item, ast.Import):
            yield from ((item.lineno, alias.name) for alias in item.names)
        elif isinstance(item, ast.ImportFrom) and item.module and item.level == 0:
            yield item.lineno, item.module


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def test_the_engine_never_imports_torch_or_the_nodes() -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in sorted((ROOT / "nodegraph").rglob("*.py"))
        for line, module in imports_of(path)
        if any(is_within(module, banned) for banned in ("torch", "diffusers", "transformers", "nodes"))
    ]
    assert offences == []


def test_the_nodes_import_only_the_declaration_api_of_the_engine() -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in sorted((ROOT / "nodes").rglob("*.py"))
        for line, module in imports_of(path)
        if is_within(module, "nodegraph") and module != "nodegraph.node"
    ]
    # The scripts that train and judge the embedded model are users of the engine, not nodes.
    assert [offence for offence in offences if "/embedded/" not in offence] == []


def test_the_rule_finds_an_offence(tmp_path: Path) -> None:
    offender = tmp_path / "offender.py"
    offender.write_text("def late() -> None:\n    from torch.nn import Module\n")
    assert list(imports_of(offender)) == [(2, "torch.nn")]


@pytest.mark.parametrize(
    "module",
    [
        "nodegraph",
        "nodegraph.node",
        "nodegraph.execute",
        "nodegraph.cli",
        "nodegraph.jobs",
        "nodegraph.worker.service",
        "nodegraph.worker.supervisor",
    ],
)
def test_importing_the_engine_stays_light(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
