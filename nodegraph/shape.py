"""What a node returned, in the shape that it declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodegraph.errors import NodeError
from nodegraph.node import Block, NodeSpec, OutputSpec, Shown, Subgraph
from nodegraph.task import CallResult, Items

NOTHING_SHOWN: Mapping[str, tuple[Any, ...]] = {}
"""What most nodes show. One for all, as each result keeps what it shows; nobody may change it."""


def result_of(spec: NodeSpec, returned: Any) -> CallResult:
    """A returned value as one value for each declared output. Raises NodeError where its shape is another."""
    ui = NOTHING_SHOWN
    if type(returned) is Shown:
        ui, returned = returned.ui, returned.values
        if returned is None and spec.outputs:
            raise _arity(spec, 0, "it returned only what it shows, with")
    if type(returned) is Subgraph:
        if len(returned.outputs) != len(spec.outputs):
            raise _arity(spec, len(returned.outputs), "its sub-graph has")
        return CallResult((), ui, returned)
    if type(returned) is Block:
        return CallResult((returned,) * len(spec.outputs), ui)
    outputs = spec.outputs
    if len(outputs) == 1:
        return CallResult((_slot(spec, outputs[0], _unwrapped(returned)),), ui)
    if not outputs:
        if returned is not None:
            raise _arity(spec, 1, "it returned")
        return CallResult((), ui)
    if not isinstance(returned, (tuple, list)) or len(returned) != len(outputs):
        count = len(returned) if isinstance(returned, (tuple, list)) else 0 if returned is None else 1
        raise _arity(spec, count, "it returned")
    pairs = zip(outputs, returned, strict=True)
    return CallResult(tuple([_slot(spec, output, value) for output, value in pairs]), ui)


def _slot(spec: NodeSpec, output: OutputSpec, found: Any) -> Any:
    if output.many:
        if isinstance(found, Block):
            return found
        if not isinstance(found, (tuple, list)):
            raise NodeError(
                f"{spec.name} must return a list for its output {output.name!r}, not {_kind(found)}.",
                code="wrong_result",
            )
        return Items(found)
    if found is None and output.type != "*":
        raise NodeError(f"{spec.name} returned nothing for its output {output.name!r}.", code="wrong_result")
    return found


def _unwrapped(returned: Any) -> Any:
    """The value of a NamedTuple with one field, which is how a single named output may be declared."""
    named = isinstance(returned, tuple) and hasattr(returned, "_fields") and len(returned) == 1
    return returned[0] if named and not hasattr(type(returned), "__socket_type__") else returned


def _arity(spec: NodeSpec, count: int, what: str) -> NodeError:
    names = ", ".join(output.name for output in spec.outputs)
    declared = f"{len(spec.outputs)} output{'' if len(spec.outputs) == 1 else 's'}"
    return NodeError(
        f"{spec.name} declares {declared}{f' ({names})' if names else ''}, "
        f"but {what} {count} value{'' if count == 1 else 's'}.",
        code="wrong_result",
    )


def _kind(found: Any) -> str:
    return "nothing" if found is None else f"a {type(found).__name__}"
