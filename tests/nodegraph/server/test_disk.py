"""A disk that is full: what is asked is refused in a sentence, what was stored stays, and it goes on once there is room."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.chaos import content
from tests.nodegraph.running import n
from tests.nodegraph.server.serving import ROOT, WORKING, Served, ready, served
from tests.nodegraph.server.test_command import start

SAVING: dict[str, Any] = {"workers": 1, "packs": ("benchmarks.chaos:PACK",), "pack_paths": (str(ROOT),)}
"""A worker whose node saves a file as the built-in nodes do."""


def fill(folder: Path) -> Path:
    """A file that leaves no room."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (2**16, 2**12):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return ballast


async def reached(server: Served, job: str, *statuses: str) -> Any:
    """A job once it is in one of these states."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = await server.get(f"/jobs/{job}")
        if found["status"] in statuses:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(found)


async def ended(server: Served, job: str) -> Any:
    """A job once it has ended."""
    return await reached(server, job, "completed", "failed", "cancelled")


async def without_room(server: Served, disk: Path) -> tuple[str, str, Path]:
    """A job that ends on a full disk, what it shows, which is larger than what the store has room for, and the ballast."""
    text = "".join(f"{number:x}" for number in range(100_000))
    sleep = {"1": n("WorkSleep", seconds=1.0), "2": n("ToyShow", item=["1", 0])}
    prompt = {**sleep, "3": n("WorkShow", item=text)}
    job = (await server.post("/prompt", {"prompt": prompt}))["prompt_id"]
    await reached(server, job, "in_progress")
    return job, text, fill(disk)


async def post(server: Served, status: int = 200, **inputs: Any) -> Any:
    return await server.post("/prompt", {"prompt": {"1": n("ChaosSave", **inputs)}}, status)


async def test_a_full_disk_under_the_data_directory(tmp_path: Path, small_disk: Path) -> None:
    async with served(tmp_path, data_dir=small_disk, **WORKING) as server:
        await ready(server)
        first = (await server.post("/prompt", {"prompt": {"1": n("WorkPid", seed=1)}}))["prompt_id"]
        assert (await ended(server, first))["status"] == "completed"
        # One runs while the disk fills up, another waits.
        sleep = {"1": n("WorkSleep", seconds=1.0), "2": n("ToyShow", item=["1", 0])}
        running = (await server.post("/prompt", {"prompt": sleep}))["prompt_id"]
        await reached(server, running, "in_progress")
        waiting = (await server.post("/prompt", {"prompt": {"1": n("WorkPid", seed=2)}}))["prompt_id"]
        ballast = fill(small_disk)
        stored: list[str] = []
        refusals: list[tuple[int, str, str]] = []
        while len(refusals) < 3:
            # Some still fit into pages that the store has.
            body = {"prompt": {"1": n("WorkPid", seed=3)}, "extra_data": {"filler": "x" * 200_000}}
            async with server.session.post(server.url + "/prompt", json=body) as answer:
                data = await answer.json()
                if answer.status == 200:
                    stored.append(data["prompt_id"])
                else:
                    refusals.append((answer.status, data["error"]["type"], data["error"]["message"]))
        assert set(refusals) == {
            (507, "disk_full", "The job store cannot be written: the disk is full or failing.")
        }
        # It answers all the same, and other things that are written are refused as clearly.
        assert (await server.get(f"/jobs/{first}"))["outputs"]["1"]["text"][1] == "seed 1"
        assert first in await server.get("/history")
        await server.get("/queue")
        await server.get("/health")
        assert await server.error("POST", "/settings", 507, json={"a": "b" * 50_000}) == "disk_full"
        assert await server.error("POST", "/userdata/a.json", 507, data=b"x" * 50_000) == "disk_full"
        assert await server.get("/settings") == {}
        ballast.unlink()
        late = (await server.post("/prompt", {"prompt": {"1": n("WorkPid", seed=4)}}))["prompt_id"]
        for job in (running, waiting, *stored, late):
            assert (await ended(server, job))["status"] == "completed"
        assert len(await server.get("/history")) == 4 + len(stored)


async def test_a_job_that_ends_while_the_disk_is_full_has_ended_once_there_is_room(
    tmp_path: Path, small_disk: Path
) -> None:
    async with served(tmp_path, data_dir=small_disk, **WORKING) as server:
        await ready(server)
        job, text, ballast = await without_room(server, small_disk)
        await asyncio.sleep(2.5)
        assert (await server.get(f"/jobs/{job}"))["status"] == "in_progress"
        ballast.unlink()
        found = await ended(server, job)
        assert (found["status"], found["attempts"]) == ("completed", 1)
        assert found["outputs"]["3"] == {"text": [text]}


async def test_a_server_stops_though_the_disk_is_full_and_its_job_runs_again(
    tmp_path: Path, small_disk: Path
) -> None:
    async with served(tmp_path, data_dir=small_disk, **WORKING) as server:
        await ready(server)
        job, text, ballast = await without_room(server, small_disk)
        await asyncio.sleep(2)
        began = time.monotonic()
    assert time.monotonic() - began < 40
    ballast.unlink()
    async with served(tmp_path, data_dir=small_disk, **WORKING) as server:
        found = await ended(server, job)
        assert found["status"] == "completed"
        assert found["outputs"]["3"] == {"text": [text]}


async def test_a_full_output_folder(tmp_path: Path, small_disk: Path) -> None:
    async with served(tmp_path, output_dir=small_disk, **SAVING) as server:
        before = await ended(
            server, (await post(server, name="before", size=2**20, seconds=0.01))["prompt_id"]
        )
        assert before["status"] == "completed"
        ballast = fill(small_disk)
        failed = await ended(
            server, (await post(server, name="large", size=2**20, seconds=0.01))["prompt_id"]
        )
        assert failed["status"] == "failed"
        (problem,) = failed["problems"]
        assert problem["code"] == "folder_not_writable"
        assert f"the file could not be saved in {small_disk}: the disk is full" in problem["message"]
        # Neither a broken file nor a piece of one is left, and the earlier one is as it was.
        assert sorted(path.name for path in small_disk.iterdir()) == ["ballast", "before_00001_.bin"]
        assert (small_disk / "before_00001_.bin").read_bytes() == content("before", 2**20)
        ballast.unlink()
        again = await ended(server, (await post(server, name="large", size=2**20, seconds=0.01))["prompt_id"])
        assert again["status"] == "completed"
        assert (small_disk / "large_00001_.bin").read_bytes() == content("large", 2**20)


async def test_an_upload_without_room_leaves_nothing(tmp_path: Path, small_disk: Path) -> None:
    async with served(tmp_path, input_dir=small_disk) as server:
        kept = await server.upload("/upload/image", "kept.png", b"x" * 1000)
        ballast = fill(small_disk)
        refused = await server.upload("/upload/image", "large.png", b"x" * 500_000, 507)
        assert refused["error"]["type"] == "disk_full"
        assert sorted(path.name for path in small_disk.iterdir()) == ["ballast", kept["name"]]
        ballast.unlink()
        await server.upload("/upload/image", "small.png", b"x" * 1000)


def test_a_server_does_not_start_on_a_full_disk_and_does_once_there_is_room(small_disk: Path) -> None:
    words = ("--data-dir", str(small_disk), "--workers", "0")
    for _ in range(2):
        ballast = fill(small_disk)
        process = start(*words)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (2, "")
        assert err.startswith("error: ") and err.count("\n") == 1
        assert "disk" in err
        ballast.unlink()
        # Once in an empty directory, then in one that holds a store.
        process = start(*words)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("nodegraph serves")
        process.terminate()
        assert process.communicate(timeout=20)[1] == ""
    assert json.loads((small_disk / "version.json").read_text(encoding="utf-8"))["version"] == 1
