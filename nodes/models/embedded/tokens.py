"""Captions as CLIP token ids, quickly: a few dozen words are looked up once and then joined."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

START: Final = 49406
END: Final = 49407
LENGTH: Final = 77
_PIECES = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]+")


class CaptionTokens:
    """Turns captions into (batch, 77) ids: start, words, end, padded with the end token as Stable Diffusion 1.x does.

    `split` gives the ids of one word without start and end. Byte-pair merges never cross a word, so joining
    words' ids equals tokenizing the sentence.
    """

    def __init__(self, split: Callable[[str], Sequence[int]]) -> None:
        self._split = split
        self._known: dict[str, tuple[int, ...]] = {}

    def ids(self, text: str) -> list[int]:
        """The ids of a text without start and end."""
        found: list[int] = []
        for piece in _PIECES.findall(text.lower()):
            if piece not in self._known:
                self._known[piece] = tuple(self._split(piece))
            found.extend(self._known[piece])
        return found

    def __call__(
        self, texts: Iterable[str], rng: np.random.Generator | None = None, strangers: float = 0.0
    ) -> Tensor:
        """The ids of texts, (batch, 77) int64; with `rng`, a share `strangers` of them gets unrelated tokens mixed in.

        The strangers teach the encoder to pass over words that no caption ever used.
        """
        rows = []
        for text in texts:
            ids = self.ids(text)
            if rng is not None and ids and rng.random() < strangers:
                for _ in range(int(rng.integers(1, 4))):
                    ids.insert(int(rng.integers(0, len(ids) + 1)), int(rng.integers(0, START)))
            ids = ids[: LENGTH - 2]
            rows.append([START, *ids, END] + [END] * (LENGTH - 2 - len(ids)))
        return torch.tensor(rows, dtype=torch.int64)
