"""What came with runs does not lie there for ever, but for as long as a job needs it."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from nodegraph.jobs import JobRequest, JobStore
from nodegraph.server.config import Limits
from nodegraph.server.contents import Content, Contents
from nodegraph.server.received import FOLDER, Received
from nodegraph.server.tidying import prune_received
from tests.nodegraph.running import n
from tests.nodegraph.server.serving import WORKING, Served, ready, served
from tests.nodegraph.server.test_given import data_url, picture, sha256

DAY = 86_400.0


def aged(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def holding(root: Path, *numbers: int) -> Received:
    """A folder with files of 100 bytes that were sent here, and an old one that was sent to another server."""
    contents = Contents(root / "contents")
    received = Received(root / FOLDER, contents)
    received.folder.mkdir()
    for number in numbers:
        path = received.folder / f"{number:064x}.png"
        path.write_bytes(b"x" * 100)
        contents.note(Content(path.name, FOLDER, "input", path.stem, 100), path)
    another = received.folder / f"{99:064x}.png"
    another.write_bytes(b"x" * 100)
    aged(another, 400 * DAY)
    return received


def left(received: Received) -> list[int]:
    """The numbers of the files that are there, but for the other server's."""
    found = sorted(int(path.stem, 16) for path in received.folder.iterdir())
    assert found.pop() == 99
    return found


async def queued(server: Served, file: str) -> str:
    """A job that waits and names a file."""
    body = {"prompt": {"1": n("WorkDigest", file=file)}}
    return str((await server.post("/run?wait=0", body, 202))["id"])


async def test_old_files_go_and_those_that_waiting_jobs_name_stay(tmp_path: Path) -> None:
    pictures = [picture(colour=colour) for colour in range(4)]
    folder = tmp_path / "input" / FOLDER
    waiting, named, ended, fresh = paths = [folder / f"{sha256(data)}.png" for data in pictures]
    async with served(tmp_path, **WORKING) as server:
        await ready(server)
        await server.post("/queue/pause")
        jobs = [await queued(server, data_url(data)) for data in pictures]
        for job in jobs[1:]:
            await server.post(f"/jobs/{job}/cancel")
        # By its name alone, as an editor has it.
        await queued(server, f"./{FOLDER}/{named.name} [input]")
        other = folder / "mine.png"
        other.write_bytes(pictures[0])
        for path in (*paths[:3], other):
            aged(path, 40 * DAY)
    async with served(tmp_path, **WORKING) as server:
        async with asyncio.timeout(30):
            while ended.exists():
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        assert [path.exists() for path in (waiting, named, fresh, other)] == [True] * 4
        await ready(server)
        # What is gone is told to be, and can be sent again.
        body = {"prompt": {"1": n("WorkDigest", file=f"sha256:{sha256(pictures[2])}")}}
        refused = await server.post("/run?wait=0", body, 400)
        assert refused["problems"][0]["code"] == "unknown_content"
        await queued(server, data_url(pictures[2]))
        await server.post("/queue/resume")
        found = await server.post("/run", {"prompt": {"1": n("WorkDigest", file=f"{FOLDER}/{waiting.name}")}})
        assert found["outputs"]["1"]["text"] == [sha256(pictures[0])]


async def test_naming_a_file_keeps_it(tmp_path: Path) -> None:
    data = picture()
    path = tmp_path / "input" / FOLDER / f"{sha256(data)}.png"
    async with served(tmp_path, **WORKING) as server:
        await ready(server)
        await server.post("/queue/pause")
        await queued(server, data_url(data))
        record = path.stat()
        for ask in (
            lambda: queued(server, f"sha256:{sha256(data)}"),
            lambda: queued(server, f"{FOLDER}/{path.name}"),
            lambda: queued(server, data_url(data)),
            lambda: server.get(f"/uploads/{sha256(data)}"),
        ):
            os.utime(path, ns=(0, record.st_mtime_ns))
            await ask()
            assert time.time() - path.stat().st_atime < 60
            assert path.stat().st_mtime_ns == record.st_mtime_ns


async def test_of_too_much_the_longest_unused_goes(tmp_path: Path) -> None:
    store = await JobStore.open(tmp_path / "jobs.db")
    received = holding(tmp_path, *range(6))
    names = [f"{number:064x}.png" for number in range(6)]
    for number, name in enumerate(names):
        aged(received.folder / name, (6 - number) * 2 * 3600.0)
    # The last was used a moment ago.
    aged(received.folder / names[5], 10)
    document: dict[str, Any] = {"1": n("WorkDigest", file=f"{FOLDER}/{names[0]}")}
    await store.submit(JobRequest(str(document)))
    limits = Limits(received_bytes=300)
    assert await prune_received(store, received, Limits()) == 0
    assert await prune_received(store, received, limits) == 3
    assert left(received) == [0, 4, 5]
    assert await prune_received(store, received, Limits(received_bytes=0)) == 1
    assert left(received) == [0, 5]
    # Once its job has ended it goes.
    await store.cancel_queued()
    assert await prune_received(store, received, limits) == 0
    assert await prune_received(store, received, Limits(received_bytes=100)) == 1
    assert left(received) == [5]
    assert [path for path in (tmp_path / "contents").rglob("*") if path.is_file()] == [
        tmp_path / "contents" / "00" / names[5][2:64]
    ]
    await store.close()


async def test_what_is_named_meanwhile_stays(tmp_path: Path) -> None:
    received = holding(tmp_path, 7)
    name = f"{7:064x}.png"
    aged(received.folder / name, 40 * DAY)
    chosen = received.superfluous(Limits())
    assert chosen == [name]
    received.use_all(f'{{"file": ".received/{name} [input]"}}')
    assert received.remove(chosen) == 0 and (received.folder / name).exists()
    assert received.superfluous(Limits()) == [] and not received.use(f"{8:064x}.png")
