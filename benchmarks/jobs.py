"""What the job store costs: durable submits, claims and finishes, and the pages of a long queue.

Prints one JSON object with the environment it ran in. A figure of the disk alone says little, so each throughput stands
beside what the same disk does by itself, measured in turn: `flushes` is the number of times a second that 4 KiB are appended
to a file and flushed, `per_flush` how many jobs the store gets done in the time of one of those. Medians of the rounds.
A page stands beside a millisecond of plain Python in a thread (`spin`), measured in turn. `cpu` figures are processor time of
the whole process, which another program's load hardly changes.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nodegraph.jobs import JobRequest, JobStatus, JobStore

IN_FLIGHT = 200
JOBS = 2_000
QUEUED = 10_000
ROUNDS = 3
DOCUMENT = json.dumps(
    {str(i): {"class_type": "Step", "inputs": {"x": [str(i - 1), 0], "add": i / 7}} for i in range(1, 31)}
)
"""As long as a text-to-image workflow: 2 KB."""


async def in_flight(count: int, once: Callable[[], Awaitable[bool]]) -> None:
    """Keep `count` calls under way until each has answered False."""

    async def loop() -> None:
        while await once():
            pass

    await asyncio.gather(*(loop() for _ in range(count)))


async def submits(store: JobStore) -> float:
    """Durable submits a second, each a call of its own."""
    left = JOBS

    async def once() -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            return False
        await store.submit(JobRequest(DOCUMENT))
        return True

    begun = time.perf_counter()
    await in_flight(IN_FLIGHT, once)
    return JOBS / (time.perf_counter() - begun)


async def runs(store: JobStore, workers: int, at_once: int) -> float:
    """Jobs a second from claim to finish: each worker takes `at_once` and finishes them while it takes the next."""
    done = 0

    async def worker(name: str) -> None:
        nonlocal done
        jobs = await store.claim_many(name, at_once)
        while jobs:
            following = asyncio.create_task(store.claim_many(name, at_once))
            outputs = '{"9": {"images": []}}'
            await asyncio.gather(*(store.finish(job.id, JobStatus.FINISHED, outputs=outputs) for job in jobs))
            done += len(jobs)
            jobs = await following

    begun = time.perf_counter()
    await asyncio.gather(*(worker(f"w{i}") for i in range(workers)))
    return done / (time.perf_counter() - begun)


async def busy(share: float) -> None:
    """Keep the loop's thread busy for a share of the time, as a server does that parses and answers."""
    while True:
        until = time.perf_counter() + 0.002 * share
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0.002 * (1 - share))


def flushes(folder: Path) -> float:
    """Appends of 4 KiB, each flushed, a second."""
    count = 100
    file = os.open(folder / "flushes", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    begun = time.perf_counter()
    for _ in range(count):
        os.write(file, bytes(4_096))
        os.fsync(file)
    os.close(file)
    return count / (time.perf_counter() - begun)


def spin() -> None:
    """A millisecond of plain Python, or what the machine makes of it."""
    total = 0
    for i in range(30_000):
        total += i


async def timed(call: Callable[[], Awaitable[object]], times: int) -> dict[str, float]:
    """Milliseconds of a call, in turn with `spin` in a thread, which waits for the processor as the call does."""
    loop = asyncio.get_running_loop()
    spent, yardsticks, cpu = [], [], 0.0
    for _ in range(times):
        begun, cpu_begun = time.perf_counter(), time.process_time()
        await call()
        spent.append((time.perf_counter() - begun) * 1e3)
        cpu += time.process_time() - cpu_begun
        begun = time.perf_counter()
        await loop.run_in_executor(None, spin)
        yardsticks.append((time.perf_counter() - begun) * 1e3)
    found = {
        "median_ms": statistics.median(spent),
        "p99_ms": sorted(spent)[int(times * 0.99)],
        "spin_median_ms": statistics.median(yardsticks),
        "cpu_ms": cpu / times * 1e3,
    }
    return {name: round(value, 3) for name, value in found.items()}


async def pages(folder: Path) -> dict[str, Any]:
    """Readings with a long queue and a long history: alone, and while jobs are submitted."""
    store = await JobStore.open(folder / "pages.db")
    for part in range(2 * QUEUED // 500):
        await store.submit(*[JobRequest(DOCUMENT)] * 500)
        if part < QUEUED // 500:
            ended = [
                store.finish(job.id, JobStatus.FINISHED, outputs="{}")
                for job in await store.claim_many("w", 500)
            ]
            await asyncio.gather(*ended)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "counts": store.counts,
        "queue_50": lambda: store.queue(50),
        "queue_50_last": lambda: store.queue(50, QUEUED - 50),
        "history_50": lambda: store.history(50),
        "jobs_50": lambda: store.jobs(limit=50),
    }
    counts = await store.counts()
    assert counts[JobStatus.QUEUED] == counts[JobStatus.FINISHED] == QUEUED, counts
    alone = {name: await timed(call, 100) for name, call in calls.items()}
    during = {}
    for name in ("counts", "queue_50"):
        storm = asyncio.create_task(submits(store))
        during[name] = await timed(calls[name], 50)
        await storm
    await store.close()
    size = (folder / "pages.db").stat().st_size
    begun = time.perf_counter()
    store = await JobStore.open(folder / "pages.db")
    opened = time.perf_counter() - begun
    await store.close()
    return {
        "alone": alone,
        "during_submits": during,
        "open_s": round(opened, 4),
        "file_mb": round(size / 2**20, 1),
    }


async def throughput(folder: Path) -> dict[str, Any]:
    """Medians over the rounds."""
    found: dict[str, list[float]] = {}
    for turn in range(ROUNDS):
        store = await JobStore.open(folder / f"{turn}.db")
        alone = flushes(folder)
        cpu = [time.process_time()]
        figures = {"submit": await submits(store)}
        cpu.append(time.process_time())
        figures["run_2x16"] = await runs(store, 2, 16)
        cpu.append(time.process_time())
        for name, spent in zip(figures, (cpu[1] - cpu[0], cpu[2] - cpu[1]), strict=True):
            found.setdefault(f"{name}_cpu_us_per_job", []).append(spent / JOBS * 1e6)
        load = asyncio.create_task(busy(0.7))
        figures["submit_busy_loop"] = await submits(store)
        figures["run_1x16_busy_loop"] = await runs(store, 1, 16)
        load.cancel()
        await store.close()
        found.setdefault("flushes", []).append(alone)
        for name, value in figures.items():
            found.setdefault(f"{name}_per_second", []).append(value)
            found.setdefault(f"{name}_per_flush", []).append(value / alone)
    return {name: round(statistics.median(values), 2) for name, values in found.items()}


def environment() -> dict[str, Any]:
    """Where this ran."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {"nodegraph": version("nodegraph"), "sqlite": sqlite3.sqlite_version},
    }


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        results = {
            "in_flight": IN_FLIGHT,
            "queued": QUEUED,
            "throughput": asyncio.run(throughput(Path(name))),
            "pages": asyncio.run(pages(Path(name))),
        }
    print(json.dumps({"benchmark": "jobs", "environment": environment(), "results": results}, indent=2))


if __name__ == "__main__":
    main()
