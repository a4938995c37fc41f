"""What nobody needs any more is removed, without anybody's asking."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from nodegraph.jobs import JobRequest, JobStore
from tests.nodegraph.halfway import aged, writer
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


async def test_what_killed_processes_left_is_removed_and_what_others_write_stays(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    output, user = config.output_dir, config.user_dir
    assert output is not None
    (output / "deep").mkdir()
    user.mkdir(parents=True)
    own = user / ".0123456789abcdef.part"
    own.write_bytes(b"half")
    aged(own)
    with writer(output / "deep") as (killed, left), writer(output) as (_, held):
        killed.kill()
        killed.wait()
        async with served(tmp_path):
            async with asyncio.timeout(30):
                while left.exists() or own.exists():
                    await asyncio.sleep(0.02)
        assert held.exists()
