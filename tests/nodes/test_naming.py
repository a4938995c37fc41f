"""Placeholders of file names."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from nodes.naming import expand

NOW = datetime(2026, 3, 7, 9, 5, 2)
DOCUMENT: dict[str, Any] = {
    "prompt": {
        "3": {
            "class_type": "KSampler",
            "inputs": {"seed": 2**64 - 1, "cfg": ["10", 0], "model": ["4", 0]},
            "_meta": {"title": "Painter"},
        },
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a/b: c.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 640}},
        "10": {"class_type": "PrimitiveFloat", "inputs": {"value": 7.5}},
        "11": {"class_type": "PrimitiveInt", "inputs": {"value": ["11", 0]}},
    }
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("%date:yyyy-MM-dd%/x", "2026-03-07/x"),
        ("%date:d.M.yy_hhmmss%", "7.3.26_090502"),
        ("%year%%month%%day%-%hour%%minute%%second%", "20260307-090502"),
        ("%width%x%height%", "24x16"),
        ("%Painter.seed%", "18446744073709551615"),
        ("%KSampler.seed%", "18446744073709551615"),
        ("%Empty Latent Image.width%", "640"),
        ("%CheckpointLoaderSimple.ckpt_name%", "a_b_ c.safetensors"),
        ("%Painter.cfg%", "7.5"),
        ("%Painter.model%", "%Painter.model%"),
        ("%PrimitiveInt.value%", "%PrimitiveInt.value%"),
        ("%Nobody.seed% %unknown% 100%", "%Nobody.seed% %unknown% 100%"),
    ],
)
def test_expands(text: str, expected: str) -> None:
    assert expand(text, DOCUMENT, NOW, width=24, height=16) == expected


def test_a_title_goes_before_a_type() -> None:
    prompt = {
        "1": {"class_type": "KSampler", "inputs": {"seed": 1}},
        "2": {"class_type": "Other", "inputs": {"seed": 2}, "_meta": {"title": "KSampler"}},
    }
    assert expand("%KSampler.seed%", {"prompt": prompt}, NOW) == "2"


@pytest.mark.parametrize("document", [{}, {"prompt": 3}, {"prompt": {"1": 5, "2": {"class_type": "A"}}}])
def test_a_strange_document_leaves_the_text(document: dict[str, Any]) -> None:
    assert expand("%A.b%", document, NOW) == "%A.b%"
