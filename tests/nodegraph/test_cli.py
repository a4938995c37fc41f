"""The command line, as a person types it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nodegraph import __version__
from nodegraph.arguments import file_of, literal_of
from nodegraph.cli import main
from nodegraph.errors import Problem
from nodegraph.events import NodeFinished, NodeProgress, NodeStarted, RunStarted
from nodegraph.graph import bind
from nodegraph.registry import Registry
from nodegraph.report import Bars, problem_text
from nodegraph.workflow import Workflow
from tests.nodegraph.toy import toy_folders, toy_registry

ROOT = Path(__file__).parents[2]
TOY = "import sys; from nodegraph.cli import main; from tests.nodegraph.toy import toy_registry; main(None, toy_registry())"


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


DOCUMENT: dict[str, Any] = {
    "nodegraph": 1,
    "title": "Toy",
    "parameters": {
        "text": {"node": "1", "input": "text", "description": "what is [written]"},
        "step_count": {"node": "2", "input": "steps"},
        "json": {"node": "3", "input": "name"},
    },
    "prompt": {
        "1": node("ToyText", text="hello"),
        "2": node("ToySteps", x=1, steps=2),
        "3": node("ToySave", text=["1", 0], name="toy.txt"),
        "4": node("ToyShow", item=["2", 0]),
    },
}


class Shell:
    """Runs `nodegraph` in this process with the toy pack, in a folder of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], registry: Registry) -> None:
        self.folder = folder
        self._capsys = capsys
        self._registry = registry
        self.out = self.err = ""

    def __call__(self, *words: object) -> int:
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words], self._registry)
        self.out, self.err = self._capsys.readouterr()
        code = caught.value.code
        assert isinstance(code, int)
        return code

    def file(self, data: Any, name: str = "w.json") -> Path:
        path = self.folder / name
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return path


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NODEGRAPH_MODELS", raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    toy_folders(tmp_path)
    return Shell(tmp_path, capsys, toy_registry())


def test_run_prints_the_saved_paths_and_nothing_else(shell: Shell) -> None:
    assert shell("run", shell.file(DOCUMENT), "--output-dir", "new/folder") == 0
    path = shell.folder / "new" / "folder" / "toy.txt"
    assert shell.out == f"{path}\n"
    assert shell.err == "node 4: 3.0\n"
    assert path.read_text() == "hello"


def test_declared_parameters_are_options(shell: Shell) -> None:
    path = shell.file(DOCUMENT)
    assert shell("run", "--text", "1.0", path, "--step-count", "5", "--parameter-json", "b.txt") == 0
    assert shell.out == f"{shell.folder / 'output' / 'b.txt'}\n"
    assert (shell.folder / "output" / "b.txt").read_text() == "1.0"
    assert shell.err == "node 4: 6.0\n"
    assert shell("run", path, "--step_count=3") == 0
    assert shell.err == "node 4: 4.0\n"


def test_the_help_of_run_shows_the_parameters(shell: Shell) -> None:
    assert shell("run", shell.file(DOCUMENT), "--help") == 0
    for part in (
        "Parameters of this workflow",
        "--text",
        "what is [written]",
        "now: hello",
        "--step-count",
        "--targets",
    ):
        assert part in shell.out
    assert shell("run", "--help") == 0
    assert "Parameters of this workflow" not in shell.out
    assert shell("run", "none.json", "--help") == 0


def test_set_sets_inputs_by_their_type(shell: Shell) -> None:
    path = shell.file(DOCUMENT)
    assert shell("run", path, "--set", "1.text=a=b", "--set", "2.x=2.5", "--set", "2.steps=1", "--json") == 0
    data = json.loads(shell.out)
    assert data["status"] == "success"
    assert data["outputs"]["4"] == {"text": ["3.5"]}
    assert Path(data["files"][0]).read_text() == "a=b"
    assert data["outputs"]["3"]["files"][0]["filename"] == "toy.txt"
    assert sorted(data["ran"]) == ["1", "2", "3", "4"]


