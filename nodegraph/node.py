"""Everything that a node's author imports.

    @node("EmptyLatentImage", category="latent")
    def empty_latent_image(width: Annotated[int, Range(16, 16384, step=8)] = 512) -> Latent:
        "A batch of zero latents."

The signature is the interface. The decorator returns the function unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from nodegraph.errors import Cancelled, NodeError, Problem, did_you_mean
from nodegraph.folders import Folders
from nodegraph.forecast import UNKNOWN, Forecast, Memory
from nodegraph.giving import NEVER, Block, GraphBuilder, Lazy, Many, Ref, SavedFile, Shown, Subgraph
from nodegraph.identity import file_identity
from nodegraph.parts import Part
from nodegraph.runtime import Context, Resource, Runtime
from nodegraph.signature import read_signature
from nodegraph.sockets import Choice, Codec, Range, Widget, value
from nodegraph.spec import REQUIRED, Foresee, Identity, InputSpec, Lane, NodeSpec, OutputSpec, Validate

__all__ = [
    "NEVER",
    "REQUIRED",
    "UNKNOWN",
    "Block",
    "Cancelled",
    "Choice",
    "Codec",
    "Context",
    "Folders",
    "Forecast",
    "GraphBuilder",
    "InputSpec",
    "Lane",
    "Lazy",
    "Many",
    "Memory",
    "NodeError",
    "NodeSpec",
    "OutputSpec",
    "Pack",
    "Part",
    "Problem",
    "Range",
    "Ref",
    "Resource",
    "Runtime",
    "SavedFile",
    "Shown",
    "Subgraph",
    "Widget",
    "did_you_mean",
    "file_identity",
    "node",
    "spec_of",
    "value",
]

F = TypeVar("F", bound=Callable[..., Any])


def node(
    name: str,
    *,
    category: str,
    display_name: str | None = None,
    outputs: Sequence[str] | None = None,
    output: bool = False,
    effect: bool = False,
    lane: Lane = "cpu",
    version: int = 1,
    reads: Sequence[Literal["document", "node_id"]] = (),
    identity: Identity | None = None,
    validate: Validate | None = None,
    foresee: Foresee | None = None,
    ahead: bool = False,
    deprecated: bool = False,
) -> Callable[[F], F]:
    """Declare a function as the node type `name`; the function itself comes back unchanged.

    `outputs` overrides the output names. `identity(**literals)` returns bytes for the key, or NEVER;
    `validate(**literals)` returns a sentence where the literals do not go together, else None. Both may take a
    subset of the literal inputs by name, and `folders`. `foresee` takes a subset of the inputs, and `runtime`: each
    is a literal, a value that is known before the run, what another node's `foresee` says of it, or UNKNOWN. It returns
    a Forecast, or raises NodeError for what cannot work; the graph is then refused. `ahead` marks a node that gives
    small plain values at next to no cost (a loader that reads a header): it runs before the check, so that `foresee`
    sees its values. Raises TypeError at declaration where the signature makes no node, or none that can run ahead.
    """

    def declare(function: F) -> F:
        # A function takes any attribute, which its type does not say.
        function.__node_spec__ = read_signature(  # type: ignore[attr-defined]
            function,
            name=name,
            category=category,
            display_name=display_name or name,
            output_names=outputs,
            output=output or effect,
            effect=effect,
            lane=lane,
            version=version,
            reads=frozenset(reads),
            identity=identity,
            validate=validate,
            foresee=foresee,
            ahead=ahead,
            deprecated=deprecated,
        )
        return function

    return declare


def spec_of(function: object) -> NodeSpec | None:
    """The NodeSpec of a declared function, else None."""
    found = getattr(function, "__node_spec__", None)
    return found if isinstance(found, NodeSpec) else None


@dataclass(frozen=True)
class Pack:
    """What an entry point of the group `nodegraph.nodes` names: modules that hold declared nodes."""

    name: str
    modules: tuple[str, ...]
    model_roots: tuple[Path, ...] = ()
    """Folders in ComfyUI's layout (`checkpoints/`, `vae/`...) that ship with the pack."""
    settle: str | None = None
    """`module:function`, called once when a session opens: takes its Runtime and returns it with `auto` settled.

    The function raises NodeError for what is not there."""
    devices: str | None = None
    """`module:function`: takes a settled Runtime and describes the devices that the pack's nodes compute on.

    One mapping each: `name`, `type` (`cpu`, `cuda`), `index`, and bytes of memory, `vram_total` and `vram_free`. It is
    asked about once a second, from any thread."""
