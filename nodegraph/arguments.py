"""From the words of a command line to values of inputs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nodegraph.errors import Problem, ValidationError, did_you_mean
from nodegraph.modes import as_link
from nodegraph.node import InputSpec, NodeSpec
from nodegraph.workflow import Target, Workflow

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def file_of(words: Sequence[str], with_value: Iterable[str]) -> str | None:
    """The FILE among the words after `run`: the first that is neither an option nor the value of one.

    Options that a workflow declares are not known yet; where one stands before the file, the first word that is a file
    on disk is taken.
    """
    known = frozenset(with_value)
    candidates: list[str] = []
    skip = False
    for position, word in enumerate(words):
        if skip:
            skip = False
        elif word == "--":
            candidates += words[position + 1 :]
            break
        elif word.startswith("-") and word != "-":
            skip = word in known
        else:
            candidates.append(word)
    return next((word for word in candidates if os.path.isfile(word)), candidates[0] if candidates else None)


def literal_of(text: str, item: InputSpec | None) -> Any:
    """The JSON value that a word stands for, as the input's type would have it; validation judges it."""
    socket = item.type if item is not None else None
    if socket in ("STRING", "COMBO"):
        return text
    if socket == "BOOLEAN":
        lower = text.lower()
        return True if lower in _TRUE else False if lower in _FALSE else text
    try:
        parsed = json.loads(text, parse_constant=lambda name: name)
    except (ValueError, RecursionError):
        return text
    if socket in ("INT", "FLOAT") and (
        isinstance(parsed, bool) or not isinstance(parsed, (int, float, list))
    ):
        return text
    return parsed


def with_words(
    workflow: Workflow,
    registry: Mapping[str, NodeSpec],
    parameters: Mapping[str, str],
    settings: Sequence[str] = (),
) -> Workflow:
    """The workflow with parameters and `NODE.INPUT=VALUE` settings from the command line.

    Raises ValidationError with the problem of every word that names nothing.
    """
    values = {
        name: literal_of(text, _input(workflow, registry, workflow.parameters[name].targets[0]))
        for name, text in parameters.items()
    }
    problems: list[Problem] = []
    inputs: dict[str, Any] = {}
    for setting in settings:
        place, equals, text = setting.partition("=")
        if not equals:
            problems.append(
                Problem(
                    "bad_setting", f"{setting!r} sets nothing; write NODE.INPUT=VALUE, such as 3.steps=20."
                )
            )
            continue
        node_id, name = workflow.split_place(place.strip())
        problem = _unknown_input(workflow, registry, node_id, name)
        if problem is not None:
            problems.append(problem)
        inputs[f"{node_id}.{name}"] = literal_of(text, _input(workflow, registry, Target(node_id, name)))
    changed = workflow.with_values(values)
    try:
        changed = changed.with_inputs(inputs)
    except ValidationError as error:
        problems += error.problems
    if problems:
        raise ValidationError(problems)
    return changed


def _spec(workflow: Workflow, registry: Mapping[str, NodeSpec], node_id: str) -> NodeSpec | None:
    node = workflow.prompt.get(node_id)
    return registry.get(node["class_type"]) if node is not None else None


def _input(workflow: Workflow, registry: Mapping[str, NodeSpec], target: Target) -> InputSpec | None:
    spec = _spec(workflow, registry, target.node)
    return spec.inputs.get(target.input) if spec is not None else None


def _unknown_input(
    workflow: Workflow, registry: Mapping[str, NodeSpec], node_id: str, name: str
) -> Problem | None:
    spec = _spec(workflow, registry, node_id)
    if spec is None or not name or name in spec.inputs or spec.takes_kwargs:
        return None
    return Problem(
        "unknown_input",
        f"{spec.name} has no input {name!r}.",
        node=node_id,
        class_type=spec.name,
        allowed=", ".join(spec.inputs) or "it has no inputs",
        hint=did_you_mean(name, list(spec.inputs)),
    )


def bytes_of(text: str | None) -> int:
    """The bytes of a size such as 4GiB, 800MB or 1.5g; 0 for None. Raises ValidationError for another word."""
    if text is None:
        return 0
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    size = 0
    if match is not None:
        number, unit, binary = match.groups()
        size = int(float(number) * (1024 if binary else 1000) ** " kmgt".index(unit or " "))
    if size <= 0:
        raise ValidationError(
            Problem(
                "bad_size",
                f"{text!r} is no size.",
                allowed="a number above 0 with a unit, such as 4GiB or 800MB",
            )
        )
    return size


def shown_value(workflow: Workflow, name: str) -> str | None:
    """The value that a parameter has now, short, for the help text; None for a link or nothing."""
    value = workflow.value_of(name)
    if value in (None, "") or as_link(value) is not None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
