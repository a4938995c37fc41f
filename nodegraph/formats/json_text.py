"""Strict JSON: what `json.loads` lets pass (NaN, keys given twice, hostile nesting and sizes) is refused, with its place."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from nodegraph.errors import Problem, ValidationError, shown
from nodegraph.limits import MAX_BYTES, MAX_DEPTH, MAX_NODES, MAX_VALUES

MAX_DIGITS = 4000
"""Of a whole number; Python itself converts hardly more."""
# Possessive: what a text of millions of letters matched is never tried again, nor remembered letter by letter.
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TOKEN = re.compile(_STRING + r'|[\[\]{}:,]|[^\s\[\]{}:,"]++', re.DOTALL)
_BEGINS_VALUE = re.compile(_STRING + r"?|([\[{,])", re.DOTALL)
_BIG = 10**MAX_DIGITS


class _Refused(Exception):
    """Raised inside the decoder's hooks, which do not know their place."""


def parse(data: bytes | str, name: str = "the document") -> Any:
    """The value that a JSON text holds; integers of any size stay exact.

    Raises ValidationError, naming line and column, for text that is not UTF-8 (a byte order mark is
    accepted) or not JSON, for NaN and Infinity, numbers out of range, a key given twice in one object,
    nesting deeper than MAX_DEPTH, more than MAX_BYTES or more than MAX_VALUES.
    """
    if len(data) > MAX_BYTES:
        refuse_size(name, MAX_BYTES)
    text = _decode(data, name) if isinstance(data, bytes) else data.removeprefix("\ufeff")
    if _holds_too_many(text):
        refuse(
            f"{name} holds more than {MAX_VALUES:,} values, the most that are read.",
            code="too_large",
            hint="Keep long lists in files, or split the workflow.",
        )
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        refuse(f"{name} is not JSON: {_plain(error.msg)} at {place}.", found=_excerpt(text, error.pos))
    except RecursionError:
        refuse(f"{name} nests lists or objects more than {MAX_DEPTH} deep.", code="nested_too_deeply")
    except _Refused as error:
        place = _place(text)
        refuse(f"{name}: {error}{place}.")
    check(value, name)
    return value


def check(value: Any, name: str = "the document") -> None:
    """Raise ValidationError for nesting deeper than MAX_DEPTH and half of a surrogate pair in what the decoder made."""
    try:
        _check([value], 0)
    except _Refused as error:
        refuse(f"{name}: {error}.")


def owned(value: Any, name: str = "the document") -> Any:
    """A deep copy of plain JSON data, tuples as lists.

    Raises ValidationError for anything else: other types, keys that are not text, NaN, half of a
    surrogate pair, nesting deeper than MAX_DEPTH.
    """
    try:
        return _copy(value, 0)
    except _Refused as error:
        refuse(f"{name}: {error}.")


def refuse(
    message: str, *, code: str = "invalid_json", found: str | None = None, hint: str | None = None
) -> NoReturn:
    """Raise ValidationError with one problem of the whole document."""
    raise ValidationError(Problem(code, message, found=found, hint=hint)) from None


def refuse_size(name: str, most: int) -> NoReturn:
    """Raise ValidationError for a file of more than `most` bytes."""
    refuse(
        f"{name} is larger than {most // 2**20} MiB, the most that is read.",
        code="too_large",
        hint="Keep pictures and other data in files of their own, which the workflow names.",
    )


def refuse_nodes(name: str) -> NoReturn:
    """Raise ValidationError for a workflow of more than MAX_NODES nodes."""
    refuse(
        f"{name} has more than {MAX_NODES:,} nodes, the most that are read.",
        code="too_large",
        hint="Split the workflow into several.",
    )


def _holds_too_many(text: str) -> bool:
    """Whether a text holds more than MAX_VALUES values: each comma begins one, each bracket is one and may begin one."""
    if text.count(",") + text.count("[") + text.count("{") <= MAX_VALUES:
        return False
    # Commas and brackets inside of strings count for nothing.
    values = 0
    for index, match in enumerate(_BEGINS_VALUE.finditer(text)):
        if match.lastindex is not None:
            values += 1
            if values > MAX_VALUES:
                return True
        elif index > 3 * values + 2:
            # More strings than places for them: not JSON, as the decoder will say.
            return False
    return False


