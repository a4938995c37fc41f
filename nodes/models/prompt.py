"""Prompts: weights in parentheses, and words into chunks of what the text encoder reads at once.

The rules are those that shared prompts rely on: `(word)` is 1.1 times as strong, `(word:1.3)` is 1.3, `((word))`
multiplies, a number replaces what is around it, backslashes escape parentheses.
"""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

_OPEN, _CLOSE = "\x01", "\x02"
"""Stand for escaped parentheses while a prompt is split."""
EMPHASIS = 1.1
KEPT_TOGETHER = 8
"""A run of fewer tokens is not broken at the end of a chunk but moved into the next one."""
EMBEDDING = "embedding:"
_LONGEST_NUMBER = 64


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a prompt and its weight."""

    text: str
    weight: float


Token = int | Tensor
"""An id of the vocabulary, or a vector (width,) of a textual inversion."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """What the text encoder reads at once: tokens, with start and end, and a weight for each."""

    tokens: tuple[Token, ...]
    weights: tuple[float, ...]


def parse_weights(prompt: str) -> list[Segment]:
    """Return the pieces of a prompt in order with their weights.

    The cost is linear in the prompt's length, whatever is nested or unbalanced in it.
    """
    text = prompt.replace("\\)", _CLOSE).replace("\\(", _OPEN)
    closing = _closing(text)
    colons = [place for place, char in enumerate(text) if char == ":"]
    found: list[Segment] = []
    todo = [_Span(0, len(text), 1.0, literal=False)]
    while todo:
        span = todo.pop()
        if span.literal:
            piece = text[span.start : span.stop].replace(_CLOSE, ")").replace(_OPEN, "(")
            found.append(Segment(piece, span.weight))
        else:
            todo += reversed(list(_split(text, closing, colons, span)))
    return found


@dataclass(frozen=True, slots=True)
class _Span:
    """A part of the text; one that is not literal is still to be split at its parentheses."""

    start: int
    stop: int
    weight: float
    literal: bool


def _closing(text: str) -> dict[int, int]:
    """The place of the closing parenthesis by that of its opening one."""
    found: dict[int, int] = {}
    opened: list[int] = []
    for place, char in enumerate(text):
        if char == "(":
            opened.append(place)
        elif char == ")" and opened:
            found[opened.pop()] = place
    return found


def _split(text: str, closing: dict[int, int], colons: list[int], span: _Span) -> Iterator[_Span]:
    """Literal text and the insides of outermost parentheses, in order.

    Closing parentheses without an opening one are text, and each of them takes the meaning from a later opening
    one; from an opening one without a closing one, everything to the end is one piece.
    """
    place = begin = span.start
    unopened = 0
    while place < span.stop:
        char = text[place]
        if char == ")":
            unopened += 1
        elif char == "(" and unopened:
            unopened -= 1
        elif char == "(":
            if begin < place:
                yield _Span(begin, place, span.weight, literal=True)
            last = min(closing.get(place, span.stop), span.stop - 1)
            if last > place and text[last] == ")":
                yield _inside(text, colons, place + 1, last, span.weight)
            else:
                yield _Span(place, last + 1, span.weight, literal=True)
            place = begin = last + 1
            continue
        place += 1
    if begin < span.stop:
        yield _Span(begin, span.stop, span.weight, literal=True)


def _inside(text: str, colons: list[int], start: int, stop: int, weight: float) -> _Span:
    """What is between parentheses, with the weight that follows its last colon, or the usual emphasis."""
    index = bisect.bisect_left(colons, stop) - 1
    if index >= 0 and start < colons[index] and stop - colons[index] <= _LONGEST_NUMBER:
        try:
            number = float(text[colons[index] + 1 : stop])
        except ValueError:
            pass
        else:
            if math.isfinite(number):
                return _Span(start, colons[index], number, literal=False)
    return _Span(start, stop, weight * EMPHASIS, literal=False)


def split_embeddings(text: str) -> list[str]:
    """Return the text cut before each `embedding:` that follows a space or a line break; no empty pieces."""
    first, *rest = re.split(rf"[ \n]{EMBEDDING}", text)
    return [piece for piece in (first, *(EMBEDDING + name for name in rest)) if piece]


def chunks(
    groups: Sequence[tuple[Sequence[Token], float]], length: int, start: int, end: int, pad: int
) -> list[Chunk]:
    """Return the token groups, each with its weight, in chunks of `length` tokens with start, end and padding.

    A group of fewer than eight tokens that does not fit moves to the next chunk whole; a longer one is broken.
    There is always at least one chunk.
    """
    found: list[Chunk] = []
    tokens: list[Token] = [start]
    weights = [1.0]

    def close() -> None:
        nonlocal tokens, weights
        filled = [*tokens, end]
        filled += [pad] * (length - len(filled))
        found.append(Chunk(tuple(filled), (*weights, *[1.0] * (length - len(weights)))))
        tokens, weights = [start], [1.0]

    for group, weight in groups:
        rest = list(group)
        while rest:
            room = length - 1 - len(tokens)
            broken = room if len(group) >= KEPT_TOGETHER else 0
            taken = len(rest) if len(rest) <= room else broken
            tokens += rest[:taken]
            weights += [weight] * taken
            rest = rest[taken:]
            if rest:
                close()
    close()
    return found
