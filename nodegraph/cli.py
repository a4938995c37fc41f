"""The command line: run, validate, plan, nodes, convert, models, serve.

Exit codes: 0, 1 where a run or its server failed, 2 for wrong input, 130 where it was interrupted.
"""

from __future__ import annotations

import inspect
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from nodegraph.errors import Cancelled, NodegraphError, Problem, RunError, ServerError, ValidationError
from nodegraph.workflow import Workflow

if TYPE_CHECKING:
    from nodegraph.client import Client
    from nodegraph.node import NodeSpec
    from nodegraph.registry import Registry
    from nodegraph.result import Result

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
PANEL = "Parameters of this workflow"


class Dtype(StrEnum):
    """Number formats of the networks."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Form(StrEnum):
    """Formats that `convert` writes."""

    document = "document"
    api = "api"
    ui = "ui"


File = Annotated[
    Path, typer.Argument(metavar="FILE", help="Workflow: JSON, or a PNG or WebP that carries one.")
]
Setting = Annotated[
    list[str] | None, typer.Option("--set", metavar="NODE.INPUT=VALUE", help="Set an input; may be repeated.")
]
OutputDir = Annotated[
    Path | None, typer.Option("--output-dir", metavar="DIR", help="Where files are saved [./output].")
]
InputDir = Annotated[
    Path | None, typer.Option("--input-dir", metavar="DIR", help="Where input files are [./input].")
]
ModelsDir = Annotated[
    list[Path] | None,
    typer.Option("--models-dir", metavar="DIR", help="Models in ComfyUI's folder layout; may be repeated."),
]
Targets = Annotated[
    str | None, typer.Option("--targets", metavar="ID,...", help="Run only what these nodes need.")
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")]
DeviceBudget = Annotated[
    str | None,
    typer.Option(
        "--device-budget", metavar="SIZE", help="Device memory to keep within, such as 4GiB [most of it]."
    ),
]
Format = Annotated[Dtype, typer.Option("--dtype", help="Number format of the networks.")]
Server = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL", help="Run it on this server; files come to the output folder here."
    ),
]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", metavar="FILE", help="File with the token of that server.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback where a node fails.")]
_WITH_VALUE = (
    "--set",
    "--output-dir",
    "--input-dir",
    "--models-dir",
    "--targets",
    "--device",
    "--device-budget",
    "--dtype",
    "--server",
    "--token-file",
)
_TAKEN = frozenset({*_WITH_VALUE, "--json", "--verbose", "--help"})


def main(argv: Sequence[str] | None = None, registry: Registry | None = None) -> None:
    """Entry point of the command `nodegraph`; leaves with SystemExit. Every installed pack unless a registry is given."""
    words = list(sys.argv[1:] if argv is None else argv)
    path, workflow = None, None
    with _written():
        with _reported("--json" in words):
            if words[:1] == ["run"]:
                path, workflow = _preload(words[1:], registry)
        build_app(path, workflow)(words, prog_name="nodegraph", obj=registry)


def build_app(path: Path | None = None, workflow: Workflow | None = None) -> typer.Typer:
    """The application; `run` has an option for each parameter of `workflow`, which was read from `path`."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Check, plan and run node graphs that make images with diffusion models.",
    )
    app.callback()(_root)
    app.command("run")(_run_command(path, workflow))
    for name, command in (
        ("validate", validate),
        ("plan", plan),
        ("nodes", nodes),
        ("convert", convert),
        ("models", models),
    ):
        app.command(name)(command)
    app.command("serve", context_settings=_PASSED_ON, add_help_option=False)(serve)
    return app


def _version(asked: bool) -> None:
    if asked:
        from nodegraph import __version__

        typer.echo(f"nodegraph {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _run_command(path: Path | None, workflow: Workflow | None) -> Callable[..., None]:
    """`run` with the declared parameters added to its signature, from which typer makes options."""
    parameters = dict(inspect.signature(run, eval_str=True).parameters)
    values = {
        f"parameter_{index}": name for index, name in enumerate(workflow.parameters if workflow else ())
    }

    def command(**given: Any) -> None:
        words = {name: given.pop(key) for key, name in values.items()}
        known = workflow if given["file"] == path else None
        run(
            **given,
            parameters={name: text for name, text in words.items() if text is not None},
            workflow=known,
        )

    for key, name in values.items():
        assert workflow is not None
        parameters[key] = inspect.Parameter(
            key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(workflow, name)
        )
    for internal in ("parameters", "workflow"):
        del parameters[internal]
    ordered = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in parameters.values()]
    # What `inspect.signature`, and so typer, reads first; a function's type does not know it.
    command.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    command.__annotations__ = {item.name: item.annotation for item in ordered}
    command.__doc__ = inspect.cleandoc(run.__doc__ or "")
    return command


