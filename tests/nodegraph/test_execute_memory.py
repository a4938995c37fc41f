"""Values live no longer than their last use, and running out of memory is tried once more."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nodegraph.cache import Cache
from nodegraph.events import NodeFinished
from nodegraph.node import Context, GraphBuilder, Many, Ref, node
from nodegraph.registry import Registry
from nodegraph.resources import Resources
from tests.nodegraph.running import Bench, Prompt, n
from tests.nodegraph.toy import Blob, Memory, Pool


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(autouse=True)
def without_the_garbage_collector() -> Iterator[None]:
    """Values must go when their last user lets go of them, not when the collector comes round."""
    gc.disable()
    yield
    gc.enable()


class Births:
    """Nodes that make and use blobs, and how many of their blobs are alive at each call."""

    def __init__(self) -> None:
        self.alive: weakref.WeakSet[Memory] = weakref.WeakSet()
        self.seen: list[int] = []

    def make(self, size: int) -> Blob:
        blob = Blob(Memory(bytes(size)))
        self.alive.add(blob.memory)
        return blob

    def functions(self) -> tuple[Callable[..., Any], ...]:
        @node("Born", category="test")
        def born(size: int = 10) -> Blob:
            return self.make(size)

        @node("Next", category="test")
        def follow(blob: Blob) -> Blob:
            self.seen.append(len(self.alive))
            return self.make(len(blob.memory.data) + 1)

        @node("NextAsync", category="test")
        async def follow_async(blob: Blob) -> Blob:
            self.seen.append(len(self.alive))
            return self.make(len(blob.memory.data) + 1)

        @node("LoopBlobs", category="test")
        def loop(blob: Blob, turns: int) -> Blob:
            self.seen.append(len(self.alive))
            if not turns:
                return blob
            g = GraphBuilder()
            # A value that the node makes itself, beside the link.
            step = g.node("NextOf", blob=blob, other=self.make(3))
            return g.build(g.node("LoopBlobs", blob=step, turns=turns - 1))  # type: ignore[return-value]

        @node("NextOf", category="test")
        def follow_of(blob: Blob, other: Blob) -> Blob:
            return self.make(len(blob.memory.data) + len(other.memory.data))

        @node("Several", category="test")
        def several() -> Many[Blob]:
            return tuple(self.make(5) for _ in range(3))

        return born, follow, follow_async, loop, follow_of, several


@pytest.fixture
def births(bench: Bench) -> Births:
    births = Births()
    functions = [spec.function for spec in bench.registry.values()]
    bench.registry = Registry.of(*births.functions(), *functions)
    return births


@pytest.mark.parametrize("kind", ["Next", "NextAsync"])
async def test_a_value_is_let_go_after_its_last_use(bench: Bench, births: Births, kind: str) -> None:
    bench.cache = Cache(1, 1)
    prompt = {"0": n("Born")} | {str(i): n(kind, blob=[str(i - 1), 0]) for i in range(1, 30)}
    prompt["s"] = n("ToyBlobSize", blob=["29", 0])
    ran = await bench.run(prompt, ["s"])
    assert ran.value("s") == 39
    # The input of the call, and perhaps the one before, whose thread has not left its call yet.
    assert max(births.seen) <= 2
    assert len(births.alive) == 0


async def test_a_value_stays_for_as_long_as_somebody_needs_it(bench: Bench, births: Births) -> None:
    bench.cache = Cache(1, 1)
    prompt = {"0": n("Born")} | {str(i): n("Next", blob=[str(i - 1), 0]) for i in range(1, 10)}
    prompt["s"] = n("ToyBlobSize", blob=["9", 0], other=["0", 0])
    ran = await bench.run(prompt, ["s", "0"])
    assert ran.value("s") == 29
    assert max(births.seen) <= 3
    assert len(births.alive) == 1
    del ran
    assert len(births.alive) == 0


async def test_values_that_the_cache_holds_stay_and_are_the_same(bench: Bench, births: Births) -> None:
    prompt = {"0": n("Born"), "1": n("Next", blob=["0", 0]), "2": n("Next", blob=["1", 0])}
    ran = await bench.run(prompt, ["2"])
    assert len(births.alive) == 3
    held = bench.cache.get(bench.keys(prompt, ["2"]).by_node["2"])
    assert held is not None
    assert held.outputs[0] is ran.value("2")
    bench.cache.clear()
    del held
    assert len(births.alive) == 1


async def test_loops_do_not_pile_up_values(bench: Bench, births: Births) -> None:
    bench.cache = Cache(1, 1)
    ran = await bench.run({"0": n("Born"), "l": n("LoopBlobs", blob=["0", 0], turns=40)}, ["l"])
    assert len(ran.value("l").memory.data) == 10 + 3 * 40
    assert max(births.seen) <= 4
    assert len(births.alive) == 1


async def test_items_of_lists_are_let_go_too(bench: Bench, births: Births) -> None:
    bench.cache = Cache(1, 1)
    prompt: Prompt = {"0": n("Several"), "1": n("Next", blob=["0", 0]), "2": n("ToyBlobSize", blob=["1", 0])}
    ran = await bench.run(prompt, ["2"])
    assert ran.value("2") == (6, 6, 6)
    assert len(births.alive) == 0


async def test_a_failed_or_abandoned_run_leaves_nothing(bench: Bench, births: Births) -> None:
    bench.cache = Cache(1, 1)
    prompt = {
        "0": n("Born"),
        "1": n("Next", blob=["0", 0]),
        "f": n("ToyFail"),
        "2": n("ToyBlobSize", blob=["1", 0], other=["0", 0]),
        "3": n("ToyTimes", a=["2", 0], b=["f", 0]),
    }
    await bench.run(prompt, ["3"])
    assert len(births.alive) == 0
    events = bench.events(prompt, ["3", "1"])
    async for event in events:
        if isinstance(event, NodeFinished):
            break
    await events.aclose()
    del event
    assert len(births.alive) == 0


async def test_values_in_use_are_not_moved_and_budgets_hold_during_a_run(bench: Bench) -> None:
    bench.cache = Cache(30_000, 12_000)
    prompt: Prompt = {"0": n("ToyBlob", size=10_000, device="cuda")}
    for i in range(1, 6):
        prompt[str(i)] = n("ToyBlobCopy", blob=[str(i - 1), 0])
    prompt["s"] = n("ToyBlobSize", blob=["5", 0])
    async for _ in bench.events(prompt, ["s"]):
        tiers = bench.cache.stats().tiers
        assert tiers["device"].bytes <= 12_000
        assert tiers["host"].bytes <= 30_000
    assert bench.cache.stats().tiers["device"].entries >= 1


async def test_a_value_that_found_no_room_is_kept_once_it_is_used(bench: Bench) -> None:
    bench.cache = Cache(12_000, 1)
    prompt = {
        "0": n("ToyBlob", size=10_000, fill=1),
        "1": n("ToyBlob", size=9_000, fill=2, seconds=0.02),
        "s": n("ToyBlobSize", blob=["0", 0], other=["1", 0]),
    }
    await bench.run(prompt, ["s"])
    keys = bench.keys(prompt, ["s"]).by_node
    assert bench.cache.peek(keys["1"]) == "host"


async def test_results_come_back_to_the_device_for_the_next_run(bench: Bench) -> None:
    bench.cache = Cache(10**6, 12_000)
    prompt: Prompt = {
        "0": n("ToyBlob", size=10_000, device="cuda"),
        "1": n("ToyBlob", size=9_000, device="cuda", fill=1, seconds=0.03),
        "2": n("ToyBlobSize", blob=["0", 0], other=["1", 0]),
    }
    await bench.run(prompt, ["0"])
    await bench.run(prompt, ["2"])
    keys = bench.keys(prompt, ["2"]).by_node
    assert bench.cache.peek(keys["0"]) == "host"
    ran = await bench.run(prompt, ["0"])
    assert ran.cached == ["0"]
    assert ran.value("0").device == "cuda"
    assert bench.journal.calls["blob"] == 2


async def test_out_of_memory_frees_what_can_be_freed_and_tries_once_more(bench: Bench) -> None:
    bench.resources = Resources(bench.runtime)
    pool = bench.resources.get(Pool)
    pool.bytes = 5_000
    other = {"b": n("ToyBlob", size=1_000)}
    await bench.run(other, ["b"])
    ran = await bench.run({"0": n("ToyOutOfMemory", x=3, times=1)}, ["0"])
    assert ran.value("0") == 3.0
    assert ran.end.status == "success"
    assert pool.bytes == 0
    assert bench.cache.peek(bench.keys(other, ["b"]).by_node["b"]) is None
    assert bench.journal.calls["memory"] == 2
    bench.resources.close()


async def test_out_of_memory_twice_is_a_clear_error(bench: Bench) -> None:
    ran = await bench.run({"0": n("ToyOutOfMemory", times=5), "1": n("ToyFloat", value=1)}, ["0", "1"])
    assert ran.failed == {"0": "out_of_memory"}
    (problem,) = ran.end.problems
    assert "memory ran out and freeing what could be freed did not help" in problem.message
    assert problem.hint is not None
    assert ran.value("1") == 1.0
    assert bench.journal.calls["memory"] == 2


@pytest.mark.parametrize(
    "words", ["CUDA out of memory. Tried to allocate 2 GiB", "DefaultCPUAllocator: can't allocate memory"]
)
async def test_libraries_own_words_for_it_are_known_in_async_nodes_too(bench: Bench, words: str) -> None:
    calls = []

    class OutOfMemoryError(RuntimeError):
        pass

    @node("ToldSo", category="test")
    async def told(ctx: Context, x: int = 1) -> int:
        calls.append(x)
        if len(calls) == 1:
            raise OutOfMemoryError("no more") if x == 2 else RuntimeError(words)
        return x

    bench.registry = Registry.of(told)
    assert (await bench.run({"0": n("ToldSo")}, ["0"])).value("0") == 1
    calls.clear()
    assert (await bench.run({"0": n("ToldSo", x=2)}, ["0"])).value("0") == 2


async def test_resources_are_opened_once_a_session_and_closed_with_it(bench: Bench) -> None:
    resources = Resources(bench.runtime)
    assert resources.get(Pool) is resources.get(Pool)
    pool = resources.get(Pool)
    assert resources.held() == 0
    pool.bytes = 100
    assert (resources.held(), resources.release(30), pool.bytes) == (100, 30, 70)
    resources.close()
    assert pool.closed
    with pytest.raises(RuntimeError, match="session is closed"):
        resources.get(Pool)


async def test_a_run_without_resources_closes_its_own(bench: Bench) -> None:
    pools = []

    @node("KeepsPool", category="test")
    def keeps(ctx: Context) -> int:
        pools.append(ctx.resource(Pool))
        return ctx.make_room(10**9)

    bench.registry = Registry.of(keeps)
    bench.cache.put(b"other", (Blob(Memory(bytes(500)), "cuda"),), {}, 1.0)
    assert (await bench.run({"0": n("KeepsPool")}, ["0"])).value("0") > 500
    assert pools[0].closed


async def test_a_held_outer_value_is_used_where_it_is_needed_late(bench: Bench, births: Births) -> None:
    @node("LateBlob", category="test")
    def late(blob: Blob) -> Blob:
        g = GraphBuilder()
        return g.build(g.node("NextOf", blob=Ref("0", outer=True), other=blob))  # type: ignore[return-value]

    bench.registry = Registry.of(late, *(spec.function for spec in bench.registry.values()))
    prompt = {"0": n("Born"), "1": n("Next", blob=["0", 0]), "2": n("LateBlob", blob=["1", 0])}
    assert len((await bench.run(prompt, ["2"])).value("2").memory.data) == 21
