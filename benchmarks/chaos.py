"""Whether anything is lost: jobs are posted while server and workers are killed (kill -9) at random moments.

    python benchmarks/chaos.py [--jobs 500] [--kills 60] [--workers 2] [--seed 1]

A `nodegraph serve` process with its workers, restarted whenever it is killed; clients that post each job under an idempotency
key until they have an answer, now and then once more though they have one, and cancel a few jobs. The jobs save files as the
built-in nodes do.
Prints one JSON object; `broken` names what did not hold, and the exit status is 1 where that is anything:

- every key has one job, whatever its posts were answered with, and the store holds no other;
- every job ends, and what was seen of its end never changes; the server never ends by itself;
- a job has finished, or it was cancelled, or failed because it cost as many workers as it was allowed to;
- the history has each job once that ran, with one file that is whole; no file of the output folder is broken or has two jobs.

What is killed when is drawn from the seed; how far the jobs are by then is up to the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.server import free_port
from nodegraph.node import Context, Pack, Shown, node
from nodes.saving import series

ROOT = Path(__file__).parents[1]
PACK = Pack("chaos-benchmark", ("benchmarks.chaos",))
CLIENTS = 8
AHEAD = 40
"""Jobs that wait or run at most, so that posts go on until the end."""
BLOCK = 25
"""Jobs of a kind in a row: quick ones, of which a worker has several at once, and slower ones."""
ATTEMPTS = 10
"""Of most jobs; every fifth has as many as where nothing is said, and may fail."""
SURE = 5
CANCELLED = 0.04
"""Share of the jobs that are cancelled."""
STALLED = 60.0
"""Seconds without the end of a job after which nothing is waited for any more."""
ENDED = ("completed", "failed", "cancelled")


def content(name: str, size: int) -> bytes:
    """What the file of a job holds."""
    return random.Random(name).randbytes(size)


@node("ChaosSave", category="benchmark", effect=True, reads=("document",), lane="io")
def save(ctx: Context, name: str, size: int = 1000, seconds: float = 0.1) -> Shown:
    """Works for a while, writes a file, and works on."""
    steps = 5
    files = []
    for step in range(steps):
        time.sleep(seconds / steps)
        ctx.progress(step + 1, steps)
        if step == steps - 2:
            files.append(series(ctx, name).write(content(name, size), ".bin"))
    return Shown({"files": tuple(files)})


class Kill(NamedTuple):
    """A kill: once so many jobs have ended, and then some."""

    ended: int
    seconds: float
    victim: str


@dataclass(frozen=True, slots=True)
class Setup:
    """How much of everything."""

    jobs: int = 500
    kills: int = 60
    workers: int = 2
    seed: int = 1

    def size(self, index: int) -> int:
        """Bytes of the file of a job."""
        return int(2 ** random.Random(f"size {self.seed} {index}").uniform(8, 20))

    def schedule(self) -> list[Kill]:
        """The kills in their order. Some come in pairs, so that what is just starting is killed, too."""
        chance = random.Random(self.seed)
        found: list[Kill] = []
        while len(found) < self.kills:
            after = chance.randrange(max(1, self.jobs - 5))
            for _ in range(1 if chance.random() < 0.8 else 2):
                victim = "server" if chance.random() < 0.4 else "worker"
                found.append(Kill(after, chance.expovariate(5), victim))
        return sorted(found[: self.kills], key=lambda kill: kill.ended)


class Server:
    """A server process that is started again whenever it dies."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        self.port = free_port()
        self.starts = 0
        self.statuses: list[int] = []
        """Of those that ended by themselves."""
        self._workers = workers
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    async def keep(self) -> None:
        """Start it, and again whenever it has ended, until `stop`."""
        words = ["serve", "--port", str(self.port), "--no-browser", "--data-dir", str(self.folder)]
        words += ["--workers", str(self._workers), "--pack", "benchmarks.chaos:PACK"]
        words += ["--pack-path", str(ROOT)]
        with (self.folder / "log.txt").open("ab") as log:
            while not self._stopping:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "nodegraph", *words), cwd=ROOT, stdout=log, stderr=log
                )
                self.starts += 1
                status = await self._process.wait()
                if status != -signal.SIGKILL and not self._stopping:
                    self.statuses.append(status)
                    await asyncio.sleep(0.5)

    def kill(self) -> bool:
        """kill -9; False where it is not there."""
        if self._process is None or self._process.returncode is not None:
            return False
        self._process.kill()
        return True

    def kill_worker(self, chance: random.Random) -> bool:
        """kill -9 of one of the workers; False where there is none."""
        found = self.workers()
        if not found:
            return False
        with suppress(ProcessLookupError):
            os.kill(chance.choice(found), signal.SIGKILL)
            return True
        return False

    def workers(self) -> list[int]:
        """The processes that the server has started."""
        if self._process is None:
            return []
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
                if int(fields[1]) == self._process.pid and fields[0] != "Z":
                    found.append(int(path.parent.name))
        return found

    async def stop(self) -> int | None:
        """End it in order; its exit status."""
        self._stopping = True
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        return await asyncio.wait_for(self._process.wait(), 30)


