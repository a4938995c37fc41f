"""Sessions and the Python way of use."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import nodegraph
from nodegraph.api import Program
from nodegraph.context import CancelToken
from nodegraph.errors import Cancelled, NodeError, RunError, ValidationError
from nodegraph.events import Event, NodeProgress, RunFinished, RunStarted
from nodegraph.node import Context, Pack, Runtime, SavedFile, Shown
from nodegraph.node import node as declare
from nodegraph.registry import Registry
from nodegraph.session import Session, default_folders, make_output_folder
from nodegraph.workflow import Workflow
from tests.nodegraph.toy import NODES, Journal, Pool, toy_folders


@declare("ToyPicture", category="toy", effect=True)
def toy_picture(ctx: Context, grey: int = 0) -> Shown:
    """Saves a grey picture."""
    path = Path(ctx.folders.output) / f"{grey}.png"
    Image.new("L", (2, 2), grey).save(path)
    return Shown({"images": (SavedFile(path.name, "", "output", path, path.stat().st_size),)})


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


DOCUMENT: dict[str, Any] = {
    "nodegraph": 1,
    "parameters": {"x": {"node": "1", "input": "value"}, "grey": {"node": "5", "input": "grey"}},
    "prompt": {
        "1": node("ToyFloat", value=1),
        "2": node("ToyCounted", x=["1", 0]),
        "3": node("ToyShow", item=["2", 0]),
        "4": node("ToyCounted", x=7, name="other"),
        "5": node("ToyPicture", grey=9),
        "6": node("ToyShow", item=["4", 0]),
    },
}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    runtime = Runtime(toy_folders(tmp_path), options={"journal": Journal()})
    with Session(Registry.of(*NODES, toy_picture), runtime) as made:
        yield made


@pytest.fixture
def program(session: Session) -> Program:
    return nodegraph.load(DOCUMENT, session=session)


def test_a_program_runs_with_parameters_and_keeps_what_did_not_change(program: Program) -> None:
    assert list(program.parameters) == ["x", "grey"]
    first = program.run(x=4)
    assert first.status == "success"
    assert first.ui["3"] == {"text": ("5.0",)}
    assert set(first.ran) == set(DOCUMENT["prompt"])
    second = program.run({"x": 5}, grey=9)
    assert second.ui["3"] == {"text": ("6.0",)}
    assert set(second.ran) == {"1", "2", "3"}
    assert set(second.cached) == {"5", "6"}


def test_pictures_are_read_back_held_or_not(program: Program) -> None:
    for _ in range(2):
        result = program.run(grey=77)
        (picture,) = result.images
        assert picture.getpixel((0, 0)) == 77
        assert [item.filename for item in result.files] == ["77.png"]
    assert "5" in result.cached


def test_targets_give_their_values(program: Program) -> None:
    result = program.run(targets=["2"])
    assert result.outputs == {"2": (2.0,)}
    assert result.ran == ("1", "2")


def test_inputs_can_be_set_by_place(program: Program) -> None:
    assert program.with_inputs({"1.value": 10}).run(targets=["2"]).outputs == {"2": (11.0,)}


def test_wrong_input_raises_before_anything_runs(program: Program, session: Session) -> None:
    with pytest.raises(ValidationError, match="no parameter 'y'"):
        program.run(y=1)
    with pytest.raises(ValidationError, match="FLOAT"):
        program.run(x="much")
    assert session.runtime.options["journal"].calls == {}


def test_a_failed_run_raises_with_its_cause(session: Session) -> None:
    prompt = {"1": node("ToyFail", message="no luck."), "2": node("ToyShow", item=["1", 0])}
    with pytest.raises(RunError, match=r"node 1 .*no luck") as caught:
        nodegraph.load(prompt, session=session).run()
    assert isinstance(caught.value.__cause__, NodeError)
    result = session.run(Workflow.from_data(prompt))
    assert (result.status, result.skipped) == ("failed", ("2",))


def test_a_cancelled_run_raises_cancelled(session: Session) -> None:
    token = CancelToken()

    def stop(event: Event) -> None:
        if isinstance(event, NodeProgress):
            token.cancel()

    prompt = {"1": node("ToySteps", x=0, steps=10000, seconds=0.01), "2": node("ToyShow", item=["1", 0])}
    result = session.run(Workflow.from_data(prompt), on_event=stop, cancel=token)
    assert result.status == "cancelled"
    with pytest.raises(Cancelled):
        result.raise_for_status()


def test_events_come_in_order(program: Program) -> None:
    events: list[Event] = []
    program.run(on_event=events.append)
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)


def test_an_error_in_a_listener_ends_the_run(program: Program) -> None:
    def broken(event: Event) -> None:
        raise LookupError("the listener broke")

    with pytest.raises(LookupError):
        program.run(on_event=broken)


async def test_events_are_an_async_iterator_and_run_works_beside_a_loop(session: Session) -> None:
    workflow = Workflow.from_data(DOCUMENT)
    events = [event async for event in session.events(workflow)]
    assert isinstance(events[-1], RunFinished)
    assert session.run(workflow).status == "success"
    with pytest.raises(ValidationError):
        await anext(session.events(Workflow.from_data({})))
    await asyncio.sleep(0)


def test_the_plan_says_what_would_run(session: Session) -> None:
    workflow = Workflow.from_data(DOCUMENT)
    session.run(workflow)
    graph = session.bind(workflow.with_values({"x": 3}))
    rows = {row.node: (row.state, row.reason) for row in session.plan(graph).rows(session.cache)}
    assert rows["1"] == ("run", "input_changed")
    assert rows["5"] == ("cached", "held")


def test_closing_closes_resources_and_forgets_results(tmp_path: Path) -> None:
    session = Session(Registry.of(*NODES), Runtime(toy_folders(tmp_path), options={"pool_bytes": 5}))
    pool = session.resources.get(Pool)
    session.run(Workflow.from_data({"1": node("ToyShow", item=1)}))
    session.close()
    assert pool.closed
    assert session.cache.stats().tiers["host"].entries == 0


def test_an_output_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file", "file/below", "x" * 300):
        with pytest.raises(ValidationError, match="cannot be written into"):
            make_output_folder(default_folders(output=tmp_path / name))


def test_model_folders_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NODEGRAPH_MODELS", os.pathsep.join(["/env/one", "/env/two"]))
    folders = default_folders(["/given"], pack_roots=[Path("/pack")])
    names = ["/given", "/env/one", "/env/two", str(tmp_path / "models"), "/pack"]
    assert [str(root) for root in folders.models] == names
    assert (folders.input, folders.output) == (tmp_path / "input", tmp_path / "output")


def test_a_home_that_is_nobodys_is_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_folders(output="~nobody-of-this-name/x").output == tmp_path / "~nobody-of-this-name" / "x"


def test_without_a_place_for_temporary_files_what_needs_none_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    assert default_folders().temp.is_absolute()
    (tmp_path / "file").write_text("")
    folders = replace(toy_folders(tmp_path), temp=tmp_path / "file" / "below")
    with Session(Registry.of(*NODES), Runtime(folders)) as session:
        assert session.run(Workflow.from_data({"1": node("ToyShow", item=1)})).status == "success"


def test_the_package_gives_its_names_when_they_are_asked_for() -> None:
    for name in nodegraph.__all__:
        assert getattr(nodegraph, name) is not None
        assert name in dir(nodegraph)
    with pytest.raises(AttributeError):
        _ = nodegraph.nothing
    code = "import sys, nodegraph; print(*[name for name in ('networkx', 'typer', 'rich', 'PIL') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def settle_toy(runtime: Runtime) -> Runtime:
    """What a pack's `settle` names: knows one device."""
    if runtime.device not in ("auto", "cpu"):
        raise NodeError(f"the device {runtime.device!r} is not there.", allowed="auto, cpu")
    return replace(runtime, device="cpu")


def settling_registry() -> Registry:
    return Registry({}, packs=(Pack("toy", (), settle=f"{__name__}:settle_toy"),))


def test_a_pack_settles_the_device_once_when_the_session_opens(tmp_path: Path) -> None:
    with Session(settling_registry(), Runtime(toy_folders(tmp_path), device="auto")) as made:
        assert made.runtime.device == "cpu"


def test_a_device_that_is_not_there_is_refused_when_the_session_opens(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"the device 'warp' is not there\. Allowed: auto, cpu"):
        Session(settling_registry(), Runtime(toy_folders(tmp_path), device="warp"))
