"""What a server and its workers say to each other: frozen messages, and their form as bytes.

A message travels as a JSON header and a blob of bytes, each after its length (`nodegraph.worker.pipe`). Values on
links never travel, nor exceptions: events cross as plain data, files as clients address them.
"""

from __future__ import annotations

import json
import math
import struct
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal

from nodegraph.errors import Problem
from nodegraph.events import (
    Event,
    NodeCached,
    NodeExpanded,
    NodeFailed,
    NodeFinished,
    NodeProgress,
    NodeSkipped,
    NodeStarted,
    RunFinished,
    RunStarted,
)
from nodegraph.node import SavedFile

Data = Mapping[str, Any]
"""Plain JSON data."""
Status = Literal["success", "failed", "cancelled"]
LENGTH = struct.Struct(">I")
"""What stands before a header and before a blob: its bytes."""
_TRACE_LINES = 60
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker opens its session: folders, device and packs. Empty where nothing is set."""

    models: tuple[str, ...] = ()
    """Model folders and extra_model_paths files beside those of `nodegraph.session.default_folders`, searched first."""
    input: str | None = None
    output: str | None = None
    temp: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    device_budget: int = 0
    host_budget: int = 0
    packs: tuple[str, ...] | None = None
    """`module:attribute` of each Pack, in place of the installed ones: packs under development."""
    paths: tuple[str, ...] = ()
    """Folders from which the modules of `packs` may be imported."""


@dataclass(frozen=True, slots=True)
class Hello:
    """First message to a worker."""

    tag: ClassVar[str] = "hello"
    settings: WorkerSettings


@dataclass(frozen=True, slots=True)
class Run:
    """Run the targets of a document, all its outputs where `targets` is None. Waits while another runs."""

    tag: ClassVar[str] = "run"
    job: str
    document: str
    """JSON text."""
    targets: tuple[str, ...] | None = None
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop a run at its next step, or drop it where it waits. Nothing happens where it is not there."""

    tag: ClassVar[str] = "cancel"
    job: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Ask what a run would do now; `id` is that of the Answer."""

    tag: ClassVar[str] = "plan"
    id: str
    document: str
    targets: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """Ask for everything that is wrong with a document; `id` is that of the Answer."""

    tag: ClassVar[str] = "check"
    id: str
    document: str
    targets: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Free:
    """Give back models, results, or both, as far as no run uses them."""

    tag: ClassVar[str] = "free"
    unload_models: bool = False
    free_memory: bool = False


@dataclass(frozen=True, slots=True)
class Describe:
    """Ask for Descriptions."""

    tag: ClassVar[str] = "describe"


@dataclass(frozen=True, slots=True)
class Stop:
    """Cancel what runs, and end."""

    tag: ClassVar[str] = "stop"


@dataclass(frozen=True, slots=True)
class Ready:
    """The session is open: runs may come. `problems` are the packs and modules that were left out."""

    tag: ClassVar[str] = "ready"
    pid: int
    devices: tuple[Data, ...] = ()
    """Name, type, index, and bytes of memory (`vram_total`, `vram_free`) of each."""
    versions: Data = field(default_factory=dict)
    packs: tuple[Data, ...] = ()
    """Name and version of each pack."""
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Descriptions:
    """The packs' node types as data; `nodegraph.worker.descriptions` makes a registry of them."""

    tag: ClassVar[str] = "descriptions"
    packs: tuple[Data, ...]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The process lives: its resident bytes, its devices' memory, its cache. Once a second."""

    tag: ClassVar[str] = "heartbeat"
    rss: int
    devices: tuple[Data, ...] = ()
    cache: Data = field(default_factory=dict)
    """Hits, misses, evictions, and `tiers`: entries, bytes and budget by name."""
    job: str | None = None


