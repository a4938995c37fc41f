"""The node types that a session knows: an immutable mapping from name to NodeSpec.

Packs are found through the entry points of the group `nodegraph.nodes`. What is broken disables
itself and says so in `Registry.problems`; it never takes anything else with it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from nodegraph.errors import NodeError, Problem, ValidationError
from nodegraph.node import NodeSpec, Pack, Runtime, spec_of

ENTRY_POINT_GROUP = "nodegraph.nodes"


class Registry(Mapping[str, NodeSpec]):
    """Node types by name, the packs they came from, and what could not be loaded."""

    def __init__(
        self,
        specs: Mapping[str, NodeSpec],
        *,
        packs: tuple[Pack, ...] = (),
        problems: tuple[Problem, ...] = (),
    ) -> None:
        self._specs = MappingProxyType(dict(specs))
        self.packs = packs
        self.problems = problems
        """Packs, modules and nodes that were left out, and why."""

    def __getitem__(self, name: str) -> NodeSpec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def __repr__(self) -> str:
        return f"Registry({len(self)} nodes, {len(self.packs)} packs, {len(self.problems)} problems)"

    @property
    def model_roots(self) -> tuple[Path, ...]:
        """Model folders that ship with the packs."""
        return tuple(root for pack in self.packs for root in pack.model_roots)

    def settle(self, runtime: Runtime) -> Runtime:
        """The runtime with what it leaves open settled by the packs. Raises ValidationError where that cannot be."""
        for pack in self.packs:
            if pack.settle is None:
                continue
            try:
                runtime = _named(pack.settle)(runtime)
            except NodeError as error:
                raise ValidationError(error.problem(None, None, None)) from error
        return runtime

    def devices(self, runtime: Runtime) -> tuple[Mapping[str, Any], ...]:
        """What the packs say of the devices that a settled runtime computes on; see `Pack.devices`."""
        return tuple(
            device
            for pack in self.packs
            if pack.devices is not None
            for device in _named(pack.devices)(runtime)
        )

    @classmethod
    def of(cls, *functions: Callable[..., Any]) -> Registry:
        """A registry of declared functions. Raises TypeError for a function without @node and ValueError for a name twice."""
        specs: dict[str, NodeSpec] = {}
        for function in functions:
            spec = spec_of(function)
            if spec is None:
                raise TypeError(f"{function!r} was not declared with @node")
            if spec.name in specs:
                raise ValueError(f"two nodes are named {spec.name!r}")
            specs[spec.name] = spec
        return cls(specs)

    @classmethod
    def load(cls, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> Registry:
        """The nodes of every installed pack.

        The unit that is left out is the module: one that cannot be imported, that declares a node
        wrongly, or that declares a name which is taken, is left out whole, with a problem.
        """
        if entry_points is None:
            entry_points = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
        packs: list[Pack] = []
        problems: list[Problem] = []
        for point in sorted(entry_points, key=lambda item: (item.name, item.value)):
            try:
                pack = point.load()
            except Exception as error:
                problems.append(_left_out("broken_pack", f"the pack {point.name!r} cannot be loaded", error))
                continue
            if isinstance(pack, Pack):
                packs.append(pack)
            else:
                text = (
                    f"the pack {point.name!r} cannot be loaded: {point.value} is not a nodegraph.node.Pack."
                )
                problems.append(Problem("broken_pack", text, severity="warning"))
        return cls.from_packs(packs, problems)

    @classmethod
    def from_packs(cls, packs: Iterable[Pack], problems: Iterable[Problem] = ()) -> Registry:
        """The nodes of these packs, in order; the first to declare a name keeps it."""
        packs = tuple(packs)
        found = list(problems)
        specs: dict[str, NodeSpec] = {}
        for pack in packs:
            for module_name in pack.modules:
                try:
                    added = _declared_in(importlib.import_module(module_name))
                except Exception as error:
                    text = f"the module {module_name} of the pack {pack.name!r} cannot be imported"
                    found.append(_left_out("broken_module", text, error))
                    continue
                taken = [name for name in added if name in specs]
                if taken:
                    owner = specs[taken[0]].module
                    text = (
                        f"the module {module_name} of the pack {pack.name!r} is left out: it declares "
                        f"{', '.join(map(repr, taken))}, which {owner} declares already."
                    )
                    found.append(Problem("duplicate_node", text, severity="warning"))
                    continue
                specs.update(added)
        return cls(specs, packs=packs, problems=tuple(found))


class LateRegistry(Mapping[str, NodeSpec]):
    """A registry that is loaded when something is first looked up in it: most workflows are read without."""

    def __init__(self, load: Callable[[], Mapping[str, NodeSpec]]) -> None:
        self._load = load
        self._registry: Mapping[str, NodeSpec] | None = None

    @property
    def registry(self) -> Mapping[str, NodeSpec]:
        """The registry, loaded once."""
        if self._registry is None:
            self._registry = self._load()
        return self._registry

    def __getitem__(self, name: str) -> NodeSpec:
        return self.registry[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.registry)

    def __len__(self) -> int:
        return len(self.registry)


def _named(place: str) -> Callable[..., Any]:
    """The function that `module:function` names."""
    module, _, name = place.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def _declared_in(module: ModuleType) -> dict[str, NodeSpec]:
    """The nodes that a module itself declares, not those that it imports; ValueError for a name twice."""
    specs: dict[str, NodeSpec] = {}
    for item in vars(module).values():
        spec = spec_of(item)
        if spec is None or spec.module != module.__name__ or specs.get(spec.name) is spec:
            continue
        if spec.name in specs:
            raise ValueError(f"two nodes are named {spec.name!r}")
        specs[spec.name] = spec
    return specs


def _left_out(code: str, text: str, error: Exception) -> Problem:
    """A warning that says what is left out and the place in the pack's code, if there is one."""
    kind = type(error).__name__
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = ""
    if place is not None and place.tb_frame.f_code.co_filename != importlib.__file__:
        file = place.tb_frame.f_code.co_filename
        if not file.startswith("<") and file != sys.modules[__name__].__file__:
            where = f" ({file}, line {place.tb_lineno})"
    return Problem(code, f"{text}: {kind}: {error}{where}.", severity="warning")
