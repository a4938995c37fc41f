"""Keys: what is in them, and what is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodegraph.errors import ValidationError
from nodegraph.fingerprint import Fingerprinter, Unknowable, encode, fingerprint
from nodegraph.node import NodeError, node
from nodegraph.registry import Registry
from tests.nodegraph.running import Bench, n


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def encoded(literal: Any) -> bytes:
    out: list[bytes] = []
    encode(literal, out)
    return b"".join(out)


LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def same(one: Any, other: Any) -> bool:
    """Equal in value and type, at every depth; order of a mapping set aside."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float):
        return one.hex() == float(other).hex()
    return bool(one == other)


@given(LITERALS, LITERALS)
def test_forms_of_literals_agree_exactly_where_the_literals_do(one: Any, other: Any) -> None:
    assert (encoded(one) == encoded(other)) == same(one, other)


def test_true_one_and_the_text_1_never_collide() -> None:
    literals: list[Any] = [True, 1, "1", 1.0, [1], b"1", None, False, 0, "", [], {}]
    forms = [encoded(item) for item in literals]
    assert len(set(forms)) == len(forms)


def test_the_order_of_a_mapping_does_not_matter() -> None:
    assert encoded({"a": 1, "b": [2]}) == encoded({"b": [2], "a": 1})


def test_what_is_no_literal_is_refused() -> None:
    with pytest.raises(Unknowable, match="object is not a literal"):
        encoded(object())


def test_whole_numbers_and_floats_agree_for_a_float_input(bench: Bench) -> None:
    whole = bench.keys({"1": n("ToyFloat", value=7), "s": n("ToyShow", item=["1", 0])})
    exact = bench.keys({"1": n("ToyFloat", value=7.0), "s": n("ToyShow", item=["1", 0])})
    text = bench.keys({"1": n("ToyFloat", value="7"), "s": n("ToyShow", item=["1", 0])})
    assert whole.by_node == exact.by_node == text.by_node


def test_ids_titles_order_and_layout_are_not_in_the_key(bench: Bench) -> None:
    one = bench.keys(
        {"1": n("ToyInt", value=3), "2": n("ToyAdd", a=["1", 0]), "s": n("ToyShow", item=["2", 0])}
    )
    other = bench.keys(
        {
            "show": n("ToyShow", item=["x", 0]),
            "x": n("ToyAdd", a=["y", 0]) | {"_meta": {"title": "Sum", "pos": [1, 2]}},
            "y": n("ToyInt", value=3),
        }
    )
    for here, there in (("1", "y"), ("2", "x"), ("s", "show")):
        assert one.by_node[here] == other.by_node[there]


@pytest.mark.parametrize(
    "changed",
    [
        {"0": n("ToyFloat", value=2.5), "1": n("ToySplit", x=["0", 0]), "2": n("ToyAdd", a=["1", 0])},
        {"0": n("ToyFloat", value=1.5), "1": n("ToySplit", x=["0", 0]), "2": n("ToyAdd", a=["1", 1])},
        {"0": n("ToyFloat", value=1.5), "1": n("ToySplit", x=["0", 0]), "2": n("ToyAdd", a=["1", 0], b=1)},
        {"0": n("ToyFloat", value=1.5), "1": n("ToySplit", x=["0", 0]), "2": n("ToyTimes", a=["1", 0], b=0)},
    ],
    ids=["upstream literal", "output index", "own literal", "node type"],
)
def test_everything_that_a_result_depends_on_is_in_the_key(bench: Bench, changed: Any) -> None:
    base = {"0": n("ToyFloat", value=1.5), "1": n("ToySplit", x=["0", 0]), "2": n("ToyAdd", a=["1", 0])}
    assert bench.keys(base, ["2"]).by_node["2"] != bench.keys(changed, ["2"]).by_node["2"]


def test_a_new_version_of_a_node_type_has_new_keys(tmp_path: Path) -> None:
    def keys(version: int) -> bytes:
        @node("Versioned", category="test", version=version)
        def versioned(x: int = 1) -> int:
            return x

        bench = Bench(tmp_path, registry=Registry.of(versioned))
        return bench.keys({"1": n("Versioned")}, ["1"]).by_node["1"]

    assert keys(1) == keys(1) != keys(2)


