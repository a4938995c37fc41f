"""CLIP's tokenizer against transformers', and against known ids."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.models.tokenizer import VOCABULARY, byte_letters, tokenizer


@pytest.fixture(scope="module")
def reference() -> Any:
    """transformers' tokenizer on the vocabulary as OpenAI's own code lays it out."""
    from transformers import CLIPTokenizer

    with gzip.open(VOCABULARY) as file:
        lines = file.read().decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    letters = byte_letters()
    names = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge) for merge in merges)]
    vocabulary = {name: index for index, name in enumerate([*names, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges)


TEXTS = [
    "a red circle",
    "",
    "   spaces \t and\nlines  ",
    "Hello, World!! It's 2,024 o'clock; they'll've won't I'M",
    "a photo of a (cat) [dog] {bird} <tag> / \\ | ~ ` ^",
    "naïve café Ångström ﬁne Ⅷ ½ ① 100%",
    "e\u0301 against \u00e9",
    "日本語 中文 한국어 العربية עברית हिन्दी ไทย",
    "😀👩‍👩‍👧‍👦 🇩🇪 ❤️ text🎉text",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "<|endoftext|> in a prompt",
    "1girl, solo, best quality, masterpiece, (long hair:1.2), 8k uhd",
    "\x00\x1f\u200b\ufeff\u3000x",
]


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_transformers(reference: Any, text: str) -> None:
    assert tokenizer().encode(text) == reference(text, add_special_tokens=False)["input_ids"]


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_ids_of_any_text_are_those_of_transformers(reference: Any, text: str) -> None:
    assert tokenizer().encode(text) == reference(text, add_special_tokens=False)["input_ids"]


def test_known_ids() -> None:
    assert tokenizer().encode("a red circle") == [320, 736, 7117]
    assert tokenizer().encode("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert tokenizer().vocabulary["<|endoftext|>"] == 49407
    assert len(tokenizer().vocabulary) == 49408
