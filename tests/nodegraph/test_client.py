"""The client of a server, and `nodegraph run --server`, against a real server with a worker process."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nodegraph.client import AsyncClient, Client, JobState, RemoteFile
from nodegraph.client.saving import folder_of
from nodegraph.errors import NodegraphError, ServerError, ValidationError
from nodegraph.events import NodeFailed, NodeFinished, NodeProgress, NodeStarted, RunFinished, RunStarted
from nodegraph.formats.conversion import text_of
from nodegraph.registry import Registry
from nodegraph.workflow import Workflow
from tests.nodegraph.running import n
from tests.nodegraph.server.serving import ROOT, WORKING, Served, ready, served
from tests.nodegraph.worker.pack import PACK

SAVING: dict[str, Any] = {"1": n("WorkSteps", steps=3), "2": n("WorkSave", text="saved", name="a.txt")}
SHOWING: dict[str, Any] = {"1": n("WorkSteps", steps=3), "2": n("ToyShow", item=["1", 0])}
SLOW: dict[str, Any] = {"1": n("WorkSteps", steps=1200, seconds=0.05), "2": n("ToyShow", item=["1", 0])}


def flow(prompt: dict[str, Any], **more: Any) -> Workflow:
    return Workflow.from_data({"nodegraph": 1, "prompt": prompt, **more})


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    """A server with a worker that is ready."""
    async with served(tmp_path / "there", **WORKING) as running:
        await ready(running)
        yield running


async def test_a_run_gives_what_a_local_one_gives(server: Served, tmp_path: Path) -> None:
    parameters = {"text": {"node": "3", "input": "text"}}
    prompt = {**SHOWING, "1": n("WorkSteps", steps=3, seconds=0.3), "3": n("WorkSave", text="", name="a.txt")}
    workflow = flow(prompt, parameters=parameters)
    seen: list[Any] = []
    async with AsyncClient(server.url) as client:
        result = await client.run(
            workflow, {"text": "här"}, output_dir=tmp_path / "here", on_event=seen.append
        )
        again = await client.run(workflow, {"text": "här"}, output_dir=tmp_path / "here")
        elsewhere = await client.run(workflow, {"text": "other"}, output_dir=tmp_path / "here", targets=["3"])
    assert result.status == "success" and result.seconds > 0
    (file,) = result.files
    assert (file.path, file.size) == (tmp_path / "here" / "a.txt", 4)
    assert file.path.read_text(encoding="utf-8") == "här"
    assert result.ui["2"] == {"text": ("3",)}
    assert set(result.ran) == {"1", "2", "3"} and result.cached == ()
    assert isinstance(seen[0], RunStarted) and set(seen[0].to_run) == {"1", "2", "3"}
    assert isinstance(seen[-1], RunFinished)
    assert [item.node for item in seen if isinstance(item, NodeStarted)].count("1") == 1
    steps = [item for item in seen if isinstance(item, NodeProgress) and item.preview is None]
    # Steps that follow quickly on one another are told as one.
    assert (steps[-1].node, steps[-1].value, steps[-1].total) == ("1", 3, 3)
    pictures = [item.preview for item in seen if isinstance(item, NodeProgress) and item.preview is not None]
    assert pictures and all(picture.startswith(b"\xff\xd8step") for picture in pictures)
    assert {item.node for item in seen if isinstance(item, NodeFinished)} == {"1", "2", "3"}
    # The same file once more is not written twice, another of its name is not written over.
    assert set(again.cached) == {"2", "3"} and again.ran == ()
    assert again.files[0].path == file.path
    assert elsewhere.files[0].path == tmp_path / "here" / "a (1).txt" and "2" not in elsewhere.ui
    assert file.path.read_text(encoding="utf-8") == "här"
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["a (1).txt", "a.txt"]


async def test_the_steps_one_by_one_from_a_thread(server: Served, tmp_path: Path) -> None:
    def everything() -> JobState:
        with Client(server.url) as client:
            source = tmp_path / "ein Bild.txt"
            source.write_text("uploaded")
            assert client.upload(source, subfolder="sub") == "sub/ein Bild.txt"
            assert client.upload(source, subfolder="sub") == "sub/ein Bild.txt"
            source.write_text("another")
            assert client.upload(source, subfolder="sub") == "sub/ein Bild (1).txt"
            job = client.submit(flow(SAVING))
            ended = client.wait(job, timeout=60)
            (path,) = [client.download(file, tmp_path / "got") for file in ended.files]
            assert path.read_text() == "saved"
            late = list(client.events(job))
            assert isinstance(late[0], RunStarted) and isinstance(late[-1], RunFinished)
            slow = client.submit(flow(SLOW))
            for event in client.events(slow):
                if isinstance(event, NodeProgress):
                    assert client.cancel(slow).id == slow
                    break
            assert client.wait(slow, timeout=60).status == "cancelled"
            with pytest.raises(TimeoutError):
                other = client.submit(flow(SLOW))
                client.wait(other, timeout=0.3)
            client.cancel(other)
            held = client.plan(flow(SHOWING))
            assert {row["node"] for row in held["nodes"]} == {"1", "2"}
            workflow = flow(SHOWING, parameters={"steps": {"node": "1", "input": "steps"}})
            client.save_workflow("mine", workflow)
            assert client.workflows() == ["mine"]
            assert client.workflow("mine").prompt == workflow.prompt
            assert client.schema("mine")["properties"]["steps"]["type"] == "integer"
            saved = client.wait(client.submit_saved("mine", {"steps": 2}), timeout=60)
            client.delete_workflow("mine")
            assert client.workflows() == []
            return saved

    saved = await asyncio.to_thread(everything)
    assert (saved.status, saved.outputs) == ("completed", {"2": {"text": ["2"]}})


async def test_files_are_sent_once_and_swept_over(server: Served, tmp_path: Path) -> None:
    parameters = {name: {"node": "1", "input": name} for name in ("file", "times")}
    workflow = flow({"1": n("WorkDigest", file="none", times=1)}, parameters=parameters)
    files = [tmp_path / f"{name}.txt" for name in "ab"]
    for file in files:
        file.write_text(file.name)
    hashes = [hashlib.sha256(file.name.encode()).hexdigest() for file in files]

    def everything() -> list[JobState]:
        with Client(server.url) as client:
            assert client.ensure_uploaded(files[0], subfolder="sub") == "sub/a.txt"
            # It is there, so neither the name nor the folder matters.
            other = tmp_path / "other.txt"
            other.write_text("a.txt")
            assert client.ensure_uploaded(other) == "sub/a.txt"
            job = client.wait(client.submit(workflow, {"file": other}), timeout=60)
            assert job.outputs["1"]["text"] == [hashes[0]]
            jobs = client.sweep(workflow, {"file": files, "times": [1, 2]})
            jobs += client.sweep(workflow, {"file": files, "times": [1, 2]}, mode="zip")
            jobs += client.sweep(workflow, {"times": [3]}, {"file": files[1]})
            with pytest.raises(ValidationError):
                client.sweep(workflow, {"times": [0] * 1001}, {"file": files[1]})
            return [client.wait(id, timeout=60) for id in jobs]

    a, b = hashes
    shown = [list(job.outputs["1"]["text"]) for job in await asyncio.to_thread(everything)]
    assert shown == [[a], [a, a], [b], [b, b], [a], [b, b], [b, b, b]]
    kept = [path for path in (server.root / "input").rglob("*") if path.suffix == ".txt"]
    assert sorted(path.name for path in kept) == ["a.txt", "b.txt"]


async def test_a_mask_is_sent_for_a_picture_and_a_file_has_an_address(server: Served, tmp_path: Path) -> None:
    for folder, colour in ((server.root / "output", (9, 8, 7, 255)), (tmp_path, (0, 0, 0, 40))):
        Image.new("RGBA", (4, 3), colour).save(folder / "ä b.png")
    async with AsyncClient(server.url) as client:
        original = RemoteFile("ä b.png")
        name = await client.upload_mask(tmp_path / "ä b.png", original, subfolder="masks")
        assert name == "masks/ä b.png"
        async with server.session.get(client.url(RemoteFile("ä b.png", "masks", "input"))) as answer:
            assert answer.status == 200
            with Image.open(io.BytesIO(await answer.read())) as merged:
                assert merged.getpixel((0, 0)) == (9, 8, 7, 40)


async def test_what_is_wrong_is_said(server: Served) -> None:
    async with AsyncClient(server.url) as client:
        failed = [
            item
            async for item in client.following(flow({"1": n("ToyFail"), "2": n("ToyShow", item=["1", 0])}))
        ]
        assert [item.node for item in failed if isinstance(item, NodeFailed)] == ["1"]
        result = await client.run(flow({"1": n("ToyFail"), "2": n("ToyShow", item=["1", 0])}))
        assert result.status == "failed" and result.problems[0].node == "1"
        wrong = {"1": n("WorkSteps", steps="many"), "2": n("ToyShow", item=["1", 0])}
        with pytest.raises(ValidationError) as caught:
            await client.submit(flow(wrong))
        (problem,) = caught.value.problems
        assert (problem.node, problem.input) == ("1", "steps")
        # A part that is right runs only where that is asked for.
        half = {**wrong, "3": n("ToyShow", item=1)}
        with pytest.raises(ValidationError) as caught:
            await client.submit(flow(half))
        assert [(item.node, item.input) for item in caught.value.problems] == [("1", "steps")]
        assert (await server.get("/jobs?status=cancelled,pending"))["jobs"] == []
        job = await client.wait(await client.submit(flow(half), partial=True), timeout=60)
        assert job.status == "completed" and set(job.outputs) == {"3"}
        with pytest.raises(ServerError) as refused:
            await client.job("none")
        assert refused.value.status == 404 and refused.value.problems[0].code == "unknown_job"
        with pytest.raises(ServerError):
            await client.download(RemoteFile("none.txt"), server.root)
        assert not list(server.root.glob(".*.part"))


async def test_a_token_is_asked_for_and_shown(tmp_path: Path) -> None:
    token = "a-token-of-some-length"
    async with served(tmp_path, token=token) as running:
        async with AsyncClient(running.url) as client:
            for refused in (client.workflows(), client.run(flow(SHOWING))):
                with pytest.raises(ServerError) as caught:
                    await refused
                assert (caught.value.status, caught.value.problems[0].code) == (401, "token_needed")
        async with AsyncClient(running.url + "/", token=token) as client:
            assert await client.workflows() == []
            assert (
                await client.cancel(await client.submit(flow({"2": n("ToyShow", item=1)})))
            ).status == "cancelled"


class Way:
    """What stands between a client and a server, and can be cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        """Let connections through, at the same port each time."""
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """End every connection, and refuse new ones."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._target)
        pair = {writer, there[1]}
        self._writers |= pair
        await asyncio.gather(self._copy(reader, there[1]), self._copy(there[0], writer))
        self._writers -= pair

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(2**16):
                target.write(data)
                await target.drain()
        except ConnectionError:
            # Cut.
            pass
        target.transport.abort()


async def test_a_job_is_followed_through_a_lost_connection(server: Served) -> None:
    way = Way(int(server.url.rsplit(":", 1)[1]))
    await way.open()
    prompt = {"1": n("WorkSteps", steps=60, seconds=0.05), "2": n("ToyShow", item=["1", 0])}
    async with AsyncClient(f"127.0.0.1:{way.port}") as client:
        seen: list[Any] = []
        async for event in client.following(flow(prompt)):
            seen.append(event)
            if isinstance(event, NodeProgress) and None not in seen:
                await way.cut()
                with pytest.raises(ServerError):
                    await client.workflows()
                await asyncio.sleep(0.3)
                await way.open()
                seen.append(None)
        assert isinstance(seen[-1], RunFinished) and seen[-1].ui == {"2": {"text": ("60",)}}
        kinds = [type(item) for item in seen]
        assert kinds.count(RunStarted) == 1 and kinds.count(NodeFinished) == 2
    async with AsyncClient(f"127.0.0.1:{way.port}", patience=0.2) as client:
        with pytest.raises(ServerError) as caught:
            async for event in client.following(flow(SLOW)):
                if isinstance(event, NodeProgress):
                    await way.cut()
        assert caught.value.problems[0].code == "unreachable"
    (running,) = (await server.get("/jobs?status=in_progress"))["jobs"]
    await server.post(f"/jobs/{running['id']}/cancel")


@pytest.mark.parametrize("address", ["", "ftp://host", "http://", "http://host:99999", "http://host/?a=1"])
async def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AsyncClient(address)
    assert caught.value.problems[0].code == "bad_address"


@pytest.mark.parametrize(
    "name", ["../a.txt", "/a.txt", "a/../../b", ".hidden", "..", "a\\..\\..\\b", "link/a.txt"]
)
def test_a_server_cannot_write_outside_the_folder(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    for file in (RemoteFile(name), RemoteFile("a.txt", name)):
        with pytest.raises(NodegraphError):
            folder_of(root, file)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["root"]


@dataclass
class Ran:
    code: int
    out: str
    err: str


async def start(folder: Path, *words: object) -> asyncio.subprocess.Process:
    folder.mkdir(exist_ok=True)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nodegraph", *map(str, words)),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def shell(folder: Path, *words: object) -> Ran:
    process = await start(folder, *words)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


def written(folder: Path, prompt: dict[str, Any], **more: Any) -> Path:
    path = folder / "w.json"
    path.write_text(json.dumps({"nodegraph": 1, "prompt": prompt, **more}))
    return path


async def test_the_command_line_runs_on_a_server(server: Served, tmp_path: Path) -> None:
    prompt = {**SHOWING, "3": n("WorkSave", text="", name="a.txt"), "4": n("ToyReadFile", name="mine.txt")}
    prompt["5"] = n("ToyShow", item=["4", 0])
    file = written(tmp_path, prompt, parameters={"text": {"node": "3", "input": "text"}})
    here = tmp_path / "here"
    (here / "input").mkdir(parents=True)
    (here / "input" / "mine.txt").write_text("from here")
    ran = await shell(
        here,
        "run",
        file,
        "--server",
        server.url,
        "--text",
        "1.0",
        "--set",
        "1.steps=2",
        "--output-dir",
        "out",
    )
    assert (ran.code, ran.out) == (0, f"{here / 'out' / 'a.txt'}\n")
    assert ran.err == "node 2: 2\nnode 5: from here\n"
    assert (here / "out" / "a.txt").read_text() == "1.0"
    # The server knows the widgets of its nodes, which are not installed here.
    drawn = tmp_path / "ui.json"
    drawn.write_text(text_of(flow(SHOWING), "ui", Registry.from_packs([PACK])))
    as_json = await shell(here, "run", drawn, f"--server={server.url}", "--json", "--targets", "2")
    found = json.loads(as_json.out)
    assert (found["status"], found["outputs"]) == ("success", {"2": {"text": ["3"]}})
    wrong = await shell(here, "run", file, "--server", server.url, "--set", "1.steps=many", "--device", "cpu")
    assert wrong.code == 2 and "--device does not go with --server" in wrong.err
    wrong = await shell(here, "run", file, "--server", server.url, "--set", "1.steps=many")
    assert wrong.code == 2 and "input steps" in wrong.err and wrong.err.count("error") == 1


async def test_the_first_interrupt_cancels_the_job(server: Served, tmp_path: Path) -> None:
    process = await start(tmp_path, "run", written(tmp_path, SLOW), "--server", server.url)
    while not (jobs := (await server.get("/jobs?status=in_progress"))["jobs"]):
        await asyncio.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 30) == 130
    assert (await server.get(f"/jobs/{jobs[0]['id']}"))["status"] == "cancelled"


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    ran = await shell(tmp_path, "run", written(tmp_path, SHOWING), "--server", "http://127.0.0.1:9")
    assert ran.code == 1 and ran.out == ""
    assert ran.err.count("\n") == 1
    assert ran.err.startswith("error: the server http://127.0.0.1:9 cannot be reached: ")


async def test_the_token_of_a_file_and_the_options_that_go_together(tmp_path: Path) -> None:
    token = tmp_path / "token.txt"
    token.write_text("a-token-of-some-length\n")
    file = written(tmp_path, {"2": n("ToyShow")})
    async with served(tmp_path / "there", token=token.read_text().strip()) as running:
        ran = await shell(tmp_path, "run", file, "--server", running.url, "--token-file", token)
        assert ran.code == 2 and "input item" in ran.err
        ran = await shell(tmp_path, "run", file, "--server", running.url)
        assert ran.code == 1 and ran.err.endswith("Give it with --token-file (token in Python).\n")
    ran = await shell(tmp_path, "run", file, "--token-file", token)
    assert ran.code == 2 and "--token-file goes with --server only" in ran.err


async def test_many_runs_of_one_client_and_no_torch(server: Served) -> None:
    async with AsyncClient(server.url) as client:
        flows = [
            flow({"1": n("WorkSteps", steps=count), "2": n("ToyShow", item=["1", 0])})
            for count in range(1, 41)
        ]
        results = await asyncio.gather(*(client.run(item) for item in flows))
    assert [item.ui["2"]["text"] for item in results] == [(str(count),) for count in range(1, 41)]
    heavy = "import nodegraph.client.command; print({'torch', 'numpy', 'PIL', 'nodes'} & set(sys.modules))"
    assert await python(heavy) == "set()"


async def test_aiohttp_is_named_where_it_is_missing(tmp_path: Path) -> None:
    words = ["run", str(written(tmp_path, SHOWING)), "--server", "host"]
    code = f"sys.modules['aiohttp'] = None; from nodegraph.cli import main; main({words!r})"
    assert await python(code) == (
        "error: the client needs aiohttp. Install it: pip install 'nodegraph[server]'."
    )


async def python(code: str) -> str:
    """What a fresh interpreter prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"import sys; {code}"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return out.decode().strip()
