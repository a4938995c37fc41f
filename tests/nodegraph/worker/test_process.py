"""Worker processes: real ones, with a pack without torch."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from nodegraph.worker.messages import (
    Answer,
    Cancel,
    Check,
    Describe,
    Descriptions,
    Done,
    Free,
    FromWorker,
    Heartbeat,
    Plan,
    Ready,
    Run,
    RunEvents,
    Stop,
    WorkerSettings,
)
from nodegraph.worker.process import WorkerProcess, ended
from tests.nodegraph.worker.talk import ROOT, document, done, steps, until


@asynccontextmanager
async def running(
    settings: WorkerSettings,
) -> AsyncIterator[tuple[WorkerProcess, AsyncIterator[FromWorker], Ready]]:
    """A worker that is ready, its messages, and its Ready."""
    worker = WorkerProcess(settings)
    try:
        await worker.start()
        messages = worker.messages()
        ready, _ = await until(messages, Ready)
        yield worker, messages, ready
    finally:
        await worker.kill()


async def test_a_worker_runs_jobs_one_after_another_and_keeps_results(settings: WorkerSettings) -> None:
    async with running(settings) as (worker, messages, ready):
        assert ready.pid == worker.pid
        assert ready.versions["python"] == sys.version.split()[0]
        assert [pack["name"] for pack in ready.packs] == ["worker-tests"]
        assert ready.problems == ()
        assert ready.devices[0]["type"] == "cpu"
        for job in ("a", "b"):
            await worker.send(Run(job, steps(3)))
        first, events, _ = await done(messages, "a")
        assert (first.status, first.outputs) == ("success", {"n2": {"text": ["3"]}})
        assert [event["event"] for event in events if event["event"] != "node_progress"] == [
            *("run_started", "node_started", "node_finished", "node_started", "node_finished", "run_finished")
        ]
        second, events, _ = await done(messages, "b")
        assert second.outputs == first.outputs
        assert [event["event"] for event in events] == ["run_started", "node_cached", "run_finished"]
        await worker.send(Stop())
        assert [message async for message in messages if not isinstance(message, Heartbeat)] == []
        assert (worker.returncode, worker.reason) == (0, "it ended by itself")


async def test_a_worker_imports_no_torch_for_a_pack_without(settings: WorkerSettings) -> None:
    async with running(settings) as (worker, _, _):
        maps = Path(f"/proc/{worker.pid}/maps")
        if maps.exists():
            assert "torch" not in maps.read_text()


async def test_a_cancel_stops_a_run_within_a_step_and_drops_one_that_waits(settings: WorkerSettings) -> None:
    async with running(settings) as (worker, messages, _):
        await worker.send(Run("a", steps(2000, 0.02)))
        await worker.send(Run("b", steps(2000, 0.02)))
        await until(messages, RunEvents, lambda message: any("value" in event for event in message.events))
        await worker.send(Cancel("b"))
        await worker.send(Cancel("a"))
        # The one that waits is answered at once, before the other has stopped.
        last, events, _ = await done(messages, "b")
        assert (last.status, events) == ("cancelled", [])
        last, events, _ = await done(messages, "a")
        assert last.status == "cancelled"
        assert all(event.get("value", 0) < 1000 for event in events)
        await worker.send(Cancel("of nobody"))
        await worker.send(Run("c", steps(1)))
        assert (await done(messages, "c"))[0].status == "success"


async def test_progress_comes_in_few_messages_with_few_pictures(settings: WorkerSettings) -> None:
    async with running(settings) as (worker, messages, _):
        started = time.monotonic()
        await worker.send(Run("a", steps(300, 0.004)))
        _, before = await until(messages, Done)
        took = time.monotonic() - started
        batches = [item for item in before if isinstance(item, RunEvents)]
        assert len(batches) <= took / 0.05 + 3
        values = [event["value"] for batch in batches for event in batch.events if "value" in event]
        assert values == sorted(values) and values[-1] == 300
        await worker.send(Run("b", steps(60, 0.02)))
        _, _, previews = await done(messages, "b")
        assert 3 <= len(previews) <= 1.2 / 0.125 + 6
        assert all(item.image.startswith(b"\xff\xd8step") and item.node == "n1" for item in previews)


async def test_a_picture_that_cannot_be_made_costs_no_run(settings: WorkerSettings) -> None:
    async with running(settings) as (worker, messages, _):
        await worker.send(Run("a", steps(20, 0.01, sign=-1)))
        last, _, previews = await done(messages, "a")
        assert (last.status, previews) == ("success", [])
        await worker.send(Run("b", steps(20, 0.01)))
        assert (await done(messages, "b"))[2] != []
        assert "ValueError: a negative step" in worker.last_lines


async def test_what_is_wrong_is_said_with_every_problem(settings: WorkerSettings) -> None:
    wrong = document(n1=("WorkSteps", {"steps": "x"}), n2=("WorkShow", {"item": ["n1", 0]}), n3=("No", {}))
    async with running(settings) as (worker, messages, _):
        await worker.send(Run("a", wrong))
        last, events, _ = await done(messages, "a")
        assert (last.status, events) == ("failed", [])
        assert {problem.code for problem in last.problems} == {"invalid_input_type", "unknown_node"}
        await worker.send(Run("b", "{"))
        assert (await done(messages, "b"))[0].problems[0].code == "invalid_json"
        await worker.send(Check("1", wrong))
        answer, _ = await until(messages, Answer)
        assert (answer.id, answer.failed, answer.targets) == ("1", ("n2",), ())
        await worker.send(Plan("2", "nothing"))
        answer, _ = await until(messages, Answer)
        assert (answer.id, len(answer.problems)) == ("2", 1)


async def test_the_good_targets_run_where_others_are_refused(settings: WorkerSettings) -> None:
    half = document(
        n1=("ToyOrdered", {"low": 2.0, "high": 1.0}),
        n2=("WorkShow", {"item": ["n1", 0]}),
        n3=("WorkShow", {"item": 5}),
    )
    async with running(settings) as (worker, messages, _):
        await worker.send(Run("a", half))
        last, _, _ = await done(messages, "a")
        assert (last.status, last.outputs) == ("failed", {"n3": {"text": ["5"]}})
        assert [(problem.code, problem.node) for problem in last.problems] == [
            ("custom_validation_failed", "n1")
        ]
        await worker.send(Run("b", half, ("n3",)))
        assert (await done(messages, "b"))[0].status == "success"


async def test_a_node_that_fails_is_told_with_its_trace(settings: WorkerSettings) -> None:
    text = document(n1=("ToyFail", {"crash": True, "message": "boom"}), n2=("WorkShow", {"item": ["n1", 0]}))
    async with running(settings) as (worker, messages, _):
        await worker.send(Run("a", text))
        last, events, _ = await done(messages, "a")
        assert last.status == "failed"
        (failed,) = [event for event in events if event["event"] == "node_failed"]
        assert (failed["exception_type"], failed["exception_message"]) == ("RuntimeError", "boom")
        assert "toy_fail" in "".join(failed["traceback"])


async def test_a_plan_says_what_would_run_also_while_a_job_runs(settings: WorkerSettings) -> None:
    async with running(settings) as (worker, messages, _):
        await worker.send(Run("a", steps(2)))
        await done(messages, "a")
        await worker.send(Run("b", steps(500, 0.01)))
        await worker.send(Plan("1", steps(2)))
        answer, _ = await until(messages, Answer)
        assert {row["node"]: row["state"] for row in answer.rows} == {"n1": "unneeded", "n2": "cached"}
        await worker.send(Cancel("b"))
        await done(messages, "b")
        await worker.send(Free(unload_models=True, free_memory=True))
        for number in range(100):
            await worker.send(Plan(str(number), steps(2)))
            answer, _ = await until(messages, Answer)
            if [row["state"] for row in answer.rows] == ["run", "run"]:
                break
        else:
            raise AssertionError("nothing was freed")


async def test_heartbeats_go_on_while_a_node_is_silent(settings: WorkerSettings) -> None:
    async with running(settings) as (worker, messages, _):
        await worker.send(
            Run("a", document(n1=("WorkSleep", {"seconds": 2.5}), n2=("WorkShow", {"item": ["n1", 0]})))
        )
        _, before = await until(messages, Done)
        beats = [item for item in before if isinstance(item, Heartbeat)]
        assert len(beats) >= 2
        assert beats[-1].job == "a" and beats[-1].rss > 1_000_000
        assert set(beats[-1].cache["tiers"]) == {"device", "host"}


async def test_a_worker_describes_its_packs(settings: WorkerSettings) -> None:
    async with running(settings) as (worker, messages, _):
        await worker.send(Describe())
        found, _ = await until(messages, Descriptions)
        (pack,) = found.packs
        assert (pack["name"], pack["version"]) == ("worker-tests", None)
        assert {"WorkSteps", "ToyAdd"} <= set(pack["nodes"])


async def test_a_killed_worker_says_why_it_ended_and_what_it_said_last(settings: WorkerSettings) -> None:
    for number, words in (
        (9, "killed by signal 9 (SIGKILL); perhaps"),
        (11, "killed by signal 11 (SIGSEGV)"),
    ):
        async with running(settings) as (worker, messages, _):
            text = document(n1=("WorkDie", {"signal": number}), n2=("WorkShow", {"item": ["n1", 0]}))
            await worker.send(Run("a", text))
            async with asyncio.timeout(20):
                rest = [message async for message in messages]
            assert not any(isinstance(message, Done) for message in rest)
            assert worker.reason.startswith(words)
            assert "about to die" in worker.last_lines
            await worker.send(Run("b", steps(1)))


async def test_a_log_without_end_keeps_its_last_lines(settings: WorkerSettings) -> None:
    text = document(n1=("WorkPrint", {"text": "x" * 50, "count": 5000}), n2=("WorkShow", {"item": ["n1", 0]}))
    async with running(settings) as (worker, messages, _):
        await worker.send(Run("a", text))
        assert (await done(messages, "a"))[0].status == "success"
        await worker.send(Stop())
        async for _ in messages:
            pass
        assert len(worker.last_lines) == 200
        assert worker.last_lines[-1] == f"{'x' * 50} 4999"


async def test_a_worker_that_cannot_start_says_why(settings: WorkerSettings) -> None:
    worker = WorkerProcess(replace(settings, packs=("nothing.there:PACK",)))
    await worker.start()
    ready, _ = await until(worker.messages(), Ready)
    assert "nothing" in ready.problems[0].message
    await worker.kill()
    worker = WorkerProcess(settings, {**os.environ, "PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"})
    await worker.start()
    async with asyncio.timeout(20):
        assert [message async for message in worker.messages()] == []
    assert worker.reason.startswith("it ended with status") and worker.last_lines
    await worker.kill()


SERVER = """
import asyncio, sys, json
from pathlib import Path
from nodegraph.worker.process import WorkerProcess
from nodegraph.worker.messages import Ready, Run
from tests.nodegraph.worker.talk import settings_in, steps
async def main():
    worker = WorkerProcess(settings_in(Path(sys.argv[1])))
    await worker.start()
    async for message in worker.messages():
        if isinstance(message, Ready):
            await worker.send(Run("a", steps(10000, 0.05)))
            print(worker.pid, flush=True)
asyncio.run(main())
"""


def test_a_killed_server_leaves_no_orphan(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        os.kill(pid, 0)
        server.kill()
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        if (
            Path(f"/proc/{pid}/stat").exists()
            and Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z"
        ):
            # Ended; nobody in this container collects it.
            break
        time.sleep(0.05)
    else:
        os.kill(pid, signal.SIGKILL)
        raise AssertionError("the worker outlived its server")


async def test_ctrl_c_at_the_terminal_is_not_the_workers(settings: WorkerSettings) -> None:
    async with running(settings) as (worker, messages, _):
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGINT)
        await worker.send(Run("a", steps(1)))
        assert (await done(messages, "a"))[0].status == "success"


@pytest.mark.parametrize(
    ("status", "words"),
    [(None, ""), (0, "by itself"), (3, "status 3"), (-15, r"signal 15 \(SIGTERM\)$"), (-200, "signal 200")],
)
def test_an_exit_status_in_words(status: int | None, words: str) -> None:
    assert re.search(words, ended(status)) if words else ended(status) == ""
