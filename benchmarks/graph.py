"""What the engine itself costs: chains, branches and loops of trivial nodes, first and unchanged.

Prints one JSON object with the environment it ran in. `first` and `unchanged` are seconds from the parsed
document to the last event (bind, foresight, keys, plan, run), the best of several; `_cpu` is the processor time of that run.
`linearity` is the cost of a node in a chain of 10,000 over that in one of 1,000.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nodegraph.cache import Cache
from nodegraph.events import RunFinished
from nodegraph.execute import execute
from nodegraph.fingerprint import fingerprint
from nodegraph.folders import Folders
from nodegraph.foresight import foresee, has_foresight
from nodegraph.graph import bind
from nodegraph.node import Forecast, GraphBuilder, Runtime, Shown, node
from nodegraph.plan import plan
from nodegraph.registry import Registry
from nodegraph.workflow import Workflow

Prompt = dict[str, dict[str, Any]]


@node("Start", category="benchmark")
def start(value: int = 0) -> float:
    """A number."""
    return float(value)


@node("Step", category="benchmark")
def step(x: float, add: float = 1.0) -> float:
    """x + add."""
    return x + add


@node("ForeseenStep", category="benchmark", foresee=lambda x: Forecast((x,)))
def foreseen_step(x: float, add: float = 1.0) -> float:
    """x + add, with a word on it before the run."""
    return x + add


@node("ForeseenStart", category="benchmark", foresee=lambda value: Forecast((value,)))
def foreseen_start(value: int = 0) -> float:
    """A number, known before the run."""
    return float(value)


@node("Loop", category="benchmark")
def loop(x: float, count: int = 1) -> float:
    """Adds 1 `count` times, one expansion a turn."""
    if count == 0:
        return x
    g = GraphBuilder()
    return g.build(g.node("Loop", x=g.node("Step", x=x), count=count - 1))  # type: ignore[return-value]


@node("Show", category="benchmark", output=True)
def show(x: float) -> Shown:
    """Shows a number."""
    return Shown({"text": (str(x),)})


REGISTRY = Registry.of(start, step, foreseen_start, foreseen_step, loop, show)


def of(class_type: str, **inputs: Any) -> dict[str, Any]:
    """A node of a prompt."""
    return {"class_type": class_type, "inputs": inputs}


def chain(length: int) -> Prompt:
    """Nodes in a row."""
    prompt = {"0": of("Start")}
    prompt |= {str(i): of("Step", x=[str(i - 1), 0]) for i in range(1, length - 1)}
    return prompt | {"show": of("Show", x=[str(length - 2), 0])}


def foreseen(length: int) -> Prompt:
    """Nodes in a row, each with a `foresee` hook."""
    prompt = chain(length)
    for entry in prompt.values():
        if entry["class_type"] != "Show":
            entry["class_type"] = f"Foreseen{entry['class_type']}"
    return prompt


def branches(count: int) -> Prompt:
    """One node that feeds many outputs."""
    prompt = {"start": of("Start")}
    for i in range(count):
        prompt[f"step{i}"] = of("Step", x=["start", 0], add=i)
        prompt[f"show{i}"] = of("Show", x=[f"step{i}", 0])
    return prompt


def turns(count: int) -> Prompt:
    """A loop of expansions."""
    return {"loop": of("Loop", x=0, count=count), "show": of("Show", x=["loop", 0])}


async def once(workflow: Workflow, runtime: Runtime, cache: Cache) -> tuple[float, float]:
    """(seconds, processor seconds) of one run, from the document to its last event."""
    begun, cpu = time.perf_counter(), time.process_time()
    graph = bind(workflow, REGISTRY, runtime.folders)
    if has_foresight(graph):
        # As a session does: once to check the graph, and once more, with what that made, to run it.
        foresee(graph, plan(graph, fingerprint(graph, runtime), cache), cache, runtime)
    planned = plan(graph, fingerprint(graph, runtime), cache)
    last = None
    async for event in execute(planned, REGISTRY, runtime, cache):
        last = event
    spent = time.perf_counter() - begun, time.process_time() - cpu
    assert isinstance(last, RunFinished), last
    assert last.status == "success", last.problems
    return spent


def measure(prompt: Prompt, nodes: int, runtime: Runtime, tries: int) -> dict[str, float]:
    """The best of `tries` runs with an empty cache, and of as many with a full one."""
    workflow = Workflow.from_data(prompt)
    first, unchanged = [], []
    for _ in range(tries):
        cache = Cache()
        first.append(asyncio.run(once(workflow, runtime, cache)))
        unchanged.append(asyncio.run(once(workflow, runtime, cache)))
    found: dict[str, float] = {"nodes": nodes}
    for name, runs in (("first", first), ("unchanged", unchanged)):
        seconds, cpu = min(runs)
        found[name] = round(seconds, 5)
        found[f"{name}_cpu"] = round(cpu, 5)
        found[f"{name}_us_per_node"] = round(seconds / nodes * 1e6, 2)
    return found


def linearity(runtime: Runtime, short: int = 1_000, long: int = 10_000, rounds: int = 9) -> dict[str, Any]:
    """Processor time of a node in a long chain over that in a short one: 1 where the cost is linear.

    Each round runs as many nodes in short chains as in one long chain, half of them before it and half after, so that
    both meet the same load of the machine; each run starts from a collected heap, so that none pays for another's garbage.
    """
    workflows = {length: Workflow.from_data(chain(length)) for length in (short, long)}
    ratios: dict[str, list[float]] = {"first": [], "unchanged": []}
    for _ in range(rounds):
        spent = {(name, length): 0.0 for name in ratios for length in workflows}
        half = [short] * (long // short // 2)
        for length in [*half, long, *half]:
            cache = Cache()
            for name in ("first", "unchanged", "unchanged", "unchanged"):
                gc.collect()
                spent[name, length] += asyncio.run(once(workflows[length], runtime, cache))[1]
        for name, found in ratios.items():
            found.append(spent[name, long] / spent[name, short])
    return {
        name: {
            "median": round(statistics.median(found), 3),
            "rounds": [round(one, 3) for one in sorted(found)],
        }
        for name, found in ratios.items()
    }


def environment() -> dict[str, Any]:
    """Where this ran."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model
        )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("nodegraph", "networkx")},
    }


def main() -> None:
    """Measure and print."""
    cases: list[tuple[str, Callable[[int], Prompt], int, int, int]] = [
        ("chain_100", chain, 100, 100, 7),
        ("chain_300", chain, 300, 300, 7),
        ("chain_1000", chain, 1_000, 1_000, 7),
        ("chain_1000_foreseen", foreseen, 1_000, 1_000, 7),
        ("chain_10000", chain, 10_000, 10_000, 3),
        ("branches_300", branches, 300, 601, 7),
        ("loop_10000", turns, 10_000, 20_002, 1),
    ]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        runtime = Runtime(Folders((root,), root, root, root))
        results = {
            label: measure(make(size), nodes, runtime, tries) for label, make, size, nodes, tries in cases
        }
        ratios = linearity(runtime)
    found = {"environment": environment(), "results": results, "linearity": ratios}
    print(json.dumps({"benchmark": "graph", **found}, indent=2))


if __name__ == "__main__":
    main()