def test_targets_run_only_what_they_need(shell: Shell) -> None:
    assert shell("run", shell.file(DOCUMENT), "--targets", "4", "--json") == 0
    assert json.loads(shell.out)["files"] == []


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--set", "2.stps=3"], ["node 2", "no input 'stps'", "Did you mean 'steps'?"]),
        (["--set", "22.steps=3"], ["node '22'", "Did you mean '2'?"]),
        (["--set", "nothing"], ["NODE.INPUT=VALUE"]),
        (["--set", "2.steps=none"], ["node 2 (ToySteps), input steps", "INT", "'none'"]),
        (["--set", "2.steps=0"], ["smaller than 1"]),
        (["--step-count", "0", "--set", "2.x=many"], ["smaller than 1", "FLOAT"]),
        (["--targets", "9"], ["no node '9'"]),
        (["--txt", "x"], ["--txt"]),
        (["--dtype", "fp64"], ["fp64"]),
    ],
)
def test_bad_input_is_named_with_exit_code_2(shell: Shell, words: list[str], parts: list[str]) -> None:
    assert shell("run", shell.file(DOCUMENT), *words) == 2
    assert shell.out == ""
    assert [part for part in parts if part not in shell.err] == []
    assert "Traceback" not in shell.err


@pytest.mark.parametrize("command", ["run", "validate", "plan", "convert"])
def test_files_that_cannot_be_read(shell: Shell, command: str) -> None:
    shell.file("not JSON", "bad.json")
    for name, part in (("none.json", "No such file"), (".", "folder"), ("bad.json", "not JSON")):
        assert shell(command, name) == 2
        assert shell.out == ""
        assert shell.err.startswith("error: ") and part in shell.err
        assert shell.err.count("\n") == 1


def test_a_failed_run_exits_with_1_and_says_where(shell: Shell) -> None:
    prompt = {
        "1": {**node("ToyFail", message="no luck."), "_meta": {"title": "Unlucky"}},
        "2": node("ToyShow", item=["1", 0]),
        "3": node("ToySave", text="x"),
    }
    assert shell("run", shell.file(prompt)) == 1
    assert shell.out == f"{shell.folder / 'output' / 'toy.txt'}\n"
    assert shell.err.startswith('error: node 1 "Unlucky" (ToyFail), input x: no luck.')
    assert "Traceback" not in shell.err
    assert shell("run", shell.file(prompt), "--verbose") == 1
    assert "Traceback" in shell.err
    assert shell("run", shell.file(prompt), "--json") == 1
    data = json.loads(shell.out)
    assert (data["status"], data["skipped"]) == ("failed", ["2"])
    assert data["problems"][0]["node"] == "1"


def test_json_errors_are_one_object(shell: Shell) -> None:
    for words in (("run", "none.json", "--json"), ("run", shell.file({}), "--json")):
        assert shell(*words) == 2
        assert json.loads(shell.out)["status"] == "invalid"
        assert shell.err == ""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_output_folder(shell: Shell) -> None:
    folder = shell.folder / "locked"
    folder.mkdir(mode=0o500)
    assert shell("run", shell.file(DOCUMENT), "--output-dir", folder) == 2
    assert "cannot be written into: it is read-only" in shell.err


def test_a_file_in_the_way_of_the_output_folder(shell: Shell) -> None:
    assert shell("run", shell.file(DOCUMENT), "--output-dir", shell.file("x", "taken")) == 2
    assert "a file of that name is in the way" in shell.err


def test_a_full_disk_fails_the_run(shell: Shell) -> None:
    (shell.folder / "output" / "toy.txt").symlink_to("/dev/full")
    assert shell("run", shell.file(DOCUMENT)) == 1
    assert "No space left" in shell.err


def test_validate(shell: Shell) -> None:
    assert shell("validate", shell.file(DOCUMENT)) == 0
    assert shell.out == "valid: 4 nodes, 2 outputs\n"
    bad = {"1": node("ToyAdd", c=1), "2": node("ToyShow", item=["1", 0]), "3": node("ToyInt", value=-1)}
    assert shell("validate", shell.file(bad)) == 2
    assert [line.split(":")[0] for line in shell.err.splitlines()] == ["error", "warning", "warning"]
    assert shell("validate", shell.file(bad), "--json") == 2
    data = json.loads(shell.out)
    assert (data["valid"], len(data["problems"])) == (False, 3)


