"""What a running node sees of the engine: where it runs, and what it may ask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nodegraph.folders import Folders
from nodegraph.spec import Lane

T = TypeVar("T")


@dataclass(frozen=True)
class Runtime:
    """Where and how a session runs. Plain data; packs read what concerns them."""

    folders: Folders
    device: str = "cpu"
    """`cpu`, `cuda`, `cuda:1` or `mps`."""
    dtype: str = "auto"
    """Of the networks: `auto` (fp16 or bf16 on a GPU, fp32 on the CPU), `fp32`, `bf16` or `fp16`."""
    device_budget: int = 0
    """Bytes of device memory that models and cached tensors share; 0: decide from what the device has."""
    host_budget: int = 0
    """Bytes of host memory for cached values; 0: decide from what the machine has."""
    options: Mapping[str, Any] = field(default_factory=dict)


class Resource(ABC):
    """A long-lived helper of a pack (the ModelPool), made once a session by `Context.resource`."""

    @classmethod
    @abstractmethod
    def open(cls, runtime: Runtime) -> Resource:
        """Make the resource for this session."""

    def held(self) -> int:
        """Bytes that it holds on the device now. Asked for at any time from any thread, so it must not wait."""
        return 0

    def release(self, wanted: int) -> int:
        """Give back up to `wanted` bytes of what is not in use; returns the bytes given back."""
        return 0

    def capacity(self) -> int:
        """Bytes of device memory that there are to share; 0 where it does not know."""
        return 0

    def close(self) -> None:
        """Give everything back; the session ends."""
        self.release(self.held())


R = TypeVar("R", bound=Resource)


class Context(ABC):
    """What a running node may ask of the engine. A parameter annotated with it is not a socket."""

    runtime: Runtime

    @property
    def folders(self) -> Folders:
        """Model, input, output and temporary folders."""
        return self.runtime.folders

    @property
    @abstractmethod
    def node_id(self) -> str:
        """This node's id; the node must declare `reads=("node_id",)`, which puts it in its key."""

    @property
    @abstractmethod
    def document(self) -> Mapping[str, Any]:
        """The whole workflow document as it was given; needs `reads=("document",)`."""

    @property
    @abstractmethod
    def graph(self) -> Any:
        """The bound graph, read-only."""

    @abstractmethod
    def progress(self, value: float, total: float, preview: Any = None) -> None:
        """Report `value` of `total` steps done. Raises Cancelled where the run was cancelled.

        `preview` may be an object with a method `jpeg(max_side) -> bytes`: a picture of what the node is at, a JPEG file of at
        most that many pixels a side. It is called in another thread, and only a few times a second.
        """

    @abstractmethod
    def check_cancelled(self) -> None:
        """Raise Cancelled where the run was cancelled."""

    @abstractmethod
    async def on(self, lane: Lane, function: Callable[..., T], *args: Any) -> T:
        """Run blocking work of an async node on a lane."""

    @abstractmethod
    def resource(self, kind: type[R]) -> R:
        """The session's one instance of a Resource class."""

    def make_room(self, wanted: int) -> int:
        """Ask for up to `wanted` bytes on the device: cached values move to host memory, the cheapest first.

        Returns the bytes that went.
        """
        return 0
