"""`nodegraph convert`: a workflow in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodegraph.cli.edges import reported
from nodegraph.cli.options import ExtraModelPaths, File, Form, ModelsDir
from nodegraph.cli.reading import known_types, listing_of, sources_of
from nodegraph.errors import Problem, ValidationError
from nodegraph.workflow import Workflow


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
    extra_model_paths: ExtraModelPaths = None,
) -> None:
    """Write a workflow in another format; muted and bypassed nodes are resolved in the API format.

    Where OUTPUT is a PNG or WebP, the workflow is put into it: into a copy of FILE if that is a picture, else into the picture
    that is there.
    """
    from nodegraph.formats import conversion
    from nodegraph.naming import write_atomically
    from nodegraph.report import show_problems

    with reported():
        here = known_types(ctx.obj)
        known = conversion.registry_of(here, object_info)
        workflow = Workflow.load(file, known, listing_of(here, sources_of(models_dir, extra_model_paths)))
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
