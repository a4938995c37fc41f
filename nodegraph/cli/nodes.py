"""`nodegraph nodes`: the node types."""

from __future__ import annotations

from typing import Annotated

import typer

from nodegraph.cli.edges import reported
from nodegraph.cli.options import ExtraModelPaths, Json, ModelsDir
from nodegraph.cli.reading import sources_of


def nodes(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Show one node type.")] = None,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the reference of all nodes.")
    ] = False,
    models_dir: ModelsDir = None,
    extra_model_paths: ExtraModelPaths = None,
    json: Json = False,
) -> None:
    """List the node types, or show what one takes and gives."""
    from nodegraph.api import Settings
    from nodegraph.describe import describe_all, markdown
    from nodegraph.report import print_json, show_problems
    from nodegraph.tables import node_page, nodes_table, show_table, spec_of_name

    with reported(json):
        settings = Settings(sources_of(models_dir, extra_model_paths))
    with reported(json), settings.open(ctx.obj) as session:
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
