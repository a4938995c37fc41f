"""What it costs to refuse hostile workflows: processor seconds and peak memory of `nodegraph validate` on each.

Prints one JSON object. Each file is made here, of 35 MB or as large as the limits let it be (`nodegraph/limits.py`), and
checked in a process of its own against 350 node types that import nothing; `small` is a workflow that is valid.
"""

from __future__ import annotations

import json
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

from benchmarks.graph import environment
from nodegraph.cli import main as nodegraph
from nodegraph.limits import MAX_BYTES, MAX_NODES, MAX_PICTURE_BYTES, MAX_VALUES
from nodegraph.node import Choice, Shown, node
from nodegraph.registry import Registry

SIZE = 35_000_000
TYPES = 345
CHOICES = tuple(f"euler_{number}_cfg" for number in range(42))


@node("Start", category="benchmark")
def start(value: float = 0.0) -> float:
    """A number."""
    return value


@node("Step", category="benchmark")
def step(x: float, add: float = 1.0) -> float:
    """x + add."""
    return x + add


@node("Choose", category="benchmark", output=True)
def choose(name: Annotated[str, Choice(CHOICES)]) -> str:
    """One of many names."""
    return name


@node("Gather", category="benchmark", output=True)
def gather(**inputs: Any) -> int:
    """Takes any inputs."""
    return len(inputs)


@node("Show", category="benchmark", output=True)
def show(x: Any) -> Shown:
    """Shows a value."""
    return Shown({"text": (str(x),)})


def registry() -> Registry:
    """The nodes above, and as many others as a session may have."""
    words = ("Latent", "Image", "Mask", "Conditioning", "Sampler", "Loader", "Model")
    names = [f"{words[i % 7]}{words[i // 7 % 7]}{words[i // 49 % 7]}{i}" for i in range(TYPES)]
    return Registry.of(start, step, choose, gather, show, *(_like(start, name) for name in names))


def _like(function: Callable[..., float], name: str) -> Callable[..., float]:
    def another(value: float = 0.0) -> float:
        return function(value)

    another.__doc__ = function.__doc__
    return node(name, category="benchmark")(another)


def of(node_id: object, class_type: str, inputs: str = "", meta: str = "{}") -> str:
    """The text of a node in a prompt."""
    return f'"{node_id}":{{"class_type":"{class_type}","inputs":{{{inputs}}},"_meta":{meta}}}'


def listed(make: Callable[[int], str], count: int) -> str:
    """Things with a comma between them."""
    return ",".join(make(number) for number in range(count))


def prompt(*parts: str) -> str:
    """A prompt of these nodes and a chain that is valid."""
    return "{" + ",".join([of("start", "Start"), of("show", "Show", '"x":["start",0]'), *parts]) + "}"


def reroutes(count: int) -> str:
    """UI format: a long line of reroutes, each with a consumer."""
    lines = listed(lambda i: f'{{"id":{i},"type":"Reroute","inputs":[{{"link":{i}}}]}}', count)
    users = listed(lambda i: f'{{"id":"u{i}","type":"Show","inputs":[{{"name":"x","link":{i}}}]}}', count)
    links = listed(lambda i: f'[{i},{i + 1},0,{i},0,"*"]', count)
    return f'{{"nodes":[{users},{lines}],"links":[{links}]}}'


def instances(inner: int, count: int) -> str:
    """UI format: many instances of one sub-graph."""
    nodes = listed(lambda i: f'{{"id":{i},"type":"Start"}}', inner)
    outer = listed(lambda i: f'{{"id":{i},"type":"d"}}', count)
    return f'{{"nodes":[{outer}],"definitions":{{"subgraphs":[{{"id":"d","nodes":[{nodes}]}}]}}}}'


def bombs(count: int) -> bytes:
    """A picture whose texts inflate to gigabytes."""
    body = b"\0\0" + zlib.compress(bytes(MAX_BYTES), 9)
    chunks = (b"zTXt" + f"text {number}".encode() + body + b"0000" for number in range(count))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(chunk) - 8) + chunk for chunk in chunks)
    return data[:MAX_PICTURE_BYTES]


