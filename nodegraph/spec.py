"""Node types as data: inputs, outputs, and everything else that a declaration says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from nodegraph.forecast import Forecast
from nodegraph.giving import Never
from nodegraph.sockets import Choice, Range, Widget

T = TypeVar("T")
Lane = Literal["device", "cpu", "io"]
REQUIRED: Any = inspect.Parameter.empty
"""The default of an input that has none."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a node type."""

    name: str
    type: str
    default: Any = REQUIRED
    range: Range | None = None
    choice: Choice | None = None
    widget: Widget = field(default_factory=Widget)
    lazy: bool = False
    many: bool = False

    @property
    def required(self) -> bool:
        """Whether a workflow must give it: it has no default."""
        return self.default is REQUIRED

    @property
    def optional(self) -> bool:
        """Whether descriptions list it under `optional`."""
        return self.widget.optional or self.default is None


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One output of a node type."""

    name: str
    type: str
    many: bool = False


Identity = Callable[..., "bytes | Never"]
Validate = Callable[..., "str | None"]
Foresee = Callable[..., Forecast]


@dataclass(frozen=True)
class NodeSpec:
    """A node type: its function and everything that its signature says."""

    name: str
    function: Callable[..., Any] = field(compare=False)
    inputs: Mapping[str, InputSpec]
    outputs: tuple[OutputSpec, ...]
    category: str
    display_name: str
    description: str
    version: int = 1
    output: bool = False
    """An output node: it is a target of a run (saving, previewing)."""
    effect: bool = False
    """It writes files: a cached result counts only while they exist as recorded."""
    lane: Lane = "cpu"
    is_async: bool = False
    takes_context: str | None = None
    """Name of the Context parameter."""
    takes_kwargs: bool = False
    reads: frozenset[str] = frozenset()
    identity: Identity | None = field(default=None, compare=False)
    validate: Validate | None = field(default=None, compare=False)
    foresee: Foresee | None = field(default=None, compare=False)
    ahead: bool = False
    """It costs next to nothing and may run before the graph is checked, once its inputs are known."""
    deprecated: bool = False
    module: str = ""
    _known: dict[Callable[[NodeSpec], Any], Any] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def once(self, make: Callable[[NodeSpec], T]) -> T:
        """What `make` works out of this declaration, which never changes: the first time, and kept with it."""
        found: T | None = self._known.get(make)
        if found is None:
            found = self._known[make] = make(self)
        return found
