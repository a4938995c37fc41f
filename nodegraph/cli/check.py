"""`nodegraph validate` and `nodegraph plan`: what a workflow would do, and what is wrong with it."""

from __future__ import annotations

from typing import Annotated

import typer

from nodegraph.cli.edges import reported
from nodegraph.cli.options import (
    BAD_INPUT,
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
    Setting,
    Targets,
)
from nodegraph.cli.reading import counted, ids, load, sources_of


def validate(
    ctx: typer.Context,
    file: File,
    input_dir: InputDir = None,
    models_dir: ModelsDir = None,
    extra_model_paths: ExtraModelPaths = None,
    targets: Targets = None,
    json: Json = False,
) -> None:
    """Check a workflow and say everything that is wrong with it."""
    from nodegraph.api import Settings
    from nodegraph.report import print_json, show_problems

    with reported(json):
        sources = sources_of(models_dir, extra_model_paths)
        workflow = load(file, ctx.obj, sources)
    with reported(json), Settings(sources, input_dir).open(ctx.obj) as session:
        report = session.check(workflow, ids(targets))
        found = (*session.problems, *workflow.problems, *report.problems, *report.warnings)
        if json:
            print_json({"valid": not report.problems, "problems": [item.data() for item in found]})
        else:
            show_problems(found)
            if not report.problems and report.graph is not None:
                nodes, outputs = len(report.graph.nodes), len(report.graph.targets)
                typer.echo(f"valid: {counted(nodes, 'node')}, {counted(outputs, 'output')}")
    raise typer.Exit(BAD_INPUT if report.problems else OK)


def plan(
    ctx: typer.Context,
    file: File,
    set_: Setting = None,
    input_dir: InputDir = None,
    output_dir: OutputDir = None,
    models_dir: ModelsDir = None,
    extra_model_paths: ExtraModelPaths = None,
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

    with reported(json):
        sources = sources_of(models_dir, extra_model_paths)
        loaded = load(file, ctx.obj, sources)
        budget = bytes_of(device_budget)
    settings = Settings(sources, input_dir, output_dir, device, dtype.value, budget)
    with reported(json), settings.open(ctx.obj) as session:
        workflow = with_words(loaded, session.registry, {}, set_ or ())
        show_problems((*session.problems, *loaded.problems))
        graph = session.bind(workflow, ids(targets))
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
