"""What `run --server` takes of the server: its client, its node types, the options that it decides itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nodegraph.cli.options import Dtype
from nodegraph.errors import Problem, ValidationError

if TYPE_CHECKING:
    from nodegraph.client import Client
    from nodegraph.node import NodeSpec


def client_of(server: str, token_file: Path | None) -> Client:
    """A client of that server. Raises ValidationError where the file holds no token."""
    from nodegraph.client.synchronous import Client
    from nodegraph.server.config import read_token

    return Client(server, token=read_token(token_file) if token_file is not None else None)


def types_there(server: str, token_file: Path | None) -> Mapping[str, NodeSpec]:
    """The node types of a server, asked for when one is looked up: most workflows are read without."""
    from nodegraph.registry import LateRegistry

    def load() -> Mapping[str, NodeSpec]:
        from nodegraph.client.command import registry_of

        with client_of(server, token_file) as client:
            return dict(registry_of(client))

    return LateRegistry(load)


def only_here(
    models_dir: Sequence[Path] | None,
    extra_model_paths: Sequence[Path] | None,
    device: str,
    device_budget: str | None,
    dtype: Dtype,
) -> None:
    """Raises ValidationError for options that a server decides for itself."""
    given = {
        "--models-dir": bool(models_dir),
        "--extra-model-paths": bool(extra_model_paths),
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
