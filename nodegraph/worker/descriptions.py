"""Node types as data: what a server knows of packs without importing them.

The built-in pack's ship as `descriptions.json` beside this module, made by
`python -m nodegraph.worker.descriptions --write`; other packs' come from a worker and are kept in the data
directory, by the version of the pack. A registry made of them is good for checking documents and for telling what nodes
there are; the nodes' own checks, keys and foresight stay with the worker.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nodegraph.errors import Problem
from nodegraph.naming import write_atomically
from nodegraph.node import REQUIRED, InputSpec, NodeSpec, OutputSpec, Pack
from nodegraph.registry import ENTRY_POINT_GROUP, Registry
from nodegraph.sockets import Choice, Range, Widget

BUILT_IN = Path(__file__).with_name("descriptions.json")
FORMAT = 1
"""Of the files; one of another format is not read."""
DISTRIBUTION = "nodegraph"
"""Whose packs are the built-in ones."""
Points = Iterable[importlib.metadata.EntryPoint]
_SPEC_FIELDS: tuple[str, ...] = (
    *("category", "display_name", "description", "version", "output", "effect", "lane", "is_async"),
    *("takes_context", "takes_kwargs", "deprecated", "ahead", "module"),
)
_PLAIN = (bool, int, float, str)


def described(
    registry: Mapping[str, NodeSpec], points: Points
) -> tuple[tuple[dict[str, Any], ...], tuple[Problem, ...]]:
    """The packs of a registry that was loaded from these entry points, as data, and the registry's problems."""
    if not isinstance(registry, Registry):
        return (), ()
    sources = {}
    for point in points:
        # Those that cannot be loaded are among the registry's problems.
        with suppress(Exception):
            sources[id(point.load())] = point
    found = []
    for pack in registry.packs:
        source = sources.get(id(pack))
        nodes = {name: spec_data(spec) for name, spec in registry.items() if spec.module in pack.modules}
        found.append(
            {
                "name": pack.name,
                "version": source.dist.version if source is not None and source.dist is not None else None,
                "source": source.value if source is not None else None,
                "roots": [str(root) for root in pack.model_roots],
                "nodes": nodes,
            }
        )
    return tuple(found), registry.problems


def registry_of(packs: Iterable[Mapping[str, Any]], problems: Iterable[Problem] = ()) -> Registry:
    """A registry of described packs; their nodes can be looked at and not run."""
    specs: dict[str, NodeSpec] = {}
    known: list[Pack] = []
    for pack in packs:
        known.append(Pack(pack["name"], (), tuple(Path(root) for root in pack["roots"])))
        for name, data in pack["nodes"].items():
            specs.setdefault(name, spec_from(name, data))
    return Registry(specs, packs=tuple(known), problems=tuple(problems))


def spec_data(spec: NodeSpec) -> dict[str, Any]:
    """A node type as JSON data, without what is as it is by default."""
    bare = {item.name: item.default for item in fields(NodeSpec)}
    found = {name: getattr(spec, name) for name in _SPEC_FIELDS}
    data = {name: value for name, value in found.items() if value != bare[name]}
    if spec.reads:
        data["reads"] = sorted(spec.reads)
    data["inputs"] = [_input_data(item) for item in spec.inputs.values()]
    data["outputs"] = [[item.name, item.type, item.many] for item in spec.outputs]
    return data


def spec_from(name: str, data: Mapping[str, Any]) -> NodeSpec:
    """The inverse of `spec_data`, but for the functions, which are the worker's."""
    facts = {key: data[key] for key in _SPEC_FIELDS if key in data}
    inputs = {item["name"]: _input_from(item) for item in data["inputs"]}
    return NodeSpec(
        name=name,
        function=_elsewhere,
        inputs=MappingProxyType(inputs),
        outputs=tuple(OutputSpec(*item) for item in data["outputs"]),
        reads=frozenset(data.get("reads", ())),
        **facts,
    )


def _elsewhere(*_: object, **__: object) -> Any:
    raise RuntimeError("this node is known by its description only: it runs in a worker")


def _input_data(item: InputSpec) -> dict[str, Any]:
    data: dict[str, Any] = {"name": item.name, "type": item.type}
    if item.default is not REQUIRED:
        data["default"] = _literal(item.default)
    if item.range is not None:
        data["range"] = [item.range.min, item.range.max, item.range.step, item.range.round]
        data["range"] += [True] if item.range.floor else []
    if item.choice is not None:
        data["choice"] = _given(item.choice, Choice())
    widget = _given(item.widget, Widget())
    if widget:
        data["widget"] = widget
    return data | {name: True for name in ("lazy", "many") if getattr(item, name)}


