"""What a node takes beside plain values, and what it may give in their place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

T = TypeVar("T")


class ManyMark:
    """Marks a parameter or output that takes or gives the whole list."""


Many = Annotated[Sequence[T], ManyMark()]
"""`Many[Image]`: all items of a mapped value at once, as a tuple."""


class Lazy(Generic[T]):
    """An input that is computed only when awaited: `image = await lazy_image`.

    Only an `async def` node can take it. The error of what is upstream is raised at the await.
    """

    __slots__ = ("_fetch",)

    def __init__(self, fetch: Callable[[], Awaitable[T]]) -> None:
        self._fetch = fetch

    def __await__(self) -> Generator[Any, None, T]:
        return self._fetch().__await__()


class Never:
    """What `identity` returns for a node whose result must never be reused."""

    def __repr__(self) -> str:
        return "NEVER"


NEVER = Never()


@dataclass(frozen=True, slots=True)
class Block:
    """Returned instead of a value: whatever depends on this output is skipped. `message` says why (an error where given)."""

    message: str | None = None


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file that a node wrote, as clients address it: `type` is `output`, `input` or `temp`."""

    filename: str
    subfolder: str
    type: str
    path: Path = field(compare=False)
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """Returned by an output node: what it shows (`{"images": (SavedFile, ...)}`, `{"text": (...)}`), and its values, if any."""

    ui: Mapping[str, tuple[Any, ...]]
    values: Any = None


@dataclass(frozen=True, slots=True)
class Ref:
    """Output `index` of the node with id `node`: a local id in a Subgraph, or an outer node where `outer` is set."""

    node: str
    index: int = 0
    outer: bool = False


@dataclass(frozen=True, slots=True)
class Subgraph:
    """Returned by a node instead of values: these nodes run, and `outputs` become the node's outputs.

    `nodes` maps local ids to (class type, inputs); an input is a literal, a Ref, or a value that the node was given or made.
    `outputs` has one Ref or value for each output of the returning node.
    """

    nodes: Mapping[str, tuple[str, Mapping[str, Any]]]
    outputs: tuple[Any, ...]


class GraphBuilder:
    """Builds a Subgraph: `g = GraphBuilder(); s = g.node("KSampler", seed=1); return g.build(s)`."""

    def __init__(self) -> None:
        self._nodes: dict[str, tuple[str, dict[str, Any]]] = {}

    def node(self, class_type: str, /, local_id: str | None = None, **inputs: Any) -> Ref:
        """Add a node; returns a Ref to its first output (`dataclasses.replace(ref, index=1)` for others)."""
        key = local_id if local_id is not None else str(len(self._nodes) + 1)
        if key in self._nodes:
            raise ValueError(f"the sub-graph already has a node {key!r}")
        self._nodes[key] = (class_type, inputs)
        return Ref(key)

    def build(self, *outputs: Any) -> Subgraph:
        """The finished sub-graph, one argument for each output of the returning node."""
        return Subgraph(dict(self._nodes), outputs)