@dataclass
class Run:
    """What is known of the jobs and of what was done to the server."""

    setup: Setup
    server: Server
    client: Any
    ids: dict[int, set[str]] = field(default_factory=dict)
    """The jobs with which the posts of each key were answered."""
    ends: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Jobs that have ended, as they were first seen."""
    cancelled: set[int] = field(default_factory=set)
    """Keys whose jobs were cancelled, in whatever state they were."""
    killed: Counter[str] = field(default_factory=Counter)
    lost_posts: int = 0
    broken: list[str] = field(default_factory=list)
    last_end: float = field(default_factory=time.monotonic)

    def wrong(self, text: str) -> None:
        """Something did not hold."""
        if len(self.broken) < 50:
            self.broken.append(text[:1000])

    async def until(self, path: str) -> None:
        """Wait until the server gives this."""
        from aiohttp import ClientError

        while True:
            with suppress(ClientError, OSError):
                async with self.client.get(self.server.url + path) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)

    async def get(self, path: str) -> Any:
        """The JSON of an answer; None where the server is away."""
        from aiohttp import ClientError

        try:
            async with self.client.get(self.server.url + path) as answer:
                data = await answer.json()
                if answer.status != 200:
                    self.wrong(f"GET {path}: {answer.status} {data}")
                return data
        except (ClientError, OSError):
            return None

    async def post(self, index: int) -> None:
        """Post a job, perhaps twice, and perhaps cancel it."""
        chance = random.Random(f"{self.setup.seed} {index}")
        seconds = chance.uniform(0.01, 0.25) if index // BLOCK % 2 else chance.uniform(0, 0.02)
        inputs = {"name": f"job_{index}", "size": self.setup.size(index), "seconds": seconds}
        body: dict[str, Any] = {"prompt": {"1": {"class_type": "ChaosSave", "inputs": inputs}}}
        if index % SURE:
            body["max_attempts"] = ATTEMPTS
        posts = [("/prompt", body)] * (1 if chance.random() < 0.9 else 2)
        for path, data in posts:
            answer = await self.answered(path, data, {"Idempotency-Key": f"key {index}"})
            self.ids.setdefault(index, set()).add(answer.get("prompt_id", ""))
        if answer and chance.random() < CANCELLED:
            await asyncio.sleep(chance.uniform(0, 1))
            self.cancelled.add(index)
            await self.answered(f"/jobs/{answer['prompt_id']}/cancel", None, {})

    async def answered(self, path: str, body: Any, headers: dict[str, str]) -> dict[str, Any]:
        """Post until there is an answer; empty where it is none that should come."""
        from aiohttp import ClientError

        while True:
            try:
                async with self.client.post(self.server.url + path, json=body, headers=headers) as answer:
                    data: dict[str, Any] = await answer.json()
                    if answer.status == 200:
                        return data
                    self.wrong(f"POST {path}: {answer.status} {data}")
                    return {}
            except (ClientError, OSError):
                self.lost_posts += 1
                await asyncio.sleep(0.05)

    @property
    def over(self) -> bool:
        """Every job has ended, or there is no hope of it."""
        if time.monotonic() - self.last_end > STALLED:
            return True
        return len(self.ends) >= self.setup.jobs


async def posting(run: Run) -> None:
    """Post every job, by several clients, so that some always wait."""
    left = iter(range(run.setup.jobs))

    async def one() -> None:
        for index in left:
            while index - len(run.ends) > AHEAD and not run.over:
                await asyncio.sleep(0.05)
            await run.post(index)

    await asyncio.gather(*(one() for _ in range(CLIENTS)))


async def watching(run: Run) -> None:
    """See jobs end, and see that they end once."""
    while not run.over:
        await asyncio.sleep(0.2)
        await look(run)


async def look(run: Run) -> list[dict[str, Any]] | None:
    """All jobs as they are now."""
    jobs: list[dict[str, Any]] = []
    while True:
        page = await run.get(f"/jobs?sort_order=asc&limit=1000&offset={len(jobs)}")
        if page is None:
            return None
        jobs += page["jobs"]
        if not page["pagination"]["has_more"]:
            break
    for job in jobs:
        before = run.ends.get(job["id"])
        if before is not None and job != before:
            run.wrong(f"it had ended and has changed: {before} {job}")
        if before is None and job["status"] in ENDED:
            run.ends[job["id"]] = job
            run.last_end = time.monotonic()
    lost = run.ends.keys() - {job["id"] for job in jobs}
    if lost:
        run.wrong(f"ended jobs have gone: {sorted(lost)}")
    return jobs


async def killing(run: Run) -> None:
    """Kill what the schedule says."""
    chance = random.Random(run.setup.seed + 1)
    for kill in run.setup.schedule():
        while len(run.ends) < kill.ended and not run.over:
            await asyncio.sleep(0.01)
        await asyncio.sleep(kill.seconds)
        while not run.over:
            if run.server.kill() if kill.victim == "server" else run.server.kill_worker(chance):
                run.killed[kill.victim] += 1
                break
            await asyncio.sleep(0.01)


async def judge(run: Run, folder: Path) -> dict[str, Any]:
    """What became of it all, once every job has ended."""
    keys = {index: next(iter(ids)) for index, ids in run.ids.items() if len(ids) == 1}
    if len(keys) != run.setup.jobs or len(set(keys.values())) != run.setup.jobs:
        run.wrong(f"keys with several jobs, or none: {[i for i in range(run.setup.jobs) if i not in keys]}")
    jobs = await look(run) or []
    if {job["id"] for job in jobs} != set(keys.values()) or len(jobs) != run.setup.jobs:
        run.wrong(f"{len(jobs)} jobs are stored, of {run.setup.jobs}")
    history = await run.get(f"/history?max_items={2 * run.setup.jobs}") or {}
    unlisted = {id for index, id in keys.items() if index in run.cancelled} - history.keys()
    if history.keys() | unlisted != set(keys.values()):
        run.wrong(f"the history has {len(history)} jobs")
    by_id = {job["id"]: job for job in jobs}
    listed: list[str] = []
    for index, id in keys.items():
        job, item = by_id.get(id, {}), history.get(id, {})
        status = item.get("status", {}).get("status_str")
        if job.get("status") == "completed":
            files = [file["filename"] for file in item.get("outputs", {}).get("1", {}).get("files", ())]
            if status != "success" or len(files) != 1 or not files[0].startswith(f"job_{index}_"):
                run.wrong(f"job {index}: {status}, {files}")
            listed += files
        elif job.get("status") != "cancelled" or index not in run.cancelled:
            codes = [problem["code"] for problem in job.get("problems", ())]
            if job.get("status") != "failed" or codes != ["worker_died"] or index % SURE:
                run.wrong(f"job {index}: {job}")
    if len(set(listed)) != len(listed):
        run.wrong("two jobs have one file")
    output = folder / "output"
    names = {path.name for path in output.glob("*.bin")}
    if not names.issuperset(listed):
        run.wrong(f"files are missing: {sorted(set(listed) - names)}")
    for name in sorted(names):
        data = (output / name).read_bytes()
        index = int(name.split("_")[1])
        if data != content(f"job_{index}", run.setup.size(index)):
            run.wrong(f"{name} is broken: {len(data)} bytes")
    return {
        "ended": dict(Counter(job["status"] for job in jobs)),
        "jobs_of_several_attempts": sum(job["attempts"] > 1 for job in jobs),
        "most_attempts": max((job["attempts"] for job in jobs), default=0),
        "files_of_lost_attempts": len(names) - len(listed),
        "unfinished_files": len(list(output.glob(".*.part"))),
    }


async def chaos(setup: Setup, folder: Path) -> dict[str, Any]:
    """Run it in a folder; the result."""
    from aiohttp import ClientSession, ClientTimeout, TCPConnector

    began = time.monotonic()
    server = Server(folder, setup.workers)
    keeping = asyncio.create_task(server.keep())
    timeout = ClientTimeout(total=30)
    try:
        async with ClientSession(connector=TCPConnector(limit=0), timeout=timeout) as client:
            run = Run(setup, server, client)
            await asyncio.gather(posting(run), watching(run), killing(run))
            await run.until("/health")
            found = await judge(run, folder)
    finally:
        status = await server.stop()
        await keeping
    if status != 0 or server.statuses:
        run.wrong(f"the server's exit status is {status}, before that {server.statuses}")
    with closing(sqlite3.connect(folder / "jobs.sqlite3")) as store:
        if store.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            run.wrong("the database is damaged")
        counted = dict(store.execute("SELECT status, n FROM counts WHERE n > 0").fetchall())
        if counted != dict(store.execute("SELECT status, count(*) FROM jobs GROUP BY status").fetchall()):
            run.wrong(f"the counters are wrong: {counted}")
        (interrupted,) = store.execute("SELECT max(interruptions) FROM jobs").fetchone()
    return {
        "seconds": round(time.monotonic() - began, 1),
        "killed": dict(run.killed),
        "starts": server.starts,
        "posts_without_answer": run.lost_posts,
        **found,
        "most_interruptions": interrupted,
        "broken": run.broken,
    }


def main() -> int:
    """Run it as the command line says, and print what came out."""
    parser = argparse.ArgumentParser(description="Kill servers and workers while jobs run.")
    for name, default in (("jobs", 500), ("kills", 60), ("workers", 2), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    setup = Setup(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(chaos(setup, Path(folder)))
    environment = {"python": platform.python_version(), "cpus": os.cpu_count()}
    print(json.dumps({**environment, **asdict(setup), **found}, indent=2))
    return 1 if found["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
