"""Caption tokens: CLIP's framing, and unrelated words mixed in only on request."""

from __future__ import annotations

import numpy as np

from nodes.models.embedded.tokens import END, LENGTH, START, CaptionTokens


def _letters(word: str) -> list[int]:
    return [ord(letter) for letter in word]


def test_ids_are_framed_and_padded_with_the_end_token() -> None:
    row = CaptionTokens(_letters)(["Ab, c"])[0].tolist()
    assert row[:6] == [START, ord("a"), ord("b"), ord(","), ord("c"), END]
    assert row[6:] == [END] * (LENGTH - 6)


def test_long_texts_are_cut_and_still_end() -> None:
    row = CaptionTokens(_letters)(["abcdefghij " * 20])[0]
    assert len(row) == LENGTH
    assert int(row[-1]) == END


def test_strangers_are_mixed_in_without_losing_words() -> None:
    tokens, rng = CaptionTokens(_letters), np.random.default_rng(0)
    plain = tokens.ids("abc")
    row = [i for i in tokens(["abc"], rng, strangers=1.0)[0].tolist() if i not in (START, END)]
    assert len(plain) < len(row) <= len(plain) + 3
    position = 0
    for wanted in plain:
        position = row.index(wanted, position) + 1


def test_the_empty_text_stays_empty() -> None:
    row = CaptionTokens(_letters)([""], np.random.default_rng(0), strangers=1.0)[0].tolist()
    assert row == [START] + [END] * (LENGTH - 1)
