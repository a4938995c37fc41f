"""Result: what a run gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from nodegraph.errors import Cancelled, Problem, RunError
from nodegraph.events import (
    Event,
    NodeCached,
    NodeExpanded,
    NodeFailed,
    NodeFinished,
    NodeSkipped,
    RunFinished,
)
from nodegraph.node import SavedFile

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Result:
    """What a run gave: values, saved files, and which nodes ran."""

    status: Literal["success", "failed", "cancelled"]
    seconds: float
    outputs: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Values of the requested nodes by id, one entry an output socket; a node that only shows has none."""
    ui: Mapping[str, Mapping[str, tuple[Any, ...]]] = field(default_factory=dict)
    """What the output nodes show, by id: saved files, texts."""
    problems: tuple[Problem, ...] = ()
    ran: tuple[str, ...] = ()
    """Ids of the nodes that ran, in the order in which they ended."""
    cached: tuple[str, ...] = ()
    """Ids of the nodes whose results were held."""
    skipped: tuple[str, ...] = ()
    errors: Mapping[str, BaseException] = field(default_factory=dict, repr=False)
    """Exceptions by the id of the node that raised them."""

    @property
    def files(self) -> tuple[SavedFile, ...]:
        """Every file that was written, or that a held result stands for, in the order of the nodes."""
        shown = (item for lists in self.ui.values() for items in lists.values() for item in items)
        return tuple(item for item in shown if isinstance(item, SavedFile))

    @property
    def images(self) -> list[Image.Image]:
        """The pictures that the output nodes wrote, read back from their files. Raises OSError where one is gone."""
        from PIL import Image

        pictures: list[Image.Image] = []
        for lists in self.ui.values():
            for item in lists.get("images", ()):
                if isinstance(item, SavedFile):
                    with Image.open(item.path) as picture:
                        picture.load()
                        pictures.append(picture)
        return pictures

    def raise_for_status(self) -> Result:
        """This result where the run succeeded. Raises RunError or Cancelled otherwise."""
        if self.status == "cancelled":
            raise Cancelled("the run was cancelled")
        if self.status == "failed":
            errors = [problem for problem in self.problems if problem.severity == "error"]
            raise RunError(errors or self.problems) from next(iter(self.errors.values()), None)
        return self


class Recorder:
    """Makes a Result of the events of a run."""

    def __init__(self) -> None:
        self._ran: dict[str, None] = {}
        self._cached: dict[str, None] = {}
        self._skipped: dict[str, None] = {}
        self._errors: dict[str, BaseException] = {}
        self._children: set[str] = set()

    def note(self, event: Event) -> Result | None:
        """Take an event; the result with the last one."""
        if isinstance(event, NodeFinished):
            self._ran[event.node] = None
        elif isinstance(event, NodeCached):
            self._cached[event.node] = None
        elif isinstance(event, NodeSkipped):
            self._skipped[event.node] = None
        elif isinstance(event, NodeExpanded):
            self._children.update(event.children)
        elif isinstance(event, NodeFailed) and event.error is not None:
            self._errors[event.node] = event.error
        elif isinstance(event, RunFinished):
            return Result(
                event.status,
                event.seconds,
                event.outputs,
                {node: event.ui[node] for node in (*event.outputs, *event.ui) if node in event.ui},
                event.problems,
                tuple(node for node in self._ran if node not in self._children),
                tuple(node for node in self._cached if node not in self._children),
                tuple(node for node in self._skipped if node not in self._children),
                self._errors,
            )
        return None
