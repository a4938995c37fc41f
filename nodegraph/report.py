"""What the command line shows: problems and progress on stderr, results on stdout."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from nodegraph.errors import Problem
from nodegraph.events import (
    Event,
    NodeCached,
    NodeFailed,
    NodeFinished,
    NodeProgress,
    NodeSkipped,
    NodeStarted,
    RunFinished,
    RunStarted,
)
from nodegraph.graph import Graph
from nodegraph.node import SavedFile
from nodegraph.result import Result


def stderr() -> Console:
    """A console on stderr as it is now."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


_UNSEEN = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_UNSEEN |= {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_UNSEEN |= {10: "\\n", 13: "\\r", 9: "\\t"}


def printable(text: str) -> str:
    """Text on one line, without what would steer the terminal: a document's titles are a stranger's words."""
    return text.translate(_UNSEEN)


def problem_text(problem: Problem) -> Text:
    """One problem in one line, its place first."""
    style = "bold red" if problem.severity == "error" else "bold yellow"
    text = Text.assemble((problem.severity, style), ": ")
    rest, where = printable(str(problem)), printable(problem.where())
    if where and rest.startswith(where):
        text.append(where, "bold")
        rest = rest[len(where) :]
    return text.append(rest)


def show_problems(problems: Iterable[Problem]) -> None:
    """Print problems, one a line."""
    console = stderr()
    for problem in problems:
        console.print(problem_text(problem))


def print_json(data: Any) -> None:
    """One JSON object on stdout."""
    unicode = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=not unicode, default=str) + "\n")


def file_data(item: Any) -> Any:
    """What a node shows, as JSON data: a saved file by its address and path."""
    if isinstance(item, SavedFile):
        return {
            "filename": item.filename,
            "subfolder": item.subfolder,
            "type": item.type,
            "path": str(item.path),
        }
    return item


def result_data(result: Result, warnings: Iterable[Problem] = ()) -> dict[str, Any]:
    """A result as JSON data."""
    return {
        "status": result.status,
        "seconds": round(result.seconds, 6),
        "files": [str(item.path) for item in result.files],
        "outputs": {
            node: {name: [file_data(item) for item in items] for name, items in shown.items()}
            for node, shown in result.ui.items()
        },
        "ran": list(result.ran),
        "cached": list(result.cached),
        "skipped": list(result.skipped),
        "problems": [problem.data() for problem in (*result.problems, *warnings)],
    }


def show_result(result: Result, *, verbose: bool) -> None:
    """Print saved paths on stdout, and on stderr what nodes show as text and what went wrong."""
    console = stderr()
    for node, shown in result.ui.items():
        for text in shown.get("text", ()):
            lines = "\n".join(printable(line) for line in str(text).split("\n"))
            console.print(Text.assemble((printable(f"node {node}"), "bold"), f": {lines}"))
    show_problems(result.problems)
    if verbose:
        for error in result.errors.values():
            console.print(Text("".join(traceback.format_exception(error))))
    for item in result.files:
        sys.stdout.write(f"{item.path}\n")
    sys.stdout.flush()


class _Speed(ProgressColumn):
    """Steps a second, or seconds a step where that reads better."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed or not task.fields.get("steps"):
            return Text("")
        return Text(f"{speed:.1f} it/s" if speed >= 1 else f"{1 / speed:.1f} s/it", "cyan")


class Bars:
    """Progress bars on a terminal: all nodes, and the steps of those that report any. Quiet elsewhere."""

    def __init__(self, graph: Graph | Mapping[str, str], console: Console | None = None) -> None:
        """`graph` is what is run, or the titles of its nodes by id."""
        console = console if console is not None else stderr()
        titles = (
            graph if isinstance(graph, Mapping) else {node.id: node.title for node in graph.nodes.values()}
        )
        self._titles: Mapping[str, str] = {id: printable(title) for id, title in titles.items()}
        self._progress = Progress(
            TextColumn("{task.description}", table_column=None),
            BarColumn(),
            TextColumn("{task.completed:g}/{task.total:g}"),
            _Speed(),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._all: TaskID | None = None
        self._steps: dict[str, TaskID] = {}
        self._running: dict[str, None] = {}
        self._counted: set[str] = set()

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def note(self, event: Event) -> None:
        """Show an event."""
        if self._progress.disable:
            return
        if isinstance(event, RunStarted):
            self._all = self._progress.add_task("nodes", total=len(event.to_run))
        elif isinstance(event, NodeStarted):
            self._running[event.node] = None
        elif isinstance(event, NodeProgress):
            self._step(event)
        elif isinstance(event, (NodeFinished, NodeCached, NodeFailed, NodeSkipped)):
            self._end(event.node)
        elif isinstance(event, RunFinished):
            return
        self._describe()

    def refresh(self) -> None:
        """Draw now."""
        self._progress.refresh()

    def _step(self, event: NodeProgress) -> None:
        task = self._steps.get(event.node)
        if task is None:
            title = self._titles.get(event.node, event.node)
            task = self._steps[event.node] = self._progress.add_task(title, total=event.total, steps=True)
        self._progress.update(task, completed=event.value, total=event.total)

    def _end(self, node: str) -> None:
        self._running.pop(node, None)
        task = self._steps.pop(node, None)
        if task is not None:
            self._progress.remove_task(task)
        if node in self._titles and node not in self._counted:
            self._counted.add(node)

    def _describe(self) -> None:
        if self._all is None:
            return
        names = [self._titles.get(node, node) for node in self._running]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        total = self._progress.tasks[0].total or 0
        done = min(len(self._counted), total)
        self._progress.update(self._all, completed=done, description=f"nodes: {shown}" if shown else "nodes")
