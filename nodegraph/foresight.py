"""What a graph will come to, before it runs: wrong pairings, and the memory that it takes.

An abstract evaluation in one pass over nodes and links. Nodes that are declared `ahead` (loaders that read headers)
are run for their values, through the cache; the `foresee` hooks of the others say what follows from what is known.
Where nothing is known (no hook, lists, lazy inputs, values that expansions make) a value is UNKNOWN.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nodegraph.cache import Cache
from nodegraph.errors import NodeError, Problem
from nodegraph.fingerprint import Key, topological
from nodegraph.forecast import UNKNOWN, Forecast
from nodegraph.graph import BoundNode, Graph
from nodegraph.mapping import fitted
from nodegraph.node import Block, Context, InputSpec, Lane, NodeSpec, Resource, Runtime
from nodegraph.plan import Plan
from nodegraph.shape import result_of
from nodegraph.task import Items

T = TypeVar("T")
R = TypeVar("R", bound=Resource)
_NOTHING: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Foresight:
    """What was found out about a graph."""

    problems: tuple[Problem, ...] = ()
    """Errors of nodes that would fail, and warnings where a hook itself is at fault."""
    forecasts: Mapping[str, Forecast] = field(default_factory=dict)
    """Of the nodes that will run and whose hook could say something."""
    made: frozenset[Key] = frozenset()
    """Keys of the nodes that were run for this: their results are in the cache."""


def foresee(graph: Graph, plan: Plan, cache: Cache, runtime: Runtime) -> Foresight:
    """Evaluate a graph whose nodes have something to say. Raises nothing: a node's error is a problem."""
    if "run" not in plan.states.values():
        return Foresight()
    return _Evaluation(plan, cache, runtime).of(graph)


def has_foresight(graph: Graph) -> bool:
    """Whether any node of a graph has something to say before it runs."""
    return any(node.spec.foresee is not None or node.spec.ahead for node in graph.nodes.values())