def _option(workflow: Workflow, name: str) -> Any:
    from nodegraph.arguments import shown_value
    from nodegraph.report import printable

    flags = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
    free = [flag for flag in flags if flag not in _TAKEN] or [f"--parameter-{name}"]
    help_text = workflow.parameters[name].description or ""
    now = shown_value(workflow, name)
    if now is not None:
        help_text = f"{help_text} [now: {now}]"
    help_text = printable(help_text.strip()).replace("[", "\\[")
    return Annotated[str | None, typer.Option(*free, help=help_text, metavar="VALUE", rich_help_panel=PANEL)]


def _preload(words: Sequence[str], registry: Registry | None) -> tuple[Path | None, Workflow | None]:
    """The workflow that `run` is about, read before the command line is parsed."""
    from nodegraph.arguments import file_of

    name = file_of(words, _WITH_VALUE)
    if name is None:
        return None, None
    try:
        servers = _values(words, "--server")
        found: Any = registry
        if servers:
            tokens = _values(words, "--token-file")
            found = _types_there(servers[-1], Path(tokens[-1]) if tokens else None)
        return Path(name), _load(Path(name), found, [Path(item) for item in _values(words, "--models-dir")])
    except (ValidationError, ServerError):
        if {"--help", "-h"} & set(words):
            return None, None
        raise


def _values(words: Sequence[str], option: str) -> list[str]:
    """The values of an option, before the command line is parsed."""
    found = [word.removeprefix(f"{option}=") for word in words if word.startswith(f"{option}=")]
    return [*found, *(after for word, after in pairwise(words) if word == option)]


def _client(server: str, token_file: Path | None) -> Client:
    from nodegraph.client.synchronous import Client
    from nodegraph.server.config import read_token

    return Client(server, token=read_token(token_file) if token_file is not None else None)


def _types_there(server: str, token_file: Path | None) -> Mapping[str, NodeSpec]:
    """The node types of a server, asked for when one is looked up: most workflows are read without."""
    from nodegraph.registry import LateRegistry

    def load() -> Mapping[str, NodeSpec]:
        from nodegraph.client.command import registry_of

        with _client(server, token_file) as client:
            return dict(registry_of(client))

    return LateRegistry(load)


def _only_here(
    models_dir: Sequence[Path] | None, device: str, device_budget: str | None, dtype: Dtype
) -> None:
    """Raises ValidationError for options that a server decides for itself."""
    given = {
        "--models-dir": bool(models_dir),
        "--device": device != "auto",
        "--device-budget": device_budget is not None,
        "--dtype": dtype is not Dtype.auto,
    }
    problems = [
        Problem(
            "not_with_server",
            f"{name} does not go with --server.",
            hint="It is set where the server is started.",
        )
        for name, there in given.items()
        if there
    ]
    if problems:
        raise ValidationError(problems)


def run(
    ctx: typer.Context,
    file: File,
    set_: Setting = None,
    output_dir: OutputDir = None,
    input_dir: InputDir = None,
    models_dir: ModelsDir = None,
    targets: Targets = None,
    device: Device = "auto",
    device_budget: DeviceBudget = None,
    dtype: Format = Dtype.auto,
    server: Server = None,
    token_file: TokenFile = None,
    json: Json = False,
    verbose: Verbose = False,
    parameters: Mapping[str, str] | None = None,
    workflow: Workflow | None = None,
) -> None:
    """Run a workflow and print the paths of the saved files.

    Parameters that the workflow declares are options: see `nodegraph run FILE --help`.
    """
    from nodegraph.api import Settings
    from nodegraph.arguments import bytes_of, with_words
    from nodegraph.context import CancelToken
    from nodegraph.report import Bars, show_problems
    from nodegraph.session import make_output_folder

    if server is None and token_file is not None:
        raise typer.BadParameter("--token-file goes with --server only.")
    if server is not None:
        with _reported(json):
            from nodegraph.client.command import RemoteRun, registry_of

            _only_here(models_dir, device, device_budget, dtype)
            with _client(server, token_file) as client:
                loaded = workflow if workflow is not None else _load(file, registry_of(client))
                there = RemoteRun(client, loaded, parameters or {}, set_ or (), input_dir, output_dir)
                if not json:
                    show_problems(there.workflow.problems)
                token = CancelToken()
                with Bars(there.titles) as bars, _interruptible(token):
                    result = there.run(_ids(targets), bars.note, token)
        _ended(result, (), json=json, verbose=verbose)
    with _reported(json):
        loaded = workflow if workflow is not None else _load(file, ctx.obj, models_dir)
        budget = bytes_of(device_budget)
    settings = Settings(tuple(models_dir or ()), input_dir, output_dir, device, dtype.value, budget)
    with _reported(json), settings.open(ctx.obj) as session:
        changed = with_words(loaded, session.registry, parameters or {}, set_ or ())
        report = session.check(changed, _ids(targets))
        if not json:
            show_problems((*session.problems, *loaded.problems, *report.warnings))
        if report.problems or report.graph is None:
            raise ValidationError(report.problems)
        make_output_folder(session.runtime.folders)
        token = CancelToken()
        with Bars(report.graph) as bars, _interruptible(token):
            result = session.run(report.graph, on_event=bars.note, cancel=token)
    _ended(result, report.warnings, json=json, verbose=verbose)