def test_plan(shell: Shell) -> None:
    assert shell("plan", shell.file(DOCUMENT), "--set", "2.steps=3") == 0
    lines = shell.out.splitlines()
    assert re.split(r"\s{2,}", lines[1]) == ["1 Toy text", "ToyText", "run", "it has not run before"]
    assert len(lines) == 5
    assert shell("plan", shell.file(DOCUMENT), "--targets", "4", "--json") == 0
    assert [row["node"] for row in json.loads(shell.out)["nodes"]] == ["2", "4"]


def test_nodes(shell: Shell) -> None:
    assert shell("nodes") == 0
    assert re.search(r"^ToyAdd +toy/maths +FLOAT +a \+ b; a is required\.$", shell.out, re.MULTILINE)
    assert shell("nodes", "ToyScale") == 0
    for part in ("x * factor", "-10.0 to 10.0", "none, down, nearest", "rounding"):
        assert part in shell.out
    assert shell("nodes", "ToyLoadModel") == 0
    assert "toy.safetensors" in shell.out
    assert shell("nodes", "ToyAd") == 2
    assert "Did you mean 'ToyAdd'" in shell.err


def test_nodes_as_markdown_names_every_node_and_no_file(shell: Shell) -> None:
    assert shell("nodes", "--markdown") == 0
    for name in toy_registry():
        assert f"### {name}\n" in shell.out
    assert "toy.safetensors" not in shell.out
    assert "| `factor` | FLOAT | `2.0` | -10.0 to 10.0 |" in shell.out


def test_nodes_as_json_has_the_shape_of_object_info(shell: Shell) -> None:
    assert shell("nodes", "ToyLoadModel", "--json") == 0
    assert json.loads(shell.out)["ToyLoadModel"]["input"]["required"]["name"][0] == ["toy.safetensors"]


def test_convert(shell: Shell) -> None:
    muted = {"1": {**node("ToyShow", item=1), "_meta": {"mode": 2}}, "2": node("ToyShow", item=2)}
    path = shell.file({"prompt": muted, "client_id": "me"})
    assert shell("convert", path) == 0
    assert json.loads(shell.out) == {"nodegraph": 1, "prompt": {"1": muted["1"], "2": muted["2"]}}
    assert shell("convert", path, "--to", "api", "-o", "api.json") == 0
    assert json.loads((shell.folder / "api.json").read_text()) == {"2": muted["2"]}
    assert shell("convert", path, "-o", "none/api.json") == 2
    assert shell.err.startswith("error: cannot write none/api.json")


def test_models(shell: Shell) -> None:
    assert shell("models") == 0
    assert re.search(r"checkpoints +toy\.safetensors", shell.out)
    assert str(shell.folder / "models") in shell.out
    (shell.folder / "other").mkdir()
    assert shell("models", "--models-dir", "other", "--json") == 0
    data = json.loads(shell.out)
    assert data["folders"] == [str(shell.folder / "other"), str(shell.folder / "models")]
    assert data["files"][0]["bytes"] == 11
    file = shell.file(DOCUMENT)
    for command in (["models"], ["run", file], ["validate", file], ["plan", file]):
        assert shell(*command, "--models-dir", "none", "--models-dir", "other") == 2
        assert f"there is no folder {shell.folder / 'none'}." in shell.err


