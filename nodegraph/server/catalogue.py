"""The node types that the server knows without importing a pack, and what it tells of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nodegraph.describe import describe, describe_all
from nodegraph.errors import Problem, did_you_mean
from nodegraph.folders import Folders
from nodegraph.node import NodeSpec
from nodegraph.registry import Registry
from nodegraph.server.answers import Refused, dumps
from nodegraph.worker.descriptions import DescriptionStore, known, registry_of


class Catalogue:
    """Node types by name: at first those that ship and those that were described before, then what the workers say."""

    def __init__(self, data_dir: Path, registry: Registry | None = None) -> None:
        self.registry: Registry = registry if registry is not None else known(data_dir)
        self._store = DescriptionStore(data_dir)
        self._listing: tuple[Registry, frozenset[str]] | None = None
        """Types with an input that is the name of a file, of the registry that they are read from."""
        self._described = asyncio.Event()

    @property
    def complete(self) -> bool:
        """Whether a worker has said what there is."""
        return self._described.is_set()

    async def described(self, seconds: float) -> None:
        """Wait until a worker has said what there is, or for so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._described.wait(), seconds)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Packs and modules that were left out."""
        return self.registry.problems

    @property
    def model_roots(self) -> tuple[Path, ...]:
        """Folders of models that ship with the packs."""
        return self.registry.model_roots

    async def update(self, packs: Iterable[Mapping[str, Any]], problems: Iterable[Problem]) -> None:
        """Take what a worker found, and keep it for the next start. Raises OSError where it cannot be kept."""
        described = tuple(packs)
        self.registry = registry_of(described, problems)
        self._described.set()
        await asyncio.to_thread(self._store.save, described)

    def lists_files(self, prompt: Mapping[str, Any]) -> bool:
        """Whether checking these nodes lists a folder, which may lie on a slow disk."""
        if self._listing is None or self._listing[0] is not self.registry:
            names = {
                name
                for name, spec in self.registry.items()
                if any(
                    item.choice is not None and item.choice.files is not None for item in spec.inputs.values()
                )
            }
            self._listing = (self.registry, frozenset(names))
        known = self._listing[1]
        types = {str(node.get("class_type")) for node in prompt.values() if isinstance(node, dict)}
        return not types.isdisjoint(known)

    def object_info(self, folders: Folders) -> bytes:
        """Every node type, as `GET /object_info` gives it."""
        return dumps(describe_all(self.registry, folders.list))

    def object_info_of(self, name: str, folders: Folders) -> bytes:
        """One node type. Raises Refused where there is none."""
        spec: NodeSpec | None = self.registry.get(name)
        if spec is None:
            hint = did_you_mean(name, list(self.registry))
            raise Refused(404, "unknown_node", f"there is no node type {name[:200]!r}.", hint=hint)
        return dumps({name: describe(spec, folders.list)})