def _ended(result: Result, warnings: Sequence[Problem], *, json: bool, verbose: bool) -> NoReturn:
    """Show what a run gave, and leave with its exit code."""
    from nodegraph.report import print_json, result_data, show_result

    if json:
        print_json(result_data(result, warnings))
    else:
        show_result(result, verbose=verbose)
    codes = {"success": OK, "failed": FAILED, "cancelled": INTERRUPTED}
    raise typer.Exit(codes[result.status])


def validate(
    ctx: typer.Context,
    file: File,
    input_dir: InputDir = None,
    models_dir: ModelsDir = None,
    targets: Targets = None,
    json: Json = False,
) -> None:
    """Check a workflow and say everything that is wrong with it."""
    from nodegraph.api import Settings
    from nodegraph.report import print_json, show_problems

    with _reported(json):
        workflow = _load(file, ctx.obj, models_dir)
    with _reported(json), Settings(tuple(models_dir or ()), input_dir).open(ctx.obj) as session:
        report = session.check(workflow, _ids(targets))
        found = (*session.problems, *workflow.problems, *report.problems, *report.warnings)
        if json:
            print_json({"valid": not report.problems, "problems": [item.data() for item in found]})
        else:
            show_problems(found)
            if not report.problems and report.graph is not None:
                nodes, outputs = len(report.graph.nodes), len(report.graph.targets)
                typer.echo(f"valid: {_count(nodes, 'node')}, {_count(outputs, 'output')}")
    raise typer.Exit(BAD_INPUT if report.problems else OK)