def test_a_seed_of_two_to_the_64_less_one_is_kept_exactly(bench: Bench) -> None:
    keys = {bench.keys({"1": n("ToyInt", value=2**64 - 1 - i)}, ["1"]).by_node["1"] for i in range(3)}
    assert len(keys) == 3


def test_a_file_counts_by_its_content(bench: Bench) -> None:
    path = bench.runtime.folders.models[0] / "checkpoints" / "toy.safetensors"
    prompt = {"1": n("ToyLoadModel", name="toy.safetensors")}

    def key() -> bytes:
        return bench.keys(prompt, ["1"]).by_node["1"]

    first = key()
    os.utime(path, ns=(10**18, 10**18))
    touched = key()
    path.write_bytes(b"other weights")
    assert first != key()
    path.write_bytes(b"toy weights")
    assert key() in (first, touched)


def test_a_file_whose_name_is_linked_counts_by_all_files_of_its_kind(bench: Bench) -> None:
    prompt = {"0": n("ToyText", text="hello.png"), "1": n("ToyReadFile", name=["0", 0])}
    first = bench.keys(prompt, ["1"])
    assert first.by_node == bench.keys(prompt, ["1"]).by_node
    (bench.runtime.folders.input / "hello.png").write_text("other", encoding="utf-8")
    second = bench.keys(prompt, ["1"])
    assert first.by_node["0"] == second.by_node["0"]
    assert first.by_node["1"] != second.by_node["1"]


def test_never_makes_keys_afresh_for_the_node_and_all_that_follows(bench: Bench) -> None:
    prompt = {
        "r": n("ToyRandom"),
        "a": n("ToyAdd", a=["r", 0]),
        "f": n("ToyFloat", value=1),
        "s": n("ToyTimes", a=["a", 0], b=["f", 0]),
    }
    one, other = bench.keys(prompt, ["s"]), bench.keys(prompt, ["s"])
    assert one.volatile == other.volatile == {"r", "a", "s"}
    assert all(one.by_node[node_id] != other.by_node[node_id] for node_id in "ras")
    assert one.by_node["f"] == other.by_node["f"]


def test_identity_bytes_are_in_the_key(tmp_path: Path) -> None:
    state = [b"one"]

    @node("Stateful", category="test", identity=lambda x: state[0] + bytes([x]))
    def stateful(x: int = 0, y: float = 0.0) -> float:
        return y

    bench = Bench(tmp_path, registry=Registry.of(stateful))
    prompt = {"1": n("Stateful")}
    first = bench.keys(prompt, ["1"]).by_node["1"]
    assert first == bench.keys(prompt, ["1"]).by_node["1"]
    state[0] = b"two"
    assert first != bench.keys(prompt, ["1"]).by_node["1"]


def test_identity_that_reads_a_linked_input_says_nothing_so_the_key_is_fresh(bench: Bench) -> None:
    prompt = {"0": n("ToyInt", value=3), "1": n("ToyModulo", x=["0", 0])}
    assert bench.keys(prompt, ["1"]).volatile == {"1"}


def _folders(folders: Any) -> bytes:
    return str(folders.input).encode()


def _unreadable() -> bytes:
    raise PermissionError(13, "Permission denied")


def _refused() -> bytes:
    raise NodeError("the picture is gone.", input="x")


def test_identity_may_ask_for_the_folders(tmp_path: Path) -> None:
    @node("Reader", category="test", identity=_folders)
    def reader() -> float:
        return 1.0

    bench = Bench(tmp_path, registry=Registry.of(reader))
    here = bench.keys({"1": n("Reader")}, ["1"]).by_node["1"]
    elsewhere = bench.on(folders=replace(bench.runtime.folders, input=tmp_path / "other"))
    assert here != elsewhere.keys({"1": n("Reader")}, ["1"]).by_node["1"]


