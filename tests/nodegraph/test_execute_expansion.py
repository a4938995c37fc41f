"""Sub-graphs that nodes return: loops, outer links, outputs inside, values passed in, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodegraph.events import NodeExpanded
from nodegraph.expand import child_prefix
from nodegraph.node import Context, GraphBuilder, Lazy, Many, Ref, Shown, Subgraph, node
from nodegraph.registry import Registry
from tests.nodegraph.running import Bench, Prompt, n
from tests.nodegraph.toy import Blob


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def more(bench: Bench, *functions: Callable[..., Any]) -> None:
    """Add node types to the toy pack."""
    bench.registry = Registry.of(*functions, *(spec.function for spec in bench.registry.values()))


async def test_a_sub_graph_gives_the_outputs_of_the_node_that_returned_it(bench: Bench) -> None:
    prompt = {
        "0": n("ToyFloat", value=3),
        "p": n("ToyPower", x=["0", 0], exponent=4),
        "a": n("ToyAdd", a=["p", 0]),
    }
    ran = await bench.run(prompt, ["p", "a"])
    assert ran.end.outputs == {"p": (81.0,), "a": (81.0,)}
    assert [event.children for event in ran.of(NodeExpanded)] == [("p:1", "p:2", "p:3", "p:4")]
    assert ran.finished == ["0", "p:1", "p:2", "p:3", "p:4", "p", "a"]
    assert (await bench.run(prompt, ["p", "a"])).started == []


async def test_a_sub_graph_without_nodes_gives_its_values(bench: Bench) -> None:
    ran = await bench.run({"p": n("ToyPower", x=3, exponent=0)}, ["p"])
    assert ran.value("p") == 1.0


async def test_a_loop_expands_into_itself(bench: Bench) -> None:
    ran = await bench.run({"l": n("ToyLoop", x=1, count=4)}, ["l"])
    assert ran.value("l") == 5.0
    assert "l:2:2:2:2" in ran.finished


async def test_thousands_of_turns_need_no_recursion_and_no_long_ids(bench: Bench) -> None:
    ran = await bench.run({"l": n("ToyLoop", x=0, count=2_500)}, ["l"])
    assert ran.value("l") == 2_500.0
    assert max(len(node_id) for node_id in ran.started) < 200
    assert len(set(ran.started)) == len(ran.started) == 5_001


def test_ids_of_children_are_their_parents_and_their_own() -> None:
    assert child_prefix("7", 0, 1) == "7:"
    assert child_prefix("7", 2, 3) == "7:2:"
    deep = child_prefix("7:" + "x" * 200, 0, 1)
    assert deep.startswith("7:~")
    assert deep != child_prefix("7:" + "y" * 200, 0, 1)


async def test_a_changed_loop_runs_only_its_new_turns(bench: Bench) -> None:
    @node("CountedLoop", category="test")
    def counted_loop(x: float, turn: int = 0, turns: int = 3) -> float:
        if turn >= turns:
            return x
        g = GraphBuilder()
        step = g.node("ToyCounted", x=x, name=str(turn))
        return g.build(g.node("CountedLoop", x=step, turn=turn + 1, turns=turns))  # type: ignore[return-value]

    more(bench, counted_loop)
    await bench.run({"l": n("CountedLoop", x=0, turns=3)}, ["l"])
    ran = await bench.run({"l": n("CountedLoop", x=0, turns=5)}, ["l"])
    assert ran.value("l") == 5.0
    assert bench.journal.calls == {str(turn): 1 for turn in range(5)}


@node("MakesBlob", category="test")
def makes_blob(size: int = 10, fill: int = 0) -> Blob:
    """A sub-graph with a value that the node made itself."""
    from tests.nodegraph.toy import Memory

    g = GraphBuilder()
    return g.build(g.node("ToyBlobCopy", blob=Blob(Memory(bytes([fill]) * size))))  # type: ignore[return-value]


@node("PassesBlob", category="test")
def passes_blob(blob: Blob, label: str = "") -> int:
    """A sub-graph with a value that the node was given."""
    g = GraphBuilder()
    return g.build(g.node("CountsBlob", blob=blob))  # type: ignore[return-value]


@node("PassesBlobs", category="test")
def passes_blobs(blobs: Many[Blob], label: str = "") -> Many[int]:
    """A sub-graph with items of a list that the node was given, and with the whole list."""
    g = GraphBuilder()
    for blob in blobs:
        g.node("CountsBlob", blob=blob)
    return g.build(g.node("SizesOfBlobs", blobs=blobs))  # type: ignore[return-value]


@node("SizesOfBlobs", category="test")
def sizes_of_blobs(blobs: Many[Blob]) -> Many[int]:
    return tuple(len(blob.memory.data) for blob in blobs)


@node("CountsBlob", category="test")
def counts_blob(ctx: Context, blob: Blob) -> int:
    from tests.nodegraph.toy import journal_of

    journal_of(ctx).note("counts")
    return len(blob.memory.data)


async def test_a_value_passed_in_carries_the_key_of_where_it_came_from(bench: Bench) -> None:
    more(bench, passes_blob, counts_blob)
    prompt = {"b": n("ToyBlob", size=9), "p": n("PassesBlob", blob=["b", 0], label="one")}
    assert (await bench.run(prompt, ["p"])).value("p") == 9
    # The expanding node has another key now, the value has not.
    prompt["p"] = n("PassesBlob", blob=["b", 0], label="two")
    ran = await bench.run(prompt, ["p"])
    assert ran.value("p") == 9
    assert "p:1" in ran.cached
    prompt["b"] = n("ToyBlob", size=11)
    assert (await bench.run(prompt, ["p"])).value("p") == 11
    assert bench.journal.calls["counts"] == 2


async def test_items_of_a_list_that_are_passed_in_have_keys_of_their_own(bench: Bench) -> None:
    @node("Blobs", category="test")
    def blobs(first: int = 1) -> Many[Blob]:
        from tests.nodegraph.toy import Memory

        return tuple(Blob(Memory(bytes(first + i))) for i in range(3))

    more(bench, blobs, passes_blobs, passes_blob, counts_blob, sizes_of_blobs)
    prompt = {
        "b": n("Blobs"),
        "p": n("PassesBlobs", blobs=["b", 0]),
        "q": n("PassesBlob", blob=["b", 0]),
    }
    ran = await bench.run(prompt, ["p", "q"])
    assert (ran.value("p"), ran.value("q")) == ((1, 2, 3), (1, 2, 3))
    prompt["q"] = n("PassesBlob", blob=["b", 0], label="again")
    await bench.run(prompt, ["p", "q"])
    assert bench.journal.calls["counts"] == 3


async def test_a_value_that_the_node_made_is_named_by_the_nodes_key(bench: Bench) -> None:
    more(bench, makes_blob)
    prompt = {"m": n("MakesBlob", size=5, fill=1), "s": n("ToyBlobSize", blob=["m", 0])}
    assert (await bench.run(prompt, ["s"])).value("s") == 5
    prompt["m"] = n("MakesBlob", size=6, fill=1)
    assert (await bench.run(prompt, ["s"])).value("s") == 6


async def test_open_links_reach_the_nodes_around_and_count_in_the_keys(bench: Bench) -> None:
    @node("UsesOuter", category="test")
    def uses_outer(name: str = "out") -> float:
        g = GraphBuilder()
        total = g.node("ToyAdd", a=Ref(name, outer=True), b=1)
        return g.build(total)  # type: ignore[return-value]

    @node("GivesOuter", category="test")
    def gives_outer(name: str = "out") -> float:
        return Subgraph({}, (Ref(name, outer=True),))  # type: ignore[return-value]

    @node("Nests", category="test")
    def nests() -> float:
        g = GraphBuilder()
        g.node("ToyFloat", local_id="inner", value=100)
        one = g.node("UsesOuter", local_id="out", name="inner")
        two = g.node("UsesOuter", name="far")
        return g.build(g.node("ToyAdd", a=one, b=two))  # type: ignore[return-value]

    more(bench, uses_outer, gives_outer, nests)
    prompt = {
        "out": n("ToyFloat", value=5),
        "u": n("UsesOuter"),
        "g": n("GivesOuter"),
        "o": n("ToyShow", item=["out", 0]),
    }
    ran = await bench.run(prompt, ["u", "g", "o"])
    assert (ran.value("u"), ran.value("g")) == (6.0, 5.0)
    prompt["out"] = n("ToyFloat", value=7)
    ran = await bench.run(prompt, ["u", "g", "o"])
    assert (ran.value("u"), ran.value("g")) == (8.0, 7.0)
    nested = {"far": n("ToyFloat", value=5), "x": n("Nests"), "o": n("ToyShow", item=["far", 0])}
    assert (await bench.run(nested, ["x", "o"])).value("x") == 107.0


async def test_what_follows_an_expansion_goes_by_what_the_expansion_came_to(bench: Bench) -> None:
    @node("LoadsInside", category="test")
    def loads_inside(name: str) -> Any:
        g = GraphBuilder()
        return g.build(g.node("ToyReadFile", name=name))

    more(bench, loads_inside)
    prompt = {
        "0": n("LoadsInside", name="hello.png"),
        "1": n("ToyKeywords", text=["0", 0]),
        "2": n("ToyKeywords", text=["1", 0], twice=["0", 0]),
    }
    first = await bench.run(prompt, ["2"])
    assert first.value("2") == "text=text=hello, twice=hello"
    again = await bench.run(prompt, ["2"])
    assert again.value("2") == first.value("2")
    assert again.cached == ["0:1", "1", "2"]
    (bench.runtime.folders.input / "hello.png").write_text("bye", encoding="utf-8")
    changed = await bench.run(prompt, ["2"])
    assert changed.value("2") == "text=text=bye, twice=bye"


async def test_what_follows_a_random_expansion_is_random_too(bench: Bench) -> None:
    @node("RandomWithin", category="test")
    def random_within() -> float:
        g = GraphBuilder()
        return g.build(g.node("ToyRandom"))  # type: ignore[return-value]

    more(bench, random_within)
    prompt = {
        "0": n("RandomWithin"),
        "1": n("ToyAdd", a=["0", 0]),
        "l": n("ToyRescue", x=["1", 0]),
        "2": n("ToyAdd", a=["l", 0], b=["1", 0]),
    }
    assert [(await bench.run(prompt, ["2"])).value("2") for _ in range(3)] == [2.0, 4.0, 6.0]


async def test_an_outer_node_whose_value_was_let_go_is_had_again(bench: Bench) -> None:
    @node("Late", category="test")
    def late(x: float) -> float:
        g = GraphBuilder()
        return g.build(g.node("ToyAdd", a=Ref("early", outer=True), b=x))  # type: ignore[return-value]

    more(bench, late)
    for budget in (10**7, 0):
        bench.cache.clear()
        bench.journal.calls.clear()
        bench.cache.host.total = budget
        prompt = {
            "early": n("ToyCounted", x=1),
            "1": n("ToyAdd", a=["early", 0], b=1),
            "2": n("Late", x=["1", 0]),
        }
        ran = await bench.run(prompt, ["2"])
        assert ran.value("2") == 5.0
        assert bench.journal.calls["counted"] == (1 if budget > 1000 else 2)


async def test_an_open_link_that_leads_back_is_the_nodes_error(bench: Bench) -> None:
    @node("Circle", category="test")
    def circle(name: str) -> float:
        g = GraphBuilder()
        return g.build(g.node("ToyAdd", a=Ref(name, outer=True)))  # type: ignore[return-value]

    more(bench, circle)
    prompt = {"c": n("Circle", name="after"), "after": n("ToyAdd", a=["c", 0]), "d": n("Circle", name="d")}
    ran = await bench.run(prompt, ["after", "d"])
    assert ran.failed == {"c": "dependency_cycle", "d": "dependency_cycle"}
    assert "links to node after, which depends on this node" in str(ran.end.problems)


async def test_output_nodes_inside_run_and_show_each_time(bench: Bench) -> None:
    prompt = {"0": n("ToyShowInside", x=4), "s": n("ToyShow", item=["0", 0])}
    for _ in range(2):
        ran = await bench.run(prompt, ["0", "s"])
        assert ran.end.ui == {"0:1": {"text": ("4.0",)}, "s": {"text": ("4.0",)}}
        assert ran.value("0") == 4.0


async def test_effects_inside_run_again_when_their_files_are_gone(bench: Bench) -> None:
    @node("SavesInside", category="test", output=True)
    def saves_inside(text: str) -> None:
        g = GraphBuilder()
        g.node("ToySave", text=text)
        return g.build()  # type: ignore[return-value]

    more(bench, saves_inside)
    prompt = {"0": n("SavesInside", text="x")}
    for calls in (1, 1, 2):
        await bench.run(prompt)
        assert bench.journal.calls["save"] == calls
        if calls == 1 and bench.journal.calls["run"] == 1:
            (bench.runtime.folders.output / "toy.txt").unlink()
        bench.journal.calls["run"] += 1


async def test_what_is_never_kept_inside_keeps_the_node_from_being_kept(bench: Bench) -> None:
    @node("RandomInside", category="test")
    def random_inside() -> float:
        g = GraphBuilder()
        return g.build(g.node("ToyAdd", a=g.node("ToyRandom")))  # type: ignore[return-value]

    more(bench, random_inside)
    values = [(await bench.run({"0": n("RandomInside")}, ["0"])).value("0") for _ in range(3)]
    assert values == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cycle", "feed themselves in a circle"),
        ("unknown", "there is no node type 'ToyNothing'"),
        ("missing", "the input 'a' (FLOAT) is required"),
        ("arity", "declares 1 output (FLOAT), but its sub-graph has 2 values"),
    ],
)
async def test_a_wrong_sub_graph_is_the_error_of_the_node_that_returned_it(
    bench: Bench, kind: str, words: str
) -> None:
    ran = await bench.run({"0": n("ToyBadExpansion", x=1, kind=kind), "1": n("ToyAdd", a=["0", 0])}, ["1"])
    assert list(ran.failed) == ["0"]
    assert ran.skipped == {"1": "upstream_failed"}
    assert words in ran.end.problems[0].message


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ((Ref("9"),), "of node '9', which is not in it"),
        ((Ref("9", outer=True),), "of node '9', which is not in it"),
        ((Ref("1", 4),), "output 4 of node '1', which has 1"),
        ((Ref("2"),), "is of type FLOAT, but node '2' gives STRING"),
    ],
)
async def test_wrong_outputs_of_a_sub_graph_say_what_is_wrong(
    bench: Bench, outputs: tuple[Ref, ...], words: str
) -> None:
    @node("Wrong", category="test")
    def wrong() -> float:
        nodes: dict[str, tuple[str, dict[str, Any]]] = {
            "1": ("ToyFloat", {"value": 1}),
            "2": ("ToyText", {"text": "x"}),
        }
        return Subgraph(nodes, outputs)  # type: ignore[return-value]

    more(bench, wrong)
    ran = await bench.run({"0": n("Wrong")}, ["0"])
    assert words in ran.end.problems[0].message


async def test_values_of_the_wrong_type_and_links_to_nothing_are_refused(bench: Bench) -> None:
    @node("WrongValue", category="test")
    def wrong_value(blob: Blob, outer: bool = False) -> float:
        g = GraphBuilder()
        given: Any = Ref("nowhere", outer=True) if outer else blob
        return g.build(g.node("ToyAdd", a=given))  # type: ignore[return-value]

    more(bench, wrong_value)
    prompt = {
        "b": n("ToyBlob", size=1),
        "0": n("WrongValue", blob=["b", 0]),
        "1": n("WrongValue", blob=["b", 0], outer=True),
    }
    ran = await bench.run(prompt, ["0", "1"])
    messages = " ".join(problem.message for problem in ran.end.problems)
    assert "a value of type BLOB does not fit" in messages
    assert "nowhere" in messages


async def test_a_failure_inside_is_reported_inside_and_the_node_is_skipped(bench: Bench) -> None:
    @node("FailsInside", category="test")
    def fails_inside(x: float) -> float:
        g = GraphBuilder()
        return g.build(g.node("ToyAdd", a=g.node("ToyFail", x=x)))  # type: ignore[return-value]

    more(bench, fails_inside)
    prompt = {"0": n("FailsInside", x=1), "1": n("ToyAdd", a=["0", 0])}
    ran = await bench.run(prompt, ["1"])
    assert list(ran.failed) == ["0:1"]
    assert ran.skipped == {"0:2": "upstream_failed", "0": "upstream_failed", "1": "upstream_failed"}
    assert len(ran.end.problems) == 1


async def test_a_node_that_expands_into_itself_with_the_same_inputs_is_stopped(bench: Bench) -> None:
    @node("Endless", category="test")
    def endless(x: float) -> float:
        g = GraphBuilder()
        return g.build(g.node("ToyAdd", a=g.node("Endless", x=x)))  # type: ignore[return-value]

    more(bench, endless)
    ran = await bench.run({"0": n("Endless", x=1)}, ["0"])
    assert ran.end.status == "failed"
    assert "without end" in ran.end.problems[0].message


async def test_a_mapped_node_expands_for_each_item(bench: Bench) -> None:
    prompt = {"0": n("ToyRange", count=3, start=1), "p": n("ToyPower", x=["0", 0], exponent=2)}
    ran = await bench.run(prompt, ["p"])
    assert ran.value("p") == (1.0, 4.0, 9.0)
    assert {"p:0:1", "p:1:2", "p:2:2"} <= {
        child for event in ran.of(NodeExpanded) for child in event.children
    }


async def test_a_list_from_inside_is_a_list_outside(bench: Bench) -> None:
    @node("Spreads", category="test")
    def spreads(count: int = 3) -> Many[float]:
        g = GraphBuilder()
        return g.build(g.node("ToyAdd", a=g.node("ToyRange", count=count), b=1))  # type: ignore[return-value]

    more(bench, spreads)
    prompt = {"0": n("Spreads"), "1": n("ToySum", items=["0", 0])}
    ran = await bench.run(prompt, ["0", "1"])
    assert ran.end.outputs == {"0": ((1.0, 2.0, 3.0),), "1": (6.0,)}


async def test_other_outputs_and_async_expansions(bench: Bench) -> None:
    @node("AsyncExpands", category="test")
    async def expands(x: Lazy[float]) -> float:
        g = GraphBuilder()
        split = g.node("ToySplit", x=await x)
        return g.build(replace(split, index=1))  # type: ignore[return-value]

    more(bench, expands)
    prompt = {"0": n("ToyFloat", value=2.5), "1": n("AsyncExpands", x=["0", 0])}
    assert (await bench.run(prompt, ["1"])).value("1") == 0.5


async def test_what_a_node_shows_beside_its_sub_graph_is_shown(bench: Bench) -> None:
    @node("ShowsAndExpands", category="test", output=True)
    def shows(x: float) -> float:
        g = GraphBuilder()
        return Shown({"text": ("seen",)}, g.build(g.node("ToyAdd", a=x, b=1)))  # type: ignore[return-value]

    more(bench, shows)
    prompt: Prompt = {"0": n("ShowsAndExpands", x=1), "1": n("ToyAdd", a=["0", 0])}
    ran = await bench.run(prompt, ["0", "1"])
    assert ran.value("1") == 2.0
    assert ran.end.ui["0"] == {"text": ("seen",)}
