"""The inputs of one node: found, converted, filled in with their defaults, or refused with the reason."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from nodegraph.errors import NodeError, Problem, shown
from nodegraph.findings import Findings, Suggestions
from nodegraph.folders import Folders
from nodegraph.node import InputSpec, NodeSpec
from nodegraph.sockets import Unfit, assignable, convert

Link = tuple[str, int]
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Entry:
    """A node as it is given: its type, links and literals by input name, not yet checked."""

    class_type: str
    links: Mapping[str, Link]
    literals: Mapping[str, Any]
    title: str = ""


@dataclass(frozen=True, slots=True)
class BoundNode:
    """A node whose inputs are checked: each declared input stands in `literals` or in `links`."""

    id: str
    spec: NodeSpec
    title: str
    literals: Mapping[str, Any]
    """Values by declared input, of the declared type, defaults filled in. An input of type Many holds a tuple."""
    links: Mapping[str, Link]
    """(source id, output index) by input; where the node takes **kwargs, undeclared inputs too."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Undeclared literals, for a node that takes **kwargs."""


class Named(Protocol):
    """A node as its problems name it."""

    @property
    def id(self) -> str:
        """Its id in the workflow."""
        ...

    @property
    def spec(self) -> NodeSpec:
        """Its declaration."""
        ...

    @property
    def title(self) -> str:
        """What people call it."""
        ...


def problem_at(
    node: Named,
    code: str,
    message: str,
    *,
    input: str | None = None,
    found: str | None = None,
    allowed: str | None = None,
    hint: str | None = None,
) -> Problem:
    """A problem of a node, or of one of its inputs."""
    return Problem(
        code=code,
        message=message,
        node=node.id,
        title=node.title,
        class_type=node.spec.name,
        input=input,
        found=found,
        allowed=allowed,
        hint=hint,
    )


class _Type:
    """What binding needs to know of one node type."""

    def __init__(self, spec: NodeSpec) -> None:
        self.spec = spec
        self.inputs = tuple(spec.inputs.items())
        self.names = frozenset(spec.inputs)
        self.plain = {
            name: item
            for name, item in self.inputs
            if item.choice is None and not item.many and not item.lazy
        }
        self.hook_inputs: tuple[str, ...] = ()
        self.hook_takes_folders = False
        if spec.validate is not None:
            parameters = inspect.signature(spec.validate).parameters.values()
            named = [item.name for item in parameters if item.kind is not inspect.Parameter.VAR_KEYWORD]
            if len(named) < len(parameters):
                named = [*named, *(name for name in spec.inputs if name not in named)]
            self.hook_inputs = tuple(name for name in named if name in spec.inputs)
            self.hook_takes_folders = "folders" in named


def addresses(models: Any) -> dict[str, str]:
    """The web addresses in a document's list of models, `{"name", "url", "directory"}` each, by name."""
    found = {}
    for item in models if isinstance(models, list) else ():
        if isinstance(item, Mapping):
            name, url = item.get("name"), item.get("url")
            if (
                isinstance(name, str)
                and isinstance(url, str)
                and url.startswith("https://")
                and len(url) <= 500
            ):
                found[name] = url
    return found


