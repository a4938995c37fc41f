"""Conversion of literals and what fits where."""

from __future__ import annotations

from typing import Any

import pytest

from nodegraph.sockets import Range, Unfit, assignable, codec_of, convert, type_name
from tests.nodegraph.toy import Blob, Memory, Recipe


@pytest.mark.parametrize(
    ("literal", "socket", "expected"),
    [
        (7.0, "INT", 7),
        ("7", "INT", 7),
        (" 7.0 ", "INT", 7),
        (2**64 - 1, "INT", 2**64 - 1),
        (str(2**64 - 1), "INT", 2**64 - 1),
        (7, "FLOAT", 7.0),
        ("2.5", "FLOAT", 2.5),
        (1, "BOOLEAN", True),
        (5, "STRING", "5"),
        ("a", "COMBO", "a"),
        (1, "COMBO", "1"),
        (None, "*", None),
        (3, "INT,FLOAT", 3),
        (3.5, "INT,FLOAT", 3.5),
        (3, "FLOAT,INT", 3),
        ("4", "INT,FLOAT", 4),
        ("x", "MODEL,STRING", "x"),
        (5, "STRING,MODEL", "5"),
    ],
)
def test_a_literal_becomes_the_declared_type(literal: Any, socket: str, expected: Any) -> None:
    value = convert(literal, socket, None, ("a", "1"))
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("literal", "socket"),
    [
        (True, "INT"),
        (2.5, "INT"),
        ("", "INT"),
        ("9" * 41, "INT"),
        ("inf", "INT"),
        (None, "INT"),
        (True, "FLOAT"),
        ("nan", "FLOAT"),
        (10**400, "FLOAT"),
        ("false", "BOOLEAN"),
        (2, "BOOLEAN"),
        (True, "STRING"),
        ([1], "STRING"),
        ("c", "COMBO"),
        (True, "COMBO"),
        ("x", "MODEL"),
        ("x", "INT,FLOAT"),
        (None, "INT,STRING"),
    ],
)
def test_what_does_not_fit_is_refused(literal: Any, socket: str) -> None:
    with pytest.raises(Unfit) as caught:
        convert(literal, socket, None, ("a", "1"))
    assert caught.value.message


def test_both_ends_of_a_range_belong_to_it() -> None:
    for number in (1, 5):
        assert convert(number, "INT", Range(1, 5)) == number
    for number, code in ((0, "value_smaller_than_min"), (6, "value_bigger_than_max")):
        with pytest.raises(Unfit) as caught:
            convert(number, "INT", Range(1, 5))
        assert caught.value.code == code


def test_what_fits_where() -> None:
    fits = [
        ("MODEL", "MODEL"),
        ("*", "X"),
        ("X", "*"),
        ("INT", "FLOAT"),
        ("COMBO", "STRING"),
        ("STRING", "COMBO"),
    ]
    fits += [("IMAGE,MASK", "MASK"), ("INT", "IMAGE,FLOAT")]
    assert [pair for pair in fits if not assignable(*pair)] == []
    unfit = [
        ("FLOAT", "INT"),
        ("MODEL", "CLIP"),
        ("INT", "STRING"),
        ("IMAGE,MASK", "LATENT"),
        ("BOOLEAN", "INT"),
    ]
    assert [pair for pair in unfit if assignable(*pair)] == []


def test_types_of_annotations() -> None:
    assert [type_name(item) for item in (int, float, str, bool, object, Any, Recipe)] == [
        "INT",
        "FLOAT",
        "STRING",
        "BOOLEAN",
        "*",
        "*",
        "MODEL",
    ]
    for item in (list, dict[str, int], "INT", Memory):
        with pytest.raises(TypeError, match="socket type"):
            type_name(item)


def test_codecs_belong_to_value_classes() -> None:
    assert codec_of(Blob(Memory(b"x"))) is not None
    assert codec_of(Recipe("m")) is None
    assert codec_of(3) is None
