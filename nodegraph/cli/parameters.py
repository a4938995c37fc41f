"""The parameters of the workflow that `run` is about, as options of the command."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nodegraph.cli.options import TAKEN, WITH_VALUE
from nodegraph.cli.reading import load
from nodegraph.cli.remote import types_there
from nodegraph.cli.run import run
from nodegraph.errors import ServerError, ValidationError
from nodegraph.workflow import Workflow

if TYPE_CHECKING:
    from nodegraph.registry import Registry

FOLDERS = ("--models-dir", "--extra-model-paths", "--extra-model-paths-config")
PANEL = "Parameters of this workflow"


def run_command(path: Path | None, workflow: Workflow | None) -> Callable[..., None]:
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
    free = [flag for flag in flags if flag not in TAKEN] or [f"--parameter-{name}"]
    help_text = workflow.parameters[name].description or ""
    now = shown_value(workflow, name)
    if now is not None:
        help_text = f"{help_text} [now: {now}]"
    help_text = printable(help_text.strip()).replace("[", "\\[")
    return Annotated[str | None, typer.Option(*free, help=help_text, metavar="VALUE", rich_help_panel=PANEL)]


def preload(words: Sequence[str], registry: Registry | None) -> tuple[Path | None, Workflow | None]:
    """The workflow that `run` is about, read before the command line is parsed."""
    from nodegraph.arguments import file_of

    name = file_of(words, WITH_VALUE)
    if name is None:
        return None, None
    try:
        servers = _values(words, "--server")
        found: Any = registry
        if servers:
            tokens = _values(words, "--token-file")
            found = types_there(servers[-1], Path(tokens[-1]) if tokens else None)
        sources = [Path(item) for option in FOLDERS for item in _values(words, option)]
        return Path(name), load(Path(name), found, sources)
    except (ValidationError, ServerError):
        if {"--help", "-h"} & set(words):
            return None, None
        raise


def _values(words: Sequence[str], option: str) -> list[str]:
    """The values of an option, before the command line is parsed."""
    found = [word.removeprefix(f"{option}=") for word in words if word.startswith(f"{option}=")]
    return [*found, *(after for word, after in pairwise(words) if word == option)]