@pytest.mark.parametrize(
    ("hook", "words"),
    [(_unreadable, "Permission denied"), (_refused, "picture is gone"), (lambda: "x", "bytes")],
)
def test_a_failing_identity_is_a_problem_of_its_node(
    tmp_path: Path, hook: Callable[..., Any], words: str
) -> None:
    @node("Broken", category="test", identity=hook)
    def broken() -> float:
        return 1.0

    bench = Bench(tmp_path, registry=Registry.of(broken))
    with pytest.raises(ValidationError, match=words) as caught:
        bench.keys({"1": n("Broken"), "2": n("Broken")}, ["1", "2"])
    assert [problem.node for problem in caught.value.problems] == ["1", "2"]


def test_a_node_that_reads_the_document_or_its_id_has_them_in_its_key(bench: Bench) -> None:
    prompt = {
        "1": n("ToyFloat", value=1),
        "d": n("ToyDocument", x=["1", 0]),
        "e": n("ToyDocument", x=["1", 0]),
    }
    keys = bench.keys(prompt).by_node
    assert keys["d"] != keys["e"]
    more = bench.keys({**prompt, "2": n("ToyFloat", value=2)}).by_node
    assert more["1"] == keys["1"]
    assert more["d"] != keys["d"]


def test_an_effect_has_its_folder_in_its_key(bench: Bench, tmp_path: Path) -> None:
    prompt = {"1": n("ToyText", text="x"), "s": n("ToySave", text=["1", 0])}
    here = bench.keys(prompt).by_node
    there = bench.on(folders=replace(bench.runtime.folders, output=tmp_path / "b")).keys(prompt).by_node
    assert here["1"] == there["1"]
    assert here["s"] != there["s"]


def test_only_what_can_tell_runtimes_apart_has_the_runtime_in_its_key(bench: Bench) -> None:
    prompt = {"1": n("ToyFloat", value=1), "2": n("ToyDevice", x=["1", 0]), "3": n("ToyAdd", a=["1", 0])}
    one = bench.keys(prompt, ["2", "3"]).by_node
    other = bench.on(dtype="bf16").keys(prompt, ["2", "3"]).by_node
    assert (one["1"], one["3"]) == (other["1"], other["3"])
    assert one["2"] != other["2"]
    first, second = (bench.on(device=name).keys(prompt, ["2"]).by_node for name in ("cuda:0", "cuda:1"))
    assert first == second


def test_extra_inputs_are_in_the_key(bench: Bench) -> None:
    def key(**inputs: Any) -> bytes:
        prompt = {"0": n("ToyInt"), "9": n("ToyInt", value=1), "1": n("ToyKeywords", **inputs)}
        return bench.keys(prompt, ["1"]).by_node["1"]

    keys = [key(), key(a=1), key(b=1), key(a="1"), key(a=["0", 0]), key(a=["9", 0]), key(prefix="a")]
    assert len(set(keys)) == len(keys)
    assert key(a=1, b=2) == key(b=2, a=1)


def test_ten_thousand_nodes_in_any_order_are_keyed_without_recursion(bench: Bench) -> None:
    chain = {"0": n("ToyInt", value=1)} | {str(i): n("ToyAdd", a=[str(i - 1), 0]) for i in range(1, 10_000)}
    forward = bench.keys(chain, ["9999"])
    backward = bench.keys(dict(reversed(chain.items())), ["9999"])
    assert forward.by_node == backward.by_node
    assert len(set(forward.by_node.values())) == 10_000


def test_a_value_in_a_literal_is_named_by_its_origin(bench: Bench) -> None:
    graph = bench.bound({"1": n("ToyKeywords")}, ["1"])
    bound = replace(graph.nodes["1"], extra={"v": object()})
    prints = Fingerprinter(bench.runtime, graph)
    one = prints.of_node(bound, {}, lambda _: b"origin 1")
    assert one == prints.of_node(bound, {}, lambda _: b"origin 1")
    assert one != prints.of_node(bound, {}, lambda _: b"origin 2")
    assert one[0] != fingerprint(graph, bench.runtime).by_node["1"]
