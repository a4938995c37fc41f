"""Socket types: how a Python annotation becomes a socket, what fits where, and how literals are converted.

A socket type is a name as ComfyUI writes it: `INT`, `FLOAT`, `STRING`, `BOOLEAN`, `COMBO`, `*`, or the
name that a value class was declared with (`@value("LATENT")`). Several names joined by commas mean any of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

ANY = "*"
LITERAL_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
_PYTHON_LITERALS: dict[type, str] = {bool: "BOOLEAN", int: "INT", float: "FLOAT", str: "STRING"}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Range:
    """Allowed numbers, both ends included. `step` and `round` are for widgets and are not enforced.

    `floor`: the node takes a whole number that is no multiple of `step` for the next lower one that is. A workflow that
    gives such a number gets a warning that says so.
    """

    min: float | int
    max: float | int
    step: float | int | None = None
    round: float | bool | None = None
    floor: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice from fixed `options`, or of a file of a folder kind (`files="checkpoints"`).

    With `files`, the options are what the session's folders hold when the graph is bound, and the
    content identity of the chosen file is part of the node's key. `upload` marks an input whose
    widget accepts an image upload.
    """

    options: tuple[str, ...] = ()
    files: str | None = None
    upload: bool = False


@dataclass(frozen=True, slots=True)
class Widget:
    """How an input is shown; none of it changes what the node computes."""

    tooltip: str | None = None
    multiline: bool = False
    optional: bool = False
    """List the input under `optional` even though it has a widget."""
    control_after_generate: bool = False
    """The widget offers to randomise or step the value after each run (seeds)."""


@runtime_checkable
class Codec(Protocol[T]):
    """How the cache measures and moves the values of one socket type. Stateless."""

    def storages(self, value: T) -> Iterable[tuple[object, int, str]]:
        """(identity, bytes, device) of each memory block that the value holds; shared blocks share an identity."""
        ...

    def move(self, value: T, device: str) -> T:
        """The same value with its blocks on `device` (`"cpu"` or a device name)."""
        ...

    def save(self, value: T) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """(tensors by name, JSON-ready rest): what the disk tier writes."""
        ...

    def load(self, tensors: dict[str, Any], rest: Mapping[str, Any]) -> T:
        """The inverse of `save`."""
        ...


def value(name: str, codec: Codec[Any] | None = None) -> Callable[[type[T]], type[T]]:
    """Declare a frozen class as the values of socket type `name`.

    Without a codec the value counts as a few hundred bytes of host memory and is never moved.
    """

    def declare(cls: type[T]) -> type[T]:
        # Not declared on the class, which is the pack's own.
        cls.__socket_type__ = name  # type: ignore[attr-defined]
        cls.__socket_codec__ = codec  # type: ignore[attr-defined]
        return cls

    return declare


def codec_of(item: object) -> Codec[Any] | None:
    """The codec of a value, None for literals and for plain data."""
    found = getattr(type(item), "__socket_codec__", None)
    # Most have none, and to compare with a protocol looks for each of its methods.
    return found if found is not None and isinstance(found, Codec) else None


def type_name(annotation: object) -> str:
    """The socket type of a bare annotation (no Annotated, no Optional).

    Raises TypeError where the annotation names no socket type.
    """
    if annotation is Any or annotation is object:
        return ANY
    if isinstance(annotation, type):
        if annotation in _PYTHON_LITERALS:
            return _PYTHON_LITERALS[annotation]
        declared = getattr(annotation, "__socket_type__", None)
        if isinstance(declared, str):
            return declared
    raise TypeError(
        f"{annotation!r} is not a socket type; use int, float, str, bool, Any or a class declared with @value(NAME)"
    )


def assignable(source: str, target: str) -> bool:
    """Whether an output of type `source` may feed an input of type `target`."""
    if ANY in (source, target) or source == target:
        return True
    if {source, target} == {"COMBO", "STRING"}:
        return True
    sources, targets = source.split(","), target.split(",")
    if len(sources) > 1 or len(targets) > 1:
        return any(assignable(one, other) for one in sources for other in targets)
    return source == "INT" and target == "FLOAT"


