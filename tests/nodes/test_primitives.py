"""Values, texts and PreviewAny."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from nodes import primitives
from nodes.values import Image, Latent


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (primitives.primitive_string, " a "),
        (primitives.primitive_string_multiline, "a\nb"),
        (primitives.primitive_int, 2**63 - 1),
        (primitives.primitive_float, 0.1),
        (primitives.primitive_boolean, False),
    ],
)
def test_primitives_pass_their_value_on(function: Any, value: object) -> None:
    assert function(value) is value


def test_texts() -> None:
    assert primitives.string_concatenate("a", "b") == "ab"
    assert primitives.string_concatenate("a", "", ", ") == "a, "
    assert primitives.string_replace("aXbX", "X", "--") == "a--b--"
    assert primitives.string_replace("ab", "", "-") == "-a-b-"


@pytest.mark.parametrize(
    ("source", "text"), [("ü", "ü"), (True, "True"), (2**64, str(2**64)), (0.1, "0.1"), (None, "None")]
)
def test_plain_values_are_shown_as_they_are(source: object, text: str) -> None:
    assert primitives.preview_any(source).ui == {"text": (text,)}


def test_data_are_shown_as_json() -> None:
    source = {"a": [1, "ü"], 2: (None, {3})}
    assert json.loads(primitives.preview_any(source).ui["text"][0]) == {"a": [1, "ü"], "2": [None, "{3}"]}


def test_tensors_are_shown_by_shape_range_and_precision() -> None:
    image = Image(torch.tensor([0.0, 0.5]).reshape(1, 1, 2, 1))
    text = json.loads(primitives.preview_any(image).ui["text"][0])
    assert text == {"Image": {"pixels": "tensor (1, 1, 2, 1) float32, 0 to 0.5"}}
    latent = Latent(torch.zeros(0, 4, 1, 1), batch_index=(3,))
    text = json.loads(primitives.preview_any(latent).ui["text"][0])
    samples = "tensor (0, 4, 1, 1) float32, - to -"
    assert text == {"Latent": {"samples": samples, "batch_index": [3], "downscale": 8}}
