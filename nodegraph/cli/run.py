"""`nodegraph run`, here or on a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

import typer

from nodegraph.cli.edges import interruptible, reported
from nodegraph.cli.options import (
    FAILED,
    INTERRUPTED,
    OK,
    Device,
    DeviceBudget,
    Dtype,
    ExtraModelPaths,
    File,
    Format,
    InputDir,
    Json,
    ModelsDir,
    OutputDir,
    Server,
    Setting,
    Targets,
    TokenFile,
    Verbose,
)
from nodegraph.cli.reading import ids, load, sources_of
from nodegraph.cli.remote import client_of, only_here
from nodegraph.errors import Problem, ValidationError
from nodegraph.workflow import Workflow

if TYPE_CHECKING:
    from nodegraph.result import Result


def run(
    ctx: typer.Context,
    file: File,
    set_: Setting = None,
    output_dir: OutputDir = None,
    input_dir: InputDir = None,
    models_dir: ModelsDir = None,
    extra_model_paths: ExtraModelPaths = None,
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
        with reported(json):
            from nodegraph.client.command import RemoteRun, registry_of

            only_here(models_dir, extra_model_paths, device, device_budget, dtype)
            with client_of(server, token_file) as client:
                loaded = workflow if workflow is not None else load(file, registry_of(client))
                there = RemoteRun(client, loaded, parameters or {}, set_ or (), input_dir, output_dir)
                if not json:
                    show_problems(there.workflow.problems)
                token = CancelToken()
                with Bars(there.titles) as bars, interruptible(token):
                    result = there.run(ids(targets), bars.note, token)
        _ended(result, (), json=json, verbose=verbose)
    with reported(json):
        sources = sources_of(models_dir, extra_model_paths)
        loaded = workflow if workflow is not None else load(file, ctx.obj, sources)
        budget = bytes_of(device_budget)
    settings = Settings(sources, input_dir, output_dir, device, dtype.value, budget)
    with reported(json), settings.open(ctx.obj) as session:
        changed = with_words(loaded, session.registry, parameters or {}, set_ or ())
        report = session.check(changed, ids(targets))
        if not json:
            show_problems((*session.problems, *loaded.problems, *report.warnings))
        if report.problems or report.graph is None:
            raise ValidationError(report.problems)
        make_output_folder(session.runtime.folders)
        token = CancelToken()
        with Bars(report.graph) as bars, interruptible(token):
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
