"""Documents and names that no well-meaning client sends, drawn by hypothesis."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

_DEEP = "@deep@"
LINKS = ("link", "file-link.png", "loop", "nowhere")
"""Names of symbolic links: to a folder and a file outside, to itself, to nothing."""
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 7, 2**31, 2**63, 2**64, -(2**70), 10**400, 0.5, -0.0, 1e308, 5e-324),
    *(float("nan"), float("inf"), -float("inf")),
    *("", " ", "\0", "\ud800", "\udfff\ud800", "\u202e", "\ufeff", "x" * 3000, "1", "NaN", "__proto__"),
    *("../../secret.png", "/etc/passwd", "..\\..\\x", "C:\\x", "NUL", "a/../../b", "file:///etc/passwd"),
    *("{{7*7}}", "${HOME}", "%s%n", "'; DROP TABLE jobs; --", "<script>", "embedding:../../secret"),
    *([], {}, [[]], [None], ["1"], ["1", 0], ["1", -1], ["1", 10**30], ["1", 0.5], ["no", 0], ["1", True]),
    *([1, 0], ["1", "0"], {"__value__": []}, {"__value__": {"__value__": [1]}}, {"": {}}),
    _DEEP,
)
KEYS = (
    *("", "class_type", "inputs", "_meta", "prompt", "nodegraph", "parameters", "nodes", "links", "extra"),
    *("definitions", "version", "canvas", "groups", "models", "__proto__", "\ud800", "\0", "k" * 2000, "1"),
    *("mode", "widgets_values", "client_id", "extra_data", "number", "front", "prompt_id", "sweep"),
)


def _containers(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)):
        if value:
            yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from _containers(item)


@st.composite
def mutated(draw: st.DrawFn, documents: Sequence[Any], types: Sequence[str] = ()) -> bytes:
    """The JSON text of one of these documents after a few changes, which need not leave it JSON.

    Keys go, come twice or are renamed, values become others or links, also to their own node, types become others
    of `types`; nesting gets hostile, and now and then the text is cut or has bytes that are no text.
    """
    document = copy.deepcopy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(0, 6))):
        places = list(_containers(document))
        if places:
            _change(draw, draw(st.sampled_from(places)), document, types)
    text = json.dumps(document)
    depth = draw(st.sampled_from((1, 97, 101, 3000)))
    text = text.replace(json.dumps(_DEEP), "[" * depth + "]" * depth)
    return _spoilt(draw, text)


def _change(draw: st.DrawFn, place: Any, document: Any, types: Sequence[str]) -> None:
    key = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
    what = draw(st.sampled_from(("set", "set", "set", "drop", "rename", "copy", "swap", "cycle", "type")))
    if what == "drop":
        del place[key]
    elif what == "rename" and isinstance(place, dict):
        place[draw(st.sampled_from(KEYS))] = place.pop(key)
    elif what == "copy" and isinstance(place, dict):
        place[draw(st.sampled_from(KEYS))] = copy.deepcopy(place[key])
    elif what == "copy" and isinstance(place, list):
        place.insert(0, copy.deepcopy(place[key]))
    elif what == "swap":
        place[key] = copy.deepcopy(draw(st.sampled_from(list(_containers(document)))))
    elif what == "cycle" and isinstance(place.get("inputs") if isinstance(place, dict) else None, dict):
        nodes = list(document.get("prompt", document))
        name = draw(st.sampled_from([*place["inputs"], "x"]))
        place["inputs"][name] = [draw(st.sampled_from(nodes)), draw(st.integers(-1, 3))]
    elif what == "type" and types and isinstance(place, dict) and "class_type" in place:
        place["class_type"] = draw(st.sampled_from(types))
    else:
        place[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))


def _spoilt(draw: st.DrawFn, text: str) -> bytes:
    how = draw(st.sampled_from(("", "", "", "", "", "", "cut", "bytes", "mark", "utf-16", "twice", "tail")))
    data = text.encode()
    if how == "cut":
        return data[: draw(st.integers(0, len(data)))]
    if how == "bytes":
        at = draw(st.integers(0, len(data)))
        return data[:at] + draw(st.binary(min_size=1, max_size=4)) + data[at:]
    if how == "utf-16":
        return text.encode("utf-16")
    if how == "twice":
        return data.replace(b"{", b'{"class_type": "ToyShow", ', 1)
    return {"mark": b"\xef\xbb\xbf", "tail": b""}.get(how, b"") + data + (b"}" if how == "tail" else b"")


_PARTS = (
    *("..", "...", ".", "", "a", "a.png", "a.json", "secret.png", "served", "jobs.sqlite3", "settings.json"),
    *LINKS,
    *("NUL", "con.png", "x" * 300, "ü\u0308", "\u202egnp", "\0", "a\0.png", "a\nb", "~", "~root", "$HOME"),
    *("%2e%2e", "%2f", "C:", "\\\\host\\share", "a:b", "-rf", ".hidden", "a ", "a.", "*", "?", "[output]"),
    *("etc", "passwd", "proc", "self", "environ", "workflows", "files", "x.html", "x.svg", "[temp]"),
)


@st.composite
def names(draw: st.DrawFn) -> str:
    """A name of a file or folder that may try to lead elsewhere."""
    parts = draw(st.lists(st.sampled_from(_PARTS), min_size=1, max_size=6))
    separator = draw(st.sampled_from(("/", "/", "/", "\\", "//", "/./")))
    start = draw(st.sampled_from(("", "", "", "/", "\\", "//", "file://", "C:\\")))
    return start + separator.join(parts) + draw(st.sampled_from(("", "", "", ".json", ".png", " [input]")))


@st.composite
def in_address(draw: st.DrawFn, name: st.SearchStrategy[str]) -> str:
    """A name as a part of a path, encoded once, twice, or only where a client must."""
    once = quote(draw(name), safe="")
    how = draw(st.sampled_from(("once", "once", "twice", "slashes", "dots")))
    if how == "twice":
        return quote(once, safe="")
    if how == "slashes":
        return once.replace("%2F", "/")
    return once.replace(".", "%2e") if how == "dots" else once
