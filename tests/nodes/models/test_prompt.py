"""Prompt weights and chunks."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.models.prompt import chunks, parse_weights, split_embeddings


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("", []),
        ("a cat", [("a cat", 1.0)]),
        ("a (red) cat", [("a ", 1.0), ("red", 1.1), (" cat", 1.0)]),
        ("((red))", [("red", 1.21)]),
        ("(red:1.3)", [("red", 1.3)]),
        ("(a (b:1.5) c:0.5)", [("a ", 0.5), ("b", 1.5), (" c", 0.5)]),
        ("(a (b) c:0.5)", [("a ", 0.5), ("b", 0.55), (" c", 0.5)]),
        (r"a \(red\) cat", [("a (red) cat", 1.0)]),
        (r"(a \(b\):2)", [("a (b)", 2.0)]),
        ("(time 12:30)", [("time 12", 30.0)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("(a:b:2)", [("a:b", 2.0)]),
        ("(:2)", [(":2", 1.1)]),
        ("(a:-1.5e-1)", [("a", -0.15)]),
        ("(a:nan)", [("a:nan", 1.1)]),
        ("()", []),
        ("[word]", [("[word]", 1.0)]),
        ("(open", [("(open", 1.0)]),
        ("close) (a)", [("close) (a)", 1.0)]),
        ("(a (b)", [("a ", 1.1), ("(b", 1.1)]),
        ("(a)(b:2)c", [("a", 1.1), ("b", 2.0), ("c", 1.0)]),
    ],
)
def test_weights(prompt: str, wanted: list[tuple[str, float]]) -> None:
    found = parse_weights(prompt)
    assert [item.text for item in found] == [text for text, _ in wanted]
    assert [item.weight for item in found] == pytest.approx([weight for _, weight in wanted])


@pytest.mark.parametrize(
    "prompt",
    [
        "(" * 50_000 + "a" + ")" * 50_000,
        "(" * 100_000,
        ")(" * 50_000,
        "(a:1.1" * 20_000,
        "(a" * 30_000 + ")" * 9_999,
    ],
)
def test_a_prompt_of_100_kb_of_any_nesting_is_read(prompt: str) -> None:
    text = "".join(item.text for item in parse_weights(prompt))
    assert text.count("a") == prompt.count("a")


@given(st.text(alphabet="ab ,.", max_size=40), st.integers(1, 6))
def test_nesting_multiplies(text: str, depth: int) -> None:
    found = parse_weights("(" * depth + text + ")" * depth)
    assert [item.text for item in found] == ([text] if text else [])
    assert all(math.isclose(item.weight, 1.1**depth) for item in found)


@given(st.text(alphabet="ab():\\1. ", max_size=40))
def test_no_letter_is_lost_and_none_is_made_up(prompt: str) -> None:
    found = "".join(item.text for item in parse_weights(prompt))
    for letter in "ab ":
        assert found.count(letter) <= prompt.count(letter)
    assert found.count("a") == prompt.count("a")


def test_embeddings_are_cut_out_at_spaces_and_line_breaks() -> None:
    assert split_embeddings("a cat") == ["a cat"]
    assert split_embeddings("embedding:x and y") == ["embedding:x and y"]
    assert split_embeddings("a embedding:x b\nembedding:y") == ["a", "embedding:x b", "embedding:y"]
    assert split_embeddings("xembedding:y") == ["xembedding:y"]


S, E, P = 1, 2, 0


def test_a_short_prompt_is_padded() -> None:
    (found,) = chunks([([5, 6], 1.5)], 6, S, E, P)
    assert found.tokens == (S, 5, 6, E, P, P)
    assert found.weights == (1.0, 1.5, 1.5, 1.0, 1.0, 1.0)


def test_no_tokens_are_one_chunk() -> None:
    (found,) = chunks([], 4, S, E, P)
    assert found.tokens == (S, E, P, P)


def test_a_full_chunk_has_its_end_and_no_padding() -> None:
    (found,) = chunks([(list(range(10, 14)), 1.0)], 6, S, E, P)
    assert found.tokens == (S, 10, 11, 12, 13, E)


def test_a_short_group_that_does_not_fit_moves_whole() -> None:
    one, two = chunks([([5] * 3, 1.0), ([6] * 2, 2.0)], 6, S, E, P)
    assert one.tokens == (S, 5, 5, 5, E, P)
    assert two.tokens == (S, 6, 6, E, P, P)
    assert two.weights == (1.0, 2.0, 2.0, 1.0, 1.0, 1.0)


def test_a_long_group_is_broken_at_the_end_of_a_chunk() -> None:
    one, two = chunks([([5] * 3, 1.0), ([6] * 8, 2.0)], 10, S, E, P)
    assert one.tokens == (S, 5, 5, 5, 6, 6, 6, 6, 6, E)
    assert two.tokens == (S, 6, 6, 6, E, P, P, P, P, P)


@given(st.lists(st.tuples(st.integers(1, 30), st.sampled_from([0.5, 1.0, 2.0])), max_size=12))
def test_chunks_keep_every_token_its_order_and_its_weight(sizes: list[tuple[int, float]]) -> None:
    groups = [([100 + index] * size, weight) for index, (size, weight) in enumerate(sizes)]
    found = chunks(groups, 12, S, E, P)
    assert all(len(part.tokens) == len(part.weights) == 12 for part in found)
    assert all(part.tokens[0] == S and E in part.tokens for part in found)
    kept = [
        (t, w) for part in found for t, w in zip(part.tokens, part.weights, strict=True) if t not in (S, E, P)
    ]
    assert kept == [(token, weight) for group, weight in groups for token in group]
