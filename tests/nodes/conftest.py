"""A context for nodes that are called directly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from nodegraph.graph import Graph
from nodegraph.node import Cancelled, Context, Folders, Resource, Runtime

T = TypeVar("T")
R = TypeVar("R", bound=Resource)


class DirectContext(Context):
    """What a node may ask for when it is called without a run around it."""

    def __init__(self, runtime: Runtime, document: Mapping[str, Any]) -> None:
        self.runtime = runtime
        self.cancelled = False
        self.bound = Graph({}, ())
        self._document = document
        self._resources: dict[type[Resource], Resource] = {}

    @property
    def node_id(self) -> str:
        return "1"

    @property
    def document(self) -> Mapping[str, Any]:
        return self._document

    @property
    def graph(self) -> Graph:
        return self.bound

    def progress(self, value: float, total: float, preview: Any = None) -> None:
        self.check_cancelled()

    def check_cancelled(self) -> None:
        if self.cancelled:
            raise Cancelled

    async def on(self, lane: str, function: Callable[..., T], *args: Any) -> T:
        return function(*args)

    def resource(self, kind: type[R]) -> R:
        found = self._resources.setdefault(kind, kind.open(self.runtime))
        assert isinstance(found, kind)
        return found

    def make_room(self, wanted: int) -> int:
        return 0


class MakeContext(Protocol):
    """Makes a context whose document and runtime options are the given ones."""

    def __call__(self, document: Mapping[str, Any] | None = None, **options: Any) -> DirectContext: ...


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    (tmp_path / "input").mkdir()
    return Folders((tmp_path / "models",), tmp_path / "input", tmp_path / "output", tmp_path / "temp")


@pytest.fixture
def make_context(folders: Folders) -> MakeContext:
    def make(document: Mapping[str, Any] | None = None, **options: Any) -> DirectContext:
        return DirectContext(Runtime(folders, options=options), document or {"prompt": {}})

    return make


@pytest.fixture
def context(make_context: MakeContext) -> DirectContext:
    return make_context()
