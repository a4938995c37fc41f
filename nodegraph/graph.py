"""Graph: a workflow bound to a registry, with every input checked and converted; or every problem at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from nodegraph.errors import Problem, ValidationError, shown
from nodegraph.findings import Findings
from nodegraph.folders import Folders
from nodegraph.inputs import NOTHING, BoundNode, Entry, Inputs, Link, problem_at
from nodegraph.limits import MAX_TITLE
from nodegraph.links import BadLink, Fault, bad_link, cycles, digraph_of, no_output, wrong_type
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
        return digraph_of(self.nodes)

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
    """Where targets failed: the sources of every node that they may need."""

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
    entries, bad_links = entries_of(prompt)
    if targets is None:
        specs = {node_id: registry.get(entry.class_type) for node_id, entry in entries.items()}
        wanted = tuple(node_id for node_id, spec in specs.items() if spec is not None and spec.output)
    else:
        wanted = tuple(dict.fromkeys(targets))
    binder = Binder(registry, folders, workflow.extra.get("models"))
    found = binder.check(entries, wanted, bad_links=bad_links, workflow=workflow)
    if not wanted:
        found = replace(found, problems=(*found.problems, *_no_outputs(found, registry)))
    stale = Findings("warning")
    for name, parameter in workflow.parameters.items():
        for target in parameter.targets:
            if target.node not in workflow.prompt:
                stale.add(None, partial(_stale_parameter, name, target.node))
    return replace(found, warnings=(*found.warnings, *stale.told())) if stale else found


def narrowed(report: Report, problems: Sequence[Problem]) -> Report:
    """The report with further problems of its graph's nodes, and the graph of the targets that they leave."""
    errors = tuple(problem for problem in problems if problem.severity == "error")
    warnings = tuple(problem for problem in problems if problem.severity == "warning")
    report = replace(report, problems=(*report.problems, *errors), warnings=(*report.warnings, *warnings))
    if not errors or report.graph is None:
        return report
    broken = _downstream({error.node for error in errors if error.node is not None}, report.graph.nodes)
    good = tuple(target for target in report.graph.targets if target not in broken)
    failed = (*report.failed, *(target for target in report.graph.targets if target in broken))
    links = {**_links(report.graph.nodes), **report.links} if failed else report.links
    if not good:
        return replace(report, graph=None, failed=failed, links=links)
    kept = report.graph.needed(good)
    nodes = {node_id: node for node_id, node in report.graph.nodes.items() if node_id in kept}
    graph = replace(report.graph, nodes=nodes, targets=good)
    return replace(report, graph=graph, failed=failed, links=links)


