"""The application: every command is registered here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nodegraph.cli.check import plan, validate
from nodegraph.cli.convert import convert
from nodegraph.cli.edges import reported, written
from nodegraph.cli.models import models
from nodegraph.cli.nodes import nodes
from nodegraph.cli.parameters import preload, run_command
from nodegraph.workflow import Workflow

if TYPE_CHECKING:
    from nodegraph.registry import Registry

COMMANDS = (validate, plan, nodes, convert, models)
"""Commands beside `run`, whose options depend on its workflow, and `serve`, which reads its own words."""
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def main(argv: Sequence[str] | None = None, registry: Registry | None = None) -> None:
    """Entry point of the command `nodegraph`; leaves with SystemExit. Every installed pack unless a registry is given."""
    words = list(sys.argv[1:] if argv is None else argv)
    path, workflow = None, None
    with written():
        with reported("--json" in words):
            if words[:1] == ["run"]:
                path, workflow = preload(words[1:], registry)
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
    app.command("run")(run_command(path, workflow))
    for command in COMMANDS:
        app.command(command.__name__)(command)
    app.command("serve", context_settings=PASSED_ON, add_help_option=False)(serve)
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


def serve(ctx: typer.Context) -> None:
    """Serve graphs over HTTP and websockets, for ComfyUI's clients and for programs."""
    # It reads its own words, so that `nodegraph serve` starts without this module (nodegraph.__main__).
    from nodegraph.server.command import main as start

    raise typer.Exit(start(ctx.args))
