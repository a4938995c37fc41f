"""What a hostile workflow may cost: refused early, faults counted and not all told, nothing looked up for ever."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodegraph.errors import Problem, ValidationError, shown
from nodegraph.findings import Findings, Suggestions
from nodegraph.folders import Folders
from nodegraph.formats.png import texts_of
from nodegraph.graph import Report, check
from nodegraph.limits import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_NAME,
    MAX_NODES,
    MAX_PARAMETERS,
    MAX_PROBLEMS,
    MAX_TITLE,
    MAX_VALUES,
)
from nodegraph.modes import resolve
from nodegraph.workflow import Workflow
from tests.nodegraph.toy import toy_folders, toy_registry

REGISTRY = toy_registry()
MANY = MAX_PROBLEMS + 500


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return toy_folders(tmp_path_factory.mktemp("toy"))


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def checked(folders: Folders, prompt: dict[str, Any]) -> Report:
    return check(Workflow.from_data(prompt), REGISTRY, folders)


def refusal(text: str) -> Problem:
    """The one problem that reading a text gives."""
    with pytest.raises(ValidationError) as caught:
        Workflow.loads(text, REGISTRY, name="file.json")
    (problem,) = caught.value.problems
    return problem


class Known(list[str]):
    """Names that count how often somebody goes through them."""

    visits = 0

    def __iter__(self) -> Iterator[str]:
        self.visits += 1
        return super().__iter__()


def test_problems_beyond_the_limit_are_counted_and_their_nodes_known() -> None:
    made: list[int] = []

    def make(number: int) -> Problem:
        made.append(number)
        return Problem("x", "text", str(number))

    findings = Findings("warning", most=3)
    assert findings.told() == ()
    for number in range(3):
        findings.add(str(number), lambda number=number: make(number))  # type: ignore[misc]
    assert [problem.node for problem in findings.told()] == ["0", "1", "2"]
    for number in range(3, 2003):
        findings.add(str(number), lambda number=number: make(number))  # type: ignore[misc]
    assert made == [0, 1, 2]
    assert len(findings) == len(findings.nodes) == 2003
    assert findings.told()[3:] == (
        Problem("more_problems", "there are 2,000 more problems, which are not listed.", severity="warning"),
    )
    assert {problem.severity for problem in findings.told()} == {"warning"}


def test_a_name_is_looked_up_once() -> None:
    known = Known(["KSampler", "VAEDecode"])
    suggestions = Suggestions()
    assert suggestions.hint("node", "KSamplr", known) == "Did you mean 'KSampler'?"
    before = known.visits
    for _ in range(1000):
        assert suggestions.nearest("node", "KSamplr", known) == ["KSampler"]
    assert known.visits == before
    assert suggestions.nearest("file", "KSamplr", ["KSamples"]) == ["KSamples"]


def test_no_name_is_looked_up_when_the_effort_is_spent() -> None:
    known = Known(f"node type {number}" for number in range(100))
    suggestions = Suggestions(effort=100_000)
    hints = [suggestions.hint("node", f"node typ {number}", known) for number in range(10_000)]
    assert hints[0] is not None
    assert hints[-1] is None
    assert known.visits < 100


def test_values_are_shown_short() -> None:
    assert shown("a'b") == repr("a'b")
    assert shown("x" * 78) == repr("x" * 78)
    assert shown("x" * 10**6) == "'" + "x" * 76 + "..."
    assert shown([1, {"a": None}]) == "[1, {'a': None}]"
    assert shown([1] * 10**6) == "[" + "1, " * 25 + "1..."
    assert shown({"a": ["x" * 10**6]}).startswith("{'a': ['xxx")
    assert len(shown({"a": ["x" * 10**6]})) == 80


def test_of_ten_thousand_unknown_nodes_the_first_are_told_and_the_others_counted(folders: Folders) -> None:
    prompt = {str(i): node(f"Nothing{i}", a=[str(i - 1), 0]) for i in range(10_000)}
    prompt["out"] = node("ToyShow", item=["9999", 0])
    report = checked(folders, prompt)
    *told, last = report.problems
    assert [problem.node for problem in told] == [str(i) for i in range(MAX_PROBLEMS)]
    assert last.message == f"there are {10_000 - MAX_PROBLEMS:,} more problems, which are not listed."
    assert report.graph is None
    assert report.failed == ("out",)


def test_errors_are_told_before_what_no_target_needs(folders: Folders) -> None:
    prompt = {f"spare {i}": node("Nothing") for i in range(MANY)}
    prompt |= {"1": node("Missing"), "2": node("ToyShow", item=["1", 0]), "3": node("ToyFloat")}
    prompt |= {"4": node("ToyShow", item=["3", 0])}
    report = checked(folders, prompt)
    assert [problem.node for problem in report.problems] == ["1"]
    assert len(report.warnings) == MAX_PROBLEMS + 1
    assert report.graph is not None
    assert report.graph.targets == ("4",)
    assert report.failed == ("2",)
    assert report.dependents("1") == ("2",)


def test_a_broken_node_keeps_its_target_from_running_though_it_is_not_told(folders: Folders) -> None:
    prompt = {str(i): node("ToyAdd", a=1, b="x") for i in range(MANY)}
    prompt |= {f"out {i}": node("ToyShow", item=[str(i), 0]) for i in range(MANY)}
    prompt |= {"good": node("ToyFloat"), "out": node("ToyShow", item=["good", 0])}
    report = checked(folders, prompt)
    assert len(report.problems) == MAX_PROBLEMS + 1
    assert report.graph is not None
    assert report.graph.targets == ("out",)
    assert len(report.failed) == MANY


def test_one_node_may_have_any_number_of_faults(folders: Folders) -> None:
    unknown = {f"input {i}": i for i in range(MANY)}
    links = {f"link {i}": [f"missing {i}", 0] for i in range(MANY)}
    lists = {f"list {i}": [i] for i in range(MANY)}
    report = checked(
        folders,
        {
            "1": node("ToyKeywords", **links, **lists),
            "2": node("ToyFloat", **unknown),
            "3": node("ToyShow", item=["1", 0]),
            "4": node("ToyShow", item=["2", 0]),
        },
    )
    assert len(report.problems) == len(report.warnings) == MAX_PROBLEMS + 1
    assert (
        report.problems[-1].message
        == f"there are {2 * MANY - MAX_PROBLEMS:,} more problems, which are not listed."
    )
    assert {problem.code for problem in report.warnings} == {"undeclared_input", "more_problems"}
    assert report.graph is not None
    assert report.graph.nodes["2"].literals == {"value": 0.0}


def test_each_of_many_circles_is_found(folders: Folders) -> None:
    pairs = MANY
    prompt = {str(i): node("ToyAdd", a=[str(i ^ 1), 0]) for i in range(2 * pairs)}
    prompt |= {f"out {i}": node("ToyShow", item=[str(2 * i), 0]) for i in range(pairs)}
    report = checked(folders, prompt)
    assert {problem.code for problem in report.problems} == {"dependency_cycle", "more_problems"}
    assert len(report.failed) == pairs


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_nesting_is_refused_at_any_depth(opening: str) -> None:
    for depth in (MAX_DEPTH + 1, 900, 100_000):
        problem = refusal(opening * depth)
        assert problem.code in ("nested_too_deeply", "invalid_json")
    closing = {"[": "]", '{"a":': "}", '[{"a":': "}]"}[opening]
    for depth in (MAX_DEPTH + 1, 450):
        assert "100 deep" in refusal(opening * depth + "1" + closing * depth).message


def test_nesting_up_to_the_limit_is_read() -> None:
    # The document, its node and its inputs are three levels themselves.
    inner: Any = 1
    for _ in range(MAX_DEPTH - 3):
        inner = [inner]
    text = json.dumps({"1": node("ToyKeywords", deep=inner)})
    assert Workflow.loads(text).prompt["1"]["inputs"]["deep"] == inner
    assert "100 deep" in refusal(json.dumps({"1": node("ToyKeywords", deep=[inner])})).message


def test_a_text_of_too_many_values_is_refused_before_it_is_parsed() -> None:
    problem = refusal(f'{{"1": {{"class_type": "A", "inputs": {{"x": [{"0," * MAX_VALUES}0]}}}}}}')
    assert problem.code == "too_large"
    assert "more than 500,000 values" in problem.message
    # Said of the size even where it is no JSON: nothing past the limit is looked at.
    assert refusal("[" + '"a",' * (MAX_VALUES + 1) + "nonsense").code == "too_large"


def test_what_stands_in_strings_counts_for_no_value() -> None:
    text = ',[{"\\' * (MAX_VALUES // 3)
    workflow = Workflow.loads(json.dumps({"1": node("A", text=text, after=[1, 2, 3])}))
    assert workflow.prompt["1"]["inputs"]["text"] == text


def test_text_that_is_no_json_is_called_so_whatever_it_looks_like() -> None:
    assert refusal('["' + "," * (MAX_VALUES + 1)).code == "invalid_json"
    assert refusal('[""' + '""' * 1000 + "," * (MAX_VALUES + 1)).code == "invalid_json"


def test_a_document_that_is_too_long_is_refused() -> None:
    problem = refusal('{"1": "' + "x" * MAX_BYTES + '"}')
    assert problem.code == "too_large"
    assert "larger than 32 MiB" in problem.message
    assert "files of their own" in (problem.hint or "")


def test_too_many_nodes_are_refused_as_one_problem() -> None:
    with pytest.raises(ValidationError) as caught:
        Workflow.from_data({str(i): 1 for i in range(MAX_NODES + 1)} | {"x": node("A")})
    (problem,) = caught.value.problems
    assert problem.code == "too_large"
    assert "more than 20,000 nodes" in problem.message


def test_malformed_nodes_are_counted() -> None:
    with pytest.raises(ValidationError) as caught:
        Workflow.from_data({"prompt": {str(i): i for i in range(MANY)}})
    assert len(caught.value.problems) == MAX_PROBLEMS + 1
    assert caught.value.problems[-1].code == "more_problems"


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ({"i" * (MAX_NAME + 1): node("A")}, "the id of a node"),
        ({"1": node("T" * (MAX_NAME + 1))}, "the class_type"),
        ({"1": node("A", **{"n" * (MAX_NAME + 1): 1})}, "the name of an input"),
    ],
)
def test_long_names_are_refused_in_few_words(prompt: dict[str, Any], text: str) -> None:
    problem = refusal(json.dumps(prompt))
    assert problem.message == f"{text} is longer than 1,000 letters."
    assert len(str(problem)) < 300


def test_names_up_to_the_limit_are_read() -> None:
    prompt = {"i" * MAX_NAME: node("T" * MAX_NAME, **{"n" * MAX_NAME: 1})}
    assert Workflow.from_data(prompt).prompt == prompt


def test_a_long_title_is_kept_and_shown_in_part(folders: Folders) -> None:
    title = "t" * 10**6
    prompt = {"1": {**node("Nothing"), "_meta": {"title": title}}, "2": node("ToyShow", item=["1", 0])}
    (problem,) = checked(folders, prompt).problems
    assert problem.title == title[:MAX_TITLE]
    assert Workflow.from_data(prompt).prompt["1"]["_meta"]["title"] == title


def test_too_many_parameters_are_refused_as_one_problem() -> None:
    parameters = {f"p{i}": {"node": "1", "input": "a"} for i in range(MAX_PARAMETERS + 1)}
    document = {"nodegraph": 1, "parameters": parameters, "prompt": {"1": node("ToyAdd", a=1)}}
    problem = refusal(json.dumps(document))
    assert (problem.code, problem.found, problem.allowed) == ("invalid_parameter", "1,001", "up to 1,000")


def test_parameters_of_nothing_are_counted(folders: Folders) -> None:
    targets = [{"node": f"missing {i}", "input": "a"} for i in range(MANY)]
    document = {"nodegraph": 1, "parameters": {"p": targets}, "prompt": {"1": node("ToyShow", item=1)}}
    report = check(Workflow.from_data(document), REGISTRY, folders)
    assert report.problems == ()
    assert len(report.warnings) == MAX_PROBLEMS + 1


def test_wrong_names_of_parameters_and_nodes_are_counted() -> None:
    document = {"nodegraph": 1, "parameters": {}, "prompt": {"1": node("ToyAdd", a=1)}}
    workflow = Workflow.from_data(document)
    with pytest.raises(ValidationError) as caught:
        workflow.with_values({f"p{i}": 1 for i in range(MANY)})
    assert len(caught.value.problems) == MAX_PROBLEMS + 1
    with pytest.raises(ValidationError) as caught:
        workflow.with_inputs({f"node {i}.a": 1 for i in range(MANY)})
    assert len(caught.value.problems) == MAX_PROBLEMS + 1


def test_a_number_that_python_cannot_write_is_refused() -> None:
    workflow = Workflow.from_data({"1": node("A", x=10**3999, y=-(10**3999))})
    assert workflow.prompt["1"]["inputs"]["x"] == 10**3999
    for number in (10**4000, -(10**4000)):
        with pytest.raises(ValidationError, match="more than 4000 digits"):
            Workflow.from_data({"1": node("A", x=number)})


def test_long_ways_past_bypassed_nodes_are_gone_once() -> None:
    count = 10_000
    prompt: dict[str, Any] = {"start": node("ToyLoadModel")}
    for i in range(count):
        bypassed = node("ToyPatch", model=[f"b{i - 1}" if i else "start", 0])
        prompt[f"b{i}"] = {**bypassed, "_meta": {"mode": 4}}
        prompt[f"show{i}"] = node("ToyShow", item=[f"b{i}", 0])
    resolved = resolve(prompt, REGISTRY)
    assert {tuple(resolved[f"show{i}"]["inputs"]["item"]) for i in range(count)} == {("start", 0)}


def ui(nodes: list[Any], links: list[Any], **more: Any) -> dict[str, Any]:
    return {"nodes": nodes, "links": links, **more}


def test_long_ways_past_reroutes_are_gone_once() -> None:
    count = 9_000
    nodes: list[Any] = [{"id": "start", "type": "ToyLoadModel", "widgets_values": []}]
    links: list[Any] = []
    for i in range(count):
        nodes.append({"id": f"r{i}", "type": "Reroute", "inputs": [{"name": "", "link": f"into {i}"}]})
        nodes.append({"id": f"s{i}", "type": "ToyShow", "inputs": [{"name": "item", "link": f"from {i}"}]})
        links.append([f"into {i}", f"r{i - 1}" if i else "start", 0, f"r{i}", 0, "*"])
        links.append([f"from {i}", f"r{i}", 0, f"s{i}", 0, "*"])
    # The consumer of the longest way comes first.
    prompt = Workflow.from_data(ui(nodes[::-1], links), REGISTRY).prompt
    assert {tuple(prompt[f"s{i}"]["inputs"]["item"]) for i in range(count)} == {("start", 0)}


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        ([{"id": i, "type": "ToyFloat"} for i in range(1000)], "more than 20,000 nodes"),
        (
            [{"id": 1, "type": "ToyShow", "inputs": [{"name": f"n{i}"} for i in range(20_000)]}],
            "comes to too much when all its sub-graphs are opened",
        ),
        ([{"id": "i" * MAX_NAME, "type": "ToyFloat"}], "longer than 1,000 letters"),
    ],
)
def test_sub_graphs_cannot_multiply_a_file(inner: list[Any], text: str) -> None:
    definitions = {"subgraphs": [{"id": "d", "nodes": inner, "links": []}]}
    data = ui([{"id": i, "type": "d"} for i in range(100)], [], definitions=definitions)
    assert text in refusal(json.dumps(data)).message


def test_a_picture_gives_no_more_text_than_is_read() -> None:
    def chunk(keyword: bytes, size: int) -> bytes:
        body = keyword + b"\0\0" + zlib.compress(b"x" * size)
        return struct.pack(">I", len(body)) + b"zTXt" + body + b"0000"

    chunks = [chunk(b"prompt", MAX_BYTES // 2), chunk(b"workflow", MAX_BYTES // 2 + 1), chunk(b"more", 10)]
    assert list(texts_of(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))) == ["prompt"]


def test_a_picture_of_empty_chunks_is_not_searched_for_ever() -> None:
    def texts(chunks: int) -> dict[str, str]:
        text = struct.pack(">I", 8) + b"tEXtprompt\0x0000"
        return texts_of(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0IDAT0000" * chunks + text)

    assert texts(1000) == {"prompt": "x"}
    assert texts(200_000) == {}


def test_a_picture_may_be_larger_than_a_document(tmp_path: Path) -> None:
    text = json.dumps({"1": node("ToyFloat")}).encode()
    body = b"prompt\0" + text
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(body)) + b"tEXt" + body + b"0000")
        file.truncate(MAX_BYTES + 1000)
    assert list(Workflow.load(path).prompt) == ["1"]
    path.write_bytes(b"")
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(2 * MAX_BYTES + 1)
    with pytest.raises(ValidationError, match="larger than 64 MiB"):
        Workflow.load(path)
