"""What is to be told of ended jobs, and to whom: a row for each, made by the commit in which the job ended."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nodegraph.jobs.record import JobStatus

_COLUMNS = "id, job, url, status, body, attempts, due, delivered, problem"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message about the end of one job, the same at every attempt."""

    id: str
    """By which the receiver knows a message that comes twice."""
    job: str
    url: str
    status: JobStatus
    """How the job ended."""
    body: str | None
    """What is sent, once it was written for the first attempt."""
    attempts: int
    due: float | None
    """When it is tried next, in Unix seconds; None where nothing more is tried."""
    delivered: bool
    problem: str | None
    """Why the latest attempt failed."""


class Deliveries:
    """The deliveries of a job store; each method raises as those of the store do."""

    def __init__(
        self,
        ask: Callable[..., asyncio.Future[Any]],
        read: Callable[..., Awaitable[Any]],
    ) -> None:
        self._ask = ask
        self._read = read

    async def due(self, now: float, limit: int) -> tuple[tuple[Delivery, ...], float | None]:
        """(what is to be tried now, the earliest first; when the first of the others is due, None where there is none)."""
        found: tuple[tuple[Delivery, ...], float | None] = await self._read(_due, now, limit)
        return found

    async def of(self, job: str) -> Delivery | None:
        """The delivery about a job; None where nobody is to be told."""
        found: Delivery | None = await self._read(_of, job)
        return found

    async def write(self, id: str, body: str) -> None:
        """Keep what is sent."""
        await self._ask(_write, (id, body))

    async def attempted(self, id: str, *, problem: str | None, again: float | None) -> None:
        """Note an attempt: it was taken where there is no problem, else it is tried again then; None: never."""
        await self._ask(_attempted, (id, problem, again))


def _delivery(row: Sequence[Any]) -> Delivery:
    id, job, url, status, body, attempts, due, delivered, problem = row
    return Delivery(id, job, url, JobStatus(status), body, attempts, due, bool(delivered), problem)


def _due(connection: sqlite3.Connection, now: float, limit: int) -> tuple[tuple[Delivery, ...], float | None]:
    query = f"SELECT {_COLUMNS} FROM deliveries WHERE due IS NOT NULL AND due <= ? ORDER BY due LIMIT ?"
    found = tuple(_delivery(row) for row in connection.execute(query, (now, limit)))
    (later,) = connection.execute(
        "SELECT min(due) FROM deliveries WHERE due IS NOT NULL AND due > ?", (now,)
    ).fetchone()
    return found, later


def _of(connection: sqlite3.Connection, job: str) -> Delivery | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM deliveries WHERE job = ?", (job,)).fetchone()
    return None if row is None else _delivery(row)


def _write(connection: sqlite3.Connection, payloads: Sequence[tuple[str, str]]) -> list[None]:
    connection.executemany(
        "UPDATE deliveries SET body = ? WHERE id = ?", [(body, id) for id, body in payloads]
    )
    return [None] * len(payloads)


def _attempted(
    connection: sqlite3.Connection, payloads: Sequence[tuple[str, str | None, float | None]]
) -> list[None]:
    for id, problem, again in payloads:
        # What was sent is of no use once nothing more is tried.
        connection.execute(
            "UPDATE deliveries SET attempts = attempts + 1, problem = ?1, due = ?2, delivered = ?1 IS NULL,"
            " body = iif(?2 IS NULL, NULL, body) WHERE id = ?3",
            (problem, again, id),
        )
        # A job that was forgotten meanwhile left its delivery behind.
        connection.execute(
            "DELETE FROM deliveries WHERE id = ? AND due IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = job)",
            (id,),
        )
    return [None] * len(payloads)
