"""A pack without torch that the engine's tests share: small nodes, one for each thing that the engine does.

Nodes whose calls a test wants to count take a Journal from `Runtime.options["journal"]`.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from nodegraph.node import (
    NEVER,
    Block,
    Choice,
    Context,
    Folders,
    GraphBuilder,
    Lazy,
    Many,
    NodeError,
    Range,
    Resource,
    Runtime,
    SavedFile,
    Shown,
    Subgraph,
    Widget,
    node,
    value,
)
from nodegraph.registry import Registry


@dataclass
class Journal:
    """What the toy nodes did: how often each was called, on which threads, and how many at once."""

    calls: Counter[str] = field(default_factory=Counter)
    threads: dict[str, set[str]] = field(default_factory=dict)
    running: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, name: str) -> None:
        """Count one call."""
        with self.lock:
            self.calls[name] += 1
            self.threads.setdefault(name, set()).add(threading.current_thread().name)

    def __enter__(self) -> Journal:
        with self.lock:
            self.running += 1
            self.most_at_once = max(self.most_at_once, self.running)
        return self

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.running -= 1


def journal_of(ctx: Context) -> Journal:
    """The journal of the session, or a throw-away one."""
    found = ctx.runtime.options.get("journal")
    return found if isinstance(found, Journal) else Journal()


class Memory:
    """A block of bytes with an identity: the toy's tensor storage. May be weakly referenced."""

    def __init__(self, data: bytes) -> None:
        self.data = data


class BlobCodec:
    """Measures and moves blobs."""

    def storages(self, value: Blob) -> Iterable[tuple[object, int, str]]:
        """The one block."""
        yield id(value.memory), len(value.memory.data), value.device

    def move(self, value: Blob, device: str) -> Blob:
        """A copy on another device."""
        return value if value.device == device else Blob(Memory(value.memory.data), device)

    def save(self, value: Blob) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """No tensors; the bytes as text."""
        return {}, {"hex": value.memory.data.hex(), "device": value.device}

    def load(self, tensors: dict[str, Any], rest: Mapping[str, Any]) -> Blob:
        """The inverse of save."""
        return Blob(Memory(bytes.fromhex(rest["hex"])), rest["device"])


@value("BLOB", BlobCodec())
@dataclass(frozen=True, eq=False)
class Blob:
    """Some bytes on a device."""

    memory: Memory
    device: str = "cpu"


@value("MODEL")
@dataclass(frozen=True)
class Recipe:
    """A toy MODEL: a name and patches."""

    name: str
    patches: tuple[str, ...] = ()


class Halves(NamedTuple):
    """Outputs of ToySplit."""

    whole: int
    rest: float


class Pool(Resource):
    """A resource that counts how often it was opened, released and closed."""

    def __init__(self, held_bytes: int) -> None:
        self.bytes = held_bytes
        self.closed = False

    @classmethod
    def open(cls, runtime: Runtime) -> Pool:
        """A pool that holds as many bytes as the option `pool_bytes` says."""
        return cls(int(runtime.options.get("pool_bytes", 0)))

    def held(self) -> int:
        """Bytes held."""
        return self.bytes

    def release(self, wanted: int) -> int:
        """Give back what is asked for."""
        given = min(wanted, self.bytes)
        self.bytes -= given
        return given

    def close(self) -> None:
        """Closed."""
        self.bytes = 0
        self.closed = True


Number = Annotated[float, Range(-1e9, 1e9)]


@node("ToyInt", category="toy/constants")
def toy_int(value: Annotated[int, Range(0, 2**64 - 1), Widget(control_after_generate=True)] = 0) -> int:
    """A whole number."""
    return value


@node("ToyFloat", category="toy/constants")
def toy_float(value: Number = 0.0) -> float:
    """A number."""
    return value


@node("ToyText", category="toy/constants", display_name="Toy text")
def toy_text(text: Annotated[str, Widget(multiline=True)]) -> str:
    """A text. The input is required."""
    return text


@node("ToyFlag", category="toy/constants")
def toy_flag(value: bool = False) -> bool:
    """True or false."""
    return value


@node("ToyAdd", category="toy/maths")
def toy_add(a: float, b: float = 0.0) -> float:
    """a + b; a is required."""
    return a + b


