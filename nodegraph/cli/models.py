"""`nodegraph models`: the model folders and what is in them, and those that are remembered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nodegraph.cli.edges import reported
from nodegraph.cli.options import OK, ExtraModelPaths, Json, ModelsDir
from nodegraph.cli.reading import sources_of


def models(
    ctx: typer.Context,
    add: Annotated[
        list[Path] | None,
        typer.Option(
            "--add",
            metavar="PATH",
            help="Remember a models folder, ComfyUI's own folder, or an extra_model_paths.yaml; may be repeated.",
        ),
    ] = None,
    remove: Annotated[
        list[Path] | None,
        typer.Option("--remove", metavar="PATH", help="Remember it no longer; no file is touched."),
    ] = None,
    models_dir: ModelsDir = None,
    extra_model_paths: ExtraModelPaths = None,
    json: Json = False,
) -> None:
    """List the model folders, who names them, and the files that are found in them."""
    from nodegraph.api import Settings
    from nodegraph.model_folders import model_folders
    from nodegraph.registry import Registry
    from nodegraph.report import print_json
    from nodegraph.tables import folder_rows, model_rows, show_models

    if add or remove:
        _remember(add or (), remove or (), json)
    with reported(json):
        sources = sources_of(models_dir, extra_model_paths)
    with reported(json), Settings(sources).open(ctx.obj) as session:
        rows = model_rows(session.registry, session.runtime.folders)
        packs = session.registry.model_roots if isinstance(session.registry, Registry) else ()
        places = folder_rows(model_folders(sources, packs))
        if json:
            roots = [str(root) for root in session.runtime.folders.models]
            print_json({"folders": roots, "places": places, "files": rows})
        else:
            show_models(places, rows)


def _remember(add: Sequence[Path], remove: Sequence[Path], json: bool) -> None:
    """Change what is remembered, and leave."""
    from nodegraph.errors import Problem
    from nodegraph.model_folders import absolute, checked_sources, has_kinds, is_file_of_paths, layout_root
    from nodegraph.remembered import forget_models, remember_models
    from nodegraph.report import print_json, show_problems

    with reported(json):
        added = checked_sources(add, "--add")
        empty = [
            Problem(
                "no_models",
                f"{path} holds none of the folders that models are looked for in.",
                allowed="checkpoints/, vae/, loras/, diffusers/ and others of ComfyUI's",
                hint="Name the folder that these lie in. Where they have other names, list them in an extra_model_paths.yaml.",
                severity="warning",
            )
            for path in added
            if not is_file_of_paths(path) and not has_kinds(layout_root(path))
        ]
        if remove:
            known = forget_models([absolute(path) for path in remove])
        if added:
            known = remember_models(added)
    if json:
        print_json({"remembered": [str(path) for path in known], "problems": [item.data() for item in empty]})
    else:
        show_problems(empty)
        typer.echo("\n".join(["remembered:", *(f"  {path}" for path in known or ("nothing",))]))
    raise typer.Exit(OK)
