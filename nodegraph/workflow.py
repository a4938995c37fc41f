"""Workflow: a document read, changed and written. The only reader and writer of workflow files."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph.errors import Problem, ValidationError, shown
from nodegraph.findings import Findings, Suggestions
from nodegraph.formats.document_text import write
from nodegraph.formats.json_text import owned, parse, refuse, refuse_nodes, refuse_size
from nodegraph.formats.png import embedded, is_picture
from nodegraph.limits import MAX_BYTES, MAX_NAME, MAX_NODES, MAX_PARAMETERS, MAX_PICTURE_BYTES, MAX_TITLE
from nodegraph.naming import write_atomically

if TYPE_CHECKING:
    from nodegraph.node import NodeSpec

VERSION = 1
"""The version of the document format that is read and written."""
_FIELDS = ("models", "groups", "canvas")
"""Fields of a document that only editors read, in the order in which they are written."""
BODY_ONLY = frozenset(
    {"client_id", "prompt_id", "number", "front", "extra_data", "partial_execution_targets"}
)
"""Fields of a POST body that are not part of a saved document."""
_PARAMETER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Target:
    """The input that a parameter sets."""

    node: str
    input: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """A declared parameter of a workflow: a name that sets one input or several."""

    name: str
    targets: tuple[Target, ...]
    description: str | None = None
    declared: Any = field(default=None, compare=False, repr=False)
    """Its JSON as it stands in the document."""


@dataclass(frozen=True)
class Workflow:
    """A workflow document. Nothing in it is changed in place: `with_values` and `with_inputs` give new ones."""

    prompt: Mapping[str, Mapping[str, Any]]
    """Nodes by id, as the API format has them: `class_type`, `inputs` and `_meta`."""
    title: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    """The other fields of the document as they came: models, groups, canvas and whatever else."""
    problems: tuple[Problem, ...] = field(default=(), compare=False)
    """Warnings of what its reader could not carry over from another format."""

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        registry: Mapping[str, NodeSpec] | None = None,
        listing: Callable[[str], list[str]] | None = None,
    ) -> Workflow:
        """Read a file: a document, API JSON, a POST body, ComfyUI's UI format, or a PNG or WebP that carries one.

        `registry` is needed for the UI format only. A PNG with A1111's parameters gives a text-to-image workflow; `listing`
        then says which model files there are (by folder kind). Raises ValidationError where the file cannot be read or
        holds no workflow.
        """
        data = read_file(Path(path))
        name = Path(path).name
        if is_picture(data):
            return cls.of_picture(data, name, registry, listing)
        return cls.loads(data, registry, name=name)

    @classmethod
    def of_picture(
        cls,
        data: bytes,
        name: str,
        registry: Mapping[str, NodeSpec] | None = None,
        listing: Callable[[str], list[str]] | None = None,
    ) -> Workflow:
        """The workflow that a PNG or a WebP carries; `load` says more. Raises ValidationError."""
        carried = embedded(data, name, registry, listing)
        return cls.from_data(carried.data, registry, name=carried.name).with_problems(carried.problems)

    @classmethod
    def loads(
        cls, text: bytes | str, registry: Mapping[str, NodeSpec] | None = None, *, name: str = "the document"
    ) -> Workflow:
        """Read JSON text of any of the formats. Raises ValidationError."""
        return cls.of_data(parse(text, name), registry, name)

    @classmethod
    def from_data(
        cls,
        data: Mapping[str, Any],
        registry: Mapping[str, NodeSpec] | None = None,
        *,
        name: str = "the workflow",
    ) -> Workflow:
        """A workflow of parsed JSON, which is copied. Raises ValidationError."""
        return cls.of_data(owned(dict(data), name), registry, name)

    @classmethod
    def of_data(
        cls, data: Any, registry: Mapping[str, NodeSpec] | None = None, name: str = "the workflow"
    ) -> Workflow:
        """The same of what `json_text.parse` made, which is checked already and is not copied. Raises ValidationError."""
        if not isinstance(data, dict):
            refuse(f"{name} is not a workflow: it holds {_kind(data)}, not an object.", code="invalid_prompt")
        if "nodegraph" in data:
            if type(data["nodegraph"]) is not int or data["nodegraph"] != VERSION:
                refuse(
                    f"{name} is a document of version {shown(data['nodegraph'])}; this release reads version {VERSION}.",
                    code="invalid_prompt",
                )
            return cls.of_json(data, name)
        if not any(isinstance(node, dict) and "class_type" in node for node in data.values()):
            if isinstance(data.get("nodes"), list):
                from nodegraph.formats.comfy_ui import from_ui

                return cls.of_json(from_ui(data, registry, name), name)
            if "prompt" in data:
                return cls.of_json(data, name)
            if data:
                keys = ", ".join(shown(key) for key in list(data)[:5])
                refuse(
                    f"{name} is not a workflow: no node with a class_type is in it.",
                    code="invalid_prompt",
                    found=f"the keys {keys}",
                )
        return cls.of_json({"prompt": data}, name)

    @classmethod
    def of_json(cls, data: dict[str, Any], name: str) -> Workflow:
        """A workflow of a document of plain JSON data, which is not copied. Raises ValidationError."""
        problems = Findings()
        prompt = data.get("prompt")
        if not isinstance(prompt, dict):
            refuse(
                f"{name} has no 'prompt' object with the nodes.", code="invalid_prompt", found=_kind(prompt)
            )
        if len(prompt) > MAX_NODES:
            refuse_nodes(name)
        for node_id, node in prompt.items():
            _check_node(node_id, node, problems)
        title = data.get("title", "")
        if not isinstance(title, str):
            problems.add(
                None, lambda: Problem("invalid_prompt", "the title must be text.", found=_kind(title))
            )
        parameters = _parameters(data.get("parameters", {}), problems)
        if problems:
            raise ValidationError(problems.told())
        extra = {
            key: value
            for key, value in data.items()
            if key not in ("nodegraph", "title", "parameters", "prompt")
        }
        return cls(prompt, title, parameters, extra)

    def with_problems(self, problems: Iterable[Problem]) -> Workflow:
        """The workflow with more that its reader could not carry over."""
        return replace(self, problems=(*self.problems, *problems))

    def document(self) -> dict[str, Any]:
        """The whole document as JSON data, fields in their order; not to be changed."""
        fields: dict[str, Any] = {"nodegraph": VERSION}
        if self.title:
            fields["title"] = self.title
        if self.parameters:
            fields["parameters"] = {name: parameter.declared for name, parameter in self.parameters.items()}
        fields |= {key: self.extra[key] for key in _FIELDS if key in self.extra}
        fields |= self.extra
        return {**fields, "prompt": self.prompt}

    def dumps(self) -> str:
        """The document as text: the same for the same content, one input a line, nodes in the order of their ids."""
        return write(self.saved())

    def saved(self) -> dict[str, Any]:
        """The document as it is saved: without what belongs to one POST, nodes in the order of their ids."""
        data = {key: value for key, value in self.document().items() if key not in BODY_ONLY}
        return {**data, "prompt": _ordered(self.prompt)}

    def dumps_api(self) -> str:
        """Only the nodes, in ComfyUI's API format."""
        return write(_ordered(self.prompt))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the document, replacing the file at once or not at all. Raises OSError."""
        write_atomically(Path(path), self.dumps())

    def value_of(self, parameter: str) -> Any:
        """The value that a declared parameter has now, that of its first input; None where the input is not given."""
        target = self.parameters[parameter].targets[0]
        node = self.prompt.get(target.node, {})
        return node.get("inputs", {}).get(target.input)

    def with_values(self, values: Mapping[str, Any]) -> Workflow:
        """The workflow with declared parameters set. Raises ValidationError for names that are not declared."""
        problems, suggestions = Findings(), Suggestions()
        changes: dict[tuple[str, str], Any] = {}
        for name, value in values.items():
            parameter = self.parameters.get(name)
            if parameter is None:
                problems.add(None, partial(self._no_parameter, name, suggestions))
                continue
            for target in parameter.targets:
                if target.node not in self.prompt:
                    what = f"the parameter {name!r} sets"
                    problems.add(None, partial(self._no_node, target.node, what, suggestions))
                changes[target.node, target.input] = value
        return self._changed(changes, problems)

    def with_inputs(self, values: Mapping[str, Any]) -> Workflow:
        """The workflow with inputs set: `{"3.steps": 20}`. Raises ValidationError for nodes that are not there."""
        problems, suggestions = Findings(), Suggestions()
        changes: dict[tuple[str, str], Any] = {}
        for place, value in values.items():
            node_id, input_name = self.split_place(place)
            if not input_name:
                problems.add(None, partial(_no_input, place))
            elif node_id not in self.prompt:
                problems.add(None, partial(self._no_node, node_id, f"{shown(place)} sets", suggestions))
            changes[node_id, input_name] = value
        return self._changed(changes, problems)

    def split_place(self, place: str) -> tuple[str, str]:
        """(node id, input name) of `NODE.INPUT`; a dot may stand in either, known ids are preferred."""
        cuts = [index for index, letter in enumerate(place) if letter == "."]
        for cut in cuts:
            if place[:cut] in self.prompt:
                return place[:cut], place[cut + 1 :]
        node_id, _, input_name = place.partition(".")
        return node_id, input_name

    def _no_parameter(self, name: str, suggestions: Suggestions) -> Problem:
        return Problem(
            "unknown_parameter",
            f"the workflow declares no parameter {shown(name)}.",
            allowed=_some(list(self.parameters)) if self.parameters else "none are declared",
            hint=suggestions.hint("parameter", name, self.parameters.keys()),
        )

    def _no_node(self, node_id: str, what: str, suggestions: Suggestions) -> Problem:
        return Problem(
            "unknown_node_id",
            f"{what} an input of node {shown(node_id)}, which the workflow does not have.",
            allowed=_some(list(self.prompt)),
            hint=suggestions.hint("node", node_id, self.prompt.keys()),
        )

    def _changed(self, changes: Mapping[tuple[str, str], Any], problems: Findings) -> Workflow:
        if problems:
            raise ValidationError(problems.told())
        prompt = dict(self.prompt)
        for (node_id, name), value in changes.items():
            inputs = {
                **prompt[node_id].get("inputs", {}),
                name: owned(value, f"the value of {node_id}.{name}"),
            }
            prompt[node_id] = {**prompt[node_id], "inputs": inputs}
        return replace(self, prompt=prompt)


def read_file(path: Path) -> bytes:
    """The bytes of a workflow file or pipe. Raises ValidationError where it cannot be read or is too large."""
    place = str(path) if len(str(path)) <= 200 else f"{str(path)[:197]}..."
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            begun = _begun(file.fileno())
            most = MAX_PICTURE_BYTES if is_picture(begun or file.peek(16)) else MAX_BYTES
            if os.fstat(file.fileno()).st_size > most:
                refuse_size(path.name, most)
            data = file.read(most + 1 - len(begun))
            data = begun + data if begun else data
    except OSError as error:
        reason = "it is a folder, not a file" if os.path.isdir(path) else error.strerror or str(error)
        raise ValidationError(Problem("cannot_read", f"cannot read {place}: {reason}.")) from None
    except ValueError:
        raise ValidationError(Problem("cannot_read", f"{place!r} is not a file name.")) from None
    if len(data) > most:
        refuse_size(path.name, most)
    return data


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting, as opening a pipe does until somebody opens its other end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _begun(descriptor: int) -> bytes:
    """The first bytes of a pipe; none of any other file, which is read at leisure from here on."""
    begun = b""
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        # Nothing to read means that nobody holds the other end; somebody who does and is quiet is waited for.
        with suppress(BlockingIOError):
            for _ in range(20):
                begun = os.read(descriptor, 2**16)
                if begun:
                    break
                time.sleep(0.05)
            else:
                raise OSError(errno.EPIPE, "it is a pipe that nobody writes into")
    if hasattr(os, "set_blocking"):
        os.set_blocking(descriptor, True)
    return begun


def _check_node(node_id: str, node: Any, problems: Findings) -> None:
    def wrong(text: str, found: str | None = None) -> None:
        # A long id would be long in each message.
        place = node_id if len(node_id) <= MAX_NAME else None
        problems.add(place, lambda: Problem("invalid_prompt", text, place, _title(node), found=found))

    if len(node_id) > MAX_NAME:
        wrong(f"the id of a node is longer than {MAX_NAME:,} letters.", shown(node_id))
    if not isinstance(node, dict):
        wrong("a node must be an object.", _kind(node))
        return
    kind, inputs = node.get("class_type"), node.get("inputs")
    if not isinstance(kind, str):
        wrong("the node has no class_type, the name of its type.")
    elif len(kind) > MAX_NAME:
        wrong(f"the class_type is longer than {MAX_NAME:,} letters.", shown(kind))
    for name in ("inputs", "_meta"):
        if not isinstance(node.get(name, {}), dict):
            wrong(f"{name} must be an object.", _kind(node[name]))
    if isinstance(inputs, dict):
        for name in inputs:
            if len(name) > MAX_NAME:
                wrong(f"the name of an input is longer than {MAX_NAME:,} letters.", shown(name))


def _no_input(place: str) -> Problem:
    return Problem("unknown_input", f"{shown(place)} names no input; write NODE.INPUT, such as 3.steps.")


def _title(node: Any) -> str | None:
    meta = node.get("_meta") if isinstance(node, dict) else None
    title = meta.get("title") if isinstance(meta, dict) else None
    return title[:MAX_TITLE] if isinstance(title, str) else None


def _parameters(data: Any, problems: Findings) -> dict[str, Parameter]:
    def wrong(text: str, *, found: str | None = None, allowed: str | None = None) -> None:
        problems.add(None, lambda: Problem("invalid_parameter", text, found=found, allowed=allowed))

    if not isinstance(data, dict):
        wrong("parameters must be an object.", found=_kind(data))
        return {}
    if len(data) > MAX_PARAMETERS:
        wrong("there are too many parameters.", found=f"{len(data):,}", allowed=f"up to {MAX_PARAMETERS:,}")
        return {}
    found = {}
    for name, declared in data.items():
        items = declared if isinstance(declared, list) else [declared]
        if not _PARAMETER_NAME.fullmatch(name):
            wrong(f"{shown(name)} is no name for a parameter: letters, digits, _ and - only.")
        elif not items or not all(_is_target(item) for item in items):
            allowed = '{"node": id, "input": name}, or a list of these'
            wrong(f"the parameter {name!r} does not say which input it sets.", allowed=allowed)
        else:
            targets = tuple(Target(str(item["node"]), item["input"]) for item in items)
            description = next((item["description"] for item in items if "description" in item), None)
            described = description if isinstance(description, str) else None
            found[name] = Parameter(name, targets, described, declared)
    return found


def _is_target(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("node"), (str, int))
        and isinstance(item.get("input"), str)
    )


def _ordered(prompt: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Nodes by id, numbers by value; in each class_type first and _meta last."""
    ordered = {}
    for node_id in sorted(prompt, key=_natural):
        node = prompt[node_id]
        first = {key: node[key] for key in ("class_type", "inputs") if key in node}
        last = {key: node[key] for key in ("_meta",) if key in node}
        ordered[node_id] = {**first, **{key: node[key] for key in node if key != "_meta"}, **last}
    return ordered


def _natural(text: str) -> tuple[tuple[int, int, str], ...]:
    parts = re.split(r"([0-9]{1,18})", text)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")


def _some(names: list[str], most: int = 12) -> str:
    shown = ", ".join(names[:most]) or "none"
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
