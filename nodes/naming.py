"""Placeholders in file names: dates, picture sizes and values of other nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

PLACEHOLDER = re.compile(r"%([^%]+)%")
DATE_PART = re.compile(r"yyyy|yy|MM?|dd?|[hH]{1,2}|mm?|ss?")
UNSAFE = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')
MAX_LINKS = 100


def expand(text: str, document: Mapping[str, Any], now: datetime, *, width: int = 0, height: int = 0) -> str:
    """The text with its placeholders filled in; those that mean nothing stay as they are.

    Known are `%date:yyyy-MM-dd%` (parts yyyy yy M MM d dd h hh m mm s ss), `%year%`, `%month%`, `%day%`, `%hour%`,
    `%minute%`, `%second%`, `%width%`, `%height%` (in pixels) and `%Node.input%`: the value of an input of the node
    with that title or type. In such values, characters that file names cannot hold become `_`.
    """
    fixed = {
        "width": str(width),
        "height": str(height),
        "year": f"{now:%Y}",
        "month": f"{now:%m}",
        "day": f"{now:%d}",
        "hour": f"{now:%H}",
        "minute": f"{now:%M}",
        "second": f"{now:%S}",
    }

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name in fixed:
            return fixed[name]
        if name.startswith("date:"):
            return _date(name.removeprefix("date:"), now)
        found = _input_value(name, document)
        return match[0] if found is None else UNSAFE.sub("_", found)

    return PLACEHOLDER.sub(fill, text)


def _date(form: str, now: datetime) -> str:
    numbers = {"M": now.month, "d": now.day, "h": now.hour, "H": now.hour, "m": now.minute, "s": now.second}

    def part(match: re.Match[str]) -> str:
        token = match[0]
        if token[0] == "y":
            return str(now.year)[-len(token) :]
        return str(numbers[token[0]]).zfill(len(token))

    return DATE_PART.sub(part, form)


def _input_value(reference: str, document: Mapping[str, Any]) -> str | None:
    node_name, dot, input_name = reference.partition(".")
    prompt = document.get("prompt", document)
    if not dot or not isinstance(prompt, Mapping):
        return None
    for matches in (_has_title, _has_type):
        for item in prompt.values():
            if isinstance(item, Mapping) and matches(item, node_name):
                value = _literal(item, input_name, prompt)
                if value is not None:
                    return str(value)
    return None


def _has_title(item: Mapping[str, Any], name: str) -> bool:
    meta = item.get("_meta")
    return isinstance(meta, Mapping) and meta.get("title") == name


def _has_type(item: Mapping[str, Any], name: str) -> bool:
    # "Empty Latent Image" is how editors title an EmptyLatentImage that nobody renamed.
    return item.get("class_type") == name.replace(" ", "")


def _literal(item: Mapping[str, Any], name: str, prompt: Mapping[str, Any]) -> Any:
    """The literal of an input, through links to nodes that only hold a `value`; None where there is none."""
    for _ in range(MAX_LINKS):
        inputs = item.get("inputs")
        value = inputs.get(name) if isinstance(inputs, Mapping) else None
        if not isinstance(value, (list, tuple)):
            return None if isinstance(value, Mapping) else value
        item = prompt.get(str(value[0]), {}) if value else {}
        name = "value"
    return None
