"""What commands read before they begin: the workflow, the node types, the nodes that are wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nodegraph.errors import Problem, ValidationError
from nodegraph.workflow import Workflow


def known_types(given: Any) -> Any:
    """The node types that are given, else those of every installed pack, loaded when one is looked up."""
    from nodegraph.registry import LateRegistry, Registry

    return given if given is not None else LateRegistry(Registry.load)


def sources_of(
    models_dir: Sequence[Path] | None, extra_model_paths: Sequence[Path] | None
) -> tuple[Path, ...]:
    """What is named as model folders. Raises ValidationError for what is not there, or cannot be read."""
    from nodegraph.model_folders import checked_sources

    return (
        *checked_sources(models_dir or ()),
        *checked_sources(extra_model_paths or (), "--extra-model-paths"),
    )


def listing_of(registry: Any, sources: Sequence[Path]) -> Callable[[str], list[str]]:
    """Names of the model files of a kind; packs and folders are looked at only when it is called."""
    from nodegraph.session import default_folders

    def listing(kind: str) -> list[str]:
        roots = getattr(getattr(registry, "registry", registry), "model_roots", ())
        return default_folders(sources, pack_roots=roots).list(kind)

    return listing


def load(file: Path, registry: Any = None, sources: Sequence[Path] = ()) -> Workflow:
    """The workflow that a file holds. Raises ValidationError."""
    found = known_types(registry)
    return Workflow.load(file, found, listing_of(found, sources))


def ids(targets: str | None) -> list[str] | None:
    """The ids that `--targets` names, None where it is not given. Raises ValidationError where it names none."""
    if targets is None:
        return None
    found = [item.strip() for item in targets.split(",") if item.strip()]
    if not found:
        raise ValidationError(
            Problem("unknown_node_id", f"--targets {targets!r} names no node; write ID,...")
        )
    return found


def counted(number: int, noun: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
