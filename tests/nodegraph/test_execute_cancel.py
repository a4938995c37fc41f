"""Cancelling, closing early, and that nothing stays behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodegraph.events import NodeFinished, NodeProgress, NodeStarted, RunFinished
from nodegraph.execute import CancelToken
from nodegraph.node import Context, node
from nodegraph.registry import Registry
from tests.nodegraph.running import Bench, Prompt, n


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("nodegraph-")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    assert ours() == []
    yield
    assert ours() == []


LONG: Prompt = {
    "0": n("ToySteps", x=0.0, steps=10_000, seconds=0.002),
    "1": n("ToySteps", x=["0", 0], steps=10_000, seconds=0.002),
    "s": n("ToyShow", item=["1", 0]),
}


async def test_a_sampler_stops_within_a_step_and_nothing_else_starts(bench: Bench) -> None:
    token = CancelToken()
    seen = []
    steps = 0
    async for event in bench.events(LONG, cancel=token):
        seen.append(event)
        if isinstance(event, NodeProgress):
            steps += 1
            token.cancel()
    assert seen[-1].status == "cancelled"  # type: ignore[union-attr]
    assert seen[-1].problems == ()  # type: ignore[union-attr]
    assert steps <= 3
    assert [event.node for event in seen if isinstance(event, NodeStarted)] == ["0"]


async def test_a_node_may_notice_the_cancel_before_the_run_does(bench: Bench) -> None:
    token, ended = CancelToken(), threading.Event()
    # Listeners are called in order: the run hears of the cancel only once it is over.
    token.subscribe(lambda: ended.wait(20))
    canceller = threading.Thread(target=token.cancel)
    async for event in bench.events(LONG, cancel=token):
        if isinstance(event, NodeProgress) and canceller.ident is None:
            canceller.start()
        if isinstance(event, RunFinished):
            assert (event.status, event.problems) == ("cancelled", ())
            ended.set()
    await asyncio.to_thread(canceller.join)


async def test_a_run_that_was_cancelled_before_it_began_starts_nothing(bench: Bench) -> None:
    token = CancelToken()
    token.cancel()
    ran = await bench.run(LONG, cancel=token)
    assert ran.started == []
    assert ran.end.status == "cancelled"


async def test_check_cancelled_raises_too(bench: Bench) -> None:
    token = CancelToken()
    rounds = 0

    @node("Checks", category="test")
    def checks(ctx: Context) -> int:
        nonlocal rounds
        while True:
            ctx.check_cancelled()
            rounds += 1
            token.cancel()

    bench.registry = Registry.of(checks)
    ran = await bench.run({"1": n("Checks")}, ["1"], token)
    assert (ran.end.status, rounds) == ("cancelled", 1)


async def test_async_nodes_are_cancelled(bench: Bench) -> None:
    token = CancelToken()
    prompt = {str(i): n("ToyWait", x=i, seconds=600) for i in range(5)}
    asyncio.get_running_loop().call_later(0.05, token.cancel)
    ran = await bench.run(prompt, list(prompt), token)
    assert ran.end.status == "cancelled"
    assert ran.failed == {}
    assert bench.journal.running == 0


async def test_cancelling_from_another_thread(bench: Bench) -> None:
    token = CancelToken()
    threading.Timer(0.05, token.cancel).start()
    assert (await bench.run(LONG, cancel=token)).end.status == "cancelled"


async def test_work_that_waits_for_a_lane_is_given_up(bench: Bench) -> None:
    token = CancelToken()
    done = []

    @node("Queues", category="test")
    async def queues(ctx: Context) -> int:
        await asyncio.gather(*(ctx.on("io", work, ctx, i) for i in range(50)))
        return 1

    def work(ctx: Context, number: int) -> None:
        token.cancel()
        done.append(number)

    bench.registry = Registry.of(queues)
    ran = await bench.run({"1": n("Queues")}, ["1"], token)
    assert ran.end.status == "cancelled"
    assert len(done) < 50


async def test_what_was_done_before_is_held(bench: Bench) -> None:
    token = CancelToken()
    prompt = {"c": n("ToyCounted", x=1), "0": n("ToySteps", x=["c", 0], steps=10_000, seconds=0.002)}
    async for event in bench.events(prompt, ["0"], token):
        if isinstance(event, NodeProgress):
            token.cancel()
    ran = await bench.run({"c": prompt["c"]}, ["c"])
    assert ran.cached == ["c"]


async def test_a_cancel_after_the_end_changes_nothing(bench: Bench) -> None:
    token = CancelToken()
    ran = await bench.run({"1": n("ToyFloat", value=1)}, ["1"], token)
    token.cancel()
    assert ran.end.status == "success"


async def test_a_node_that_raises_cancelled_of_itself_fails(bench: Bench) -> None:
    from nodegraph.errors import Cancelled

    @node("GivesUp", category="test")
    def gives_up() -> int:
        raise Cancelled("enough")

    bench.registry = Registry.of(gives_up)
    ran = await bench.run({"1": n("GivesUp")}, ["1"])
    assert ran.end.status == "failed"


async def test_closing_early_cancels_and_waits(bench: Bench) -> None:
    events = bench.events(LONG)
    async for event in events:
        if isinstance(event, NodeProgress):
            break
    await events.aclose()
    assert ours() == []
    calls = bench.journal.calls["steps"]
    await asyncio.sleep(0.02)
    assert bench.journal.calls["steps"] == calls == 1


async def test_closing_before_the_first_event_is_fine(bench: Bench) -> None:
    events = bench.events(LONG)
    await events.aclose()
    other = bench.events(LONG)
    await anext(other)
    await other.aclose()


async def test_cancelling_the_task_that_iterates(bench: Bench) -> None:
    task = asyncio.create_task(bench.run(LONG))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_closing_with_async_nodes_under_way(bench: Bench) -> None:
    prompt = {"0": n("ToyWait", x=1, seconds=600), "1": n("ToySteps", x=0.0, steps=10_000, seconds=0.002)}
    events = bench.events(prompt, ["0", "1"])
    async for event in events:
        if isinstance(event, NodeProgress):
            break
    await events.aclose()
    assert bench.journal.running == 0


def mixed() -> Prompt:
    """A bit of everything that can be under way."""
    prompt: Prompt = {"x": n("ToyFloat", value=1), "r": n("ToyRange", count=4)}
    for i in range(6):
        prompt[f"d{i}"] = n("ToySteps", x=["x", 0], steps=3 + i, seconds=0.0002)
        prompt[f"i{i}"] = n("ToyIo", x=[f"d{i}", 0], seconds=0.0005)
        prompt[f"a{i}"] = n("ToyWait", x=[f"d{i}", 0], seconds=0.0005)
        prompt[f"l{i}"] = n("ToyLoop", x=[f"a{i}", 0], count=3)
        prompt[f"s{i}"] = n("ToySwitch", flag=i % 2 == 0, if_true=[f"l{i}", 0], if_false=[f"i{i}", 0])
        prompt[f"m{i}"] = n("ToyAdd", a=["r", 0], b=[f"s{i}", 0])
        prompt[f"o{i}"] = n("ToyShow", item=[f"m{i}", 0])
        prompt[f"p{i}"] = n("ToyOnLane", x=[f"s{i}", 0], lane="device")
        prompt[f"q{i}"] = n("ToyShow", item=[f"p{i}", 0])
    return prompt


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 150), st.sampled_from(["token", "thread", "close", "task"]))
def test_wherever_a_run_is_cancelled_no_thread_stays(tmp_path: Path, point: int, how: str) -> None:
    bench = Bench(tmp_path)
    token = CancelToken()

    async def consume() -> int:
        count = 0
        events = bench.events(mixed(), cancel=token)
        async for _ in events:
            count += 1
            if count == point:
                if how == "token":
                    token.cancel()
                elif how == "thread":
                    threading.Thread(target=token.cancel).start()
                elif how == "close":
                    await events.aclose()
                    break
                else:
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()
        return count

    async def main() -> None:
        task = asyncio.create_task(consume())
        try:
            await task
        except asyncio.CancelledError:
            assert how == "task"
        assert ours() == []

    asyncio.run(main())
    assert bench.journal.running == 0
    # What was kept is right: the whole gives what it gives without any of that.
    ran = asyncio.run(bench.run(mixed()))
    fresh = asyncio.run(Bench(tmp_path).run(mixed()))
    assert ran.end.ui == fresh.end.ui
    assert ran.end.status == "success"


async def test_events_of_a_finished_node_come_before_the_end(bench: Bench) -> None:
    ran = await bench.run(mixed())
    assert ran.end.status == "success"
    assert len(ran.of(NodeFinished)) == len(set(ran.finished))
