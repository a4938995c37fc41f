"""Graph: a workflow bound to a registry, with every input checked and converted; or every problem at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nodegraph.errors import Problem, Severity, ValidationError
from nodegraph.folders import Folders
from nodegraph.inputs import BoundNode, Entry, Inputs, Link
from nodegraph.modes import as_link, resolve
from nodegraph.node import NodeSpec, OutputSpec
from nodegraph.sockets import assignable
from nodegraph.workflow import Workflow

if TYPE_CHECKING:
    import networkx as nx

# networkx is imported where it is first needed: a server that only checks documents seldom does, and loads in half the time.

__all__ = ["Binder", "BoundNode", "Entry", "Graph", "Link", "Report", "bind", "check", "entries_of"]


@dataclass(frozen=True)
class Graph:
    """The nodes that some targets need, checked and converted; it has no cycle."""

    nodes: Mapping[str, BoundNode]
    """By id, in the order of the document."""
    targets: tuple[str, ...]
    """The nodes whose results are asked for."""
    workflow: Workflow | None = None
    """What was bound; None for an expansion."""

    @cached_property
    def digraph(self) -> nx.DiGraph:
        """Nodes by id, an edge from each source to each node that it feeds."""
        return _digraph(self.nodes)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Every node after all that feed it; the same for the same document."""
        import networkx as nx

        return tuple(nx.topological_sort(self.digraph))

    @cached_property
    def consumers(self) -> Mapping[str, tuple[tuple[str, str], ...]]:
        """For each node, the (node, input) pairs that its outputs feed."""
        found: dict[str, list[tuple[str, str]]] = {node_id: [] for node_id in self.nodes}
        for node_id, node in self.nodes.items():
            for name, (source, _) in node.links.items():
                if source in found:
                    found[source].append((node_id, name))
        return {node_id: tuple(pairs) for node_id, pairs in found.items()}

    def needed(self, targets: Iterable[str]) -> set[str]:
        """These nodes and all that feed them. Raises KeyError for an id that is not in the graph."""
        return _upstream(targets, lambda node_id: self.nodes[node_id].links.values(), self.nodes)


@dataclass(frozen=True)
class Report:
    """What a check found: the graph of the targets that can run, and what is wrong with the others."""

    graph: Graph | None
    """None where no target can run."""
    problems: tuple[Problem, ...] = ()
    """Errors in what the targets need."""
    warnings: tuple[Problem, ...] = ()
    """Oddities, and errors in nodes that no target needs."""
    failed: tuple[str, ...] = ()
    """Targets that cannot run."""
    links: Mapping[str, tuple[Link, ...]] = field(default_factory=dict, repr=False)
    """The sources of every node of the document."""

    def dependents(self, node_id: str) -> tuple[str, ...]:
        """The failed targets that need a node."""
        return tuple(
            target
            for target in self.failed
            if node_id in _upstream([target], lambda item: self.links.get(item, ()), self.links)
        )


def bind(
    workflow: Workflow,
    registry: Mapping[str, NodeSpec],
    folders: Folders,
    targets: Sequence[str] | None = None,
) -> Graph:
    """The graph of a workflow, or ValidationError with every problem at once.

    `targets` are the ids of the nodes whose results are wanted, by default all output nodes.
    """
    report = check(workflow, registry, folders, targets)
    if report.problems or report.graph is None:
        raise ValidationError(report.problems)
    return report.graph


def check(
    workflow: Workflow,
    registry: Mapping[str, NodeSpec],
    folders: Folders,
    targets: Sequence[str] | None = None,
) -> Report:
    """Everything that is wrong with a workflow, and the graph of those targets that can run all the same."""
    prompt = resolve(workflow.prompt, registry)
    entries, problems = entries_of(prompt)
    if targets is None:
        specs = {node_id: registry.get(entry.class_type) for node_id, entry in entries.items()}
        wanted = tuple(node_id for node_id, spec in specs.items() if spec is not None and spec.output)
    else:
        wanted = tuple(dict.fromkeys(targets))
    found = Binder(registry, folders, workflow.extra.get("models")).check(entries, wanted, problems=problems)
    if not wanted:
        found = replace(found, problems=(*found.problems, *_no_outputs(found, registry)))
    stale = tuple(
        Problem(
            "stale_parameter",
            f"the parameter {name!r} sets an input of node {target.node!r}, which is not there.",
        )
        for name, parameter in workflow.parameters.items()
        for target in parameter.targets
        if target.node not in workflow.prompt
    )
    warnings = (*found.warnings, *(replace(problem, severity="warning") for problem in stale))
    graph = found.graph and replace(found.graph, workflow=workflow)
    return replace(found, graph=graph, warnings=warnings)


