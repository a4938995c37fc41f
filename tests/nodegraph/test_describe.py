"""Descriptions of node types."""

from __future__ import annotations

import json
from pathlib import Path

from nodegraph.describe import describe, describe_all, markdown
from tests.nodegraph.toy import toy_folders, toy_registry

REGISTRY = toy_registry()


def test_a_description_has_the_shape_of_object_info() -> None:
    assert describe(REGISTRY["ToyScale"], lambda kind: []) == {
        "input": {
            "required": {
                "x": ["FLOAT", {}],
                "factor": ["FLOAT", {"default": 2.0, "min": -10.0, "max": 10.0, "step": 0.5}],
                "rounding": [["none", "down", "nearest"], {"default": "none"}],
            }
        },
        "input_order": {"required": ["x", "factor", "rounding"]},
        "output": ["FLOAT"],
        "output_is_list": [False],
        "output_name": ["FLOAT"],
        "name": "ToyScale",
        "display_name": "ToyScale",
        "description": "x * factor, rounded.",
        "python_module": "tests.nodegraph.toy",
        "category": "toy/maths",
        "output_node": False,
        "deprecated": False,
        "experimental": False,
    }


def test_what_else_an_input_says() -> None:
    def inputs(name: str) -> dict[str, dict[str, list[object]]]:
        found: dict[str, dict[str, list[object]]] = describe(REGISTRY[name], lambda kind: [kind])["input"]
        return found

    seed = inputs("ToyInt")["required"]["value"][1]
    assert seed == {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True}
    assert inputs("ToyText")["required"]["text"] == ["STRING", {"multiline": True}]
    assert inputs("ToyReadFile")["required"]["name"] == [["input"], {"image_upload": True}]
    assert inputs("ToySwitch")["required"]["if_true"] == ["FLOAT", {"lazy": True}]
    assert inputs("ToyPatch")["optional"]["blob"] == ["BLOB", {}]
    assert inputs("ToyDocument")["hidden"]["unique_id"] == "UNIQUE_ID"  # type: ignore[comparison-overlap]
    split = describe(REGISTRY["ToySplit"], lambda kind: [])
    assert (split["output"], split["output_name"]) == (["INT", "FLOAT"], ["whole", "rest"])
    assert describe(REGISTRY["ToyRange"], lambda kind: [])["output_is_list"] == [True]


def test_every_node_is_described_as_json_and_each_folder_listed_once(tmp_path: Path) -> None:
    folders = toy_folders(tmp_path)
    asked: list[str] = []

    def listing(kind: str) -> list[str]:
        asked.append(kind)
        return folders.list(kind)

    found = describe_all(REGISTRY, listing)
    assert set(json.loads(json.dumps(found))) == set(REGISTRY)
    assert sorted(asked) == sorted(set(asked))


def test_markdown_is_the_same_on_every_call_and_escapes_tables() -> None:
    text = markdown(REGISTRY)
    assert text == markdown(REGISTRY)
    assert "a file of `checkpoints`" in text
    assert "*deprecated*" in text
    assert "Gives `whole` (INT), `rest` (FLOAT)." in text
