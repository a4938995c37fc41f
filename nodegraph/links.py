"""What can be wrong with links: problems, each made only where it is told, and circles of nodes that feed themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from nodegraph.errors import Problem, shown
from nodegraph.inputs import BoundNode, Entry, Link, problem_at
from nodegraph.node import OutputSpec

if TYPE_CHECKING:
    import networkx as nx

# networkx is imported where it is first needed: a server that only checks documents seldom does, and loads in half the time.

BadLink = tuple[str, str, list[Any]]
"""(node, input, a list that is neither a link nor marked as a value)."""
Fault = Callable[[], Problem]
"""Makes a problem that was found."""


def cycles(entries: Mapping[str, Entry], nodes: Mapping[str, BoundNode]) -> Iterator[tuple[str, Fault]]:
    """For each knot of nodes that feed themselves, its first node and what makes its problem."""
    if _in_order(nodes):
        return
    import networkx as nx

    digraph = digraph_of(nodes)
    if nx.is_directed_acyclic_graph(digraph):
        return
    place = {node_id: index for index, node_id in enumerate(nodes)}
    for knot in nx.strongly_connected_components(digraph):
        if len(knot) > 1 or digraph.has_edge(*knot, *knot):
            first = min(knot, key=place.__getitem__)
            yield first, partial(_cycle, knot, first, nodes, entries)


def _cycle(
    knot: set[str], first: str, nodes: Mapping[str, BoundNode], entries: Mapping[str, Entry]
) -> Problem:
    """The problem of a knot, with the path of one cycle in it."""
    # Each node of a knot is fed by one of it: whoever goes back from node to node comes round at last.
    place: dict[str, int] = {}
    node_id = first
    while node_id not in place:
        place[node_id] = len(place)
        node_id = next(source for source, _ in nodes[node_id].links.values() if source in knot)
    path = list(place)[place[node_id] :]
    # From the first node on, in the direction of the links.
    path = [path[0], *path[:0:-1]]
    listed = path if len(path) <= 20 else [*path[:10], "...", *path[-9:]]
    return Problem(
        "dependency_cycle",
        f"the nodes feed themselves in a circle: {' -> '.join([*listed, path[0]])}.",
        node=path[0],
        title=entries[path[0]].title or None,
        class_type=entries[path[0]].class_type,
        hint="Remove one of these links.",
    )


def _in_order(nodes: Mapping[str, BoundNode]) -> bool:
    """Whether no node comes before one that feeds it: a quick proof that there is no cycle."""
    seen: set[str] = set()
    for node_id, node in nodes.items():
        for source, _ in node.links.values():
            if source not in seen and source in nodes:
                return False
        seen.add(node_id)
    return True


def digraph_of(nodes: Mapping[str, BoundNode]) -> nx.DiGraph:
    """Nodes by id, an edge from each source to each node that it feeds."""
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


def bad_link(node_id: str, entry: Entry, name: str, value: list[Any]) -> Problem:
    """The problem of a list that is no link."""
    return Problem(
        "bad_linked_input",
        "a list stands for a link and must be [node id, output index].",
        node=node_id,
        title=entry.title or None,
        class_type=entry.class_type,
        input=name,
        found=shown(value),
        hint='To give a list as a value, write {"__value__": [...]}.',
    )


def no_output(
    node: BoundNode, name: str, link: Link, entry: Entry | None, outputs: Sequence[OutputSpec]
) -> Problem:
    """The problem of a link to an output that its source does not have; `entry` is the source, where it is given."""
    listed = ", ".join(f"{i} ({item.name})" for i, item in enumerate(outputs)) or "it has no outputs"
    text = f"it links to output {link[1]} of {_place(link[0], entry)}, which does not exist."
    return problem_at(node, "bad_linked_input", text, input=name, allowed=listed)


def wrong_type(
    node: BoundNode, name: str, link: Link, entry: Entry | None, output: OutputSpec, wanted: str
) -> Problem:
    """The problem of a link to an output of a type that the input does not take."""
    place = f"output {link[1]} ({output.name}) of {_place(link[0], entry)}"
    text = f"{place} is of type {output.type}, but the input takes {wanted}."
    return problem_at(node, "return_type_mismatch", text, input=name, found=output.type, allowed=wanted)


def _place(source: str, entry: Entry | None) -> str:
    return f"node {source}" if entry is None else f"node {source} ({entry.class_type})"
