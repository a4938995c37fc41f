"""Running graphs: results, caching, failures, blocks, lanes, targets, progress."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest

from nodegraph.events import NodeProgress, RunFinished, RunStarted
from nodegraph.node import Block, Context, Many, NodeError, Range, Shown, node
from nodegraph.registry import Registry
from tests.nodegraph.running import Bench, Prompt, n


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


SMALL: Prompt = {
    "1": n("ToyInt", value=3),
    "2": n("ToyCounted", x=["1", 0]),
    "3": n("ToySplit", x=["2", 0]),
    "4": n("ToyTimes", a=["3", 0], b=["2", 0]),
    "s": n("ToyShow", item=["4", 0]),
}


async def test_a_graph_gives_its_values_and_events_in_order(bench: Bench) -> None:
    ran = await bench.run(SMALL)
    assert isinstance(ran.events[0], RunStarted)
    assert ran.events[0].to_run == ("1", "2", "3", "4", "s")
    assert ran.started == ran.finished == ["1", "2", "3", "4", "s"]
    assert ran.end.status == "success"
    assert ran.end.ui == {"s": {"text": ("16.0",)}}
    assert ran.end.outputs == {"s": ()}
    assert ran.end.problems == ()
    assert sum(isinstance(event, RunFinished) for event in ran.events) == 1


async def test_nothing_runs_where_nothing_changed(bench: Bench) -> None:
    await bench.run(SMALL)
    ran = await bench.run(SMALL)
    assert ran.started == []
    assert ran.cached == ["s"]
    assert ran.end.ui == {"s": {"text": ("16.0",)}}
    assert bench.journal.calls["counted"] == 1


async def test_only_what_depends_on_a_change_runs(bench: Bench) -> None:
    await bench.run(SMALL)
    ran = await bench.run({**SMALL, "4": n("ToyTimes", a=["3", 0], b=2)})
    assert ran.cached == ["3"]
    assert ran.started == ["4", "s"]
    ran = await bench.run(SMALL)
    assert ran.started == []


async def test_only_what_the_targets_need_runs_and_their_values_come_back(bench: Bench) -> None:
    ran = await bench.run(SMALL, ["3", "2"])
    assert set(ran.started) == {"1", "2", "3"}
    assert ran.end.outputs == {"3": (4, 0.0), "2": (4.0,)}
    again = await bench.run(SMALL, ["3", "2"])
    assert again.end.outputs == ran.end.outputs
    assert sorted(again.cached) == ["2", "3"]


async def test_the_same_sub_graph_hits_under_other_ids(bench: Bench) -> None:
    await bench.run({"1": n("ToyInt", value=3), "2": n("ToyCounted", x=["1", 0])}, ["2"])
    ran = await bench.run({"a": n("ToyInt", value=3.0), "b": n("ToyCounted", x=["a", 0])}, ["b"])
    assert ran.cached == ["b"]


async def test_two_nodes_with_the_same_key_run_once(bench: Bench) -> None:
    prompt = {"x": n("ToyInt", value=1)} | {str(i): n("ToyCounted", x=["x", 0]) for i in range(6)}
    ran = await bench.run(prompt, [str(i) for i in range(6)])
    assert bench.journal.calls["counted"] == 1
    assert ran.end.outputs == {str(i): (2.0,) for i in range(6)}
    assert len(ran.started) == 2
    assert len(ran.cached) == 5


async def test_what_is_never_kept_runs_each_time_with_all_that_follows(bench: Bench) -> None:
    prompt = {"r": n("ToyRandom"), "a": n("ToyAdd", a=["r", 0]), "b": n("ToyTimes", a=["a", 0], b=["r", 0])}
    first, second = await bench.run(prompt, ["b"]), await bench.run(prompt, ["b"])
    assert (first.value("b"), second.value("b")) == (1.0, 4.0)
    assert bench.cache.stats().tiers["host"].entries == 0


async def test_an_effect_runs_again_only_when_its_file_is_not_as_it_was(bench: Bench) -> None:
    prompt = {"1": n("ToyText", text="hello"), "s": n("ToySave", text=["1", 0])}
    path = bench.runtime.folders.output / "toy.txt"
    first = await bench.run(prompt)
    assert path.read_text() == "hello"
    held = await bench.run(prompt)
    assert held.cached == ["s"]
    assert held.end.ui == first.end.ui
    path.write_text("hallo")
    assert (await bench.run(prompt)).started == ["s"]
    assert path.read_text() == "hello"
    path.unlink()
    assert (await bench.run(prompt)).started == ["s"]
    assert bench.journal.calls["save"] == 3


async def test_a_failure_leaves_independent_branches_alone(bench: Bench) -> None:
    prompt = {
        "0": n("ToyFloat", value=1),
        "bad": n("ToyFail", x=["0", 0]),
        "after": n("ToyAdd", a=["bad", 0]),
        "last": n("ToyShow", item=["after", 0]),
        "good": n("ToyShow", item=["0", 0]),
    }
    ran = await bench.run(prompt)
    assert ran.end.status == "failed"
    assert ran.failed == {"bad": "node_failed"}
    assert ran.skipped == {"after": "upstream_failed", "last": "upstream_failed"}
    assert ran.end.ui == {"good": {"text": ("1.0",)}}
    (problem,) = ran.end.problems
    assert (problem.node, problem.class_type, problem.input) == ("bad", "ToyFail", "x")
    assert (problem.message, problem.found, problem.allowed) == ("told to fail.", "1.0", "nothing")


async def test_every_failure_is_reported(bench: Bench) -> None:
    prompt = {str(i): n("ToyFail", message=f"number {i}.") for i in range(5)}
    ran = await bench.run(prompt, list(prompt))
    assert sorted(problem.message for problem in ran.end.problems) == [f"number {i}." for i in range(5)]


async def test_any_exception_becomes_a_short_problem_with_the_error_beside_it(bench: Bench) -> None:
    ran = await bench.run({"1": n("ToyFail", message="first line\nsecond line", crash=True)}, ["1"])
    (problem,) = ran.end.problems
    assert problem.code == "node_failed"
    assert problem.message == "RuntimeError: first line"
    error = next(event.error for event in ran.events if getattr(event, "problem", None) == problem)  # type: ignore[union-attr]
    assert isinstance(error, RuntimeError)
    assert error.__traceback__ is not None


async def test_a_failed_node_runs_again_the_next_time(bench: Bench) -> None:
    prompt = {"1": n("ToyFail")}
    await bench.run(prompt, ["1"])
    assert (await bench.run(prompt, ["1"])).started == ["1"]


class Pair(NamedTuple):
    one: int
    two: int


class Single(NamedTuple):
    only: int


def given_back(value: Any) -> Any:
    """What the nodes below return."""
    return {"three": (1, 2, 3), "nothing": None, "text": "ab", "one": 1, "list": [1, 2]}[value]


@node("ReturnsOne", category="test")
def returns_one(value: str = "one") -> int:
    return given_back(value)  # type: ignore[no-any-return]


@node("ReturnsNone", category="test")
def returns_none(value: str = "nothing") -> None:
    given_back(value)
    return given_back(value)  # type: ignore[no-any-return]


@node("ReturnsPair", category="test")
def returns_pair(value: str = "list") -> Pair:
    return given_back(value)  # type: ignore[no-any-return]


@node("ReturnsMany", category="test")
def returns_many(value: str = "list") -> Many[int]:
    return given_back(value)  # type: ignore[no-any-return]


@node("ReturnsSingle", category="test")
def returns_single() -> Single:
    return Single(5)


@node("ReturnsShownOnly", category="test", output=True)
def returns_shown_only() -> int:
    return Shown({"text": ("x",)})  # type: ignore[return-value]


@node("ReturnsShownWithValue", category="test", output=True)
def returns_shown_with_value() -> int:
    return Shown({"text": ("x",)}, 7)  # type: ignore[return-value]


RETURNS = Registry.of(
    returns_one,
    returns_none,
    returns_pair,
    returns_many,
    returns_single,
    returns_shown_only,
    returns_shown_with_value,
)


@pytest.mark.parametrize(
    ("class_type", "inputs", "words"),
    [
        ("ReturnsOne", {"value": "nothing"}, "ReturnsOne returned nothing for its output 'INT'"),
        ("ReturnsNone", {"value": "one"}, "ReturnsNone declares 0 outputs, but it returned 1 value"),
        (
            "ReturnsPair",
            {"value": "three"},
            "ReturnsPair declares 2 outputs (one, two), but it returned 3 values",
        ),
        ("ReturnsPair", {"value": "text"}, "declares 2 outputs (one, two), but it returned 1 value"),
        ("ReturnsPair", {"value": "nothing"}, "declares 2 outputs (one, two), but it returned 0 values"),
        ("ReturnsMany", {"value": "one"}, "must return a list for its output 'INT', not a int"),
        ("ReturnsShownOnly", {}, "declares 1 output (INT), but it returned only what it shows"),
    ],
)
async def test_a_result_of_the_wrong_shape_is_an_error_of_its_node(
    bench: Bench, class_type: str, inputs: Any, words: str
) -> None:
    bench.registry = RETURNS
    ran = await bench.run({"7": n(class_type, **inputs)}, ["7"])
    assert ran.failed == {"7": "wrong_result"}
    assert words in str(ran.end.problems[0])


async def test_results_of_the_right_shape_are_taken(bench: Bench) -> None:
    bench.registry = RETURNS
    prompt = {
        "pair": n("ReturnsPair"),
        "many": n("ReturnsMany"),
        "single": n("ReturnsSingle"),
        "shown": n("ReturnsShownWithValue"),
    }
    ran = await bench.run(prompt, list(prompt))
    assert ran.end.outputs == {"pair": (1, 2), "many": ((1, 2),), "single": (5,), "shown": (7,)}
    assert ran.end.ui == {"shown": {"text": ("x",)}}


async def test_a_block_skips_what_follows_and_nothing_else(bench: Bench) -> None:
    prompt = {
        "1": n("ToyBlock", x=1.0),
        "2": n("ToyAdd", a=["1", 0]),
        "s": n("ToyShow", item=["2", 0]),
        "t": n("ToyShow", item="other"),
    }
    for _ in range(2):
        ran = await bench.run(prompt)
        assert ran.skipped == {"2": "blocked", "s": "blocked"}
        assert ran.end.ui == {"t": {"text": ("other",)}}
        assert (ran.end.status, ran.end.problems) == ("success", ())


async def test_the_message_of_a_block_is_reported_once(bench: Bench) -> None:
    prompt = {
        "1": n("ToyBlock", x=1.0, message="no face was found."),
        "2": n("ToyAdd", a=["1", 0]),
        "3": n("ToyAdd", a=["1", 0], b=1),
        "4": n("ToyAdd", a=["2", 0]),
    }
    for _ in range(2):
        ran = await bench.run(prompt, ["3", "4"])
        assert [problem.message for problem in ran.end.problems] == ["no face was found."]
        assert ran.end.status == "failed"
        assert ran.skipped == {"2": "blocked", "3": "blocked", "4": "blocked"}


async def test_one_output_may_be_blocked_and_the_other_not(bench: Bench) -> None:
    @node("Half", category="test")
    def half() -> Pair:
        return Pair(Block(), 2)  # type: ignore[arg-type]

    bench.registry = Registry.of(half, *(spec.function for spec in bench.registry.values()))
    prompt = {"h": n("Half"), "a": n("ToyShow", item=["h", 0]), "b": n("ToyShow", item=["h", 1])}
    ran = await bench.run(prompt)
    assert ran.skipped == {"a": "blocked"}
    assert ran.end.ui == {"b": {"text": ("2",)}}


async def test_files_are_written_while_the_next_sampler_runs(bench: Bench) -> None:
    together = threading.Barrier(2, timeout=20)

    @node("MeetsOnDevice", category="test", lane="device")
    def sampler(x: int) -> int:
        if x == 2:
            together.wait()
        return x

    @node("MeetsOnIo", category="test", lane="io", output=True)
    def writer(x: int) -> Shown:
        if x == 1:
            together.wait()
        return Shown({"text": (str(x),)})

    bench.registry = Registry.of(sampler, writer)
    prompt = {
        "1": n("MeetsOnDevice", x=1),
        "2": n("MeetsOnIo", x=["1", 0]),
        "3": n("MeetsOnDevice", x=2),
        "4": n("MeetsOnIo", x=["3", 0]),
    }
    ran = await bench.run(prompt)
    assert ran.end.status == "success"


async def test_the_device_and_io_lanes_do_one_thing_at_a_time(bench: Bench) -> None:
    prompt = {str(i): n("ToyDevice", x=float(i), seconds=0.005) for i in range(8)}
    await bench.run(prompt, list(prompt))
    assert bench.journal.most_at_once == 1
    assert bench.journal.threads["device"] == {"nodegraph-device-0"}
    prompt = {str(i): n("ToyIo", x=float(i), seconds=0.005) for i in range(8)}
    await bench.run(prompt, list(prompt))
    assert bench.journal.most_at_once == 1


async def test_the_cpu_lane_is_a_pool(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    together = threading.Barrier(4, timeout=20)

    @node("Meets", category="test")
    def meets(x: int) -> int:
        return together.wait()

    bench.registry = Registry.of(meets)
    ran = await bench.run({str(i): n("Meets", x=i) for i in range(4)}, list("0123"))
    assert sorted(ran.value(i) for i in "0123") == [0, 1, 2, 3]


async def test_the_device_goes_depth_first_and_in_the_same_order_each_time(bench: Bench) -> None:
    prompt: Prompt = {"x": n("ToyFloat", value=1)}
    for branch in "abc":
        prompt[f"{branch}1"] = n("ToySteps", x=["x", 0], steps=ord(branch))
        prompt[f"{branch}2"] = n("ToySteps", x=[f"{branch}1", 0], steps=1)
    for _ in range(3):
        ran = await bench.run(prompt, ["a2", "b2", "c2"])
        assert ran.started == ["x", "a1", "a2", "b1", "b2", "c1", "c2"]
        bench.cache.clear()


async def test_progress_has_the_first_the_last_and_few_between(bench: Bench) -> None:
    ran = await bench.run({"1": n("ToySteps", x=0.0, steps=10_000)}, ["1"])
    steps = ran.of(NodeProgress)
    assert (steps[0].value, steps[0].total, steps[0].preview) == (1, 10_000, 1.0)
    assert (steps[-1].value, steps[-1].preview) == (10_000, 10_000.0)
    seconds = next(event.seconds for event in ran.events if type(event).__name__ == "NodeFinished")  # type: ignore[union-attr]
    assert len(steps) <= 2 + seconds * 31


async def test_progress_that_was_kept_back_comes_before_the_end(bench: Bench) -> None:
    @node("Stops", category="test")
    def stops(ctx: Context) -> int:
        for step in range(5):
            ctx.progress(step, 100)
        return 1

    bench.registry = Registry.of(stops)
    ran = await bench.run({"1": n("Stops")}, ["1"])
    assert [event.value for event in ran.of(NodeProgress)] == [0, 4]


async def test_a_node_may_read_only_what_it_declares(bench: Bench) -> None:
    @node("Curious", category="test")
    def curious(ctx: Context, what: str = "node_id") -> int:
        getattr(ctx, what)
        return len(ctx.graph.nodes)

    bench.registry = Registry.of(curious)
    for what in ("node_id", "document"):
        ran = await bench.run({"1": n("Curious", what=what)}, ["1"])
        assert f"reads=({what!r},)" in ran.end.problems[0].message
    assert (await bench.run({"1": n("Curious", what="graph")}, ["1"])).value("1") == 1


async def test_a_node_reads_its_id_and_the_document_as_they_were_given(bench: Bench) -> None:
    ran = await bench.run({"1": n("ToyFloat"), "d": n("ToyDocument", x=["1", 0])})
    assert ran.end.ui == {"d": {"text": ("d", "2")}}


async def test_keyword_nodes_get_what_they_were_given(bench: Bench) -> None:
    prompt = {"0": n("ToyInt", value=4), "1": n("ToyKeywords", prefix="p ", b=2, a=["0", 0])}
    assert (await bench.run(prompt, ["1"])).value("1") == "p a=4, b=2"


async def test_an_optional_input_that_is_not_given_is_none(bench: Bench) -> None:
    prompt = {"0": n("ToyBlob", size=5), "1": n("ToyBlobSize", blob=["0", 0])}
    assert (await bench.run(prompt, ["1"])).value("1") == 5


async def test_many_events_do_not_hold_the_loop(bench: Bench) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    other = asyncio.create_task(tick())
    prompt = {"0": n("ToySteps", x=0.0, steps=200, seconds=0.0005), "s": n("ToyShow", item=["0", 0])}
    await bench.run(prompt)
    other.cancel()
    assert ticks > 5


async def test_two_runs_at_once_share_a_cache(bench: Bench) -> None:
    runs = await asyncio.gather(*(bench.run({**SMALL, "1": n("ToyInt", value=i)}) for i in range(4)))
    assert [run.end.ui["s"]["text"] for run in runs] == [(str(float((i + 1) ** 2)),) for i in range(4)]


async def test_a_chain_of_ten_thousand_runs(bench: Bench) -> None:
    chain = {"0": n("ToyInt", value=0)} | {
        str(i): n("ToyAdd", a=[str(i - 1), 0], b=1) for i in range(1, 10_000)
    }
    ran = await bench.run(chain, ["9999"])
    assert ran.value("9999") == 9999.0
    assert (await bench.run(chain, ["9999"])).started == []


async def test_a_failure_at_the_head_of_a_long_chain_skips_it_all(bench: Bench) -> None:
    chain = {"0": n("ToyFail")} | {str(i): n("ToyAdd", a=[str(i - 1), 0]) for i in range(1, 3_000)}
    ran = await bench.run(chain, ["2999"])
    assert len(ran.skipped) == 2_999


async def test_three_hundred_branches_run(bench: Bench) -> None:
    prompt: Prompt = {"x": n("ToyFloat", value=1)}
    for branch in range(300):
        prompt[f"b{branch}"] = n("ToyAdd", a=["x", 0], b=branch)
        prompt[f"s{branch}"] = n("ToyShow", item=[f"b{branch}", 0])
    ran = await bench.run(prompt)
    assert len(ran.end.ui) == 300
    assert (await bench.run(prompt)).started == []


async def test_recompute_seconds_are_those_of_the_call(bench: Bench) -> None:
    @node("Sleeps", category="test")
    def sleeps(x: Annotated[int, Range(0, 9)] = 0) -> int:
        time.sleep(0.02)
        return x

    bench.registry = Registry.of(sleeps)
    await bench.run({"1": n("Sleeps")}, ["1"])
    held = bench.cache.get(bench.keys({"1": n("Sleeps")}, ["1"]).by_node["1"])
    assert held is not None
    assert held.seconds >= 0.02


async def test_a_node_error_keeps_its_code(bench: Bench) -> None:
    @node("Coded", category="test")
    def coded() -> int:
        raise NodeError("cannot.", code="special", hint="Do otherwise.")

    bench.registry = Registry.of(coded)
    ran = await bench.run({"1": n("Coded") | {"_meta": {"title": "My node"}}}, ["1"])
    assert str(ran.end.problems[0]) == 'node 1 "My node" (Coded): cannot. Do otherwise.'
    assert ran.failed == {"1": "special"}
