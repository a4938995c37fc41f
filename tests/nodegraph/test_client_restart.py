"""What is submitted while the server is killed and started again is queued, and once."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nodegraph.client import AsyncClient, Client
from nodegraph.errors import ServerError
from nodegraph.workflow import Workflow
from tests.nodegraph.running import n
from tests.nodegraph.server.test_command import start

FLOW = Workflow.from_data({"1": n("EmptyImage"), "2": n("SaveImage", images=["1", 0])})
MANY = 40


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def server(folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """A server process that answers; it holds what it is given, for it has no workers."""
    process = start("--data-dir", str(folder), "--workers", "0", "--port", str(port))
    try:
        assert process.stdout is not None
        assert re.search("serves at", process.stdout.readline())
        yield process
    finally:
        process.kill()
        process.communicate()


async def test_each_is_queued_once_though_the_server_is_killed_meanwhile(tmp_path: Path) -> None:
    port = free_port()
    async with AsyncClient(f"127.0.0.1:{port}") as client:
        with server(tmp_path, port) as first:
            await client.save_workflow("mine", FLOW)
            asked: list[asyncio.Task[str]] = [
                asyncio.create_task(
                    client.submit_saved("mine")
                    if number % 3 == 0
                    else client.submit(FLOW, idempotency_key=f"key-{number}" if number % 3 == 1 else None)
                )
                for number in range(MANY)
            ]
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            first.kill()
            first.wait()
            await asyncio.sleep(0.3)
        with server(tmp_path, port):
            ids = await asyncio.wait_for(asyncio.gather(*asked), 40)
            found: dict[str, Any] = await client._connection.json("GET", "/jobs?limit=200")
            assert sorted(ids) == sorted(job["id"] for job in found["jobs"]) and len(set(ids)) == MANY
            # The key is known after the restart too.
            assert await client.submit(FLOW, idempotency_key="key-1") == ids[1]


async def test_the_client_without_a_loop_asks_again_too(tmp_path: Path) -> None:
    port = free_port()
    with Client(f"127.0.0.1:{port}") as client:
        with server(tmp_path, port):
            before = client.submit(FLOW)
        asked = asyncio.create_task(asyncio.to_thread(client.submit, FLOW))
        await asyncio.sleep(0.3)
        assert not asked.done()
        with server(tmp_path, port):
            assert await asyncio.wait_for(asked, 20) != before


async def test_an_end_comes_to_asking(tmp_path: Path) -> None:
    port = free_port()
    async with AsyncClient(f"127.0.0.1:{port}") as client:
        with pytest.raises(ServerError, match="cannot be reached"):
            await client.submit(FLOW)
    async with AsyncClient(f"127.0.0.1:{port}", patience=0.5) as client:
        with server(tmp_path, port):
            await client.submit(FLOW)
        with pytest.raises(ServerError, match="cannot be reached"):
            await client.submit(FLOW)
    async with AsyncClient(f"127.0.0.1:{port}", patience=600) as client:
        with server(tmp_path, port):
            await client.submit(FLOW)
        # As a Ctrl-C of `nodegraph run` has it.
        stop = asyncio.Event()
        asked = asyncio.create_task(client._queued("/prompt", FLOW.document(), stop=stop))
        await asyncio.sleep(0.3)
        assert not asked.done()
        stop.set()
        with pytest.raises(ServerError, match="cannot be reached"):
            await asyncio.wait_for(asked, 10)
