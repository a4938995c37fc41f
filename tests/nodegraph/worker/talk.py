"""Documents for the tests' pack, and what is said to and by a worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from nodegraph.worker.messages import Done, FromWorker, Preview, RunEvents, WorkerSettings

ROOT = Path(__file__).parents[3]
M = TypeVar("M")


def settings_in(folder: Path) -> WorkerSettings:
    """Settings of a worker with the tests' pack alone, in folders of its own."""
    return WorkerSettings(
        models=(str(folder / "models"),),
        input=str(folder / "input"),
        output=str(folder / "output"),
        temp=str(folder / "temp"),
        device="cpu",
        packs=("tests.nodegraph.worker.pack:PACK",),
        paths=(str(ROOT),),
    )


def document(**nodes: tuple[str, dict[str, Any]]) -> str:
    """The JSON text of a document: by id, class type and inputs."""
    return json.dumps({key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()})


def steps(count: int, seconds: float = 0.0, sign: int = 1) -> str:
    """A document with a toy sampler."""
    inputs = {"steps": count, "seconds": seconds, "sign": sign}
    return document(n1=("WorkSteps", inputs), n2=("WorkShow", {"item": ["n1", 0]}))


async def until(
    messages: AsyncIterator[FromWorker],
    kind: type[M],
    wanted: Callable[[M], bool] = lambda _: True,
    seconds: float = 60.0,
) -> tuple[M, list[FromWorker]]:
    """The next message of a kind, and all that came before it."""
    before: list[FromWorker] = []
    async with asyncio.timeout(seconds):
        async for message in messages:
            if isinstance(message, kind) and wanted(message):
                return message, before
            before.append(message)
    raise AssertionError(f"no {kind.__name__} came: {before}")


async def done(
    messages: AsyncIterator[FromWorker], job: str, seconds: float = 60.0
) -> tuple[Done, list[dict[str, Any]], list[Preview]]:
    """The end of a job, its events and its previews."""
    last, before = await until(messages, Done, lambda message: message.job == job, seconds)
    events = [
        dict(event)
        for message in before
        if isinstance(message, RunEvents) and message.job == job
        for event in message.events
    ]
    return last, events, [item for item in before if isinstance(item, Preview) and item.job == job]
