"""Frozen dataclasses as the shapes of requests: they check what comes in and describe it in OpenAPI, from one declaration.

A field's annotation is `str`, `int`, `float`, `bool`, `Any`, `dict[str, Any]`, `tuple[X, ...]`, `Literal[...]`, another
such dataclass or one of these `| None`; `Annotated[..., Range(min, max)]` bounds numbers and lengths.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, NotRequired, TypeVar

from nodegraph.errors import Problem, ValidationError
from nodegraph.sockets import Range

T = TypeVar("T")
_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object"}
_JSON = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object"}
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}


class _Unfit(Exception):
    """What is wrong with a value: what is allowed, in words."""


def checked(shape: type[T], data: Any) -> T:
    """An instance made of a JSON object; fields that the shape does not have are left alone.

    Raises ValidationError with a problem (`invalid_request`) for each field that does not fit.
    """
    if not isinstance(data, Mapping):
        raise ValidationError(Problem("invalid_request", "the body must be a JSON object."))
    return _made(shape, data, lambda name, value: _value(_hints(shape)[name], value))


def from_query(shape: type[T], query: Mapping[str, str]) -> T:
    """An instance made of a query string, whose values are text. Raises ValidationError."""
    return _made(
        shape, query, lambda name, value: _value(_hints(shape)[name], _word(_hints(shape)[name], value))
    )


def _made(shape: type[T], data: Mapping[str, Any], read: Callable[[str, Any], Any]) -> T:
    given: dict[str, Any] = {}
    problems = []
    for item in _fields(shape):  # type: ignore[arg-type]
        if item.name not in data:
            if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
                text = f"{item.name!r} is needed."
                problems.append(Problem("invalid_request", text, input=item.name))
            continue
        try:
            given[item.name] = read(item.name, data[item.name])
        except _Unfit as error:
            text = f"{item.name!r} must be {error}."
            problems.append(
                Problem("invalid_request", text, input=item.name, found=repr(data[item.name])[:80])
            )
    if problems:
        raise ValidationError(problems)
    return shape(**given)


@lru_cache(maxsize=256)
def _fields(shape: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(shape)


def _hints(shape: Any) -> dict[str, Any]:
    return _hints_of(shape)


@lru_cache(maxsize=256)
def _hints_of(shape: type) -> dict[str, Any]:
    return typing.get_type_hints(shape, include_extras=True)


@lru_cache(maxsize=1024)
def _split(hint: Any) -> tuple[Any, Range | None, bool]:
    """(bare annotation, range, whether null is taken)."""
    bounds = None
    nullable = False
    while True:
        if typing.get_origin(hint) is Annotated:
            bounds = next((item for item in hint.__metadata__ if isinstance(item, Range)), bounds)
            hint = hint.__origin__
        elif typing.get_origin(hint) in (typing.Union, types.UnionType):
            members = [member for member in typing.get_args(hint) if member is not type(None)]
            nullable = len(members) < len(typing.get_args(hint))
            if len(members) > 1:
                return hint, bounds, nullable
            (hint,) = members
        else:
            return hint, bounds, nullable


def _value(hint: Any, value: Any) -> Any:
    bare, bounds, nullable = _split(hint)
    if value is None and nullable:
        return None
    if bare is Any:
        return value
    origin = typing.get_origin(bare)
    if origin is Literal:
        if value not in typing.get_args(bare):
            raise _Unfit("one of " + ", ".join(map(str, typing.get_args(bare))))
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise _Unfit("a list")
        return _bounded(tuple(_value(typing.get_args(bare)[0], item) for item in value), len(value), bounds)
    if origin in (typing.Union, types.UnionType):
        for member in typing.get_args(bare):
            try:
                return _value(member, value)
            except _Unfit:
                continue
        raise _Unfit(
            " or ".join(_NAMES.get(member, "what the schema says") for member in typing.get_args(bare))
        )
    if dataclasses.is_dataclass(bare) and isinstance(bare, type):
        if not isinstance(value, Mapping):
            raise _Unfit("an object")
        try:
            return checked(bare, value)
        except ValidationError as error:
            raise _Unfit(f"an object in which {error.problems[0].message.rstrip('.')}") from None
    kind = origin or bare
    if kind is dict:
        if not isinstance(value, dict):
            raise _Unfit("an object")
        return value
    return _literal(kind, value, bounds)


def _literal(kind: Any, value: Any, bounds: Range | None) -> Any:
    if kind is bool:
        if not isinstance(value, bool):
            raise _Unfit(_NAMES[bool])
        return value
    if kind is str:
        if not isinstance(value, str):
            raise _Unfit(_NAMES[str])
        return _bounded(value, len(value), bounds)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Unfit(_NAMES[kind])
    if kind is int:
        if isinstance(value, float) and not value.is_integer():
            raise _Unfit(_NAMES[int])
        return _bounded(int(value), int(value), bounds)
    try:
        number = float(value)
    except OverflowError:
        raise _Unfit("a number that is not as large") from None
    if not math.isfinite(number):
        raise _Unfit("a finite number")
    return _bounded(number, number, bounds)


def _bounded(value: Any, size: float, bounds: Range | None) -> Any:
    if bounds is not None and not bounds.min <= size <= bounds.max:
        what = "between" if isinstance(value, (int, float)) else "of a length between"
        raise _Unfit(f"{what} {bounds.min} and {bounds.max}")
    return value


def _word(hint: Any, text: str) -> Any:
    """A word of a query string as the JSON value that the annotation wants, as far as it is one."""
    bare, _, _ = _split(hint)
    if bare is bool:
        return _WORDS.get(text.strip().lower(), text)
    try:
        if bare is int and len(text) <= 40:
            return int(text)
        if bare is float and len(text) <= 40:
            return float(text)
    except ValueError:
        return text
    return text


def schema(shape: type) -> dict[str, Any]:
    """The JSON Schema of a shape, or of a TypedDict, the shape of an answer."""
    if typing.is_typeddict(shape):
        return _schema_of_answer(shape)
    hints = _hints(shape)
    properties: dict[str, Any] = {}
    required = []
    for item in dataclasses.fields(shape):
        properties[item.name] = field_schema(hints[item.name])
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            required.append(item.name)
        elif isinstance(item.default, (str, int, float)):
            properties[item.name]["default"] = item.default
    found: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        found["required"] = required
    if shape.__doc__ and not shape.__doc__.startswith(f"{shape.__name__}("):
        found["description"] = shape.__doc__.split("\n")[0]
    return found


def _schema_of_answer(shape: type) -> dict[str, Any]:
    hints = {
        name: (hint.__args__[0], False) if typing.get_origin(hint) is NotRequired else (hint, True)
        for name, hint in _hints(shape).items()
    }
    return {
        "type": "object",
        "description": (shape.__doc__ or "").split("\n")[0],
        "properties": {name: field_schema(hint) for name, (hint, _) in hints.items()},
        "required": [name for name, (_, needed) in hints.items() if needed],
    }


def field_schema(hint: Any) -> dict[str, Any]:
    """The JSON Schema of one annotation."""
    bare, bounds, nullable = _split(hint)
    origin = typing.get_origin(bare)
    found: dict[str, Any]
    if bare is Any:
        return {}
    if bare is bytes:
        return {"type": "string", "format": "binary"}
    if origin is Literal:
        found = {"enum": list(typing.get_args(bare))}
    elif origin in (tuple, list):
        found = {"type": "array", "items": field_schema(typing.get_args(bare)[0])}
    elif origin in (typing.Union, types.UnionType):
        found = {
            "anyOf": [field_schema(member) for member in typing.get_args(bare) if member is not type(None)]
        }
    elif typing.is_typeddict(bare) or (dataclasses.is_dataclass(bare) and isinstance(bare, type)):
        found = schema(bare)
    else:
        found = {"type": _JSON[origin or bare]}
    if origin is dict and typing.get_args(bare)[1] is not Any:
        found["additionalProperties"] = field_schema(typing.get_args(bare)[1])
    if bounds is not None:
        low, high = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}.get(
            found.get("type", ""), ("minimum", "maximum")
        )
        found |= {low: bounds.min, high: bounds.max}
    return {"anyOf": [found, {"type": "null"}]} if nullable else found
