"""Node types known without their packs."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodegraph.describe import describe_all
from nodegraph.folders import Folders
from nodegraph.graph import check
from nodegraph.node import NodeSpec
from nodegraph.registry import Registry
from nodegraph.worker.descriptions import (
    BUILT_IN,
    DescriptionStore,
    built_in,
    described,
    generated,
    known,
    registry_of,
    spec_data,
    spec_from,
)
from nodegraph.workflow import Workflow
from nodes.pack import PACK
from tests.nodegraph.toy import NODES
from tests.nodegraph.worker import pack as pack_module

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))


@pytest.fixture(scope="module")
def loaded() -> Registry:
    """The built-in pack itself."""
    return Registry.from_packs([PACK])


def toys() -> Registry:
    return Registry.from_packs([pack_module.PACK])


def as_known(spec: NodeSpec) -> NodeSpec:
    """What a description keeps of a node type."""
    return replace(spec, validate=None, identity=None, foresee=None)


def test_the_file_that_ships_is_what_the_code_says() -> None:
    if BUILT_IN.read_text(encoding="utf-8") != generated():
        pytest.fail("descriptions.json is stale: run python -m nodegraph.worker.descriptions --write")


def test_the_file_is_among_what_the_wheel_packs() -> None:
    import tomllib

    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert BUILT_IN.relative_to(ROOT).parts[0] in wheel["packages"] and "exclude" not in wheel
    ignored = subprocess.run(["git", "check-ignore", "-q", str(BUILT_IN)], cwd=ROOT, check=False)
    assert ignored.returncode != 0, "hatch leaves out what git ignores"


@pytest.mark.parametrize("spec", Registry.of(*NODES).values(), ids=lambda spec: spec.name)
def test_a_node_type_comes_back_as_it_was(spec: NodeSpec) -> None:
    data = json.loads(json.dumps(spec_data(spec)))
    found = spec_from(spec.name, data)
    assert found == as_known(spec)
    with pytest.raises(RuntimeError, match="in a worker"):
        found.function()


def test_the_built_in_nodes_are_told_as_the_pack_itself_has_them(loaded: Registry) -> None:
    found = known()
    assert list(found) == list(loaded)

    def listing(kind: str) -> list[str]:
        return [f"{kind}.safetensors"]

    assert describe_all(found, listing) == describe_all(loaded, listing)
    assert [root.resolve() for root in found.model_roots] == [root.resolve() for root in loaded.model_roots]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_documents_are_checked_as_with_the_pack_itself(path: Path, loaded: Registry, tmp_path: Path) -> None:
    folders = Folders(loaded.model_roots, tmp_path, tmp_path, tmp_path)
    workflow = Workflow.load(path)
    for number, node in enumerate([None, *workflow.prompt]):
        if number > 4:
            break
        # The document as it is, then without one node after the other.
        kept = {key: data for key, data in workflow.prompt.items() if key != node}
        here = check(replace(workflow, prompt=kept), known(), folders)
        there = check(replace(workflow, prompt=kept), loaded, folders)
        assert (here.problems, here.warnings, here.failed) == (there.problems, there.warnings, there.failed)
        if there.graph is not None:
            assert here.graph is not None and list(here.graph.nodes) == list(there.graph.nodes)


def test_nothing_heavy_is_imported_for_it() -> None:
    code = (
        "import sys; from nodegraph.worker.descriptions import known; known();"
        "print(*[name for name in ('torch', 'nodes', 'numpy', 'networkx', 'PIL', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_command_writes_and_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nodegraph.worker import descriptions

    monkeypatch.setattr(descriptions, "BUILT_IN", tmp_path / "d.json")
    (tmp_path / "d.json").write_text("{}")
    assert descriptions.main([]) == 1
    assert descriptions.main(["--write"]) == 0
    assert descriptions.main([]) == 0


def point(value: str, version: str, folder: Path) -> importlib.metadata.EntryPoint:
    """The entry point of a distribution that is installed in a folder."""
    info = folder / f"worktests-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: worktests\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[nodegraph.nodes]\nworktests = {value}\n")
    (found,) = importlib.metadata.PathDistribution(info).entry_points
    return found


def test_other_packs_are_kept_by_their_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = f"{pack_module.__name__}:PACK"
    site = tmp_path / "site"
    packs, problems = described(toys(), [point(value, "1.5", site)])
    assert (packs[0]["version"], packs[0]["source"], problems) == ("1.5", value, ())
    store = DescriptionStore(tmp_path / "data")
    assert store.load() == []
    store.save([*packs, {**built_in()[0], "version": "0.1.0"}])
    assert store.load() == [], "the pack is not installed"
    monkeypatch.syspath_prepend(str(site))
    assert store.load() == json.loads(json.dumps(packs))
    found = known(tmp_path / "data")
    assert {"WorkSteps", "ToyAdd", "KSampler"} <= set(found)
    (site / "worktests-1.5.dist-info").rename(site / "worktests-1.6.dist-info")
    (site / "worktests-1.6.dist-info" / "METADATA").write_text("Name: worktests\nVersion: 1.6\n")
    importlib.invalidate_caches()
    assert store.load() == [], "another version is installed"
    (tmp_path / "data" / "descriptions.json").write_text("{")
    assert store.load() == []


def test_packs_under_development_are_not_kept(tmp_path: Path) -> None:
    packs, _ = described(toys(), [importlib.metadata.EntryPoint("x", f"{pack_module.__name__}:PACK", "g")])
    DescriptionStore(tmp_path).save(packs)
    assert list(tmp_path.iterdir()) == []


def test_the_first_pack_keeps_a_name() -> None:
    packs: list[dict[str, Any]] = [*described(toys(), [])[0]] * 2
    packs[1] = {**packs[1], "nodes": {"WorkSteps": spec_data(toys()["ToyAdd"])}}
    assert registry_of(packs)["WorkSteps"].category == "work"