def narrowed(report: Report, problems: Sequence[Problem]) -> Report:
    """The report with further problems of its graph's nodes, and the graph of the targets that they leave."""
    errors = tuple(problem for problem in problems if problem.severity == "error")
    warnings = tuple(problem for problem in problems if problem.severity == "warning")
    report = replace(report, problems=(*report.problems, *errors), warnings=(*report.warnings, *warnings))
    if not errors or report.graph is None:
        return report
    broken = _downstream({error.node for error in errors if error.node is not None}, report.links)
    good = tuple(target for target in report.graph.targets if target not in broken)
    failed = (*report.failed, *(target for target in report.graph.targets if target in broken))
    if not good:
        return replace(report, graph=None, failed=failed)
    kept = report.graph.needed(good)
    nodes = {node_id: node for node_id, node in report.graph.nodes.items() if node_id in kept}
    return replace(report, graph=replace(report.graph, nodes=nodes, targets=good), failed=failed)


def entries_of(prompt: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Entry], list[Problem]]:
    """The nodes of a prompt with links told from literals, and what is no valid link."""
    entries = {}
    problems = []
    for node_id, node in prompt.items():
        links: dict[str, Link] = {}
        literals: dict[str, Any] = {}
        meta = node.get("_meta")
        title = meta.get("title", "") if meta else ""
        title = title if type(title) is str else ""
        for name, value in node.get("inputs", {}).items():
            if type(value) is list:
                link = as_link(value)
                if link is None:
                    problems.append(_bad_link(node_id, title, node["class_type"], name, value))
                    literals[name] = Inputs.BROKEN
                else:
                    links[name] = link
            elif type(value) is dict and len(value) == 1 and "__value__" in value:
                literals[name] = value["__value__"]
            else:
                literals[name] = value
        entries[node_id] = Entry(node["class_type"], links, literals, title)
    return entries, problems


class Binder:
    """Binds nodes; folder listings and what is known of node types are kept between calls.

    An executor binds the nodes of an expansion with the same rules, `outer` giving the outputs of the
    nodes around it. `models` is the document's own list of them.
    """

    def __init__(self, registry: Mapping[str, NodeSpec], folders: Folders, models: Any = None) -> None:
        self._registry = registry
        self._inputs = Inputs(registry, folders, models)

    def check(
        self,
        entries: Mapping[str, Entry],
        targets: Sequence[str],
        *,
        outer: Callable[[str], Sequence[OutputSpec] | None] = lambda _: None,
        problems: Iterable[Problem] = (),
    ) -> Report:
        """Check and convert nodes and their links. `problems` are those that the reader of the entries found."""
        errors: list[Problem] = list(problems)
        warnings: list[Problem] = []
        nodes: dict[str, BoundNode] = {}
        for node_id, entry in entries.items():
            node = self._inputs.bind(node_id, entry, errors, warnings)
            if node is not None:
                nodes[node_id] = node
        for node in nodes.values():
            for name, link in node.links.items():
                problem = self._link_problem(entries, node, name, link, outer)
                if problem is not None:
                    errors.append(problem)
        links = {node_id: tuple(entry.links.values()) for node_id, entry in entries.items()}
        errors.extend(_cycles(entries, nodes))
        errors.extend(self._no_target(target, entries) for target in targets if target not in entries)
        return _report(entries, nodes, links, tuple(targets), errors, warnings)

    def _link_problem(
        self,
        entries: Mapping[str, Entry],
        node: BoundNode,
        name: str,
        link: Link,
        outer: Callable[[str], Sequence[OutputSpec] | None],
    ) -> Problem | None:
        source, index = link
        entry = entries.get(source)
        outputs: Sequence[OutputSpec] | None
        if entry is not None:
            source_spec = self._registry.get(entry.class_type)
            if source_spec is None:
                return None
            outputs = source_spec.outputs
        else:
            outputs = outer(source)
        if outputs is None:
            return _at(
                node,
                name,
                "bad_linked_input",
                f"it links to node {source!r}, which is not there.",
                hint=self._inputs.hint(source, list(entries)),
            )
        place = f"node {source} ({entry.class_type})" if entry is not None else f"node {source}"
        if index >= len(outputs):
            listed = ", ".join(f"{i} ({item.name})" for i, item in enumerate(outputs)) or "it has no outputs"
            text = f"it links to output {index} of {place}, which does not exist."
            return _at(node, name, "bad_linked_input", text, allowed=listed)
        wanted = node.spec.inputs.get(name)
        given = outputs[index].type
        if wanted is None or given == wanted.type or assignable(given, wanted.type):
            return None
        text = f"output {index} ({outputs[index].name}) of {place} is of type {given}, but the input takes {wanted.type}."
        return _at(node, name, "return_type_mismatch", text, found=given, allowed=wanted.type)

    def _no_target(self, target: str, entries: Mapping[str, Entry]) -> Problem:
        return Problem(
            "unknown_target",
            f"there is no node {target!r} to run.",
            hint=self._inputs.hint(target, list(entries)),
        )