@dataclass(frozen=True, slots=True)
class RunEvents:
    """What happened in a run, in order; see `event_data`."""

    tag: ClassVar[str] = "events"
    job: str
    events: tuple[Data, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """A small picture of what a node is at."""

    tag: ClassVar[str] = "preview"
    job: str
    node: str
    image: bytes
    mime: str = "image/jpeg"


@dataclass(frozen=True, slots=True)
class Done:
    """A run's last message. `outputs` is what the output nodes show, by id."""

    tag: ClassVar[str] = "done"
    job: str
    status: Status
    outputs: Data = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What Plan and Check found: problems, warnings, the targets that can run, and a plan's rows."""

    tag: ClassVar[str] = "answer"
    id: str
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    targets: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    """Targets that cannot run."""
    rows: tuple[Data, ...] = ()


ToWorker = Hello | Run | Cancel | Plan | Check | Free | Describe | Stop
FromWorker = Ready | Descriptions | Heartbeat | RunEvents | Preview | Done | Answer
Message = ToWorker | FromWorker
_KINDS: dict[str, Any] = {
    kind.tag: kind
    for kind in (
        *(Hello, Run, Cancel, Plan, Check, Free, Describe, Stop),
        *(Ready, Descriptions, Heartbeat, RunEvents, Preview, Done, Answer),
    )
}
_PARTS = {kind: tuple(item.name for item in fields(kind)) for kind in _KINDS.values()}


def encode(message: Message) -> bytes:
    """A message as it travels, lengths included."""
    header: dict[str, Any] = {"tag": message.tag}
    blob = b""
    for name in _PARTS[type(message)]:
        found = getattr(message, name)
        if isinstance(found, bytes):
            blob = found
        elif name in ("problems", "warnings"):
            header[name] = [problem.data() for problem in found]
        elif isinstance(found, WorkerSettings):
            header[name] = asdict(found)
        else:
            header[name] = found
    text = _ENCODER.encode(header).encode("utf-8", "surrogatepass")
    return b"".join((LENGTH.pack(len(text)), text, LENGTH.pack(len(blob)), blob))


def decode(data: bytes) -> Message:
    """The inverse of `encode`. Raises ValueError for what no message is."""
    try:
        (length,) = LENGTH.unpack_from(data)
        header = data[LENGTH.size : LENGTH.size + length]
        (rest,) = LENGTH.unpack_from(data, LENGTH.size + length)
        blob = data[2 * LENGTH.size + length :]
    except struct.error as error:
        raise ValueError(f"a message of {len(data)} bytes is cut short") from error
    if len(blob) != rest:
        raise ValueError(f"a message has {len(blob)} bytes where it says {rest}")
    return decode_parts(header, blob)


def decode_parts(header: bytes, blob: bytes = b"") -> Message:
    """The message of a header and a blob without their lengths. Raises ValueError."""
    found = json.loads(header.decode("utf-8", "surrogatepass"))
    kind = _KINDS.get(found.pop("tag", "")) if isinstance(found, dict) else None
    if kind is None:
        raise ValueError(f"there is no such message: {header[:80]!r}")
    if kind is Preview:
        found["image"] = blob
    for name, value in found.items():
        if name in ("problems", "warnings"):
            found[name] = tuple(problem_of(item) for item in value)
        elif name == "settings":
            found[name] = WorkerSettings(**{key: _frozen(item) for key, item in value.items()})
        else:
            found[name] = _frozen(value)
    try:
        message: Message = kind(**found)
    except TypeError as error:
        raise ValueError(f"the message {kind.tag} has other parts: {error}") from error
    return message


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def problem_of(data: Data) -> Problem:
    """The inverse of `Problem.data`."""
    return Problem(**data)


def event_data(event: Event) -> dict[str, Any]:
    """An event of a run as JSON data: `event` names it (`node_started`, ...), the rest is as in `nodegraph.events`.

    Values and previews are left out; a failure has the exception's type, message and trace instead of itself.
    """
    match event:
        case RunStarted():
            return {"event": "run_started", "to_run": list(event.to_run), "cached": list(event.cached)}
        case NodeStarted():
            return {"event": "node_started", "node": event.node, "item": event.item, "items": event.items}
        case NodeProgress():
            return {
                "event": "node_progress",
                "node": event.node,
                "value": plain(event.value),
                "total": plain(event.total),
            }
        case NodeCached():
            return {"event": "node_cached", "node": event.node, "tier": event.tier, "ui": ui_data(event.ui)}
        case NodeExpanded():
            return {"event": "node_expanded", "node": event.node, "children": list(event.children)}
        case NodeFinished():
            seconds = event.seconds
            return {
                "event": "node_finished",
                "node": event.node,
                "seconds": seconds,
                "ui": ui_data(event.ui),
            }
        case NodeSkipped():
            return {
                "event": "node_skipped",
                "node": event.node,
                "reason": event.reason,
                "message": event.message,
            }
        case NodeFailed():
            return {
                "event": "node_failed",
                "node": event.node,
                "problem": event.problem.data(),
                **_error_data(event.error),
            }
        case RunFinished():
            return {"event": "run_finished", "status": event.status, "seconds": event.seconds}


def _error_data(error: BaseException | None) -> dict[str, Any]:
    if error is None:
        return {"exception_type": "", "exception_message": "", "traceback": []}
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return {
        "exception_type": name,
        "exception_message": str(error)[:2000],
        "traceback": traceback.format_tb(error.__traceback__)[-_TRACE_LINES:],
    }


def ui_data(ui: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """What a node shows as JSON data: files by their address, other things as `plain` has them."""
    return {name: [plain(item) for item in items] for name, items in ui.items()}


def plain(value: Any) -> Any:
    """A value as JSON data: no number that JSON does not know, and text for what it has no form for."""
    if isinstance(value, SavedFile):
        return {"filename": value.filename, "subfolder": value.subfolder, "type": value.type}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value)
