"""What a node raised, as a Problem with its place."""

from __future__ import annotations

from dataclasses import replace

from nodegraph.errors import NodeError, NodegraphError, Problem
from nodegraph.graph import BoundNode

_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; libraries' own classes are known by name and words."""
    if isinstance(error, MemoryError) or any(
        kind.__name__ in ("OutOfMemoryError", "_ArrayMemoryError") for kind in type(error).__mro__
    ):
        return True
    return isinstance(error, (RuntimeError, OSError)) and any(sign in str(error).lower() for sign in _SIGNS)


def problem_of(error: BaseException, node: BoundNode, recovered: bool = False) -> Problem:
    """The Problem of an error at a node. `recovered`: memory was freed once already and the node tried again."""
    name = node.spec.name
    if is_out_of_memory(error):
        tried = " and freeing what could be freed did not help" if recovered else ""
        return Problem(
            "out_of_memory",
            f"memory ran out{tried}.",
            node=node.id,
            title=node.title,
            class_type=name,
            found=_first_line(error) or None,
            hint="Use a smaller picture, a smaller batch, or tiled nodes where there are some.",
        )
    if isinstance(error, NodeError):
        return error.problem(node.id, node.title, name)
    if isinstance(error, NodegraphError) and error.problems:
        first = error.problems[0]
        return first if first.node else replace(first, node=node.id, title=node.title, class_type=name)
    text = _first_line(error)
    message = f"{type(error).__name__}: {text}" if text else f"{type(error).__name__}."
    return Problem("node_failed", message, node=node.id, title=node.title, class_type=name)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    line = text.splitlines()[0] if text else ""
    return line if len(line) <= 300 else line[:297] + "..."
