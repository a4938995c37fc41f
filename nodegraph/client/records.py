"""What a server answers, as records: jobs, files, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from nodegraph.errors import NodegraphError, Problem, ServerError, ValidationError
from nodegraph.events import Event, RunStarted
from nodegraph.result import Recorder, Result

Status = Literal["success", "failed", "cancelled"]
STATUSES: Mapping[str, Status] = {"completed": "success", "failed": "failed", "cancelled": "cancelled"}
"""States in which a job has ended, and how a run calls them."""
_SUMMARIES = ("prompt_outputs_failed_validation", "prompt_no_outputs", "invalid_prompt")
"""Codes of a first problem that only sums up those that follow."""
_FIELDS = tuple(item.name for item in fields(Problem))


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a server: `type` is `output`, `input` or `temp`."""

    filename: str
    subfolder: str = ""
    type: str = "output"

    @staticmethod
    def of(item: Any) -> RemoteFile | None:
        """The file that an item of a node's output names, None where it names none."""
        if not isinstance(item, Mapping) or not isinstance(item.get("filename"), str):
            return None
        return RemoteFile(item["filename"], str(item.get("subfolder", "")), str(item.get("type", "output")))


@dataclass(frozen=True)
class JobState:
    """A job as the server knew it when it was asked."""

    id: str
    status: str
    """`pending`, `in_progress`, `completed`, `failed` or `cancelled`."""
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What its output nodes showed, by id."""
    problems: tuple[Problem, ...] = ()
    seconds: float = 0.0
    """From its start to its end."""
    prompt: Mapping[str, Any] = field(default_factory=dict, repr=False)
    targets: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in STATUSES

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """The files that it saved or showed."""
        shown = (item for node in self.outputs.values() for items in node.values() for item in as_list(items))
        return tuple(file for item in shown if (file := RemoteFile.of(item)) is not None)

    @staticmethod
    def of(data: Mapping[str, Any]) -> JobState:
        """The job of an answer to `GET /jobs/{id}`."""
        begin, end = data.get("execution_start_time"), data.get("execution_end_time")
        return JobState(
            data["id"],
            data["status"],
            data.get("outputs") or {},
            problems_of(data.get("problems")),
            (end - begin) / 1000 if begin is not None and end is not None else 0.0,
            data.get("workflow", {}).get("prompt", {}),
            tuple(data.get("targets", ())),
        )


class RunRecorder(Recorder):
    """Makes a Result of the events of a job; which results were held is told once, at its start."""

    def note(self, event: Event) -> Result | None:
        """Take an event; the result with the last one."""
        if isinstance(event, RunStarted):
            self._cached = dict.fromkeys(event.cached)
        return super().note(event)


def as_list(items: Any) -> list[Any]:
    """What a node showed under one name."""
    return items if isinstance(items, list) else [items]


def problem_of(data: Any) -> Problem:
    """A problem as the server writes it."""
    given = {name: data[name] for name in _FIELDS if isinstance(data.get(name), str)}
    return Problem(**{"code": "unknown", "message": "something is wrong.", **given})


def problems_of(data: Any) -> tuple[Problem, ...]:
    """Problems as the server writes them."""
    return tuple(problem_of(item) for item in data or () if isinstance(item, dict))


def input_name(file: Mapping[str, Any]) -> str:
    """The name by which nodes find an uploaded file; one that is not in the input folder says where it is."""
    name = "/".join(part for part in (file["subfolder"], file["name"]) if part)
    return name if file["type"] == "input" else f"{name} [{file['type']}]"


def refusal(status: int, body: bytes, where: str) -> NodegraphError:
    """The error of an answer: ValidationError where the request was wrong, ServerError for everything else."""
    if status == 401:
        text = f"{where} asks for its token."
        return ServerError(
            Problem("token_needed", text, hint="Give it with --token-file (token in Python)."), status
        )
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    found = problems_of(data.get("problems")) if isinstance(data, dict) else ()
    if not found:
        text = f"{where} answered with HTTP status {status}, and not as a nodegraph server does."
        return ServerError(Problem("not_a_server", text, hint="Is the address right?"), status)
    if len(found) > 1 and found[0].code in _SUMMARIES:
        found = found[1:]
    if status in (400, 413):
        return ValidationError(found)
    return ServerError(found, status)
