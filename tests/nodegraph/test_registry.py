"""Finding packs, and what becomes of broken ones."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from nodegraph.node import Choice, NodeSpec, Pack, node
from nodegraph.registry import LateRegistry, Registry
from tests.nodegraph import toy

HEADER = "from nodegraph.node import node, Pack\n"
GOOD = HEADER + "@node('{name}', category='t')\ndef f(x: int = 0) -> int:\n    'A node.'\n    return x\n"


@pytest.fixture
def packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the module path; modules that were imported from it are forgotten."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def point(name: str, value: str) -> importlib.metadata.EntryPoint:
    return importlib.metadata.EntryPoint(name, value, "nodegraph.nodes")


def write(folder: Path, **modules: str) -> None:
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)


def test_the_toy_nodes() -> None:
    registry = toy.toy_registry()
    assert registry["ToyAdd"].inputs["a"].required
    assert "ToyNothing" not in registry
    assert len(registry) == len(list(registry)) == len(toy.NODES)
    assert "nodes" in repr(registry)


def test_of_refuses_what_is_no_node_and_names_twice() -> None:
    @node("ToyAdd", category="t")
    def another(x: int) -> int:
        return x

    with pytest.raises(TypeError):
        Registry.of(len)
    with pytest.raises(ValueError, match="ToyAdd"):
        Registry.of(toy.toy_add, another)


def test_a_literal_annotation_is_a_choice() -> None:
    item = toy.toy_registry()["ToyOnLane"].inputs["lane"]
    assert item.choice == Choice(("device", "cpu", "io"))


def test_a_pack_is_found_with_its_nodes_and_folders(packs: Path) -> None:
    write(
        packs,
        pa=GOOD.format(name="PackA"),
        pack_a=HEADER + "PACK = Pack('a', ('pa',), (__import__('pathlib').Path('/m'),))",
    )
    registry = Registry.load([point("a", "pack_a:PACK")])
    assert list(registry) == ["PackA"]
    assert registry.problems == ()
    assert registry.model_roots == (Path("/m"),)
    assert registry["PackA"].function(3) == 3


def test_imported_nodes_belong_to_the_module_that_declares_them(packs: Path) -> None:
    write(
        packs,
        first=GOOD.format(name="First"),
        second="from first import f\n" + GOOD.format(name="Second").replace("def f", "def g"),
    )
    registry = Registry.from_packs([Pack("x", ("first", "second"))])
    assert list(registry) == ["First", "Second"]
    assert registry.problems == ()


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        ("1 / 0\n", "broken_module", "ZeroDivisionError"),
        ("import nothing_of_that_name\n", "broken_module", "nothing_of_that_name"),
        ("def f(:\n", "broken_module", "SyntaxError"),
        (HEADER + "@node('B', category='t')\ndef f(x):\n    pass\n", "broken_module", "no type annotation"),
        (GOOD.format(name="Good"), "duplicate_node", "'Good'"),
        (
            GOOD.format(name="B") + GOOD.format(name="B").replace("def f", "def g"),
            "broken_module",
            "two nodes",
        ),
    ],
)
def test_a_broken_module_takes_nothing_else_with_it(packs: Path, text: str, code: str, part: str) -> None:
    write(packs, good=GOOD.format(name="Good"), bad=text, late=GOOD.format(name="Late"))
    registry = Registry.from_packs([Pack("one", ("good",)), Pack("two", ("bad", "late", "missing_module"))])
    assert list(registry) == ["Good", "Late"]
    first, second = registry.problems
    assert (first.code, first.severity) == (code, "warning")
    assert part in first.message and "'two'" in first.message and "bad" in first.message
    assert "missing_module" in second.message


def test_a_pack_that_cannot_be_loaded_is_reported(packs: Path) -> None:
    write(
        packs,
        good=GOOD.format(name="Good"),
        pack_g=HEADER + "PACK = Pack('g', ('good',))",
        pack_b="raise SystemError('no')",
    )
    registry = Registry.load(
        [
            point("a", "pack_b:PACK"),
            point("b", "pack_g:NOTHING"),
            point("c", "os:path"),
            point("d", "pack_g:PACK"),
        ]
    )
    assert list(registry) == ["Good"]
    assert [item.code for item in registry.problems] == ["broken_pack"] * 3


def test_a_late_registry_loads_once_when_it_is_asked() -> None:
    loads: list[int] = []

    def load() -> Mapping[str, NodeSpec]:
        loads.append(1)
        return toy.toy_registry()

    late = LateRegistry(load)
    assert loads == []
    assert late["ToyAdd"].name == "ToyAdd"
    assert len(late) == len(list(late))
    assert loads == [1]