class Inputs:
    """Checks the inputs of nodes. Keeps folder listings, so it serves one run and not a session.

    `models` are those that the document lists: their addresses are told where a file is missing.
    """

    BROKEN: Any = object()
    """Stands for an input whose problem is known already."""

    def __init__(self, registry: Mapping[str, NodeSpec], folders: Folders, models: Any = None) -> None:
        self._registry = registry
        self._folders = folders
        self._addresses = addresses(models)
        self._types: dict[str, _Type] = {}
        self._files: dict[str, tuple[list[str], frozenset[str]]] = {}
        self._options: dict[tuple[str, ...], frozenset[str]] = {}
        self.suggestions = Suggestions()

    def bind(self, node_id: str, entry: Entry, errors: Findings, warnings: Findings) -> BoundNode | None:
        """The node with its inputs converted; problems are added. None where its type is not known."""
        kind = self._types.get(entry.class_type)
        if kind is None:
            spec = self._registry.get(entry.class_type)
            if spec is None:
                errors.add(node_id, lambda: self._unknown(node_id, entry))
                return None
            kind = self._types[entry.class_type] = spec.once(_Type)
        return _One(self, kind, node_id, entry, errors, warnings).bound()

    def literal(self, item: InputSpec, raw: Any) -> Any:
        """A literal as the input's type. Raises Unfit."""
        if raw is None and item.default is None:
            return None
        if item.many:
            items = raw if isinstance(raw, (list, tuple)) else [raw]
            return tuple(self._scalar(item, one) for one in items)
        return self._scalar(item, raw)

    def _scalar(self, item: InputSpec, raw: Any) -> Any:
        if item.choice is not None:
            return self._choose(item, raw)
        declared = getattr(type(raw), "__socket_type__", None)
        if declared is not None:
            if assignable(declared, item.type):
                return raw
            raise Unfit("return_type_mismatch", f"a value of type {declared} does not fit.", item.type)
        return convert(raw, item.type, item.range)

    def _choose(self, item: InputSpec, raw: Any) -> Any:
        choice = item.choice
        assert choice is not None
        if choice.files is None:
            known = self._options.get(choice.options)
            if known is None:
                known = self._options[choice.options] = frozenset(choice.options)
            return raw if type(raw) is str and raw in known else convert(raw, "COMBO", None, choice.options)
        return self._choose_file(choice.files, choice.options, raw)

    def _choose_file(self, kind: str, fixed: Sequence[str], raw: Any) -> str:
        """A name of a file that is there: as listed, with forward slashes, or as the folders themselves find it."""
        if kind not in self._files:
            names = [*fixed, *self._folders.list(kind)]
            self._files[kind] = (names, frozenset(names))
        names, known = self._files[kind]
        if not isinstance(raw, str):
            raise Unfit("invalid_input_type", "the name of a file is needed.", "text in quotes")
        for name in (raw, raw.replace("\\", "/")):
            if name in known:
                return name
        try:
            if self._folders.look(kind, raw) is not None:
                return raw
            hint = self._published(kind, raw) or self.suggestions.hint(f"file of {kind}", raw, names)
            error = self._folders.missing(kind, raw, names, hint or "Put it into one of these folders.")
        except NodeError as outside:
            error = outside
        except (OSError, ValueError):
            raise Unfit("value_not_in_list", "this is not the name of a file.") from None
        raise Unfit(error.code, error.message, error.allowed, error.hint)

    def _published(self, kind: str, name: str) -> str | None:
        """Where the document says that a file is published."""
        address = self._addresses.get(name.replace("\\", "/"))
        if address is None:
            return None
        return f"It is published at {address}. Put it into {self._folders.roots(kind)[0]}."

    def _unknown(self, node_id: str, entry: Entry) -> Problem:
        return Problem(
            code="unknown_node",
            message=f"there is no node type {entry.class_type[:200]!r}.",
            node=node_id,
            title=entry.title or None,
            class_type=entry.class_type[:200],
            hint=self.suggestions.hint("node type", entry.class_type, self._registry.keys())
            or "The pack that declares it may be missing.",
        )

    def run_hook(self, kind: _Type, literals: Mapping[str, Any]) -> str | NodeError | None:
        """What a node's own check says of its literals; None also where some of what it reads is linked."""
        hook = kind.spec.validate
        if hook is None or any(name not in literals for name in kind.hook_inputs):
            return None
        given = {name: literals[name] for name in kind.hook_inputs}
        if kind.hook_takes_folders:
            given["folders"] = self._folders
        try:
            return hook(**given)
        except NodeError as error:
            return error
        except Exception as error:  # a pack's fault must not keep other problems from being told
            return f"the node's own check failed: {type(error).__name__}: {error}."


