"""Implicit mapping over lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodegraph.events import NodeStarted
from nodegraph.node import Block, GraphBuilder, Many, node
from nodegraph.registry import Registry
from tests.nodegraph.running import Bench, n


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_list_maps_what_it_feeds_and_a_many_input_takes_it_whole(bench: Bench) -> None:
    prompt = {
        "0": n("ToyRange", count=3),
        "1": n("ToyAdd", a=["0", 0], b=10),
        "2": n("ToyTimes", a=["1", 0], b=["0", 0]),
        "3": n("ToySum", items=["2", 0]),
    }
    ran = await bench.run(prompt, ["0", "1", "2", "3"])
    assert ran.end.outputs == {
        "0": ((0.0, 1.0, 2.0),),
        "1": ((10.0, 11.0, 12.0),),
        "2": ((0.0, 11.0, 24.0),),
        "3": (35.0,),
    }
    calls = [(event.item, event.items) for event in ran.of(NodeStarted) if event.node == "1"]
    assert calls == [(0, 3), (1, 3), (2, 3)]
    again = await bench.run(prompt, ["3", "1"])
    assert again.started == []
    assert again.value("1") == (10.0, 11.0, 12.0)


async def test_shorter_lists_repeat_their_last_item(bench: Bench) -> None:
    prompt = {
        "0": n("ToyRange", count=4),
        "1": n("ToyRange", count=2, start=10),
        "2": n("ToyAdd", a=["0", 0], b=["1", 0]),
    }
    assert (await bench.run(prompt, ["2"])).value("2") == (10.0, 12.0, 13.0, 14.0)


async def test_an_empty_list_gives_empty_lists(bench: Bench) -> None:
    prompt = {
        "0": n("ToyRange", count=0),
        "1": n("ToyRange", count=2),
        "2": n("ToyAdd", a=["1", 0], b=["0", 0]),
        "3": n("ToySum", items=["2", 0]),
        "4": n("ToySplit", x=["2", 0]),
        "s": n("ToyShow", item=["2", 0]),
    }
    ran = await bench.run(prompt, ["2", "3", "4", "s"])
    assert ran.end.outputs == {"2": ((),), "3": (0.0,), "4": ((), ()), "s": ()}
    assert ran.end.ui == {}


async def test_a_single_value_for_a_many_input_is_a_list_of_one(bench: Bench) -> None:
    prompt = {"0": n("ToyFloat", value=3), "1": n("ToySum", items=["0", 0]), "2": n("ToySum", items=4)}
    ran = await bench.run(prompt, ["1", "2"])
    assert (ran.value("1"), ran.value("2")) == (3.0, 4.0)


async def test_several_outputs_are_several_lists(bench: Bench) -> None:
    prompt = {"0": n("ToyRange", count=2, start=1.5), "1": n("ToySplit", x=["0", 0])}
    assert (await bench.run(prompt, ["1"])).end.outputs == {"1": ((1, 2), (0.5, 0.5))}


async def test_lists_of_a_mapped_node_are_joined(bench: Bench) -> None:
    prompt = {"0": n("ToyRange", count=3), "1": n("ToyRange", count=2, start=["0", 0])}
    assert (await bench.run(prompt, ["1"])).value("1") == (0.0, 1.0, 1.0, 2.0, 2.0, 3.0)


async def test_a_mapped_output_node_shows_everything(bench: Bench) -> None:
    prompt = {
        "0": n("ToyRange", count=3),
        "s": n("ToyShow", item=["0", 0]),
        "t": n("ToyShowAll", items=["0", 0]),
    }
    ran = await bench.run(prompt)
    assert ran.end.ui == {"s": {"text": ("0.0", "1.0", "2.0")}, "t": {"text": ("0.0", "1.0", "2.0")}}


async def test_each_item_may_be_a_value_a_block_or_a_sub_graph(bench: Bench) -> None:
    @node("Mixed", category="test")
    def mixed(x: float) -> float:
        if x == 1:
            return Block("no one.")  # type: ignore[return-value]
        if x == 2:
            g = GraphBuilder()
            return g.build(g.node("ToyTimes", a=x, b=x))  # type: ignore[return-value]
        return x

    bench.registry = Registry.of(mixed, *(spec.function for spec in bench.registry.values()))
    prompt = {
        "0": n("ToyRange", count=4),
        "m": n("Mixed", x=["0", 0]),
        "p": n("ToyAdd", a=["m", 0], b=1),
        "s": n("ToyShow", item=["p", 0]),
    }
    for _ in range(2):
        ran = await bench.run(prompt, ["p", "s"])
        zero, one, two, three = ran.value("p")
        assert (zero, two, three) == (1.0, 5.0, 4.0)
        assert isinstance(one, Block)
        assert ran.end.ui == {"s": {"text": ("1.0", "5.0", "4.0")}}
        assert ran.skipped == {}
        assert [problem.message for problem in ran.end.problems] == ["no one."]


async def test_a_block_in_a_whole_list_blocks_the_node_that_takes_it(bench: Bench) -> None:
    @node("Holes", category="test")
    def holes() -> Many[float]:
        return (1.0, Block(), 3.0)  # type: ignore[return-value]

    bench.registry = Registry.of(holes, *(spec.function for spec in bench.registry.values()))
    prompt = {"0": n("Holes"), "1": n("ToySum", items=["0", 0])}
    assert (await bench.run(prompt, ["1"])).skipped == {"1": "blocked"}


async def test_a_mapped_node_whose_every_item_is_blocked_stays_a_list(bench: Bench) -> None:
    prompt = {
        "0": n("ToyRange", count=2),
        "b": n("ToyBlock", x=["0", 0], message="none."),
        "1": n("ToyAdd", a=["b", 0]),
    }
    ran = await bench.run(prompt, ["1"])
    assert ran.skipped == {"1": "blocked"}
    assert [type(item) for item in ran.value("1")] == [Block, Block]
    assert [problem.message for problem in ran.end.problems] == ["none."]


async def test_one_failing_item_fails_the_node(bench: Bench) -> None:
    @node("FailsAtTwo", category="test")
    def fails(x: float) -> float:
        if x == 2:
            raise ValueError("two")
        return x

    bench.registry = Registry.of(fails, *(spec.function for spec in bench.registry.values()))
    prompt = {"0": n("ToyRange", count=5), "1": n("FailsAtTwo", x=["0", 0]), "s": n("ToyShow", item=["1", 0])}
    ran = await bench.run(prompt)
    assert ran.failed == {"1": "node_failed"}
    assert [event.item for event in ran.of(NodeStarted) if event.node == "1"] == [0, 1, 2]
