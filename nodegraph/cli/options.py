"""Options that several commands have, and the exit codes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


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
ExtraModelPaths = Annotated[
    list[Path] | None,
    typer.Option(
        "--extra-model-paths",
        "--extra-model-paths-config",
        metavar="FILE",
        help="More model folders, as ComfyUI's extra_model_paths.yaml names them; may be repeated.",
    ),
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


WITH_VALUE = (
    "--set",
    "--output-dir",
    "--input-dir",
    "--models-dir",
    "--extra-model-paths",
    "--extra-model-paths-config",
    "--targets",
    "--device",
    "--device-budget",
    "--dtype",
    "--server",
    "--token-file",
)
TAKEN = frozenset({*WITH_VALUE, "--json", "--verbose", "--help"})
