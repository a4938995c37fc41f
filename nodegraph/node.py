"""Everything that a node's author imports.

    @node("EmptyLatentImage", category="latent")
    def empty_latent_image(width: Annotated[int, Range(16, 16384, step=8)] = 512) -> Latent:
        "A batch of zero latents."

The signature is the interface. The decorator returns the function unchanged.
"""

from __future__ import annotations

import inspect
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from nodegraph.errors import Cancelled, NodeError, Problem, did_you_mean
from nodegraph.folders import Folders
from nodegraph.forecast import UNKNOWN, Forecast, Memory
from nodegraph.identity import file_identity
from nodegraph.sockets import Choice, Codec, Range, Widget, type_name, value

__all__ = [
    "NEVER",
    "UNKNOWN",
    "Block",
    "Cancelled",
    "Choice",
    "Codec",
    "Context",
    "Folders",
    "Forecast",
    "GraphBuilder",
    "InputSpec",
    "Lazy",
    "Many",
    "Memory",
    "NodeError",
    "NodeSpec",
    "OutputSpec",
    "Pack",
    "Problem",
    "Range",
    "Ref",
    "Resource",
    "Runtime",
    "SavedFile",
    "Shown",
    "Subgraph",
    "Widget",
    "did_you_mean",
    "file_identity",
    "node",
    "spec_of",
    "value",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
Lane = Literal["device", "cpu", "io"]
REQUIRED: Any = inspect.Parameter.empty
"""The default of an input that has none."""


class _ManyMark:
    """Marks a parameter or output that takes or gives the whole list."""


Many = Annotated[Sequence[T], _ManyMark()]
"""`Many[Image]`: all items of a mapped value at once, as a tuple."""


class Lazy(Generic[T]):
    """An input that is computed only when awaited: `image = await lazy_image`.

    Only an `async def` node can take it. The error of what is upstream is raised at the await.
    """

    __slots__ = ("_fetch",)

    def __init__(self, fetch: Callable[[], Awaitable[T]]) -> None:
        self._fetch = fetch

    def __await__(self) -> Generator[Any, None, T]:
        return self._fetch().__await__()


class _Never:
    """What `identity` returns for a node whose result must never be reused."""

    def __repr__(self) -> str:
        return "NEVER"


NEVER = _Never()


@dataclass(frozen=True, slots=True)
class Block:
    """Returned instead of a value: whatever depends on this output is skipped. `message` says why (an error where given)."""

    message: str | None = None


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file that a node wrote, as clients address it: `type` is `output`, `input` or `temp`."""

    filename: str
    subfolder: str
    type: str
    path: Path = field(compare=False)
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """Returned by an output node: what it shows (`{"images": (SavedFile, ...)}`, `{"text": (...)}`), and its values, if any."""

    ui: Mapping[str, tuple[Any, ...]]
    values: Any = None


@dataclass(frozen=True, slots=True)
class Ref:
    """Output `index` of the node with id `node`: a local id in a Subgraph, or an outer node where `outer` is set."""

    node: str
    index: int = 0
    outer: bool = False


@dataclass(frozen=True, slots=True)
class Subgraph:
    """Returned by a node instead of values: these nodes run, and `outputs` become the node's outputs.

    `nodes` maps local ids to (class type, inputs); an input is a literal, a Ref, or a value that the node was given or made.
    `outputs` has one Ref or value for each output of the returning node.
    """

    nodes: Mapping[str, tuple[str, Mapping[str, Any]]]
    outputs: tuple[Any, ...]


class GraphBuilder:
    """Builds a Subgraph: `g = GraphBuilder(); s = g.node("KSampler", seed=1); return g.build(s)`."""

    def __init__(self) -> None:
        self._nodes: dict[str, tuple[str, dict[str, Any]]] = {}

    def node(self, class_type: str, /, local_id: str | None = None, **inputs: Any) -> Ref:
        """Add a node; returns a Ref to its first output (`dataclasses.replace(ref, index=1)` for others)."""
        key = local_id if local_id is not None else str(len(self._nodes) + 1)
        if key in self._nodes:
            raise ValueError(f"the sub-graph already has a node {key!r}")
        self._nodes[key] = (class_type, inputs)
        return Ref(key)

    def build(self, *outputs: Any) -> Subgraph:
        """The finished sub-graph, one argument for each output of the returning node."""
        return Subgraph(dict(self._nodes), outputs)


@dataclass(frozen=True)
class Runtime:
    """Where and how a session runs. Plain data; packs read what concerns them."""

    folders: Folders
    device: str = "cpu"
    """`cpu`, `cuda`, `cuda:1` or `mps`."""
    dtype: str = "auto"
    """Of the networks: `auto` (fp16 or bf16 on a GPU, fp32 on the CPU), `fp32`, `bf16` or `fp16`."""
    device_budget: int = 0
    """Bytes of device memory that models and cached tensors share; 0: decide from what the device has."""
    host_budget: int = 0
    """Bytes of host memory for cached values; 0: decide from what the machine has."""
    options: Mapping[str, Any] = field(default_factory=dict)


class Resource(ABC):
    """A long-lived helper of a pack (the ModelPool), made once a session by `Context.resource`."""

    @classmethod
    @abstractmethod
    def open(cls, runtime: Runtime) -> Resource:
        """Make the resource for this session."""

    def held(self) -> int:
        """Bytes that it holds on the device now. Asked for at any time from any thread, so it must not wait."""
        return 0

    def release(self, wanted: int) -> int:
        """Give back up to `wanted` bytes of what is not in use; returns the bytes given back."""
        return 0

    def capacity(self) -> int:
        """Bytes of device memory that there are to share; 0 where it does not know."""
        return 0

    def close(self) -> None:
        """Give everything back; the session ends."""
        self.release(self.held())


R = TypeVar("R", bound=Resource)


class Context(ABC):
    """What a running node may ask of the engine. A parameter annotated with it is not a socket."""

    runtime: Runtime

    @property
    def folders(self) -> Folders:
        """Model, input, output and temporary folders."""
        return self.runtime.folders

    @property
    @abstractmethod
    def node_id(self) -> str:
        """This node's id; the node must declare `reads=("node_id",)`, which puts it in its key."""

    @property
    @abstractmethod
    def document(self) -> Mapping[str, Any]:
        """The whole workflow document as it was given; needs `reads=("document",)`."""

    @property
    @abstractmethod
    def graph(self) -> Any:
        """The bound graph, read-only."""

    @abstractmethod
    def progress(self, value: float, total: float, preview: Any = None) -> None:
        """Report `value` of `total` steps done. Raises Cancelled where the run was cancelled.

        `preview` may be an object with a method `jpeg(max_side) -> bytes`: a picture of what the node is at, a JPEG file of at
        most that many pixels a side. It is called in another thread, and only a few times a second.
        """

    @abstractmethod
    def check_cancelled(self) -> None:
        """Raise Cancelled where the run was cancelled."""

    @abstractmethod
    async def on(self, lane: Lane, function: Callable[..., T], *args: Any) -> T:
        """Run blocking work of an async node on a lane."""

    @abstractmethod
    def resource(self, kind: type[R]) -> R:
        """The session's one instance of a Resource class."""

    def make_room(self, wanted: int) -> int:
        """Ask for up to `wanted` bytes on the device: cached values move to host memory, the cheapest first.

        Returns the bytes that went.
        """
        return 0


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a node type."""

    name: str
    type: str
    default: Any = REQUIRED
    range: Range | None = None
    choice: Choice | None = None
    widget: Widget = field(default_factory=Widget)
    lazy: bool = False
    many: bool = False

    @property
    def required(self) -> bool:
        """Whether a workflow must give it: it has no default."""
        return self.default is REQUIRED

    @property
    def optional(self) -> bool:
        """Whether descriptions list it under `optional`."""
        return self.widget.optional or self.default is None


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One output of a node type."""

    name: str
    type: str
    many: bool = False


Identity = Callable[..., "bytes | _Never"]
Validate = Callable[..., "str | None"]
Foresee = Callable[..., Forecast]


@dataclass(frozen=True)
class NodeSpec:
    """A node type: its function and everything that its signature says."""

    name: str
    function: Callable[..., Any] = field(compare=False)
    inputs: Mapping[str, InputSpec]
    outputs: tuple[OutputSpec, ...]
    category: str
    display_name: str
    description: str
    version: int = 1
    output: bool = False
    """An output node: it is a target of a run (saving, previewing)."""
    effect: bool = False
    """It writes files: a cached result counts only while they exist as recorded."""
    lane: Lane = "cpu"
    is_async: bool = False
    takes_context: str | None = None
    """Name of the Context parameter."""
    takes_kwargs: bool = False
    reads: frozenset[str] = frozenset()
    identity: Identity | None = field(default=None, compare=False)
    validate: Validate | None = field(default=None, compare=False)
    foresee: Foresee | None = field(default=None, compare=False)
    ahead: bool = False
    """It costs next to nothing and may run before the graph is checked, once its inputs are known."""
    deprecated: bool = False
    module: str = ""


def node(
    name: str,
    *,
    category: str,
    display_name: str | None = None,
    outputs: Sequence[str] | None = None,
    output: bool = False,
    effect: bool = False,
    lane: Lane = "cpu",
    version: int = 1,
    reads: Sequence[Literal["document", "node_id"]] = (),
    identity: Identity | None = None,
    validate: Validate | None = None,
    foresee: Foresee | None = None,
    ahead: bool = False,
    deprecated: bool = False,
) -> Callable[[F], F]:
    """Declare a function as the node type `name`; the function itself comes back unchanged.

    `outputs` overrides the output names. `identity(**literals)` returns bytes for the key, or NEVER;
    `validate(**literals)` returns a sentence where the literals do not go together, else None. Both may take a
    subset of the literal inputs by name, and `folders`. `foresee` takes a subset of the inputs, and `runtime`: each
    is a literal, a value that is known before the run, what another node's `foresee` says of it, or UNKNOWN. It returns
    a Forecast, or raises NodeError for what cannot work; the graph is then refused. `ahead` marks a node that gives
    small plain values at next to no cost (a loader that reads a header): it runs before the check, so that `foresee`
    sees its values. Raises TypeError at declaration where the signature makes no node, or none that can run ahead.
    """

    def declare(function: F) -> F:
        # A function takes any attribute, which its type does not say.
        function.__node_spec__ = _spec(  # type: ignore[attr-defined]
            function,
            name=name,
            category=category,
            display_name=display_name or name,
            output_names=outputs,
            output=output or effect,
            effect=effect,
            lane=lane,
            version=version,
            reads=frozenset(reads),
            identity=identity,
            validate=validate,
            foresee=foresee,
            ahead=ahead,
            deprecated=deprecated,
        )
        return function

    return declare


def spec_of(function: object) -> NodeSpec | None:
    """The NodeSpec of a declared function, else None."""
    found = getattr(function, "__node_spec__", None)
    return found if isinstance(found, NodeSpec) else None


@dataclass(frozen=True)
class Pack:
    """What an entry point of the group `nodegraph.nodes` names: modules that hold declared nodes."""

    name: str
    modules: tuple[str, ...]
    model_roots: tuple[Path, ...] = ()
    """Folders in ComfyUI's layout (`checkpoints/`, `vae/`...) that ship with the pack."""
    settle: str | None = None
    """`module:function`, called once when a session opens: takes its Runtime and returns it with `auto` settled.

    The function raises NodeError for what is not there."""
    devices: str | None = None
    """`module:function`: takes a settled Runtime and describes the devices that the pack's nodes compute on.

    One mapping each: `name`, `type` (`cpu`, `cuda`), `index`, and bytes of memory, `vram_total` and `vram_free`. It is
    asked about once a second, from any thread."""


def _spec(function: Callable[..., Any], *, output_names: Sequence[str] | None, **facts: Any) -> NodeSpec:
    hints = typing.get_type_hints(function, include_extras=True)
    inputs: dict[str, InputSpec] = {}
    context: str | None = None
    kwargs = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            kwargs = True
            continue
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            raise TypeError(f"{facts['name']}: *{parameter.name} cannot be a socket")
        if parameter.name not in hints:
            raise TypeError(f"{facts['name']}: parameter {parameter.name} has no type annotation")
        if hints[parameter.name] is Context:
            context = parameter.name
            continue
        inputs[parameter.name] = _input(
            facts["name"], parameter.name, hints[parameter.name], parameter.default
        )
    is_async = inspect.iscoroutinefunction(function)
    if not is_async and any(item.lazy for item in inputs.values()):
        raise TypeError(f"{facts['name']}: only an async node can take a Lazy input")
    lists = any(item.many for item in inputs.values())
    if facts["ahead"] and (is_async or lists or facts["output"] or facts["reads"]):
        raise TypeError(f"{facts['name']}: a node that runs ahead is a plain function of single values")
    if facts["foresee"] is not None:
        known = {*inputs, "runtime"}
        for item in inspect.signature(facts["foresee"]).parameters.values():
            if item.name not in known and item.kind is not inspect.Parameter.VAR_KEYWORD:
                raise TypeError(f"{facts['name']}: foresee takes {item.name!r}, which is no input")
    return NodeSpec(
        function=function,
        inputs=types.MappingProxyType(inputs),
        outputs=_outputs(facts["name"], hints.get("return"), output_names),
        description=inspect.getdoc(function) or "",
        is_async=is_async,
        takes_context=context,
        takes_kwargs=kwargs,
        module=function.__module__,
        **facts,
    )


def _input(node_name: str, name: str, hint: Any, default: Any) -> InputSpec:
    extras: list[Any] = []
    lazy = many = False
    while True:
        if typing.get_origin(hint) is Annotated:
            extras += hint.__metadata__
            hint = hint.__origin__
        elif typing.get_origin(hint) is Lazy:
            lazy = True
            (hint,) = typing.get_args(hint)
        elif typing.get_origin(hint) in (typing.Union, types.UnionType):
            members = [member for member in typing.get_args(hint) if member is not type(None)]
            if len(members) > 1:
                names = ",".join(_bare(node_name, name, member) for member in members)
                return _finish(name, names, default, extras, lazy, many)
            (hint,) = members
        else:
            break
    if any(isinstance(extra, _ManyMark) for extra in extras):
        many = True
        (hint,) = typing.get_args(hint)
        return _finish(name, _input(node_name, name, hint, default).type, default, extras, lazy, many)
    if typing.get_origin(hint) is Literal and not any(isinstance(extra, Choice) for extra in extras):
        extras.append(Choice(tuple(str(option) for option in typing.get_args(hint))))
    return _finish(name, _bare(node_name, name, hint), default, extras, lazy, many)


def _bare(node_name: str, name: str, hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "COMBO"
    try:
        return type_name(hint)
    except TypeError as error:
        raise TypeError(f"{node_name}: parameter {name}: {error}") from error


def _finish(name: str, socket: str, default: Any, extras: list[Any], lazy: bool, many: bool) -> InputSpec:
    choice = next((extra for extra in extras if isinstance(extra, Choice)), None)
    return InputSpec(
        name=name,
        type="COMBO" if choice is not None else socket,
        default=default,
        range=next((extra for extra in extras if isinstance(extra, Range)), None),
        choice=choice,
        widget=next((extra for extra in extras if isinstance(extra, Widget)), Widget()),
        lazy=lazy,
        many=many,
    )


def _outputs(node_name: str, hint: Any, names: Sequence[str] | None) -> tuple[OutputSpec, ...]:
    if hint is None or hint is type(None) or hint is Shown:
        return ()
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        fields = typing.get_type_hints(hint, include_extras=True)
        members = [(field_name, fields[field_name]) for field_name in hint._fields]
    else:
        members = [("", hint)]
    found = []
    for field_name, member in members:
        spec = _input(node_name, "return", member, REQUIRED)
        found.append(OutputSpec(field_name or spec.type, spec.type, spec.many))
    if names is not None:
        if len(names) != len(found):
            raise TypeError(f"{node_name}: {len(names)} output names for {len(found)} outputs")
        found = [OutputSpec(new, old.type, old.many) for new, old in zip(names, found, strict=True)]
    return tuple(found)