def test_models_are_remembered_and_forgotten(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODEGRAPH_CONFIG", str(shell.folder / "config"))
    for name in ("comfy/models/checkpoints/mine.safetensors", "web/nets/theirs.safetensors", "empty/x"):
        path = shell.folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    paths = shell.folder / "paths.yaml"
    paths.write_text("web: {base_path: web, checkpoints: nets, vae: gone}")
    assert shell("models", "--add", "comfy", "--add", paths) == 0
    assert shell.out.split() == ["remembered:", str(shell.folder / "comfy"), str(paths)]
    assert shell("models", "--add", "empty", "--json") == 0
    assert [item["code"] for item in json.loads(shell.out)["problems"]] == ["no_models"]
    assert shell("models", "--remove", "empty") == 0

    assert shell("models", "--json") == 0
    data = json.loads(shell.out)
    places = {(item["path"], item["kind"], item["origin"], item["there"]) for item in data["places"]}
    assert places == {
        (str(shell.folder / "comfy" / "models"), None, "remembered", True),
        (str(shell.folder / "web" / "nets"), "checkpoints", "remembered", True),
        (str(shell.folder / "web" / "gone"), "vae", "remembered", False),
        (str(shell.folder / "models"), None, "here", True),
    }
    names = {item["name"] for item in data["files"] if item["kind"] == "checkpoints"}
    assert names == {"mine.safetensors", "theirs.safetensors", "toy.safetensors"}
    assert shell("models") == 0
    assert re.search(rf"web/nets +checkpoints +remembered, {re.escape(str(paths))}", shell.out)
    assert re.search(r"web/gone +vae .* not there", shell.out)

    assert shell("models", "--remove", "never") == 2
    assert "is not remembered" in shell.err and str(paths) in shell.err
    assert shell("models", "--add", "none") == 2
    assert "give --add the folder" in shell.err
    paths.write_text("web: [")
    assert shell("models") == 2
    assert shell.err.startswith(f"error: {paths}: line 1")
    assert shell("models", "--remove", paths, "--remove", "comfy") == 0
    assert shell.out.split() == ["remembered:", "nothing"]


def test_a_workflow_takes_models_from_the_paths_of_comfyui(shell: Shell) -> None:
    (shell.folder / "nets").mkdir()
    (shell.folder / "nets" / "other.safetensors").write_bytes(b"other")
    (shell.folder / "paths.yaml").write_text("a: {checkpoints: nets}")
    path = shell.file(
        {
            "1": {"class_type": "ToyLoadModel", "inputs": {"name": "other.safetensors"}},
            "2": {"class_type": "ToyShow", "inputs": {"item": ["1", 0]}},
        }
    )
    assert shell("validate", path) == 2
    for option in ("--extra-model-paths", "--extra-model-paths-config"):
        assert shell("validate", path, option, "paths.yaml") == 0, shell.err
    assert shell("run", path, "--server", "http://127.0.0.1:1", "--extra-model-paths", "paths.yaml") == 2
    assert "--extra-model-paths does not go with --server" in shell.err


def test_version_and_help(shell: Shell) -> None:
    assert shell("--version") == 0
    assert shell.out == f"nodegraph {__version__}\n"
    assert shell("--help") == 0
    for command in ("run", "validate", "plan", "nodes", "convert", "models"):
        assert command in shell.out
    assert shell("runn") == 2


def toy_process(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TOY, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_as_a_process(tmp_path: Path) -> None:
    toy_folders(tmp_path)
    (tmp_path / "w.json").write_text(json.dumps(DOCUMENT))
    process = toy_process(tmp_path, "run", "w.json")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, f"{tmp_path / 'output' / 'toy.txt'}\n")
    assert err == "node 4: 3.0\n"
    done = subprocess.run(
        [sys.executable, "-m", "nodegraph", "validate", "none.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: cannot read none.json: No such file or directory.\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("words", [["run", "w.json"], ["--help"]])
def test_output_that_cannot_be_written_is_one_message(tmp_path: Path, words: list[str]) -> None:
    toy_folders(tmp_path)
    (tmp_path / "w.json").write_text(json.dumps(DOCUMENT))
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", TOY, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: the output cannot be written: No space left on device."
    assert "Traceback" not in done.stderr


def test_readers_that_leave_early_closed_streams_and_an_alphabet_that_lacks_letters(tmp_path: Path) -> None:
    folder = tmp_path / "caf\u00e9"
    folder.mkdir()
    toy_folders(folder)
    (folder / "w.json").write_text(json.dumps(DOCUMENT))
    script = f'"{sys.executable}" -c "$TOY" nodes | true; echo "${{PIPESTATUS[0]}}"'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOY": TOY, "PYTHONIOENCODING": "ascii"}
    early = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert (early.stdout, early.stderr) == ("1\n", "")
    closed = f'"{sys.executable}" -c "$TOY" run w.json >&- 2>&- <&-'
    assert subprocess.run(["bash", "-c", closed], cwd=folder, env=environment).returncode == 0
    assert (folder / "output" / "toy.txt").read_text() == "hello"
    command = [sys.executable, "-c", TOY, "run", "w.json"]
    plain = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert (plain.returncode, "caf\\xe9" in plain.stdout) == (0, True)
    data = subprocess.run([*command, "--json"], cwd=folder, env=environment, capture_output=True, text=True)
    assert json.loads(data.stdout)["files"] == [str(folder / "output" / "toy.txt")]


def test_an_interrupt_stops_the_run_with_130(tmp_path: Path) -> None:
    toy_folders(tmp_path)
    prompt = {
        "1": node("ToySave", text="started", name="started.txt"),
        "2": node("ToySteps", x=1, steps=10000, seconds=0.01),
        "3": node("ToyShow", item=["2", 0]),
    }
    (tmp_path / "w.json").write_text(json.dumps(prompt))
    process = toy_process(tmp_path, "run", "w.json")
    started = tmp_path / "output" / "started.txt"
    for _ in range(600):
        if started.exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_bars_on_a_terminal(tmp_path: Path) -> None:
    graph = bind(Workflow.from_data(DOCUMENT), toy_registry(), toy_folders(tmp_path))
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Bars(graph, console) as bars:
        bars.note(RunStarted(("1", "2", "3", "4"), ()))
        bars.note(NodeFinished("1", 0.1))
        bars.note(NodeStarted("2"))
        for step in range(1, 4):
            bars.note(NodeProgress("2", step, 10))
            time.sleep(0.01)
        bars.refresh()
    assert isinstance(console.file, io.StringIO)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())
    for part in ("ToySteps", "1/4", "3/10", "it/s"):
        assert part in shown


def test_bars_are_quiet_where_there_is_no_terminal(tmp_path: Path) -> None:
    graph = bind(Workflow.from_data(DOCUMENT), toy_registry(), toy_folders(tmp_path))
    console = Console(file=io.StringIO())
    with Bars(graph, console) as bars:
        bars.note(RunStarted(("1",), ()))
        bars.note(NodeProgress("2", 1, 2))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""


def test_markup_in_a_message_is_text() -> None:
    text = problem_text(Problem("x", "see [bold]this[/bold].", node="1", class_type="A", severity="warning"))
    assert text.plain == "warning: node 1 (A): see [bold]this[/bold]."


def test_words_of_a_document_do_not_steer_the_terminal(shell: Shell) -> None:
    hostile = "\x1b]0;x\x07\x1b[31m\nerror: all is well\u202e"
    document = {
        "parameters": {"text": {"node": "1", "input": "text", "description": hostile}},
        "prompt": {"1": {**node("ToyTxt\x1b[2J"), "_meta": {"title": hostile}}, "2": node("ToyShow", item=1)},
    }
    path = shell.file(document)
    assert shell("validate", path) == 0
    assert len(shell.err.splitlines()) == 1
    assert "\\x1b[31m\\nerror: all is well\\u202e" in shell.err
    assert shell("run", path, "--help") == 0
    for text in (shell.out, shell.err):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_targets_that_name_nothing(shell: Shell) -> None:
    assert shell("run", shell.file(DOCUMENT), "--targets", " ,") == 2
    assert "names no node" in shell.err


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("20", "ToySteps.steps", 20),
        ("18446744073709551615", "ToyInt.value", 2**64 - 1),
        ("1e3", "ToySteps.x", 1000.0),
        ("true", "ToySteps.steps", "true"),
        ("NaN", "ToySteps.x", "NaN"),
        ('["1", 0]', "ToySteps.x", ["1", 0]),
        ("1.0", "ToyText.text", "1.0"),
        ("[a, b]", "ToyText.text", "[a, b]"),
        ("yes", "ToyFlag.value", True),
        ("False", "ToyFlag.value", False),
        ("maybe", "ToyFlag.value", "maybe"),
        ('{"a": 1}', "ToyShow.item", {"a": 1}),
        ("plain", "ToyShow.item", "plain"),
    ],
)
def test_words_become_values_of_the_inputs_type(text: str, name: str, expected: Any) -> None:
    class_type, _, input_name = name.partition(".")
    value = literal_of(text, toy_registry()[class_type].inputs[input_name])
    assert value == expected
    assert type(value) is type(expected)


def test_the_file_is_found_among_the_words(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text("{}")
    known = ["--set", "--device"]
    assert file_of(["--set", "1.a=2", "--json", "w.json"], known) == "w.json"
    assert file_of(["--prompt", "a cat", str(path)], known) == str(path)
    assert file_of(["--device=cpu", "x.json", "--seed", "3"], known) == "x.json"
    assert file_of(["--json", "--", "-odd.json"], known) == "-odd.json"
    assert file_of(["--json"], known) is None