def _check(values: Iterable[Any], depth: int) -> None:
    """Refuse what the decoder lets pass. Raises _Refused."""
    if depth > MAX_DEPTH:
        raise _Refused(f"lists or objects nest more than {MAX_DEPTH} deep")
    for value in values:
        kind = type(value)
        if kind is str:
            if not value.isascii():
                _whole_text(value)
        elif kind is dict:
            for key in value:
                if not key.isascii():
                    _whole_text(key)
            _check(value.values(), depth + 1)
        elif kind is list:
            _check(value, depth + 1)


def _copy(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        if not value.isascii():
            _whole_text(value)
        return value
    if kind is int:
        return _whole_number(value)
    if kind is bool or value is None:
        return value
    if kind is float:
        if not math.isfinite(value):
            raise _Refused("a number must be finite, not NaN or Infinity")
        return value
    if depth >= MAX_DEPTH:
        raise _Refused(f"lists or objects nest more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        copied = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise _Refused(f"the key {key!r} is not text")
            copied[_copy(key, depth)] = _copy(item, depth + 1)
        return copied
    if isinstance(value, (list, tuple)):
        return [_copy(item, depth + 1) for item in value]
    raise _Refused(f"a {kind.__name__} cannot stand in JSON")


def _whole_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _Refused(
            f"a text holds half of a surrogate pair, \\u{ord(text[error.start]):04x}, which is no character"
        ) from None


def _whole_number(number: int) -> int:
    if not -_BIG < number < _BIG:
        raise _Refused(f"a number has more than {MAX_DIGITS} digits")
    return number


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            refuse(f"{name} is UTF-16 text; JSON is UTF-8. Save it as UTF-8.", code="not_utf8")
        refuse(f"{name} is not UTF-8 text: byte {error.start} is not valid.", code="not_utf8")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("an object gives a key twice")
    return found


def _constant(text: str) -> NoReturn:
    raise _Refused(f"{text} is not a JSON number")


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _Refused("a number is too large")
    return number


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise _Refused(f"a number has more than {MAX_DIGITS} digits")
    return int(text)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int
)


def _plain(message: str) -> str:
    words = message.removesuffix(" at").replace("property name enclosed in double quotes", "a key in quotes")
    return words[:1].lower() + words[1:]


def _excerpt(text: str, position: int) -> str | None:
    piece = text[position : position + 20].split("\n")[0].strip()
    return repr(piece) if piece else ("the end of the text" if position >= len(text) else None)


def _place(text: str) -> str:
    """Where the first thing is that the decoder's hooks refuse: ` at line 3, column 5`, with the key."""
    for position, what in _refusable(text):
        line = text.count("\n", 0, position) + 1
        column = position - text.rfind("\n", 0, position)
        return f" ({what}) at line {line}, column {column}"
    return ""


def _refusable(text: str) -> Iterator[tuple[int, str]]:
    seen: list[set[str] | None] = []
    key_next = False
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token in "{[":
            seen.append(set() if token == "{" else None)
            key_next = token == "{"
        elif token in "}]":
            if seen:
                seen.pop()
        elif token == ",":
            key_next = bool(seen) and seen[-1] is not None
        elif token == ":":
            key_next = False
        elif token.startswith('"'):
            keys = seen[-1] if seen and key_next else None
            if keys is not None:
                key = json.loads(token, strict=False) if "\\" in token else token[1:-1]
                if key in keys:
                    yield match.start(), shown(key)
                keys.add(key)
        elif token in ("NaN", "Infinity", "-Infinity") or len(token) > MAX_DIGITS or _too_large(token):
            yield match.start(), token[:20]


def _too_large(token: str) -> bool:
    try:
        return math.isinf(float(token))
    except ValueError:
        return False