class _One:
    """The binding of one node."""

    def __init__(
        self,
        inputs: Inputs,
        kind: _Type,
        node_id: str,
        entry: Entry,
        errors: Findings,
        warnings: Findings,
    ) -> None:
        self.inputs = inputs
        self.kind = kind
        self.id = node_id
        self.entry = entry
        self.errors = errors
        self.warnings = warnings
        self.failed = False

    @property
    def spec(self) -> NodeSpec:
        """The node's declaration."""
        return self.kind.spec

    @property
    def title(self) -> str:
        """What people call the node."""
        return self.entry.title or self.kind.spec.display_name

    def bound(self) -> BoundNode:
        """The node; every declared input that has no problem is in it."""
        entry, spec = self.entry, self.kind.spec
        links = entry.links
        literals: dict[str, Any] = {}
        extra = NOTHING
        given = len(entry.literals) + len(links)
        used = 0
        missing: list[str] = []
        for name, item in self.kind.inputs:
            if name in links:
                used += 1
                continue
            if name in entry.literals:
                used += 1
                raw = entry.literals[name]
            elif item.required:
                missing.append(name)
                continue
            else:
                raw = item.default
            if raw is not Inputs.BROKEN:
                self._convert(name, item, raw, literals)
        if used < given:
            links, extra = self._undeclared(missing)
        if missing:
            self._missing(missing)
        if spec.validate is not None and not self.failed:
            self._hook(literals)
        return BoundNode(self.id, spec, self.title, literals or NOTHING, links, extra)

    def _convert(self, name: str, item: InputSpec, raw: Any, literals: dict[str, Any]) -> None:
        try:
            value = literals[name] = self.inputs.literal(item, raw)
        except Unfit as error:
            unfit = error
            self.fail(lambda: self._unfit(name, raw, unfit))
            return
        if item.range is not None and item.range.floor:
            step = item.range.step
            if type(value) is int and type(step) is int and value % step:
                self.warnings.add(self.id, partial(self._between_steps, name, value, step))

    def _between_steps(self, name: str, value: int, step: int) -> Problem:
        lower = value - value % step
        return problem_at(
            self,
            "value_between_steps",
            f"the value is no multiple of {step}: the node takes it as {lower}.",
            input=name,
            found=str(value),
        )

    def _unfit(self, name: str, raw: Any, error: Unfit) -> Problem:
        hint = error.hint
        if error.options and isinstance(raw, str):
            what = f"choice of {name} of {self.kind.spec.name}"
            hint = self.inputs.suggestions.hint(what, raw, error.options)
        return problem_at(
            self, error.code, error.message, input=name, found=shown(raw), allowed=error.allowed, hint=hint
        )

    def _undeclared(self, missing: list[str]) -> tuple[Mapping[str, Link], Mapping[str, Any]]:
        """Links and extra literals once undeclared inputs are passed on (**kwargs) or dropped with a warning."""
        spec, names = self.kind.spec, self.kind.names
        if spec.takes_kwargs and spec.takes_context not in (*self.entry.links, *self.entry.literals):
            return self.entry.links, {
                name: value
                for name, value in self.entry.literals.items()
                if name not in names and value is not Inputs.BROKEN
            }
        near, what = self.inputs.suggestions.nearest, f"missing input of node {self.id}"
        for name in self._unknown_names():
            if not missing or not near(what, name, missing):
                self.warnings.add(self.id, partial(self._undeclared_input, name))
        return {name: link for name, link in self.entry.links.items() if name in names}, NOTHING

    def _undeclared_input(self, name: str) -> Problem:
        spec = self.kind.spec
        hint = self.inputs.suggestions.hint(f"input of {spec.name}", name, spec.inputs.keys())
        text = f"{spec.name} has no input {name!r}; it is ignored."
        return problem_at(self, "undeclared_input", text, input=name, hint=hint)

    def _unknown_names(self) -> list[str]:
        names = self.kind.names
        return [name for name in (*self.entry.links, *self.entry.literals) if name not in names]

    def _missing(self, names: list[str]) -> None:
        unknown = self._unknown_names()
        for name in names:
            self.fail(partial(self._missing_input, name, unknown))

    def _missing_input(self, name: str, unknown: list[str]) -> Problem:
        near = self.inputs.suggestions.nearest(f"unknown input of node {self.id}", name, unknown)
        hint = f"{near[0]!r} is given, which the node does not have: is {name!r} meant?" if near else None
        text = f"the input {name!r} ({self.kind.spec.inputs[name].type}) is required and not given."
        return problem_at(self, "required_input_missing", text, input=name, hint=hint)

    def _hook(self, literals: Mapping[str, Any]) -> None:
        verdict = self.inputs.run_hook(self.kind, literals)
        if verdict is not None:
            self.fail(lambda: self._verdict(verdict))

    def _verdict(self, verdict: str | NodeError) -> Problem:
        if isinstance(verdict, str):
            return problem_at(self, "custom_validation_failed", verdict)
        return problem_at(
            self,
            "custom_validation_failed" if verdict.code == "node_failed" else verdict.code,
            verdict.message,
            input=verdict.input,
            found=verdict.found,
            allowed=verdict.allowed,
            hint=verdict.hint,
        )

    def fail(self, make: Callable[[], Problem]) -> None:
        """Add an error of this node."""
        self.failed = True
        self.errors.add(self.id, make)
