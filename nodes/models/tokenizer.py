"""CLIP's tokenizer: byte pairs over the packaged vocabulary (https://arxiv.org/abs/1508.07909).

The splitting and the order of ids are those of OpenAI's CLIP; the merging itself is done by the `tokenizers` library.
"""

from __future__ import annotations

import functools
import gzip
from pathlib import Path
from typing import Any

VOCABULARY = Path(__file__).parent / "vocabulary" / "bpe_simple_vocab_16e6.txt.gz"
START, END = 49406, 49407
_MERGES = 49152 - 256 - 2
_PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def byte_letters() -> list[str]:
    """Return a printable letter for each of the 256 bytes, in the order in which the vocabulary lists them."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in plain] + [chr(256 + index) for index in range(256 - len(plain))]


@functools.cache
def tokenizer() -> ClipTokenizer:
    """Return the tokenizer; it is built once, in about 0.2 s."""
    return ClipTokenizer()


class ClipTokenizer:
    """Text to ids of CLIP's vocabulary of 49,408 tokens. Thread-safe."""

    def __init__(self) -> None:
        from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

        with gzip.open(VOCABULARY, "rt", encoding="utf-8") as file:
            # The first line is a comment; what follows the merges in use belongs to a larger vocabulary.
            lines = file.read().split("\n")[1 : _MERGES + 1]
        merges = [(first, second) for first, second in (line.split() for line in lines)]
        letters = byte_letters()
        names = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges)]
        names += ["<|startoftext|>", "<|endoftext|>"]
        self.vocabulary = {name: index for index, name in enumerate(names)}
        model = models.BPE(
            vocab=self.vocabulary,
            merges=merges,
            unk_token="<|endoftext|>",
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
        )
        made: Any = Tokenizer(model)
        made.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PATTERN), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        made.add_special_tokens(
            [
                AddedToken(name, normalized=False, special=True)
                for name in ("<|startoftext|>", "<|endoftext|>")
            ]
        )
        self._tokenizer = made

    def id_of(self, token: str) -> int | None:
        """Return the id of a token by its name in the vocabulary, such as `<|endoftext|>`; None where there is none."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without start and end."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids
