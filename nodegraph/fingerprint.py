"""Merkle keys: a node's key says everything that its result depends on, and nothing else.

The node's type and declared version, its literals, the content of the files that it names and the keys of what
feeds it are in the key; ids, titles and layout are not. So the same sub-graph has the same keys in every workflow.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodegraph.errors import NodeError, Problem, ValidationError
from nodegraph.graph import BoundNode, Graph
from nodegraph.node import NEVER, NodeSpec, Runtime

_FORMAT = b"nodegraph key 1\0"
Key = bytes
OfValue = Callable[[Any], bytes]


class Unknowable(TypeError):
    """A literal whose content cannot be told."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys by node id. Those in `volatile` are made afresh each run: the node, or one upstream, declares NEVER."""

    by_node: Mapping[str, Key]
    volatile: frozenset[str]


def fingerprint(graph: Graph, runtime: Runtime) -> Keys:
    """The key of every node, in one pass over nodes and links.

    Raises ValidationError with the problem of every node whose files or `identity` cannot be read.
    """
    return Fingerprinter(runtime, graph).of_graph(graph)


def encode(literal: Any, out: list[bytes], of_value: OfValue | None = None) -> None:
    """Append a literal's canonical form to `out`; forms of different literals differ, in type too.

    Raises Unknowable for what is no literal, where there is no `of_value` to name it.
    """
    kind = type(literal)
    if kind is str:
        data = literal.encode("utf-8", "surrogatepass")
        out.append(b"s%d:" % len(data))
        out.append(data)
    elif kind is int:
        out.append(b"i%d;" % literal)
    elif kind is float:
        out.append(b"d" + struct.pack(">d", literal))
    elif kind is bool:
        out.append(b"t" if literal else b"f")
    elif literal is None:
        out.append(b"n")
    elif kind is bytes:
        out.append(b"y%d:" % len(literal))
        out.append(literal)
    elif kind in (list, tuple):
        out.append(b"l%d:" % len(literal))
        for item in literal:
            encode(item, out, of_value)
    elif isinstance(literal, Mapping):
        _encode_mapping(literal, out, of_value)
    elif of_value is not None:
        out.append(b"v")
        out.append(of_value(literal))
    else:
        raise Unknowable(f"a {kind.__name__} is not a literal")


def digest(*parts: bytes | str | int) -> Key:
    """A key of the parts, in order."""
    out: list[bytes] = [_FORMAT]
    for part in parts:
        encode(part, out)
    return hashlib.sha256(b"".join(out)).digest()


class Fingerprinter:
    """Makes keys for one run: what is read once (the document, folders) is kept."""

    def __init__(self, runtime: Runtime, graph: Graph) -> None:
        self._runtime = runtime
        self._workflow = graph.workflow
        self._place: bytes | None = None
        self._document: bytes | None = None
        self._listings: dict[str, bytes] = {}
        self._files: dict[tuple[str, str], bytes] = {}

    def of_graph(self, graph: Graph) -> Keys:
        """The keys of a whole graph."""
        keys: dict[str, Key] = {}
        volatile: set[str] = set()
        problems: list[Problem] = []
        nodes = graph.nodes
        for node_id in topological(graph):
            node = nodes[node_id]
            try:
                key, fresh = self.of_node(node, keys)
            except NodeError as error:
                problems.append(error.problem(node.id, node.title, node.spec.name))
                key, fresh = os.urandom(32), True
            keys[node_id] = key
            if fresh or (volatile and any(source in volatile for source, _ in node.links.values())):
                volatile.add(node_id)
        if problems:
            raise ValidationError(problems)
        return Keys(keys, frozenset(volatile))

    def of_node(
        self, node: BoundNode, sources: Mapping[str, Key], of_value: OfValue | None = None
    ) -> tuple[Key, bool]:
        """(key, whether it is made afresh each run) of one node, given the keys of those that feed it.

        Raises NodeError where a file that it names or its `identity` cannot be read.
        """
        facts = node.spec.once(_Facts)
        out: list[bytes] = [facts.prefix]
        links = node.links
        literals = node.literals
        for name in facts.names:
            if name in links:
                source, index = links[name]
                out.append(b"%b@%d;" % (facts.encoded[name], index))
                out.append(sources[source])
            elif name in literals:
                out.append(facts.encoded[name])
                encode(literals[name], out, of_value)
        if node.extra or len(links) + len(literals) > len(facts.names):
            self._extra(node, facts, sources, out, of_value)
        if facts.plain:
            return hashlib.sha256(b"".join(out)).digest(), False
        fresh = self._outside(node, facts, out)
        return (os.urandom(32), True) if fresh else (hashlib.sha256(b"".join(out)).digest(), False)

    def _extra(
        self,
        node: BoundNode,
        facts: _Facts,
        sources: Mapping[str, Key],
        out: list[bytes],
        of_value: OfValue | None,
    ) -> None:
        for name in sorted({*node.extra, *node.links} - facts.known):
            out.append(b"x")
            encode(name, out)
            if name in node.links:
                source, index = node.links[name]
                out.append(b"@%d;" % index)
                out.append(sources[source])
            else:
                encode(node.extra[name], out, of_value)

    def _outside(self, node: BoundNode, facts: _Facts, out: list[bytes]) -> bool:
        """Append what a node depends on besides its inputs; True where nothing can say it."""
        spec = node.spec
        out.append(b"R")
        if facts.placed:
            out.append(self._placed())
        if spec.effect:
            encode(str(self._runtime.folders.output), out)
        if "node_id" in spec.reads:
            out.append(b"I")
            encode(node.id, out)
        if "document" in spec.reads:
            out.append(b"D")
            out.append(self._document_digest())
        for name in facts.files:
            choice = spec.inputs[name].choice
            assert choice is not None and choice.files is not None
            given = node.literals.get(name)
            out.append(b"F")
            if isinstance(given, str):
                out.append(self._file(choice.files, given, choice.options))
            elif name in node.links:
                # The name is known only when the node runs: any of the files may be meant.
                out.append(self._listing(choice.files))
        if spec.identity is None:
            return False
        given_literals = {}
        for name, required in facts.hook_inputs:
            if name in node.literals:
                given_literals[name] = node.literals[name]
            elif required:
                return True
        if facts.hook_takes_folders:
            given_literals["folders"] = self._runtime.folders
        try:
            identity = spec.identity(**given_literals)
        except OSError as error:
            raise NodeError(f"its identity cannot be read: {error.strerror or error}.") from error
        if identity is NEVER:
            return True
        if not isinstance(identity, bytes):
            raise NodeError(
                f"identity of {spec.name} must give bytes or NEVER, not {type(identity).__name__}."
            )
        out.append(b"H")
        encode(identity, out)
        return False

    def _placed(self) -> bytes:
        """What of the runtime can change what is computed."""
        if self._place is None:
            runtime = self._runtime
            out: list[bytes] = []
            encode((runtime.device.partition(":")[0], runtime.dtype, _options(runtime)), out)
            self._place = b"".join(out)
        return self._place

    def _document_digest(self) -> bytes:
        if self._document is None:
            out: list[bytes] = []
            encode(self._workflow.document() if self._workflow is not None else None, out)
            self._document = hashlib.sha256(b"".join(out)).digest()
        return self._document

    def _file(self, kind: str, name: str, fixed: tuple[str, ...]) -> bytes:
        found = self._files.get((kind, name))
        if found is None:
            found = b"-" if name in fixed else _path_identity(self._runtime.folders.find(kind, name))
            self._files[kind, name] = found
        return found

    def _listing(self, kind: str) -> bytes:
        """Names, sizes and times of all files of a kind."""
        found = self._listings.get(kind)
        if found is None:
            out: list[bytes] = []
            for name in self._runtime.folders.list(kind):
                try:
                    state = self._runtime.folders.find(kind, name).stat()
                except (NodeError, OSError):
                    # Gone since it was listed, or a link that leads out: not to be had, as if it were not there.
                    continue
                encode((name, state.st_size, state.st_mtime_ns), out)
            found = self._listings[kind] = hashlib.sha256(b"".join(out)).digest()
        return found


class _Facts:
    """What making keys needs to know of one node type."""

    def __init__(self, spec: NodeSpec) -> None:
        self.known = frozenset(spec.inputs)
        self.names = tuple(sorted(spec.inputs))
        self.encoded = {name: _encoded(name) for name in self.names}
        self.prefix = _FORMAT + _encoded(spec.name) + _encoded(spec.version)
        self.files = tuple(
            name for name in self.names if (choice := spec.inputs[name].choice) and choice.files is not None
        )
        self.hook_inputs: tuple[tuple[str, bool], ...] = ()
        self.hook_takes_folders = False
        if spec.identity is not None:
            self._hook(inspect.signature(spec.identity))
        # Only what runs on the device or asks the context can tell one runtime from another.
        self.placed = spec.takes_context is not None or spec.lane == "device"
        self.plain = not (self.placed or spec.effect or self.files or spec.reads or spec.identity)

    def _hook(self, signature: inspect.Signature) -> None:
        empty = inspect.Parameter.empty
        for item in signature.parameters.values():
            if item.kind is inspect.Parameter.VAR_KEYWORD:
                self.hook_inputs = tuple((name, False) for name in self.names)
                return
            if item.name == "folders" and item.name not in self.known:
                self.hook_takes_folders = True
            else:
                self.hook_inputs += ((item.name, item.default is empty),)


def _options(runtime: Runtime) -> dict[str, Any]:
    """The runtime's options that are plain data; others (objects of the caller) are not part of a key."""
    found = {}
    for name, option in runtime.options.items():
        try:
            encode(option, [])
        except Unknowable:
            continue
        found[name] = option
    return found


def _encoded(part: str | int) -> bytes:
    out: list[bytes] = []
    encode(part, out)
    return b"".join(out)


def _encode_mapping(literal: Mapping[Any, Any], out: list[bytes], of_value: OfValue | None) -> None:
    items: list[tuple[bytes, Any]] = []
    for key, item in literal.items():
        name: list[bytes] = []
        encode(key, name, of_value)
        items.append((b"".join(name), item))
    out.append(b"m%d:" % len(items))
    for name_bytes, item in sorted(items, key=lambda pair: pair[0]):
        out.append(name_bytes)
        encode(item, out, of_value)


def _path_identity(path: Path) -> bytes:
    from nodegraph.identity import file_identity

    try:
        if not path.is_dir():
            return file_identity(path).encode()
        out: list[bytes] = []
        for file in sorted(item for item in path.rglob("*") if item.is_file()):
            encode((file.relative_to(path).as_posix(), file_identity(file)), out)
        return hashlib.sha256(b"".join(out)).digest()
    except OSError as error:
        raise NodeError(f"cannot read {path}: {error.strerror or error}.", code="cannot_read") from error


def topological(graph: Graph) -> list[str]:
    """Every node after all that feed it; a document that is in such an order already is taken as it is."""
    done: set[str] = set()
    nodes = graph.nodes
    for node_id, node in nodes.items():
        for source, _ in node.links.values():
            if source not in done and source in nodes:
                return list(graph.order)
        done.add(node_id)
    return list(nodes)