class _Evaluation:
    """One pass over a graph."""

    def __init__(self, plan: Plan, cache: Cache, runtime: Runtime) -> None:
        self._plan = plan
        self._cache = cache
        self._runtime = runtime
        self._context = AheadContext(runtime)
        self._known: dict[str, tuple[Any, ...]] = {}
        """Outputs by node; a node that is missing gives nothing that is known."""
        self._real: set[str] = set()
        """Nodes whose outputs are the values themselves."""
        self._hooks: dict[str, _Hook] = {}
        self._problems: list[Problem] = []
        self._forecasts: dict[str, Forecast] = {}
        self._made: set[Key] = set()

    def of(self, graph: Graph) -> Foresight:
        """Evaluate every node after those that feed it."""
        for node_id in topological(graph):
            node = graph.nodes[node_id]
            spec = node.spec
            if spec.ahead and all(source in self._real for source, _ in node.links.values()):
                self._value(node)
            elif spec.foresee is not None:
                self._forecast(node, spec.foresee)
        return Foresight(tuple(self._problems), self._forecasts, frozenset(self._made))

    def _will_run(self, node: BoundNode) -> bool:
        return self._plan.states.get(node.id) == "run"

    def _value(self, node: BoundNode) -> None:
        """The outputs of a node that may run ahead: held, or made now where the run would make them."""
        keys = self._plan.keys
        key = keys.by_node[node.id]
        if node.id in keys.volatile:
            return
        held = self._cache.get(key) if self._cache.peek(key) is not None else None
        if held is not None:
            self._keep(node, held.outputs)
        elif self._will_run(node):
            begun = time.perf_counter()
            try:
                outputs = self._call(node)
            except NodeError as error:
                self._problems.append(error.problem(node.id, node.title, node.spec.name))
                return
            except (
                Exception
            ):  # the node runs once more with the graph, and tells then with all that a run tells
                return
            seconds = time.perf_counter() - begun
            parents = [keys.by_node[source] for source, _ in node.links.values()]
            if self._keep(node, outputs) and self._cache.put(key, outputs, {}, seconds, parents=parents):
                self._made.add(key)

    def _keep(self, node: BoundNode, outputs: tuple[Any, ...]) -> bool:
        """Take outputs as they are, where none of them is a list or blocked."""
        if any(type(found) in (Items, Block) for found in outputs):
            return False
        self._known[node.id] = outputs
        self._real.add(node.id)
        return True

    def _call(self, node: BoundNode) -> tuple[Any, ...]:
        given = {**node.literals, **node.extra}
        for name, (source, index) in node.links.items():
            given[name] = fitted(node.spec.inputs.get(name), self._known[source][index])
        if node.spec.takes_context is not None:
            given[node.spec.takes_context] = self._context
        result = result_of(node.spec, node.spec.function(**given))
        return (Block(),) if result.subgraph is not None else result.values

    def _forecast(self, node: BoundNode, function: Callable[..., Forecast]) -> None:
        hook = self._hooks.get(node.spec.name)
        if hook is None or hook.spec is not node.spec:
            hook = self._hooks[node.spec.name] = _Hook(node.spec, function)
        given = self._arguments(node, hook)
        if given is None:
            return
        try:
            forecast = function(**given)
        except NodeError as error:
            if self._will_run(node):
                self._problems.append(error.problem(node.id, node.title, node.spec.name))
            return
        except Exception as error:  # a pack's fault must not keep a graph from running
            self._blame(node, f"{type(error).__name__}: {error}")
            return
        outputs = forecast.outputs
        declared = node.spec.outputs
        if outputs and len(outputs) != len(declared):
            self._blame(node, f"it gives {len(outputs)} outputs and should give {len(declared)}")
            return
        if any(output.many for output in declared) and outputs:
            outputs = tuple(UNKNOWN if one.many else out for one, out in zip(declared, outputs, strict=True))
        self._known[node.id] = outputs
        if self._will_run(node):
            self._forecasts[node.id] = forecast

    def _arguments(self, node: BoundNode, hook: _Hook) -> dict[str, Any] | None:
        """What the hook is given; None where all that feeds it is unknown."""
        given: dict[str, Any] = {}
        linked = known = False
        literals = node.literals
        for name in hook.names:
            link = node.links.get(name)
            if link is not None:
                linked = True
                found = self._linked(link, node.spec.inputs.get(name))
                known = known or found is not UNKNOWN
                given[name] = found
            elif name in literals:
                given[name] = literals[name]
            elif name in node.extra:
                given[name] = node.extra[name]
        if linked and not known:
            return None
        if hook.takes_all:
            given |= {name: item for name, item in node.extra.items() if name not in given}
        if hook.takes_runtime:
            given["runtime"] = self._runtime
        return given

    def _linked(self, link: tuple[str, int], spec: InputSpec | None) -> Any:
        source, index = link
        outputs = self._known.get(source, _NOTHING)
        if index >= len(outputs) or (spec is not None and (spec.many or spec.lazy)):
            return UNKNOWN
        return fitted(spec, outputs[index])

    def _blame(self, node: BoundNode, what: str) -> None:
        text = f"what it will need and give could not be foreseen: {what}."
        self._problems.append(
            Problem("broken_hook", text, node.id, node.title, node.spec.name, severity="warning")
        )


class _Hook:
    """What calling a `foresee` hook needs to know, worked out once a node type."""

    def __init__(self, spec: NodeSpec, function: Callable[..., Forecast]) -> None:
        parameters = inspect.signature(function).parameters.values()
        named = [item.name for item in parameters if item.kind is not inspect.Parameter.VAR_KEYWORD]
        self.spec = spec
        self.takes_all = len(named) < len(parameters)
        self.takes_runtime = "runtime" in named and "runtime" not in spec.inputs
        self.names = tuple(spec.inputs) if self.takes_all else tuple(n for n in named if n in spec.inputs)


class AheadContext(Context):
    """The context of a node that runs before the graph is checked: it has folders, and nothing of a run."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    @property
    def node_id(self) -> str:
        """Raises RuntimeError."""
        raise _not_ahead("node_id")

    @property
    def document(self) -> Mapping[str, Any]:
        """Raises RuntimeError."""
        raise _not_ahead("document")

    @property
    def graph(self) -> Any:
        """Raises RuntimeError."""
        raise _not_ahead("graph")

    def progress(self, value: float, total: float, preview: Any = None) -> None:
        """Nobody watches."""

    def check_cancelled(self) -> None:
        """There is nothing to cancel yet."""

    async def on(self, lane: Lane, function: Callable[..., T], *args: Any) -> T:
        """Raises RuntimeError."""
        raise _not_ahead("on")

    def resource(self, kind: type[R]) -> R:
        """Raises RuntimeError: what runs ahead must not load anything."""
        raise _not_ahead("resource")


def _not_ahead(what: str) -> RuntimeError:
    return RuntimeError(f"a node that runs ahead cannot use the context's {what!r}")
