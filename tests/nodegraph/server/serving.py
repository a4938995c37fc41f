"""A server of toy nodes on a real socket, for the tests of the routes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType
from aiohttp.test_utils import TestServer

from nodegraph.server.app import create_app
from nodegraph.server.config import ServerConfig
from nodegraph.server.state import STATE, State
from tests.nodegraph.toy import toy_folders, toy_registry

Json = Any
ROOT = Path(__file__).parents[3]


@dataclass
class Served:
    """A running server and a client of it."""

    root: Path
    session: ClientSession
    url: str
    state: State

    async def get(self, path: str, status: int = 200, **headers: str) -> Json:
        """The JSON that a GET gives."""
        async with self.session.get(self.url + path, headers=headers) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json(content_type=None)

    async def post(self, path: str, data: Json = None, status: int = 200, **headers: str) -> Json:
        """The JSON that a POST of JSON gives; None for an empty answer."""
        async with self.session.post(self.url + path, json=data, headers=headers) as answer:
            body = await answer.read()
            assert answer.status == status, body
            return await answer.json(content_type=None) if body else None

    async def upload(self, path: str, name: str, data: bytes, status: int = 200, **fields: str) -> Json:
        """The JSON that an upload of a file gives."""
        # Written by hand: a client that means no harm would not send some of these names.
        parts = [f'name="image"; filename="{name}"'.encode() + b"\r\n\r\n" + data]
        parts += [f'name="{key}"\r\n\r\n{value}'.encode() for key, value in fields.items()]
        body = b"".join(b"--frontier\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts)
        headers = {"Content-Type": "multipart/form-data; boundary=frontier"}
        async with self.session.post(
            self.url + path, data=body + b"--frontier--\r\n", headers=headers
        ) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()

    async def error(self, method: str, path: str, status: int, **more: Any) -> str:
        """The type of the error with which a request is refused."""
        async with self.session.request(method, self.url + path, **more) as answer:
            assert answer.status == status, await answer.text()
            found = await answer.json()
            assert set(found) >= {"error", "node_errors"}
            return str(found["error"]["type"])

    async def sent(self, data: bytes) -> bytes:
        """The beginning of what comes back for these bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.url.rpartition(":")[2]))
        try:
            writer.write(data)
            return await asyncio.wait_for(reader.read(4096), 10)
        finally:
            writer.close()

    def websocket(self, client: str, **more: Any) -> Any:
        """A connection of a client."""
        return self.session.ws_connect(f"{self.url}/ws?clientId={client}", **more)


def toy_config(root: Path, **changes: Any) -> ServerConfig:
    """A configuration with the toy folders; no workers unless some are asked for."""
    folders = toy_folders(root)
    given: dict[str, Any] = {
        "port": 0,
        "data_dir": root / "data",
        "models_dirs": folders.models,
        "input_dir": folders.input,
        "output_dir": folders.output,
        "workers": 0,
    }
    return ServerConfig(**{**given, **changes})


WORKING: dict[str, Any] = {
    "workers": 1,
    "packs": ("tests.nodegraph.worker.pack:PACK",),
    "pack_paths": (str(ROOT),),
}
"""Changes of a configuration that has a worker process with the toy nodes."""


@asynccontextmanager
async def served(root: Path, **changes: Any) -> AsyncIterator[Served]:
    """A running server of toy nodes."""
    app = create_app(toy_config(root, **changes), toy_registry())
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    try:
        async with ClientSession() as session:
            yield Served(root, session, f"http://127.0.0.1:{server.port}", app[STATE])
    finally:
        await server.close()


async def until_end(socket: ClientWebSocketResponse, job: str) -> list[Json]:
    """The text messages up to the last one of a job."""
    found = []
    while True:
        message = await socket.receive(timeout=30)
        if message.type is WSMsgType.TEXT:
            found.append(json.loads(message.data))
            if found[-1] == {"type": "executing", "data": {"node": None, "prompt_id": job}}:
                return found
        else:
            assert message.type is WSMsgType.BINARY, message


async def ready(server: Served) -> None:
    """Wait until a worker is ready and has said which nodes there are."""
    while not server.state.catalogue.complete:
        await asyncio.sleep(0.02)