def entries_of(prompt: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Entry], list[BadLink]]:
    """The nodes of a prompt with links told from literals, and what is no valid link."""
    entries = {}
    bad_links = []
    for node_id, node in prompt.items():
        links: dict[str, Link] = {}
        literals: dict[str, Any] = {}
        meta = node.get("_meta")
        title = meta.get("title", "") if meta else ""
        title = title[:MAX_TITLE] if type(title) is str else ""
        for name, value in node.get("inputs", {}).items():
            if type(value) is list:
                link = as_link(value)
                if link is None:
                    bad_links.append((node_id, name, value))
                    literals[name] = Inputs.BROKEN
                else:
                    links[name] = link
            elif type(value) is dict and len(value) == 1 and "__value__" in value:
                literals[name] = value["__value__"]
            else:
                literals[name] = value
        # Documents are large: an empty dict for each node would be one more for the collector.
        entries[node_id] = Entry(node["class_type"], links or NOTHING, literals or NOTHING, title)
    return entries, bad_links


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
        bad_links: Iterable[BadLink] = (),
        workflow: Workflow | None = None,
    ) -> Report:
        """Check and convert nodes and their links. `bad_links` are what the reader of the entries could not read.

        What is wrong with a node that no target needs is a warning.
        """
        present = [target for target in targets if target in entries]
        needed = _upstream(present, lambda node_id: entries[node_id].links.values(), entries)
        errors, warnings = Findings(), Findings("warning")
        for node_id, name, value in bad_links:
            found = errors if node_id in needed else warnings
            found.add(node_id, partial(bad_link, node_id, entries[node_id], name, value))
        nodes: dict[str, BoundNode] = {}
        for node_id, entry in entries.items():
            node = self._inputs.bind(node_id, entry, errors if node_id in needed else warnings, warnings)
            if node is not None:
                nodes[node_id] = node
        for node in nodes.values():
            for name, link in node.links.items():
                fault = self._link_fault(entries, node, name, link, outer)
                if fault is not None:
                    (errors if node.id in needed else warnings).add(node.id, fault)
        for node_id, fault in cycles(entries, nodes):
            (errors if node_id in needed else warnings).add(node_id, fault)
        for target in targets:
            if target not in entries:
                errors.add(None, partial(self._no_target, target, entries))
        return _report(entries, nodes, tuple(targets), needed, errors, warnings, workflow)

    def _link_fault(
        self,
        entries: Mapping[str, Entry],
        node: BoundNode,
        name: str,
        link: Link,
        outer: Callable[[str], Sequence[OutputSpec] | None],
    ) -> Fault | None:
        """What makes the problem of a link that is wrong."""
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
            return lambda: self._no_source(node, name, source, entries)
        if index >= len(outputs):
            return partial(no_output, node, name, link, entry, outputs)
        wanted = node.spec.inputs.get(name)
        given = outputs[index].type
        if wanted is None or given == wanted.type or assignable(given, wanted.type):
            return None
        return partial(wrong_type, node, name, link, entry, outputs[index], wanted.type)

    def _no_source(self, node: BoundNode, name: str, source: str, entries: Mapping[str, Entry]) -> Problem:
        text = f"it links to node {shown(source)}, which is not there."
        hint = self._inputs.suggestions.hint("node", source, entries.keys())
        return problem_at(node, "bad_linked_input", text, input=name, hint=hint)

    def _no_target(self, target: str, entries: Mapping[str, Entry]) -> Problem:
        return Problem(
            "unknown_target",
            f"there is no node {target!r} to run.",
            hint=self._inputs.suggestions.hint("node", target, entries.keys()),
        )


def _report(
    entries: Mapping[str, Entry],
    nodes: Mapping[str, BoundNode],
    targets: tuple[str, ...],
    needed: set[str],
    errors: Findings,
    warnings: Findings,
    workflow: Workflow | None,
) -> Report:
    """The report with those targets that need no node with an error."""
    broken = _downstream(errors.nodes, entries) if errors.nodes else set()
    good = tuple(target for target in targets if target in entries and target not in broken)
    failed: tuple[str, ...] = ()
    links: Mapping[str, tuple[Link, ...]] = {}
    if len(good) < len(targets):
        kept = set(good)
        failed = tuple(target for target in targets if target not in kept)
        needed = _upstream(good, lambda node_id: entries[node_id].links.values(), entries)
        links = _links(entries)
    graph: Graph | None = None
    if good:
        graph = Graph({node_id: nodes[node_id] for node_id in entries if node_id in needed}, good, workflow)
    return Report(graph, errors.told(), warnings.told(), failed, links)


def _links(nodes: Mapping[str, Entry] | Mapping[str, BoundNode]) -> dict[str, tuple[Link, ...]]:
    return {node_id: tuple(node.links.values()) for node_id, node in nodes.items()}


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


def _downstream(starts: Iterable[str], nodes: Mapping[str, Entry] | Mapping[str, BoundNode]) -> set[str]:
    feeds: dict[str, list[str]] = {}
    for node_id, node in nodes.items():
        for source, _ in node.links.values():
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
    told = [item for item in report.warnings if item.code in ("unknown_node", "more_problems")]
    if any(item.code == "unknown_node" for item in told):
        return [replace(item, severity="error") for item in told]
    names = [name for name, spec in registry.items() if spec.output and not spec.deprecated]
    return [
        Problem(
            "prompt_no_outputs",
            "the workflow has no output node, so there is nothing to run.",
            hint=f"Add one, such as {' or '.join(names[:3])}, or name the nodes to run." if names else None,
        )
    ]


def _stale_parameter(name: str, node_id: str) -> Problem:
    text = f"the parameter {name!r} sets an input of node {shown(node_id)}, which is not there."
    return Problem("stale_parameter", text)
