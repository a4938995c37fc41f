"""Where models are looked for, in order, and who says so."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nodegraph import extra_paths
from nodegraph.errors import Problem, ValidationError
from nodegraph.remembered import remembered_models

KINDS = (
    *("checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models", "clip_vision"),
    *("style_models", "embeddings", "diffusers", "vae_approx", "controlnet", "gligen", "upscale_models"),
    *("hypernetworks", "photomaker", "classifiers", "model_patches", "audio_encoders"),
    "latent_upscale_models",
)
"""ComfyUI's kinds of models."""
ALIASES: dict[str, tuple[str, ...]] = {
    "diffusion_models": ("unet", "diffusion_models"),
    "text_encoders": ("text_encoders", "clip"),
    "controlnet": ("controlnet", "t2i_adapter"),
}
"""Kinds with more than one folder name in ComfyUI's layout."""


class Origin(StrEnum):
    """Who names a model folder; the first of these come first."""

    GIVEN = "given"
    ENVIRONMENT = "$NODEGRAPH_MODELS"
    REMEMBERED = "remembered"
    HERE = "here"
    PACK = "pack"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder in ComfyUI's layout, or where `kind` is given, with models of that kind alone."""

    path: Path
    origin: Origin
    kind: str | None = None
    file: Path | None = None
    """The extra_model_paths.yaml that names it."""

    def roots(self, kind: str) -> Iterator[Path]:
        """The folders of a kind in this one."""
        if self.kind is None:
            yield from (self.path / name for name in ALIASES.get(kind, (kind,)))
        elif self.kind == kind:
            yield self.path


def model_folders(
    given: Iterable[str | os.PathLike[str]] = (), pack_roots: Iterable[Path] = ()
) -> tuple[ModelFolder, ...]:
    """Every model folder, those that are searched first before the others, each once.

    First those that are given, that $NODEGRAPH_MODELS lists and that are remembered (`nodegraph models --add`), then
    ./models and what ships with the packs. Each is a folder in ComfyUI's layout, a folder of ComfyUI that has one as
    `models`, or a file in the format of its extra_model_paths.yaml; such a file beside a models folder counts too, after
    that folder. What a file marks with `is_default` comes before the others of the same origin. A folder need not be
    there. Raises ValidationError for a file that is wrong.
    """
    variable = os.environ.get("NODEGRAPH_MODELS", "")
    groups = (
        (Origin.GIVEN, map(Path, given)),
        (Origin.ENVIRONMENT, (Path(item) for item in variable.split(os.pathsep) if item)),
        (Origin.REMEMBERED, remembered_models()),
        (Origin.HERE, (Path("models"),)),
    )
    found: list[ModelFolder] = []
    read: set[str] = set()
    for origin, paths in groups:
        group: list[ModelFolder] = []
        for path in paths:
            _add(group, absolute(path), origin, read)
        found += group
    found += [ModelFolder(absolute(root), Origin.PACK) for root in pack_roots]
    unique: dict[tuple[str | None, Path], ModelFolder] = {}
    for item in found:
        unique.setdefault((item.kind, item.path), item)
    return tuple(unique.values())


def _add(group: list[ModelFolder], path: Path, origin: Origin, read: set[str]) -> None:
    """Add what a path stands for to the folders of one origin."""
    file = path
    if not is_file_of_paths(path):
        root = layout_root(path)
        group.append(ModelFolder(root, origin))
        file = root.parent / extra_paths.NAME
        if not (root.is_dir() and file.is_file()):
            return
    name = os.path.realpath(file)
    if name in read:
        return
    read.add(name)
    for item in extra_paths.read_extra_paths(file):
        folder = ModelFolder(item.path, origin, item.kind, file)
        # As ComfyUI does it: of several, the last is the first.
        group.insert(0 if item.first else len(group), folder)


def is_file_of_paths(path: Path) -> bool:
    """Whether a path is that of an extra_model_paths.yaml, there or not, rather than of a folder."""
    return path.is_file() or (path.suffix.lower() in (".yaml", ".yml") and not path.is_dir())


def layout_root(path: Path) -> Path:
    """The folder in ComfyUI's layout: this one, or its `models` where the kinds lie there, as in ComfyUI's own folder."""
    return path / "models" if not has_kinds(path) and (path / "models").is_dir() else path


def has_kinds(path: Path) -> bool:
    """Whether a folder holds one of ComfyUI's kinds of models, by its name."""
    names = (name for kind in KINDS for name in ALIASES.get(kind, (kind,)))
    return any((path / name).is_dir() for name in names)


def checked_sources(paths: Iterable[Path], option: str = "--models-dir") -> tuple[Path, ...]:
    """The whole paths of folders and files that a person names. Raises ValidationError for each that is not there."""
    found = tuple(absolute(path) for path in paths)
    problems = []
    for path in found:
        if path.is_dir():
            continue
        if is_file_of_paths(path):
            extra_paths.read_extra_paths(path)
            continue
        text = f"there is no folder {path}."
        problems.append(
            Problem(
                "missing_folder",
                text,
                hint=f"Make it, or give {option} the folder that has checkpoints/, vae/...",
            )
        )
    if problems:
        raise ValidationError(problems)
    return found


def absolute(path: Path) -> Path:
    """The whole path; a `~` that stands for nobody's home is taken as a name like any other."""
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        return path.absolute()
