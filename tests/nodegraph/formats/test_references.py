"""Files beside what ComfyUI's own front end queues for them: every node's class and inputs come out equal.

The pairs in tests/data/convert are ours, written by hand for what the format can say. NODEGRAPH_CONVERT_REFERENCES names a
folder with more: JSON files with `ui`, a file as people share it, and `api`, what ComfyUI makes of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from nodegraph.formats import conversion
from nodegraph.registry import Registry
from nodegraph.workflow import Workflow
from nodes.pack import PACK

OURS = Path(__file__).parents[2] / "data" / "convert"
VARIABLE = "NODEGRAPH_CONVERT_REFERENCES"
THEIRS = os.environ.get(VARIABLE, "")
REGISTRY = Registry.from_packs([PACK])
Queued = dict[str, tuple[str, Mapping[str, Any]]]
Json = dict[str, Any]


def files(folder: Path, key: str) -> list[Path]:
    """The files of a folder that hold `key`."""
    found = sorted(folder.glob("*.json"))
    return [path for path in found if key in json.loads(path.read_text(encoding="utf-8"))]


REFERENCES = [
    *(pytest.param(path, id=path.stem) for path in files(OURS, "ui")),
    *(pytest.param(path, id=f"their {path.stem}") for path in (files(Path(THEIRS), "ui") if THEIRS else ())),
]


def pair(path: Path) -> tuple[Json, Queued]:
    data = json.loads(path.read_text(encoding="utf-8"))
    return data["ui"], {key: (node["class_type"], node["inputs"]) for key, node in data["api"].items()}


def queued(workflow: Workflow) -> Queued:
    """Class and inputs of each node that is queued."""
    prompt = conversion.resolved(workflow, REGISTRY).prompt
    return {key: (node["class_type"], node["inputs"]) for key, node in prompt.items()}


def read(data: Any) -> Queued:
    return queued(Workflow.from_data(data, REGISTRY))


@pytest.mark.parametrize("path", REFERENCES)
def test_a_file_becomes_what_comfyui_makes_of_it(path: Path) -> None:
    ui, expected = pair(path)
    assert expected
    assert read(ui) == expected


@pytest.mark.parametrize("path", REFERENCES)
@pytest.mark.parametrize("form", ["document", "ui", "api"])
def test_it_stays_so_in_every_format(path: Path, form: str) -> None:
    ui, expected = pair(path)
    text = conversion.text_of(Workflow.from_data(ui, REGISTRY), form, REGISTRY)
    assert read(json.loads(text)) == expected


@pytest.mark.parametrize("path", REFERENCES)
def test_all_that_the_document_says_comes_back(path: Path) -> None:
    """Also links that carry nothing: from an input of a sub-graph that nothing feeds to a widget that has its own value."""
    ui, _ = pair(path)
    before = Workflow.from_data(ui, REGISTRY)
    after = Workflow.from_data(json.loads(conversion.text_of(before, "ui", REGISTRY)), REGISTRY)
    assert after.prompt == before.prompt
    assert after.extra.get("canvas") == before.extra.get("canvas")


@pytest.mark.parametrize("path", REFERENCES)
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_a_picture_of_comfyui_gives_what_it_was_made_with(tmp_path: Path, path: Path, suffix: str) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    _, expected = pair(path)
    for keys in (("ui",), ("api",), ("ui", "api")):
        texts = {"workflow" if key == "ui" else "prompt": json.dumps(data[key]) for key in keys}
        picture = tmp_path / f"{'_'.join(keys)}.{suffix}"
        saved(picture, texts)
        assert queued(Workflow.load(picture, REGISTRY)) == expected
        written = conversion.into_picture(
            Workflow.load(picture, REGISTRY), "ui", REGISTRY, picture, tmp_path / f"out.{suffix}"
        )
        picture.write_bytes(written)
        assert queued(Workflow.load(picture, REGISTRY)) == expected


def saved(path: Path, texts: Mapping[str, str]) -> None:
    """A picture that carries texts as ComfyUI writes them."""
    picture = Image.new("RGB", (4, 4))
    if path.suffix == ".png":
        info = PngImagePlugin.PngInfo()
        for key, text in texts.items():
            info.add_text(key, text)
        picture.save(path, pnginfo=info)
        return
    exif = picture.getexif()
    for tag, (key, text) in zip((0x0110, 0x010F), texts.items(), strict=False):
        exif[tag] = f"{key}:{text}"
    picture.save(path, exif=exif, lossless=True)


@pytest.mark.parametrize("path", files(OURS, "parameters"), ids=lambda path: path.stem)
def test_the_text_of_a1111_becomes_a_workflow(tmp_path: Path, path: Path) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    expected = {key: (node["class_type"], node["inputs"]) for key, node in data["api"].items()}
    saved(tmp_path / "a.png", {"parameters": data["parameters"]})
    workflow = Workflow.load(tmp_path / "a.png", REGISTRY, lambda kind: data["files"].get(kind, []))
    assert workflow.problems == () and queued(workflow) == expected
    assert read(json.loads(conversion.text_of(workflow, "ui", REGISTRY))) == expected


@pytest.mark.skipif(not THEIRS, reason=f"set {VARIABLE}=DIR to compare with files that ComfyUI converted")
def test_the_folder_of_references_holds_some() -> None:
    assert files(Path(THEIRS), "ui"), f"{THEIRS} has no JSON file with `ui` and `api`"


def graphs(ui: Json) -> Iterator[tuple[Json, bool]]:
    """The graph of a file and those of its sub-graphs, and whether they are inside."""
    yield ui, False
    yield from ((item, True) for item in ui.get("definitions", {}).get("subgraphs", ()))


def features(ui: Json) -> Iterator[str]:
    """What a file says, of all that the format can."""
    yield f"version {ui['version']}"
    inner = {item["id"] for item in ui.get("definitions", {}).get("subgraphs", ())}
    for graph, inside in graphs(ui):
        place = "in a sub-graph" if inside else "outside"
        yield from ("link as object" if isinstance(link, dict) else "link as list" for link in graph["links"])
        for item in graph["nodes"]:
            kind = item["type"]
            if item["mode"]:
                yield f"mode {item['mode']} {place}"
            if kind in inner:
                yield f"sub-graph {place}, mode {item['mode']}"
            if kind in ("Reroute", "PrimitiveNode", "Note", "MarkdownNote"):
                yield f"{kind} {place}"
            elif kind not in REGISTRY and kind not in inner:
                yield f"not installed, mode {item['mode']}"
            values = item.get("widgets_values")
            yield f"values as {type(values).__name__}"
            if isinstance(values, list) and {"randomize", "fixed", "increment"} & {str(x) for x in values}:
                yield "control of a seed"
            for slot in item["inputs"]:
                if "widget" in slot:
                    yield f"widget as socket, {'no link' if slot['link'] is None else 'linked'}"
    if ui.get("reroutes"):
        yield "links that bend"


def test_our_pairs_hold_everything_that_the_format_can_say() -> None:
    found = {feature for path in files(OURS, "ui") for feature in features(pair(path)[0])}
    assert found >= {
        *("version 0.4", "version 1", "link as list", "link as object", "links that bend"),
        *("values as list", "values as dict", "values as NoneType", "control of a seed"),
        *("widget as socket, linked", "widget as socket, no link"),
        *("mode 2 outside", "mode 4 outside", "mode 2 in a sub-graph", "mode 4 in a sub-graph"),
        *("Reroute outside", "Reroute in a sub-graph", "Note outside", "MarkdownNote outside"),
        *("PrimitiveNode outside", "PrimitiveNode in a sub-graph", "not installed, mode 4"),
        *("sub-graph outside, mode 0", "sub-graph outside, mode 2", "sub-graph in a sub-graph, mode 0"),
    }