def _input_from(data: Mapping[str, Any]) -> InputSpec:
    default = data.get("default") if "default" in data else REQUIRED
    choice = data.get("choice")
    return InputSpec(
        name=data["name"],
        type=data["type"],
        default=tuple(default) if isinstance(default, list) else default,
        range=Range(*data["range"]) if "range" in data else None,
        choice=None if choice is None else Choice(**{**choice, "options": tuple(choice.get("options", ()))}),
        widget=Widget(**data.get("widget", {})),
        lazy=data.get("lazy", False),
        many=data.get("many", False),
    )


def _literal(value: Any) -> Any:
    """A default as JSON data; what has no form in JSON counts as None, which a document may leave out too."""
    if isinstance(value, (list, tuple)):
        return [_literal(item) for item in value]
    return value if value is None or isinstance(value, _PLAIN) else None


def _given(item: Choice | Widget, bare: Choice | Widget) -> dict[str, Any]:
    """The fields that are not as in `bare`."""
    found = {one.name: getattr(item, one.name) for one in fields(item)}
    return {name: value for name, value in found.items() if value != getattr(bare, name)}


def built_in() -> list[dict[str, Any]]:
    """The descriptions that ship with the engine. Their model folders are found without importing the packs."""
    packs: list[dict[str, Any]] = json.loads(BUILT_IN.read_text(encoding="utf-8"))["packs"]
    for pack in packs:
        pack["roots"] = [str(_place(module) / inside) for module, inside in pack["roots"]]
    return packs


def _place(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(f"the package {package} is not installed")
    return Path(next(iter(found.submodule_search_locations)))


class DescriptionStore:
    """Descriptions of installed packs in the data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "descriptions.json"

    def save(self, packs: Iterable[Mapping[str, Any]]) -> None:
        """Keep those that have a version; the built-in ones ship. Raises OSError."""
        shipped = {pack["source"] for pack in built_in()}
        kept = [pack for pack in packs if pack["version"] is not None and pack["source"] not in shipped]
        if not kept and not self._path.exists():
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": FORMAT, "packs": kept}, ensure_ascii=False)
        write_atomically(self._path, text)

    def load(self) -> list[dict[str, Any]]:
        """Those of packs that are installed in the very version that was described; a damaged file holds none."""
        try:
            data = json.loads(self._path.read_text(encoding="utf-8"))
            packs = data["packs"] if data["format"] == FORMAT else []
            installed = {
                (point.value, point.dist.version if point.dist is not None else None)
                for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
            }
            return [pack for pack in packs if (pack["source"], pack["version"]) in installed]
        except (OSError, ValueError, KeyError, TypeError):
            return []


def known(data_dir: Path | None = None) -> Registry:
    """What is known before a worker has said anything: the built-in packs, and the others as they were last described."""
    return registry_of([*built_in(), *(DescriptionStore(data_dir).load() if data_dir is not None else ())])


def generated() -> str:
    """The text of `descriptions.json` as the installed built-in packs have it."""
    points = [
        point
        for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
        if point.dist is not None and point.dist.name == DISTRIBUTION
    ]
    registry = Registry.load(points)
    if registry.problems:
        raise RuntimeError("\n".join(str(problem) for problem in registry.problems))
    packs, _ = described(registry, points)
    for pack in packs:
        package = pack["source"].partition(".")[0]
        pack["roots"] = [
            [package, Path(root).relative_to(_place(package)).as_posix()] for root in pack["roots"]
        ]
        # They ship with the engine, in its version.
        pack["version"] = None
    return _text(packs)


def _text(packs: Sequence[Mapping[str, Any]]) -> str:
    """One node type a line, so that a change of one is a change of one line."""
    parts = []
    for pack in packs:
        head = json.dumps({name: pack[name] for name in pack if name != "nodes"}, ensure_ascii=False)
        nodes = ",\n".join(
            f"{json.dumps(name)}: {json.dumps(data, ensure_ascii=False)}"
            for name, data in pack["nodes"].items()
        )
        parts.append(f'{head[:-1]}, "nodes": {{\n{nodes}\n}}}}')
    return f'{{"format": {FORMAT}, "packs": [\n' + ",\n".join(parts) + "\n]}\n"


def main(argv: Sequence[str] | None = None) -> int:
    """`--write` writes the file; without, the exit status says whether it is as it should be."""
    words = list(sys.argv[1:] if argv is None else argv)
    text = generated()
    if words == ["--write"]:
        BUILT_IN.write_text(text, encoding="utf-8")
        return 0
    if BUILT_IN.read_text(encoding="utf-8") == text:
        return 0
    print("descriptions.json is stale: run python -m nodegraph.worker.descriptions --write", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
