"""What can go wrong, in one shape.

A `Problem` is data: it is what the command line prints, what the Python API raises with and what a
server sends. The exceptions below only carry problems.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

Severity = Literal["error", "warning"]
_BRIEF = reprlib.Repr()
_BRIEF.maxlist = _BRIEF.maxtuple = _BRIEF.maxdict = 40
_BRIEF.maxstring = _BRIEF.maxother = 100


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what, where, what was found, what is allowed, and the remedy."""

    code: str
    """A stable name, such as `unknown_node` or `value_bigger_than_max`."""
    message: str
    """One sentence for a person, without the place (the other fields give it)."""
    node: str | None = None
    title: str | None = None
    class_type: str | None = None
    input: str | None = None
    found: str | None = None
    allowed: str | None = None
    hint: str | None = None
    severity: Severity = "error"

    def where(self) -> str:
        """The place in words, such as `node 3 "Sampler" (KSampler), input steps`; empty for the whole file."""
        parts = []
        if self.node is not None:
            text = f"node {self.node}"
            if self.title and self.title != self.class_type:
                text += f' "{self.title}"'
            if self.class_type:
                text += f" ({self.class_type})"
            parts.append(text)
        if self.input is not None:
            parts.append(f"input {self.input}")
        return ", ".join(parts)

    def __str__(self) -> str:
        text = f"{self.where()}: {self.message}" if self.where() else self.message
        if self.found is not None:
            text += f" Found: {self.found}."
        if self.allowed is not None:
            text += f" Allowed: {self.allowed}."
        return f"{text} {self.hint}" if self.hint else text

    def data(self) -> dict[str, Any]:
        """The problem as JSON data, without what it does not say."""
        found = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in found.items() if value is not None}


class NodegraphError(Exception):
    """Base of every error that nodegraph raises on purpose; `problems` says all that is known."""

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ValidationError(NodegraphError):
    """The workflow cannot run as it stands; nothing was executed."""


class RunError(NodegraphError):
    """A node failed while the graph ran; the cause is chained where there is one."""


class ServerError(NodegraphError):
    """A server cannot be reached, or did not do what it was asked.

    `status` is the HTTP status that it answered with, None where it did not answer.
    """

    def __init__(self, problems: Problem | Iterable[Problem], status: int | None = None) -> None:
        super().__init__(problems)
        self.status = status


class NodeError(Exception):
    """Raised by a node for bad input or a condition that the person can mend.

    The engine adds the node's id, title and class, and reports it without a stack trace.
    """

    def __init__(
        self,
        message: str,
        *,
        input: str | None = None,
        found: str | None = None,
        allowed: str | None = None,
        hint: str | None = None,
        code: str = "node_failed",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.input = input
        self.found = found
        self.allowed = allowed
        self.hint = hint
        self.code = code

    def problem(self, node: str | None, title: str | None, class_type: str | None) -> Problem:
        """This error at its place in the graph."""
        return Problem(
            code=self.code,
            message=self.message,
            node=node,
            title=title,
            class_type=class_type,
            input=self.input,
            found=self.found,
            allowed=self.allowed,
            hint=self.hint,
        )


class Cancelled(Exception):
    """The run was cancelled; raised inside nodes by `Context.progress` and `Context.check_cancelled`."""


def nearest(name: str, known: Sequence[str], count: int = 3) -> list[str]:
    """The known names most like `name`, best first, letter case set aside."""
    by_lower: dict[str, str] = {}
    for item in known:
        by_lower.setdefault(item.lower(), item)
    matches = difflib.get_close_matches(name.lower()[:200], list(by_lower), n=count, cutoff=0.5)
    return [by_lower[match] for match in matches]


def did_you_mean(name: str, known: Sequence[str]) -> str | None:
    """`Did you mean 'a' or 'b'?`, or None where nothing is near."""
    matches = nearest(name, known)
    return f"Did you mean {' or '.join(repr(match) for match in matches)}?" if matches else None


def shown(found: object, most: int = 80) -> str:
    """A value of a document for a message, as Python writes it, cut to `most` letters; quick for any size."""
    if isinstance(found, str):
        found = found[: most + 1]
    text = repr(found) if isinstance(found, (str, int, float)) else _BRIEF.repr(found)
    return text if len(text) <= most else text[: most - 3] + "..."