def _report(
    entries: Mapping[str, Entry],
    nodes: Mapping[str, BoundNode],
    links: Mapping[str, tuple[Link, ...]],
    targets: tuple[str, ...],
    errors: list[Problem],
    warnings: list[Problem],
) -> Report:
    """Sort the errors by whether a target needs their node, and keep the targets that need none such."""
    present = [target for target in targets if target in entries]
    needed = _upstream(present, lambda node_id: links[node_id], links)
    broken = (
        _downstream({error.node for error in errors if error.node is not None}, links) if errors else set()
    )
    good = tuple(target for target in present if target not in broken)
    runs = needed if len(good) == len(present) else _upstream(good, lambda node_id: links[node_id], links)
    graph = Graph({node_id: nodes[node_id] for node_id in entries if node_id in runs}, good) if good else None
    problems = [error for error in errors if error.node is None or error.node in needed]
    unneeded = [
        _severe(error, "warning") for error in errors if error.node is not None and error.node not in needed
    ]
    failed = tuple(target for target in targets if target not in good) if len(good) < len(targets) else ()
    return Report(graph, tuple(problems), (*warnings, *unneeded), failed, links)


def _cycles(entries: Mapping[str, Entry], nodes: Mapping[str, BoundNode]) -> list[Problem]:
    """One problem for each knot of nodes that feed themselves, with the path of one cycle in it."""
    if _in_order(nodes):
        return []
    import networkx as nx

    digraph = _digraph(nodes)
    if nx.is_directed_acyclic_graph(digraph):
        return []
    problems = []
    for knot in nx.strongly_connected_components(digraph):
        if len(knot) == 1 and not digraph.has_edge(*knot, *knot):
            continue
        first = next(node_id for node_id in nodes if node_id in knot)
        path = [source for source, *_ in nx.find_cycle(digraph.subgraph(knot), first)]
        shown = path if len(path) <= 20 else [*path[:10], "...", *path[-9:]]
        problems.append(
            Problem(
                "dependency_cycle",
                f"the nodes feed themselves in a circle: {' -> '.join([*shown, path[0]])}.",
                node=path[0],
                title=entries[path[0]].title or None,
                class_type=entries[path[0]].class_type,
                hint="Remove one of these links.",
            )
        )
    return problems


def _in_order(nodes: Mapping[str, BoundNode]) -> bool:
    """Whether no node comes before one that feeds it: a quick proof that there is no cycle."""
    seen: set[str] = set()
    for node_id, node in nodes.items():
        for source, _ in node.links.values():
            if source not in seen and source in nodes:
                return False
        seen.add(node_id)
    return True


def _digraph(nodes: Mapping[str, BoundNode]) -> nx.DiGraph:
    import networkx as nx

    digraph = nx.DiGraph()
    digraph.add_nodes_from(nodes)
    digraph.add_edges_from(
        (source, node_id)
        for node_id, node in nodes.items()
        for source, _ in node.links.values()
        if source in nodes
    )
    return digraph


def _upstream(
    starts: Iterable[str], sources: Callable[[str], Iterable[Link]], known: Mapping[str, Any]
) -> set[str]:
    found = set(starts)
    waiting = list(found)
    while waiting:
        for source, _ in sources(waiting.pop()):
            if source not in found and source in known:
                found.add(source)
                waiting.append(source)
    return found


def _downstream(starts: Iterable[str], links: Mapping[str, tuple[Link, ...]]) -> set[str]:
    feeds: dict[str, list[str]] = {}
    for node_id, sources in links.items():
        for source, _ in sources:
            feeds.setdefault(source, []).append(node_id)
    found = set(starts)
    waiting = deque(found)
    while waiting:
        for node_id in feeds.get(waiting.popleft(), ()):
            if node_id not in found:
                found.add(node_id)
                waiting.append(node_id)
    return found


def _no_outputs(report: Report, registry: Mapping[str, NodeSpec]) -> list[Problem]:
    """The problem of a workflow with no output node; unknown nodes are then errors, as one may be the output."""
    unknown = [_severe(item, "error") for item in report.warnings if item.code == "unknown_node"]
    if unknown:
        return unknown
    names = [name for name, spec in registry.items() if spec.output and not spec.deprecated]
    return [
        Problem(
            "prompt_no_outputs",
            "the workflow has no output node, so there is nothing to run.",
            hint=f"Add one, such as {' or '.join(names[:3])}, or name the nodes to run." if names else None,
        )
    ]


def _severe(problem: Problem, severity: Severity) -> Problem:
    return replace(problem, severity=severity)


def _bad_link(node_id: str, title: str, class_type: str, name: str, value: list[Any]) -> Problem:
    shown = repr(value)
    return Problem(
        "bad_linked_input",
        "a list stands for a link and must be [node id, output index].",
        node=node_id,
        title=title or None,
        class_type=class_type,
        input=name,
        found=shown if len(shown) <= 80 else shown[:77] + "...",
        hint='To give a list as a value, write {"__value__": [...]}.',
    )


def _at(
    node: BoundNode,
    name: str,
    code: str,
    message: str,
    *,
    found: str | None = None,
    allowed: str | None = None,
    hint: str | None = None,
) -> Problem:
    return Problem(
        code=code,
        message=message,
        node=node.id,
        title=node.title,
        class_type=node.spec.name,
        input=name,
        found=found,
        allowed=allowed,
        hint=hint,
    )
