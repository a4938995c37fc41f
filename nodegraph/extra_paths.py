"""ComfyUI's extra_model_paths.yaml: folders of models, kind by kind, wherever another program keeps them.

anything:
    base_path: /home/me/other-ui        # ~ and $VARIABLES stand for what they say; else relative to the file
    is_default: true                    # before the other folders of a kind
    checkpoints: models/Stable-diffusion
    loras: |
        models/Lora
        models/LyCORIS
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodegraph.errors import Problem, ValidationError

NAME = "extra_model_paths.yaml"
LEGACY = {"unet": "diffusion_models", "clip": "text_encoders"}
"""Names that ComfyUI once had for kinds of models, and still reads."""
NO_MODELS = frozenset({"custom_nodes", "download_model_base", "input", "output", "temp"})
"""What such a file may name beside kinds of models; it is left alone."""
MAX_BYTES, MAX_VALUES, MAX_DEPTH = 2**16, 2_000, 8
"""What such a file may hold: bytes, values with every alias written out, and how deep they lie."""


@dataclass(frozen=True, slots=True)
class NamedFolder:
    """A folder that holds models of one kind."""

    kind: str
    path: Path
    first: bool = False
    """Whether it comes before what is known already (`is_default`)."""


def read_extra_paths(file: Path) -> tuple[NamedFolder, ...]:
    """The folders that a file names, in its order; whether they are there is not looked at.

    Raises ValidationError where it cannot be read, is no YAML, or says something else.
    """
    data = _load(file, _read(file))
    if data is None:
        return ()
    if not isinstance(data, Mapping):
        raise _wrong(file, "it must hold sections, each with folders by kind of model.", type(data).__name__)
    return tuple(item for name, section in data.items() for item in _section(file, str(name), section))


def _section(file: Path, name: str, section: Any) -> Iterator[NamedFolder]:
    if section is None:
        return
    if not isinstance(section, Mapping):
        raise _wrong(file, f"section {name[:100]!r} must hold folders by kind of model.", repr(section)[:100])
    place = Path(os.path.abspath(file)).parent
    base = section.get("base_path")
    if base is not None:
        if not isinstance(base, str):
            raise _wrong(file, f"base_path of section {name[:100]!r} must be text.", repr(base)[:100])
        place = place / os.path.expandvars(os.path.expanduser(base.strip()))
    first = section.get("is_default")
    if first is not None and not isinstance(first, bool):
        raise _wrong(file, f"is_default of section {name[:100]!r} must be true or false.", repr(first)[:100])
    for kind, value in section.items():
        if kind in ("base_path", "is_default") or kind in NO_MODELS or value is None:
            continue
        lines = value.splitlines() if isinstance(value, str) else value
        if not isinstance(kind, str) or not isinstance(lines, list) or not all(_is_path(x) for x in lines):
            text = f"{str(kind)[:100]!r} of section {name[:100]!r} must be text with one folder a line."
            raise _wrong(file, text, repr(value)[:100])
        for line in filter(None, map(str.strip, lines)):
            yield NamedFolder(LEGACY.get(kind, kind), Path(os.path.normpath(place / line)), first is True)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _wrong(file: Path, text: str, found: str | None = None) -> ValidationError:
    hint = "See extra_model_paths.yaml.example of ComfyUI, or take the file out."
    return ValidationError(Problem("bad_model_paths", f"{file}: {text}", found=found, hint=hint))


def _read(file: Path) -> str:
    try:
        # A pipe or a device would wait, or never end.
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise _wrong(file, "it is not a file.")
        with open(file, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "that is no file name"
        raise ValidationError(
            Problem(
                "cannot_read",
                f"the model paths {file} cannot be read: {reason}.",
                hint="Name ComfyUI's extra_model_paths.yaml.",
            )
        ) from None
    if len(data) > MAX_BYTES:
        raise _wrong(file, f"it is larger than {MAX_BYTES:,} bytes.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _wrong(file, "it is not text in UTF-8.") from None


def _load(file: Path, text: str) -> Any:
    # Here: reading YAML takes longer to load than the server may take to answer, and few have such a file.
    import yaml

    try:
        _bounded(file, yaml.parse(text, Loader=yaml.SafeLoader))
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise _wrong(file, f"{where}{error.problem or error.context or 'it is not YAML'}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _wrong(file, f"it is not YAML: {str(error)[:200]}.") from None


def _bounded(file: Path, events: Iterator[Any]) -> None:
    """See that a file stays small with its aliases written out, before anything is built from it.

    Merged aliases of merged aliases would come to billions of values otherwise.
    """
    import yaml

    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = [(None, 0)]

    def add(size: int) -> None:
        anchor, before = open_[-1]
        if before + size > MAX_VALUES:
            raise _wrong(file, f"it holds more than {MAX_VALUES:,} values.")
        open_[-1] = (anchor, before + size)

    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            if len(open_) > MAX_DEPTH:
                raise _wrong(file, f"it is nested more than {MAX_DEPTH} deep.")
            open_.append((event.anchor, 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_.pop()
            if anchor is not None:
                sizes[anchor] = size
            add(size)
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor is not None:
                sizes[event.anchor] = 1
            add(1)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise _wrong(
                    file, f"alias {event.anchor[:100]!r} stands for nothing, or for what holds itself."
                )
            add(sizes[event.anchor])
