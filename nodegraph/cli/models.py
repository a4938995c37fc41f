"""`nodegraph models`: the model folders and what is in them."""

from __future__ import annotations

import typer

from nodegraph.cli.edges import reported
from nodegraph.cli.options import Json, ModelsDir


def models(ctx: typer.Context, models_dir: ModelsDir = None, json: Json = False) -> None:
    """List the model folders and the files that are found in them."""
    from nodegraph.api import Settings
    from nodegraph.report import print_json
    from nodegraph.tables import model_rows, show_models

    with reported(json), Settings(tuple(models_dir or ())).open(ctx.obj) as session:
        rows = model_rows(session.registry, session.runtime.folders)
        if json:
            print_json({"folders": [str(root) for root in session.runtime.folders.models], "files": rows})
        else:
            show_models(session.runtime.folders, rows)
