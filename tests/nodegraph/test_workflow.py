"""Reading, changing and writing workflow documents."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph.errors import ValidationError
from nodegraph.workflow import Workflow

PROMPT = {
    "10": {"class_type": "ToyShow", "inputs": {"item": ["9", 0]}},
    "9": {"class_type": "ToyAdd", "inputs": {"a": 1, "b": 2.5}, "_meta": {"title": "Sum", "pos": [1, 2]}},
}
DOCUMENT = {
    "nodegraph": 1,
    "title": "A sum",
    "parameters": {
        "left": {"node": "9", "input": "a", "description": "the left number"},
        "both": [{"node": "9", "input": "a"}, {"node": "9", "input": "b"}],
    },
    "groups": [],
    "prompt": PROMPT,
}


def refused(text: bytes | str) -> str:
    """The message of the one problem that reading a text gives."""
    with pytest.raises(ValidationError) as caught:
        Workflow.loads(text, name="file.json")
    (problem,) = caught.value.problems
    return str(problem)


def test_the_three_json_forms_give_the_same_nodes() -> None:
    for data in (DOCUMENT, PROMPT, {"prompt": PROMPT, "client_id": "me"}):
        assert Workflow.loads(json.dumps(data)).prompt == PROMPT


def test_a_node_may_be_called_like_a_field_of_a_document() -> None:
    prompt = {"prompt": {"class_type": "ToyFloat", "inputs": {}}, "nodes": {"class_type": "ToyFloat"}}
    assert Workflow.from_data(prompt).prompt == prompt


def test_fields_of_the_document_are_kept() -> None:
    data = {**DOCUMENT, "models": [{"name": "x"}], "canvas": {"notes": [1]}, "author": "me"}
    workflow = Workflow.from_data(data)
    assert workflow.title == "A sum"
    assert workflow.document() == data
    assert list(workflow.document())[-1] == "prompt"


def test_a_post_body_loses_what_belongs_to_the_post_when_it_is_saved() -> None:
    workflow = Workflow.from_data({"prompt": PROMPT, "client_id": "me", "extra_data": {"extra_pnginfo": {}}})
    assert "extra_data" in workflow.document()
    assert json.loads(workflow.dumps()) == {"nodegraph": 1, "prompt": PROMPT}


def test_integers_are_exact_to_64_bits() -> None:
    seed = 2**64 - 1
    workflow = Workflow.loads(f'{{"1": {{"class_type": "ToyInt", "inputs": {{"value": {seed}}}}}}}')
    assert workflow.prompt["1"]["inputs"]["value"] == seed
    assert str(seed) in workflow.dumps()


def test_a_byte_order_mark_is_accepted() -> None:
    assert Workflow.loads(b"\xef\xbb\xbf" + json.dumps(PROMPT).encode()).prompt == PROMPT
    assert Workflow.loads("\ufeff" + json.dumps(PROMPT)).prompt == PROMPT


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["not JSON", "line 1, column 1"]),
        ('{"1": \n  [1,}', ["not JSON", "line 2, column 6"]),
        ("hello", ["not JSON", "'hello'"]),
        ('{"1": {"class_type": "A", "inputs": {"x": NaN}}}', ["NaN", "line 1, column 43"]),
        ('{"1": {"class_type": "A",\n "inputs": {"x": -Infinity}}}', ["-Infinity", "line 2, column 18"]),
        ('{"1": 1e999}', ["too large", "column 7"]),
        ('{"3": {},\n "4": {},\n "3": {}}', ["twice", "'3'", "line 3, column 2"]),
        ('{"a": [{"b": 1, "b": 2}]}', ["twice", "'b'", "column 17"]),
        ("[" * 100_000, ["more than 100 deep"]),
        ('{"a":' * 100_000, ["more than 100 deep"]),
        ("[" * 200 + "]" * 200, ["more than 100 deep"]),
        ("[1, 2]", ["not a workflow", "a list"]),
        ("null", ["not a workflow", "nothing"]),
        ('{"a": 1, "b": 2}', ["no node with a class_type", "'a', 'b'"]),
        ('{"prompt": 3}', ["no 'prompt' object"]),
        ('{"nodegraph": 2, "prompt": {}}', ["version 2"]),
        ('{"nodegraph": true, "prompt": {}}', ["version True"]),
        ('{"a": "b', ["unterminated string starting at line 1, column 7"]),
        ('{"1": ' + "9" * 5000 + "}", ["more than 4000 digits"]),
        ('{"1": {"class_type": "A", "inputs": {"x": "\\ud800"}}}', ["surrogate"]),
        (b"\xff\xfe{\x00}\x00", ["UTF-16"]),
        (b'{"a": "\xe4"}', ["not UTF-8", "byte 7"]),
        ('{"1": {"inputs": {}, "class_type": 3}}', ["node 1", "class_type"]),
        ('{"1": {"class_type": "A", "inputs": []}}', ["node 1", "inputs must be an object", "a list"]),
        ('{"1": {"class_type": "A", "_meta": 4}}', ["node 1", "_meta must be an object"]),
        ('{"1": {"class_type": "A"}, "2": 7}', ["node 2", "must be an object", "a number"]),
        ('{"prompt": {}, "title": 4}', ["title"]),
        ('{"prompt": {}, "parameters": []}', ["parameters must be an object"]),
        ('{"prompt": {}, "parameters": {"a b": {"node": "1", "input": "x"}}}', ["'a b' is no name"]),
        ('{"prompt": {}, "parameters": {"a": {"node": "1"}}}', ["'a' does not say which input"]),
        ('{"prompt": {}, "parameters": {"a": []}}', ["'a' does not say which input"]),
    ],
)
def test_what_is_wrong_gets_one_clear_message(text: bytes | str, parts: list[str]) -> None:
    message = refused(text)
    assert [part for part in parts if part not in message] == []


def test_every_malformed_node_is_named_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        Workflow.from_data({"1": {"class_type": 1}, "2": 3, "3": {"class_type": "A", "inputs": 4}})
    assert [problem.node for problem in caught.value.problems] == ["1", "2", "3"]


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    cases: list[tuple[Any, str]] = [
        (tmp_path / "none.json", "No such file"),
        (tmp_path, "folder"),
        ("a\0b", "not a file name"),
        (tmp_path / ("x" * 5000), "name too long"),
    ]
    for path, part in cases:
        with pytest.raises(ValidationError, match=part) as caught:
            Workflow.load(path)
        assert len(str(caught.value)) < 400


@pytest.mark.timeout(30)
def test_a_pipe_is_read_where_somebody_writes_and_refused_where_nobody_does(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ValidationError, match="pipe that nobody writes into"):
        Workflow.load(pipe)

    def write() -> None:
        with pipe.open("w") as file:
            for piece in (json.dumps(DOCUMENT)[:30], json.dumps(DOCUMENT)[30:]):
                file.write(piece)
                file.flush()
                time.sleep(0.05)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert Workflow.load(pipe).title == "A sum"
    finally:
        writer.join()


def test_a_file_that_is_too_large_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(100 * 10**6)
    with pytest.raises(ValidationError, match="larger than 32 MiB"):
        Workflow.load(path)


def test_values_of_another_kind_are_refused() -> None:
    for value in (float("nan"), {1: 2}, object(), b"x"):
        with pytest.raises(ValidationError):
            Workflow.from_data({"1": {"class_type": "A", "inputs": {"x": value}}})


def test_parsed_json_is_copied() -> None:
    data: dict[str, Any] = {"1": {"class_type": "A", "inputs": {"x": [1]}}}
    workflow = Workflow.from_data(data)
    data["1"]["inputs"]["x"].append(2)
    assert workflow.prompt["1"]["inputs"]["x"] == [1]


def test_parameters_set_their_inputs_and_leave_the_workflow_as_it_was() -> None:
    workflow = Workflow.from_data(DOCUMENT)
    assert workflow.parameters["left"].description == "the left number"
    assert workflow.value_of("left") == 1
    changed = workflow.with_values({"both": 7})
    assert changed.prompt["9"]["inputs"] == {"a": 7, "b": 7}
    assert changed.prompt["9"]["_meta"] == PROMPT["9"]["_meta"]
    assert workflow.prompt["9"]["inputs"] == {"a": 1, "b": 2.5}


def test_unknown_parameters_are_all_named_with_what_is_near() -> None:
    with pytest.raises(ValidationError) as caught:
        Workflow.from_data(DOCUMENT).with_values({"lefd": 1, "nothing": 2})
    first, second = caught.value.problems
    assert first.hint == "Did you mean 'left'?"
    assert second.allowed == "left, both"


def test_a_parameter_whose_node_is_gone_is_refused_when_it_is_set() -> None:
    data = {**DOCUMENT, "parameters": {"x": {"node": "99", "input": "a"}}}
    with pytest.raises(ValidationError, match="node '99'"):
        Workflow.from_data(data).with_values({"x": 1})


def test_inputs_are_set_by_node_and_name() -> None:
    workflow = Workflow.from_data({**PROMPT, "a.b": {"class_type": "ToyAdd", "inputs": {"a": 1}}})
    changed = workflow.with_inputs({"9.a": 5, "a.b.c.d": 6})
    assert changed.prompt["9"]["inputs"]["a"] == 5
    assert changed.prompt["a.b"]["inputs"]["c.d"] == 6
    for place in ("99.a", "9", ".a"):
        with pytest.raises(ValidationError):
            workflow.with_inputs({place: 1})


def test_the_text_is_the_same_for_the_same_content() -> None:
    one = Workflow.from_data(DOCUMENT)
    other = Workflow.from_data({**DOCUMENT, "prompt": dict(reversed(PROMPT.items()))})
    assert one.dumps() == other.dumps()
    assert one.dumps().index('"9"') < one.dumps().index('"10"')
    assert '"item": ["9", 0]' in one.dumps()
    assert one.dumps().endswith("}\n")
    assert json.loads(one.dumps_api()) == PROMPT


def test_saving_replaces_the_file_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    Workflow.from_data(PROMPT).save(path)
    assert Workflow.load(path).prompt == PROMPT
    assert stat.S_IMODE(path.stat().st_mode) & 0o444
    with pytest.raises(OSError):
        Workflow.from_data(PROMPT).save(tmp_path / "none" / "w.json")
    os.mkdir(tmp_path / "taken")
    with pytest.raises(OSError):
        Workflow.from_data(PROMPT).save(tmp_path / "taken")
    assert sorted(os.listdir(tmp_path)) == ["taken", "w.json"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=6,
)
NODES = st.fixed_dictionaries(
    {"class_type": TEXTS, "inputs": st.dictionaries(TEXTS, VALUES, max_size=4)},
    optional={"_meta": st.dictionaries(TEXTS, VALUES, max_size=3)},
)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(TEXTS, NODES, max_size=5), TEXTS, st.dictionaries(TEXTS, VALUES, max_size=2))
def test_writing_and_reading_gives_the_workflow_back(
    prompt: dict[str, Any], title: str, extra: dict[str, Any]
) -> None:
    canvas = {"canvas": extra}
    workflow = Workflow.from_data({"nodegraph": 1, "title": title, "prompt": prompt, **canvas})
    again = Workflow.loads(workflow.dumps())
    assert again == workflow
    assert again.dumps() == workflow.dumps()


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60) | VALUES.map(json.dumps))
def test_reading_anything_gives_a_workflow_or_a_validation_error(text: bytes | str) -> None:
    try:
        Workflow.loads(text)
    except ValidationError as error:
        assert error.problems