def shapes() -> Iterable[tuple[str, Callable[[], str | bytes]]]:
    """Hostile files by what is in them."""
    nodes, values, text = MAX_NODES - 2, MAX_VALUES - 100, "x" * (MAX_BYTES - 200)
    yield "small", prompt
    yield "35 MB: text", lambda: prompt(of("a", "Show", f'"x":"{"x" * SIZE}"'))
    yield "35 MB: unknown nodes", lambda: prompt(listed(lambda i: of(i, f"Unknown{i:040}"), SIZE // 105))
    yield (
        "500,000 inputs of one node",
        lambda: prompt(of("a", "Show", listed(lambda i: f'"i{i}":{i}', values))),
    )
    yield (
        "500,000 inputs and none that is needed",
        lambda: prompt(
            of("a", "Step", listed(lambda i: f'"i{i}":{i}', values)), of("b", "Show", '"x":["a",0]')
        ),
    )
    yield (
        "166,000 links to nothing",
        lambda: prompt(of("a", "Gather", listed(lambda i: f'"i{i}":["missing{i}",0]', values // 3))),
    )
    yield (
        "20,000 unknown nodes",
        lambda: prompt(
            listed(lambda i: of(i, f"Unknown{i:0900}", f'"x":["{i - 1}",0]' if i else ""), nodes - 1),
            of("end", "Show", f'"x":["{nodes - 2}",0]'),
        ),
    )
    yield (
        "20,000 nodes with links to nothing",
        lambda: prompt(listed(lambda i: of(i, "Show", f'"x":["missing{i}",0]'), nodes)),
    )
    yield (
        "20,000 nodes with unknown choices",
        lambda: prompt(listed(lambda i: of(i, "Choose", f'"name":"eulr{i:01200}"'), nodes)),
    )
    yield "20,000 nodes without their inputs", lambda: prompt(listed(lambda i: of(i, "Show"), nodes))
    yield "10,000 circles", lambda: prompt(listed(lambda i: of(i, "Show", f'"x":["{i ^ 1}",0]'), nodes))
    yield (
        "one circle of 20,000 nodes",
        lambda: prompt(listed(lambda i: of(i, "Step", f'"x":["{(i + 1) % nodes}",0]'), nodes)),
    )
    yield (
        "20,000 bypassed nodes in a row",
        lambda: prompt(listed(lambda i: of(i, "Step", f'"x":["{i - 1}",0]', '{"mode":4}'), nodes)),
    )
    yield "10,000 reroutes in a row", lambda: reroutes(nodes // 2)
    yield "sub-graphs multiplied", lambda: instances(100_000, 1000)
    yield "nesting", lambda: "[" * (MAX_BYTES - 1)
    yield "nesting of objects", lambda: '{"a":' * (MAX_BYTES // 5)
    yield "empty lists", lambda: "[" + "[]," * (MAX_BYTES // 3 - 1) + "[]]"
    yield "a list of 500,000 numbers", lambda: prompt(of("a", "Show", f'"x":[{"1," * (values - 20)}1]'))
    yield "a text as long as may be", lambda: prompt(of("a", "Choose", f'"name":"{text}"'))
    yield "a class_type as long as may be", lambda: prompt(of("a", text))
    yield "a title as long as may be", lambda: prompt(of("a", "Nothing", meta=f'{{"title":"{text}"}}'))
    yield "commas in a text", lambda: prompt(of("a", "Choose", f'"name":"{"," * (MAX_BYTES - 200)}"'))
    yield (
        "a key given twice, at the end",
        lambda: prompt(listed(lambda i: of(i, "Show", '"x":1'), values // 6 - 10), of(0, "Show")),
    )
    yield "a picture with bombs", lambda: bombs(2000)


def measure(make: Callable[[], str | bytes], folder: Path) -> dict[str, Any]:
    """Size of a file, what checking it costs, and what was said first."""
    made = make()
    path = folder / "workflow"
    path.write_bytes(made if isinstance(made, bytes) else made.encode())
    del made
    words = [sys.executable, __file__, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    return {
        "megabytes": round(path.stat().st_size / 1e6, 1),
        **json.loads(done.stdout.splitlines()[-1]),
        "exit": done.returncode,
        "lines": len(lines),
        "first": lines[0][:160] if lines else None,
    }


def check(path: str) -> None:
    """Validate a file and print what that cost this process from its start."""
    try:
        nodegraph(["validate", path], registry())
    finally:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        if sys.platform == "linux":
            # What `getrusage` says is the parent's peak where that is higher.
            status = Path("/proc/self/status").read_text(encoding="ascii")
            peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
        print(json.dumps({"seconds": round(time.process_time(), 2), "peak_mb": round(peak / 1e6)}))


def main() -> None:
    """Measure and print."""
    wanted = sys.argv[1:]
    if wanted and Path(wanted[0]).is_file():
        check(wanted[0])
    with tempfile.TemporaryDirectory() as name:
        results = {
            label: measure(make, Path(name)) for label, make in shapes() if not wanted or label in wanted
        }
    print(json.dumps({"benchmark": "refusal", "environment": environment(), "results": results}, indent=2))


if __name__ == "__main__":
    main()
