"""Async nodes, lazy inputs, and work that async nodes put on lanes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from nodegraph.node import Context, Lazy, Many, node
from nodegraph.registry import Registry
from tests.nodegraph.running import Bench, Prompt, n


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_async_nodes_run_side_by_side(bench: Bench) -> None:
    together = asyncio.Barrier(20)

    @node("MeetsAsync", category="test")
    async def meets(x: int) -> int:
        await asyncio.wait_for(together.wait(), 20)
        return x

    bench.registry = Registry.of(meets)
    ran = await bench.run({str(i): n("MeetsAsync", x=i) for i in range(20)}, [str(i) for i in range(20)])
    assert ran.end.status == "success"


async def test_async_nodes_hold_no_lane(bench: Bench) -> None:
    waiting = asyncio.Event()
    loop = asyncio.get_running_loop()

    @node("WaitsForDevice", category="test", lane="device")
    async def waits() -> int:
        await asyncio.wait_for(waiting.wait(), 20)
        return 1

    @node("FreesOther", category="test", lane="device")
    def frees() -> int:
        loop.call_soon_threadsafe(waiting.set)
        return 2

    bench.registry = Registry.of(waits, frees)
    ran = await bench.run({"1": n("WaitsForDevice"), "2": n("FreesOther")}, ["1", "2"])
    assert (ran.value("1"), ran.value("2")) == (1, 2)


@pytest.mark.parametrize("lane", ["device", "cpu", "io"])
async def test_an_async_node_puts_blocking_work_on_a_lane(bench: Bench, lane: str) -> None:
    ran = await bench.run({"1": n("ToyOnLane", x=2.0, lane=lane)}, ["1"])
    assert ran.value("1") == f"2.0 on nodegraph-{lane}-0"


async def test_errors_of_work_on_a_lane_are_raised_at_the_await(bench: Bench) -> None:
    def stop() -> None:
        raise StopIteration("odd")

    @node("FailsOnLane", category="test")
    async def fails(ctx: Context, odd: bool = False) -> str:
        try:
            await ctx.on("cpu", stop if odd else (lambda: 1 / 0))
        except (ZeroDivisionError, RuntimeError) as error:
            return type(error).__name__
        return "nothing"

    bench.registry = Registry.of(fails)
    prompt = {"1": n("FailsOnLane"), "2": n("FailsOnLane", odd=True)}
    ran = await bench.run(prompt, ["1", "2"])
    assert (ran.value("1"), ran.value("2")) == ("ZeroDivisionError", "RuntimeError")


def switch(flag: bool) -> Prompt:
    return {
        "0": n("ToyFloat", value=1),
        "a": n("ToyCounted", x=["0", 0], name="a"),
        "b": n("ToyCounted", x=["0", 0], name="b"),
        "s": n("ToySwitch", flag=flag, if_true=["a", 0], if_false=["b", 0]),
    }


async def test_a_lazy_input_runs_only_when_it_is_awaited(bench: Bench) -> None:
    ran = await bench.run(switch(True), ["s"])
    assert ran.value("s") == 2.0
    assert bench.journal.calls == {"a": 1}
    assert "b" not in ran.started
    ran = await bench.run(switch(False), ["s"])
    assert bench.journal.calls == {"a": 1, "b": 1}


async def test_a_literal_given_to_a_lazy_input_can_be_awaited(bench: Bench) -> None:
    ran = await bench.run({"s": n("ToySwitch", flag=True, if_true=4, if_false=5)}, ["s"])
    assert ran.value("s") == 4.0


async def test_two_awaits_run_the_upstream_once(bench: Bench) -> None:
    prompt = {"0": n("ToyCounted", x=1), "t": n("ToyAwaitTwice", x=["0", 0])}
    ran = await bench.run(prompt, ["t"])
    assert ran.value("t") == 4.0
    assert bench.journal.calls["counted"] == 1


async def test_two_lazy_nodes_share_an_upstream(bench: Bench) -> None:
    prompt = {"0": n("ToyCounted", x=1), "a": n("ToyAdd", a=["0", 0])} | {
        str(i): n("ToyRescue", x=["a", 0], otherwise=i) for i in range(1, 5)
    }
    ran = await bench.run(prompt, list("1234"))
    assert [ran.value(i) for i in "1234"] == [2.0] * 4
    assert bench.journal.calls["counted"] == 1


async def test_the_error_of_an_upstream_is_raised_at_the_await(bench: Bench) -> None:
    prompt = {"f": n("ToyFail", crash=True), "r": n("ToyRescue", x=["f", 0], otherwise=7)}
    ran = await bench.run(prompt, ["r"])
    assert ran.value("r") == 7.0
    assert ran.failed == {"f": "node_failed"}


async def test_an_error_far_upstream_reaches_the_await_and_is_reported_once(bench: Bench) -> None:
    prompt = {
        "f": n("ToyFail"),
        "g": n("ToyAdd", a=["f", 0]),
        "s": n("ToySwitch", flag=True, if_true=["g", 0], if_false=0),
        "t": n("ToyAdd", a=["s", 0]),
    }
    ran = await bench.run(prompt, ["t"])
    assert ran.failed == {"f": "node_failed"}
    assert ran.skipped == {"g": "upstream_failed", "s": "upstream_failed", "t": "upstream_failed"}
    assert len(ran.end.problems) == 1


async def test_a_blocked_lazy_input_blocks_the_node_that_awaits_it(bench: Bench) -> None:
    prompt = {
        "b": n("ToyBlock", x=1.0),
        "s": n("ToySwitch", flag=True, if_true=["b", 0], if_false=0),
        "t": n("ToyAdd", a=["s", 0]),
    }
    ran = await bench.run(prompt, ["t"])
    assert ran.skipped == {"s": "blocked", "t": "blocked"}
    assert ran.end.status == "success"


async def test_a_held_upstream_of_a_lazy_input_is_not_run(bench: Bench) -> None:
    await bench.run(switch(True), ["a"])
    ran = await bench.run(switch(True), ["s"])
    assert ran.cached == ["a"]
    assert ran.started == ["s"]


async def test_lazy_upstream_that_others_use_too_runs_once(bench: Bench) -> None:
    bench.cache.host.total = 0  # nothing is held
    prompt = {
        "0": n("ToyRandom"),
        "a": n("ToyCounted", x=["0", 0]),
        "w": n("ToyWait", x=["a", 0], seconds=0.05),
        "l": n("ToyAdd", a=["a", 0]),
        "s": n("ToySwitch", flag=["f", 0], if_true=["l", 0], if_false=0),
        "f": n("ToyFlag", value=True),
        "t": n("ToyAdd", a=["s", 0], b=["w", 0]),
    }
    ran = await bench.run(prompt, ["t"])
    assert ran.value("t") == 4.0
    assert bench.journal.calls["random"] == bench.journal.calls["counted"] == 1


async def test_lazy_inputs_feed_lazy_inputs(bench: Bench) -> None:
    prompt: Prompt = {"0": n("ToyCounted", x=1)}
    for i in range(1, 60):
        prompt[str(i)] = n("ToySwitch", flag=True, if_true=[str(i - 1), 0], if_false=0)
    ran = await bench.run(prompt, ["59"])
    assert ran.value("59") == 2.0


async def test_a_lazy_input_gives_lists_as_they_are_declared(bench: Bench) -> None:
    @node("LazyTotal", category="test")
    async def total(items: Lazy[Many[float]]) -> float:
        return sum(await items)

    bench.registry = Registry.of(total, *(spec.function for spec in bench.registry.values()))
    prompt = {
        "0": n("ToyRange", count=4),
        "t": n("LazyTotal", items=["0", 0]),
        "r": n("ToyRescue", x=["0", 0]),
    }
    ran = await bench.run(prompt, ["t"])
    assert ran.value("t") == 6.0
    one = {"0": n("ToyRange", count=4), "s": n("ToySwitch", flag=True, if_true=["0", 0], if_false=0)}
    ran = await bench.run(one, ["s"])
    assert "was given a list of 4 items" in ran.end.problems[0].message
    # Mapped over a list of its own, the node gets the item at its place, the last one repeated.
    flags: Prompt = {
        "n": n("ToyRange", count=3, start=10.0),
        "m": n("ToyRange", count=2, start=1.0),
        "k": n("LazyPick", x=["n", 0], y=["m", 0]),
    }

    @node("LazyPick", category="test")
    async def pick(x: float, y: Lazy[float]) -> float:
        return x + await y

    bench.registry = Registry.of(pick, *(spec.function for spec in bench.registry.values()))
    assert (await bench.run(flags, ["k"])).value("k") == (11.0, 13.0, 14.0)


async def test_mapped_async_items_run_side_by_side_and_one_failure_ends_the_others(bench: Bench) -> None:
    together = asyncio.Barrier(5)
    ended: list[Any] = []

    @node("MeetsItem", category="test")
    async def meets(x: float, fail: bool = False) -> float:
        await asyncio.wait_for(together.wait(), 20)
        if fail and x == 2:
            raise ValueError("two")
        try:
            await asyncio.sleep(30 if fail else 0)
        finally:
            ended.append(x)
        return x * 2

    bench.registry = Registry.of(meets, *(spec.function for spec in bench.registry.values()))
    prompt = {"0": n("ToyRange", count=5), "m": n("MeetsItem", x=["0", 0])}
    assert (await bench.run(prompt, ["m"])).value("m") == (0, 2, 4, 6, 8)
    ended.clear()
    prompt["m"] = n("MeetsItem", x=["0", 0], fail=True)
    ran = await bench.run(prompt, ["m"])
    assert ran.end.problems[0].message == "ValueError: two"
    assert sorted(ended) == [0, 1, 3, 4]
