"""What a job is: what was asked, what became of it, and the states that it passes through.

    QUEUED ---> RUNNING ---> FINISHED     the graph ran
      ^  |         |   \\---> FAILED       it failed, or cost as many workers as it was allowed attempts
      |  |         |    \\--> CANCELLED    somebody cancelled it while it ran
      |  |         |
      +--|---------+                      its worker or the server died: it goes back, and keeps its number
         +------------------> CANCELLED   somebody cancelled it before it ran

The three states on the right are final: a job gets there exactly once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from nodegraph.errors import NodegraphError, Problem


class JobStatus(StrEnum):
    """Where a job stands; the module's text shows the ways between the states."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Nothing more will happen to the job."""
        return self in FINAL


FINAL: Final = frozenset({JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What somebody asks to be run. All JSON is text, stored and handed back as it came."""

    document: str
    """The workflow document."""
    id: str | None = None
    """Chosen by the client, or None for one that is made."""
    client_id: str | None = None
    """Whose websocket gets the messages."""
    extra_data: str = "{}"
    targets: tuple[str, ...] = ()
    """Output nodes to execute; empty for all."""
    priority: float | None = None
    """The place in the queue, lower first; None puts the job behind those that came before it."""
    front: bool = False
    """Ahead of all that wait now."""
    timeout: float | None = None
    """Seconds that it may run, or None for no limit."""
    max_attempts: int = 2
    """Workers that it may cost before it fails."""
    idempotency_key: str | None = None
    """A second request with the same key is answered with the job of the first."""
    webhook: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A stored job: what was asked and what became of it, at the moment of reading. Times are Unix seconds."""

    id: str
    number: float
    """The place in the queue: the lowest runs first, equal ones in the order in which they came."""
    status: JobStatus
    document: str
    client_id: str | None
    extra_data: str
    targets: tuple[str, ...]
    priority: float | None
    front: bool
    timeout: float | None
    max_attempts: int
    idempotency_key: str | None
    webhook: str | None
    created: float
    started: float | None = None
    """When the latest attempt began."""
    finished: float | None = None
    worker: str | None = None
    """Who runs it, or ran it last."""
    attempts: int = 0
    """Times that a worker took it."""
    interruptions: int = 0
    """How many of the attempts ended because the server did; they do not count against `max_attempts`."""
    cancelling: bool = False
    """It runs, and somebody asked for its end."""
    outputs: str | None = None
    """JSON: what each output node showed."""
    meta: str | None = None
    messages: str | None = None
    """JSON: [[event, data], ...]."""
    problems: str | None = None
    """JSON: a list of problems, by the names of the fields of `Problem`."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run of a job ended, and what it made."""

    id: str
    status: JobStatus
    attempt: int | None = None
    outputs: str | None = None
    meta: str | None = None
    messages: str | None = None
    problems: str | None = None


class JobPage(NamedTuple):
    """Some of the jobs that were asked for, and how many there are."""

    jobs: tuple[Job, ...]
    total: int


class QueuePage(NamedTuple):
    """What runs, a part of what waits, and how many wait."""

    running: tuple[Job, ...]
    queued: tuple[Job, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Retention:
    """How long the history is kept: what breaks either limit goes, the oldest first. None is no limit."""

    age: float | None = 30 * 86_400.0
    """Seconds since the job ended."""
    count: int | None = 10_000
    """Jobs that have ended."""


Counts = Mapping[JobStatus, int]


class JobError(NodegraphError):
    """The store refuses, or cannot do, what was asked; nothing was changed. Codes: docs of `JobStore`."""

    @property
    def code(self) -> str:
        """The code of its only problem."""
        return self.problems[0].code


def refuse(
    code: str, message: str, *, found: object = None, allowed: str | None = None, hint: str | None = None
) -> JobError:
    """A JobError with one problem."""
    return JobError(
        Problem(code, message, found=None if found is None else str(found), allowed=allowed, hint=hint)
    )
