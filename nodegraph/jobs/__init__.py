"""The durable job store: what was asked of the server, what became of it, and who is next."""

from __future__ import annotations

from nodegraph.jobs.changed import Changed
from nodegraph.jobs.deliveries import Delivery
from nodegraph.jobs.record import (
    FINAL,
    Counts,
    Ending,
    Job,
    JobError,
    JobPage,
    JobRequest,
    JobStatus,
    QueuePage,
    Retention,
)
from nodegraph.jobs.store import JobStore

__all__ = [
    "FINAL",
    "Changed",
    "Counts",
    "Delivery",
    "Ending",
    "Job",
    "JobError",
    "JobPage",
    "JobRequest",
    "JobStatus",
    "JobStore",
    "QueuePage",
    "Retention",
]