class Unfit(Exception):
    """A literal that does not fit its socket: (code, message, what is allowed, hint); for a choice, its options."""

    def __init__(
        self,
        code: str,
        message: str,
        allowed: str | None = None,
        hint: str | None = None,
        options: Sequence[str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.options = options
        self._allowed = allowed

    @property
    def allowed(self) -> str | None:
        """What is allowed, in words."""
        if self.options is None:
            return self._allowed
        shown = ", ".join(repr(option) for option in self.options[:12]) or "nothing (the list is empty)"
        return shown + (f" and {len(self.options) - 12} more" if len(self.options) > 12 else "")


def convert(
    literal: object, socket: str, range_: Range | None = None, options: Iterable[str] | None = None
) -> Any:
    """The literal as the socket's declared type.

    A whole float or a numeric string becomes a number; an int becomes a float. `options` are those of a
    COMBO. Raises Unfit for anything else, NaN, a number out of range or an unknown choice.
    """
    if socket == "INT":
        return _in_range(_to_int(literal), range_)
    if socket == "FLOAT":
        return _in_range(_to_float(literal), range_)
    if socket == "BOOLEAN":
        if isinstance(literal, bool):
            return literal
        if isinstance(literal, int) and literal in (0, 1):
            return bool(literal)
        raise Unfit("invalid_input_type", "a BOOLEAN is needed.", "true or false")
    if socket == "STRING":
        if isinstance(literal, str):
            return literal
        if isinstance(literal, (int, float)) and not isinstance(literal, bool):
            return str(literal)
        raise Unfit("invalid_input_type", "a STRING is needed.", "text in quotes")
    if socket == "COMBO":
        return _choose(literal, list(options or ()))
    if socket == ANY:
        return literal
    names = [name for name in socket.split(",") if name in LITERAL_TYPES]
    if names and socket != names[0]:
        return _convert_to_any(literal, names, range_, options)
    raise Unfit(
        "invalid_input_type",
        f"this input takes a link from a {socket} output, not a literal.",
        f"[node id, output index] of a node that gives {socket}",
    )


def _convert_to_any(
    literal: object, names: list[str], range_: Range | None, options: Iterable[str] | None
) -> Any:
    """The literal as the type that it has already, else as the first of the types that takes it."""
    exact = _PYTHON_LITERALS.get(type(literal))
    for name in sorted(names, key=lambda name: name != exact):
        try:
            return convert(literal, name, range_, options)
        except Unfit:
            if name == exact:
                raise
    allowed = " or ".join(names)
    raise Unfit("invalid_input_type", f"{allowed} is needed.", allowed)


def _to_int(literal: object) -> int:
    if isinstance(literal, int) and not isinstance(literal, bool):
        return literal
    if isinstance(literal, float) and math.isfinite(literal) and literal == int(literal):
        return int(literal)
    if isinstance(literal, str):
        text = literal.strip()
        if len(text) <= 40:
            try:
                return int(text)
            except ValueError:
                pass
            try:
                number = float(text)
            except ValueError:
                number = math.nan
            if math.isfinite(number) and number == int(number):
                return int(number)
    raise Unfit("invalid_input_type", "an INT (a whole number) is needed.", "a whole number")


def _to_float(literal: object) -> float:
    number: float | None = None
    if isinstance(literal, (int, float)) and not isinstance(literal, bool):
        try:
            number = float(literal)
        except OverflowError:
            number = math.inf
    elif isinstance(literal, str) and len(literal) <= 40:
        try:
            number = float(literal.strip())
        except ValueError:
            number = None
    if number is None:
        raise Unfit("invalid_input_type", "a FLOAT (a number) is needed.", "a number")
    if not math.isfinite(number):
        raise Unfit("invalid_input_type", "the number must be finite.", "a finite number")
    return number


def _in_range(number: Any, range_: Range | None) -> Any:
    if range_ is None:
        return number
    allowed = f"{range_.min} to {range_.max}"
    if number < range_.min:
        raise Unfit("value_smaller_than_min", f"the value is smaller than {range_.min}.", allowed)
    if number > range_.max:
        raise Unfit("value_bigger_than_max", f"the value is bigger than {range_.max}.", allowed)
    return number


def _choose(literal: object, options: list[str]) -> str:
    if isinstance(literal, str) and literal in options:
        return literal
    if isinstance(literal, (int, float)) and not isinstance(literal, bool) and str(literal) in options:
        return str(literal)
    raise Unfit("value_not_in_list", "the value is not one of the choices.", options=options)