@node("ToyScale", category="toy/maths")
def toy_scale(
    x: float,
    factor: Annotated[float, Range(-10.0, 10.0, step=0.5)] = 2.0,
    rounding: Annotated[str, Choice(("none", "down", "nearest"))] = "none",
) -> float:
    """x * factor, rounded."""
    y = x * factor
    return y if rounding == "none" else float(y // 1 if rounding == "down" else round(y))


@node("ToyCounted", category="toy/maths")
def toy_counted(ctx: Context, x: float, name: str = "counted") -> float:
    """x + 1; notes its call in the journal under `name`."""
    with journal_of(ctx) as journal:
        journal.note(name)
    return x + 1


@node("ToySplit", category="toy/maths")
def toy_split(x: float) -> Halves:
    """Whole part and rest: two outputs."""
    whole = int(x // 1)
    return Halves(whole, x - whole)


@node("ToyDevice", category="toy/lanes", lane="device")
def toy_device(ctx: Context, x: float, seconds: float = 0.0) -> float:
    """x + 1 on the device lane, after `seconds`."""
    with journal_of(ctx) as journal:
        journal.note("device")
        time.sleep(seconds)
    return x + 1


@node("ToyIo", category="toy/lanes", lane="io")
def toy_io(ctx: Context, x: float, seconds: float = 0.0) -> float:
    """x + 1 on the io lane, after `seconds`."""
    with journal_of(ctx) as journal:
        journal.note("io")
        time.sleep(seconds)
    return x + 1


@node("ToySteps", category="toy/lanes", lane="device")
def toy_steps(
    ctx: Context, x: float, steps: Annotated[int, Range(1, 10000)] = 5, seconds: float = 0.0
) -> float:
    """x + steps, one step at a time with progress: a toy sampler."""
    journal_of(ctx).note("steps")
    for step in range(steps):
        time.sleep(seconds)
        x += 1
        ctx.progress(step + 1, steps, preview=x)
    return x


@node("ToyWait", category="toy/async")
async def toy_wait(ctx: Context, x: float, seconds: float = 0.0, fail: bool = False) -> float:
    """x after an asynchronous pause."""
    with journal_of(ctx) as journal:
        journal.note("wait")
        await asyncio.sleep(seconds)
    if fail:
        raise NodeError("told to fail.", input="fail")
    return x


@node("ToyOnLane", category="toy/async")
async def toy_on_lane(ctx: Context, x: float, lane: Literal["device", "cpu", "io"] = "cpu") -> str:
    """The name of the thread that a lane gave, after x."""

    def work(number: float) -> str:
        return f"{number} on {threading.current_thread().name}"

    return await ctx.on(lane, work, x)


@node("ToySwitch", category="toy/async")
async def toy_switch(flag: bool, if_true: Lazy[float], if_false: Lazy[float]) -> float:
    """One of two lazy inputs; the other is never computed."""
    return await if_true if flag else await if_false


@node("ToyAwaitTwice", category="toy/async")
async def toy_await_twice(x: Lazy[float]) -> float:
    """Awaits one lazy input twice at once."""
    one, two = await asyncio.gather(_await(x), _await(x))
    return one + two


@node("ToyRescue", category="toy/async")
async def toy_rescue(x: Lazy[float], otherwise: float = -1.0) -> float:
    """The lazy input, or `otherwise` where its upstream failed."""
    try:
        return await x
    except Exception:
        return otherwise


async def _await(lazy: Lazy[float]) -> float:
    return await lazy


@node("ToyRange", category="toy/lists")
def toy_range(count: Annotated[int, Range(0, 100000)] = 3, start: float = 0.0) -> Many[float]:
    """A list of numbers."""
    return tuple(start + index for index in range(count))


@node("ToySum", category="toy/lists")
def toy_sum(items: Many[float]) -> float:
    """The sum of a whole list."""
    return float(sum(items))


@node("ToyBlock", category="toy/control")
def toy_block(x: float, blocked: bool = True, message: str = "") -> float:
    """Blocks what follows; with a message it is reported."""
    return Block(message or None) if blocked else x  # type: ignore[return-value]


@node("ToyFail", category="toy/control")
def toy_fail(x: float = 0.0, message: str = "told to fail.", crash: bool = False) -> float:
    """Raises NodeError, or RuntimeError where `crash` is set."""
    if crash:
        raise RuntimeError(message)
    raise NodeError(message, input="x", found=str(x), allowed="nothing")


@node("ToyWrongArity", category="toy/control")
def toy_wrong_arity(x: float = 0.0) -> Halves:
    """Returns three values for two outputs."""
    return (1, 2.0, x)  # type: ignore[return-value]


@node("ToyOutOfMemory", category="toy/control", lane="device")
def toy_out_of_memory(ctx: Context, x: float = 0.0, times: int = 1) -> float:
    """Raises MemoryError the first `times` calls, then gives x."""
    journal = journal_of(ctx)
    journal.note("memory")
    ctx.resource(Pool)
    if journal.calls["memory"] <= times:
        raise MemoryError("out of toy memory")
    return x


@node("ToyRandom", category="toy/control", identity=lambda: NEVER)
def toy_random(ctx: Context) -> float:
    """Never the same: the number of calls so far."""
    journal = journal_of(ctx)
    journal.note("random")
    return float(journal.calls["random"])


@node("ToyModulo", category="toy/control", identity=lambda x, modulus: str(x % modulus).encode())
def toy_modulo(x: Annotated[int, Range(0, 1000)] = 0, modulus: Annotated[int, Range(1, 10)] = 2) -> int:
    """x modulo `modulus`; its identity adds nothing to what its inputs say."""
    return x % modulus


@node("ToyKeywords", category="toy/control")
def toy_keywords(prefix: str = "", **extra: Any) -> str:
    """All inputs that it was given, by name."""
    return prefix + ", ".join(f"{name}={extra[name]}" for name in sorted(extra))


def _ordered(low: float, high: float) -> str | None:
    return None if low <= high else f"low ({low}) must not be above high ({high})."


@node("ToyOrdered", category="toy/control", validate=_ordered)
def toy_ordered(low: float = 0.0, high: float = 1.0) -> float:
    """high - low; refused where they are the wrong way round."""
    return high - low


@node("ToyPower", category="toy/expansion")
def toy_power(x: float, exponent: Annotated[int, Range(0, 100)] = 2) -> float:
    """x ** exponent as a sub-graph of ToyTimes nodes."""
    g = GraphBuilder()
    product: Any = 1.0
    for _ in range(exponent):
        product = g.node("ToyTimes", a=product, b=x)
    return g.build(product)  # type: ignore[return-value]


@node("ToyTimes", category="toy/maths")
def toy_times(a: float, b: float) -> float:
    """a * b."""
    return a * b


@node("ToyLoop", category="toy/expansion")
def toy_loop(x: float, count: Annotated[int, Range(0, 10**6)] = 3) -> float:
    """Adds 1 `count` times: each expansion holds one ToyAdd and the next ToyLoop."""
    if count == 0:
        return x
    g = GraphBuilder()
    step = g.node("ToyAdd", a=x, b=1.0)
    return g.build(g.node("ToyLoop", x=step, count=count - 1))  # type: ignore[return-value]


@node("ToyBadExpansion", category="toy/expansion")
def toy_bad_expansion(x: float, kind: Literal["cycle", "unknown", "missing", "arity"] = "cycle") -> float:
    """An expansion that is wrong in one way."""
    g = GraphBuilder()
    one = g.node("ToyAdd", a=x)
    if kind == "cycle":
        nodes = {"1": ("ToyAdd", {"a": replace(one, node="2")}), "2": ("ToyAdd", {"a": one})}
        return Subgraph(nodes, (one,))  # type: ignore[return-value]
    if kind == "unknown":
        return g.build(g.node("ToyNothing"))  # type: ignore[return-value]
    if kind == "missing":
        return g.build(g.node("ToyAdd"))  # type: ignore[return-value]
    return g.build(one, one)  # type: ignore[return-value]


@node("ToyShowInside", category="toy/expansion")
def toy_show_inside(x: float) -> float:
    """An expansion with an output node in it."""
    g = GraphBuilder()
    g.node("ToyShow", item=x)
    return g.build(x)  # type: ignore[return-value]


@node("ToyBlob", category="toy/blobs")
def toy_blob(
    ctx: Context,
    size: Annotated[int, Range(0, 10**9)] = 1000,
    fill: Annotated[int, Range(0, 255)] = 0,
    device: str = "cpu",
    seconds: float = 0.0,
) -> Blob:
    """A blob of `size` bytes, made in `seconds`."""
    journal_of(ctx).note("blob")
    time.sleep(seconds)
    return Blob(Memory(bytes([fill]) * size), device)


@node("ToyBlobCopy", category="toy/blobs")
def toy_blob_copy(blob: Blob) -> Blob:
    """A new blob with the same bytes."""
    return Blob(Memory(bytes(bytearray(blob.memory.data))), blob.device)


@node("ToyBlobView", category="toy/blobs")
def toy_blob_view(blob: Blob) -> Blob:
    """Another blob that shares the same memory."""
    return Blob(blob.memory, blob.device)


@node("ToyBlobSize", category="toy/blobs")
def toy_blob_size(blob: Blob, other: Blob | None = None) -> int:
    """Bytes of a blob, or of two."""
    return len(blob.memory.data) + (len(other.memory.data) if other else 0)


@node("ToyLoadModel", category="toy/models")
def toy_load_model(ctx: Context, name: Annotated[str, Choice(files="checkpoints")]) -> Recipe:
    """The recipe of a checkpoint file."""
    journal_of(ctx).note("load")
    return Recipe(ctx.folders.find("checkpoints", name).name)


@node("ToyPatch", category="toy/models")
def toy_patch(model: Recipe, blob: Blob | None = None, patch: str = "p") -> Recipe:
    """The model with one more patch."""
    return replace(model, patches=(*model.patches, patch))


@node("ToyReadFile", category="toy/files", lane="io")
def toy_read_file(ctx: Context, name: Annotated[str, Choice(files="input", upload=True)]) -> str:
    """The text of an input file."""
    return ctx.folders.find("input", name).read_text(encoding="utf-8")


@node("ToyShow", category="toy/outputs", output=True)
def toy_show(item: Any) -> Shown:
    """Shows anything as text."""
    return Shown({"text": (str(item),)})


@node("ToyShowAll", category="toy/outputs", output=True)
def toy_show_all(items: Many[Any]) -> Shown:
    """Shows a whole list as text."""
    return Shown({"text": tuple(str(item) for item in items)})


@node("ToySave", category="toy/outputs", effect=True, lane="io")
def toy_save(ctx: Context, text: str, name: str = "toy.txt") -> Shown:
    """Writes a text into the output folder."""
    journal_of(ctx).note("save")
    path = Path(ctx.folders.output) / name
    data = str(text).encode()
    try:
        path.write_bytes(data)
    except OSError as error:
        raise NodeError(f"cannot write {path}: {error.strerror}.", code="cannot_write") from error
    return Shown(
        {"files": (SavedFile(name, "", "output", path, len(data), hashlib.sha256(data).hexdigest()),)}
    )


@node("ToyDocument", category="toy/outputs", output=True, reads=("document", "node_id"))
def toy_document(ctx: Context, x: float = 0.0) -> Shown:
    """Shows its own id and the number of nodes of the document."""
    return Shown({"text": (ctx.node_id, str(len(ctx.document.get("prompt", ctx.document))))})


@node("ToyOld", category="toy/maths", deprecated=True)
def toy_old(x: float) -> float:
    """A deprecated node."""
    return x


NODES: tuple[Callable[..., Any], ...] = tuple(
    item for item in globals().values() if callable(item) and hasattr(item, "__node_spec__")
)


def toy_folders(root: Path) -> Folders:
    """Folders under `root`, made: models (one toy checkpoint), input (one text), output and temp."""
    folders = Folders((root / "models",), root / "input", root / "output", root / "temp")
    for folder in (root / "models" / "checkpoints", folders.input, folders.output, folders.temp):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "models" / "checkpoints" / "toy.safetensors").write_bytes(b"toy weights")
    (folders.input / "hello.png").write_text("hello", encoding="utf-8")
    return folders


def toy_registry() -> Registry:
    """Every toy node."""
    return Registry.of(*NODES)