def plan(
    ctx: typer.Context,
    file: File,
    set_: Setting = None,
    input_dir: InputDir = None,
    output_dir: OutputDir = None,
    models_dir: ModelsDir = None,
    targets: Targets = None,
    device: Device = "auto",
    device_budget: DeviceBudget = None,
    dtype: Format = Dtype.auto,
    memory: Annotated[
        bool, typer.Option("--memory", help="Estimate the device memory that each node takes.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what a run would do: which nodes run, which results are held, and why."""
    from nodegraph.api import Settings
    from nodegraph.arguments import bytes_of, with_words
    from nodegraph.report import print_json, show_problems
    from nodegraph.tables import memory_text, plan_table, row_data, show_table, usage_data
    from nodegraph.usage import usage

    with _reported(json):
        loaded = _load(file, ctx.obj, models_dir)
        budget = bytes_of(device_budget)
    settings = Settings(tuple(models_dir or ()), input_dir, output_dir, device, dtype.value, budget)
    with _reported(json), settings.open(ctx.obj) as session:
        workflow = with_words(loaded, session.registry, {}, set_ or ())
        show_problems((*session.problems, *loaded.problems))
        graph = session.bind(workflow, _ids(targets))
        made = session.plan(graph)
        rows = made.rows(session.cache)
        taken = usage(made, session.foresee(graph)) if memory else None
        if json:
            found = {"nodes": [row_data(row, taken) for row in rows]}
            print_json(found if taken is None else found | {"memory": usage_data(taken)})
        else:
            show_table(plan_table(rows, taken))
            if taken is not None:
                typer.echo(memory_text(taken))


def nodes(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Show one node type.")] = None,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the reference of all nodes.")
    ] = False,
    models_dir: ModelsDir = None,
    json: Json = False,
) -> None:
    """List the node types, or show what one takes and gives."""
    from nodegraph.api import Settings
    from nodegraph.describe import describe_all, markdown
    from nodegraph.report import print_json, show_problems
    from nodegraph.tables import node_page, nodes_table, show_table, spec_of_name

    with _reported(json), Settings(tuple(models_dir or ())).open(ctx.obj) as session:
        show_problems(session.problems)
        listed = session.registry if name is None else spec_of_name(session.registry, name)
        if json:
            print_json(describe_all(listed, session.runtime.folders.list))
        elif as_markdown:
            typer.echo(markdown(listed), nl=False)
        elif name is None:
            show_table(nodes_table(listed))
        else:
            node_page(listed[name], session.runtime.folders)


def convert(
    ctx: typer.Context,
    file: File,
    to: Annotated[
        Form, typer.Option("--to", help="A document, or ComfyUI's API or UI format.")
    ] = Form.document,
    object_info: Annotated[
        Path | None,
        typer.Option(
            "--object-info", metavar="JSON", help="Node types of another server: its answer to /object_info."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write, JSON or a PNG or WebP [standard output]."),
    ] = None,
    models_dir: ModelsDir = None,
) -> None:
    """Write a workflow in another format; muted and bypassed nodes are resolved in the API format.

    Where OUTPUT is a PNG or WebP, the workflow is put into it: into a copy of FILE if that is a picture, else into the picture
    that is there.
    """
    from nodegraph.formats import conversion
    from nodegraph.report import show_problems
    from nodegraph.workflow import write_atomically

    with _reported():
        here = _registry(ctx.obj)
        known = conversion.registry_of(here, object_info)
        workflow = Workflow.load(file, known, _listing(here, models_dir))
        show_problems((*workflow.problems, *conversion.missing(workflow, here, known)))
        if output is not None and output.suffix.lower() in conversion.PICTURES:
            written: str | bytes = conversion.into_picture(workflow, to.value, known, file, output)
        else:
            written = conversion.text_of(workflow, to.value, known)
        if output is None:
            typer.echo(written, nl=False)
            return
        try:
            write_atomically(output, written)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ValidationError(Problem("cannot_write", f"cannot write {output}: {reason}.")) from None


def models(ctx: typer.Context, models_dir: ModelsDir = None, json: Json = False) -> None:
    """List the model folders and the files that are found in them."""
    from nodegraph.api import Settings
    from nodegraph.report import print_json
    from nodegraph.tables import model_rows, show_models

    with _reported(json), Settings(tuple(models_dir or ())).open(ctx.obj) as session:
        rows = model_rows(session.registry, session.runtime.folders)
        if json:
            print_json({"folders": [str(root) for root in session.runtime.folders.models], "files": rows})
        else:
            show_models(session.runtime.folders, rows)


def serve(ctx: typer.Context) -> None:
    """Serve graphs over HTTP and websockets, for ComfyUI's clients and for programs."""
    # It reads its own words, so that `nodegraph serve` starts without this module (nodegraph.__main__).
    from nodegraph.server.command import main as start

    raise typer.Exit(start(ctx.args))


@contextmanager
def _written() -> Iterator[None]:
    """See that what was printed is written, or say in one line why not; who reads may leave early, as `head` does."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Closed by the caller: the next file that is opened would take its number, and be written into.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names hold letters that a terminal or a pipe may have no code for.
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        # Python would try again at its end, and fail with a trace.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # it stays open to the end
        if not isinstance(error, BrokenPipeError):
            from nodegraph.report import show_problems

            place = f"cannot use {error.filename}" if error.filename else "the output cannot be written"
            show_problems([Problem("cannot_write", f"{place}: {error.strerror or error}.")])
        sys.exit(FAILED)


@contextmanager
def _reported(json: bool = False) -> Iterator[None]:
    """Turn the errors that a person can mend into messages and exit codes."""
    try:
        yield
    except NodegraphError as error:
        from nodegraph.report import print_json, show_problems

        if json:
            print_json({"status": "invalid", "problems": [item.data() for item in error.problems]})
        else:
            show_problems(error.problems)
        sys.exit(FAILED if isinstance(error, (RunError, ServerError)) else BAD_INPUT)
    except Cancelled:
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _registry(given: Any) -> Any:
    from nodegraph.registry import LateRegistry, Registry

    return given if given is not None else LateRegistry(Registry.load)


def _listing(registry: Any, models_dir: Sequence[Path] | None) -> Callable[[str], list[str]]:
    """Names of the model files of a kind; packs and folders are looked at only when it is called."""
    from nodegraph.session import default_folders

    def listing(kind: str) -> list[str]:
        roots = getattr(getattr(registry, "registry", registry), "model_roots", ())
        return default_folders(models_dir or (), pack_roots=roots).list(kind)

    return listing


def _load(file: Path, registry: Any = None, models_dir: Sequence[Path] | None = None) -> Workflow:
    found = _registry(registry)
    return Workflow.load(file, found, _listing(found, models_dir))


def _ids(targets: str | None) -> list[str] | None:
    if targets is None:
        return None
    ids = [item.strip() for item in targets.split(",") if item.strip()]
    if not ids:
        raise ValidationError(
            Problem("unknown_node_id", f"--targets {targets!r} names no node; write ID,...")
        )
    return ids


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


@contextmanager
def _interruptible(token: Any) -> Iterator[None]:
    """The first Ctrl-C asks the run to stop at its next step, the second stops at once."""

    def interrupt(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        token.cancel()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
