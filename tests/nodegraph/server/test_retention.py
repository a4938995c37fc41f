"""The history keeps what the store's retention says, without anybody's asking."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from nodegraph.jobs import JobRequest, JobStore
from tests.nodegraph.server.serving import served, toy_config


async def test_a_job_that_ended_long_ago_is_forgotten(tmp_path: Path) -> None:
    database = toy_config(tmp_path).database
    database.parent.mkdir(parents=True, exist_ok=True)
    store = await JobStore.open(database)
    old, recent = await store.submit(JobRequest("{}"), JobRequest("{}"))
    await store.cancel(old.id)
    await store.cancel(recent.id)
    await store.close()
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE jobs SET finished = finished - 40 * 86400 WHERE id = ?", (old.id,))
    connection.close()
    async with served(tmp_path, workers=0) as server:
        async with asyncio.timeout(30):
            while await server.state.dispatch.store.get(old.id) is not None:
                await asyncio.sleep(0.02)
        assert await server.state.dispatch.store.get(recent.id) is not None
