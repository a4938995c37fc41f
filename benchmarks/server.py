"""What the server costs: start to first answer, memory at rest, a chain of 900 nodes, 200 prompts at once, many clients.

Prints one JSON object with the environment it ran in. The server and its worker are real processes on a free port, asked over
HTTP and a websocket from this one; the worker has the trivial nodes of this file. `start_cpu` is the processor time that the
server had used when it first answered: what the start takes on a machine that does nothing else. `bare_start` is a server of
aiohttp and SQLite that does nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nodegraph.node import Context, Pack, SavedFile, Shown, node

ROOT = Path(__file__).parents[1]
PACK = Pack("server-benchmark", ("benchmarks.server",))
LENGTH, PROMPTS, ROUNDS, FILES, CLIENTS, QUEUED = 900, 200, 7, 10_000, 1_000, 10_000


@node("BenchStart", category="benchmark")
def start(value: int = 0) -> float:
    """A number."""
    return float(value)


@node("BenchStep", category="benchmark")
def step(x: float, add: float = 1.0) -> float:
    """x + add."""
    return x + add


@node("BenchShow", category="benchmark", output=True)
def show(x: float) -> Shown:
    """Shows a number."""
    return Shown({"text": (str(x),)})


@node("BenchSave", category="benchmark", effect=True, lane="io")
def save(ctx: Context, name: str, text: str = "saved") -> Shown:
    """Writes a file by atomic rename."""
    path = Path(ctx.folders.output) / name
    part = path.with_name(f".{name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
    return Shown({"files": (SavedFile(name, "", "output", path, len(text)),)})


@node("BenchSleep", category="benchmark", output=True)
def sleep(ctx: Context, seconds: float = 1.0) -> Shown:
    """Steps for a while."""
    until = time.monotonic() + seconds
    count = 0
    while time.monotonic() < until:
        count += 1
        time.sleep(0.05)
        ctx.progress(min(count, 1000), 1000)
    return Shown({"text": (str(count),)})


def chain(length: int) -> dict[str, Any]:
    """A chain of nodes that ends in an output."""
    prompt: dict[str, Any] = {"0": {"class_type": "BenchStart", "inputs": {"value": 1}}}
    for index in range(1, length - 1):
        prompt[str(index)] = {"class_type": "BenchStep", "inputs": {"x": [str(index - 1), 0]}}
    prompt[str(length - 1)] = {"class_type": "BenchShow", "inputs": {"x": [str(length - 2), 0]}}
    return prompt


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def status_of(pid: int) -> tuple[float, float]:
    """(resident MiB, seconds of processor time) of a process."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        (kib,) = [int(line.split()[1]) for line in file if line.startswith("VmRSS")]
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return kib / 1024, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spent(pid: int) -> tuple[float, float]:
    """Seconds of processor time of a process, and seconds that its main thread was ready and waited for a processor."""
    waited = int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9
    return status_of(pid)[1], waited


def answered(port: int) -> bool:
    """Whether /health is answered."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


BARE = """
import sqlite3, sys
from aiohttp import web
async def health(request):
    return web.json_response({})
app = web.Application()
app.router.add_get("/health", health)
database = sqlite3.connect(sys.argv[2])
database.execute("PRAGMA journal_mode = WAL")
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""
"""What any server on aiohttp and SQLite takes, to hold the start of this one against."""


def serve_words(port: int, data: Path, pack: bool) -> list[str]:
    """The command of a server with one worker."""
    words = [sys.executable, "-m", "nodegraph", "serve", "--port", str(port), "--no-browser"]
    words += ["--data-dir", str(data)]
    return [*words, "--pack", "benchmarks.server:PACK", "--pack-path", str(ROOT)] if pack else words


class Server:
    """A server process."""

    def __init__(self, data: Path, *, pack: bool = True, bare: bool = False) -> None:
        self.port = free_port()
        words = serve_words(self.port, data, pack)
        if bare:
            words = [sys.executable, "-c", BARE, str(self.port), str(data)]
        began = time.perf_counter()
        self.process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
        while not answered(self.port):
            time.sleep(0.002)
            assert self.process.poll() is None, "the server ended"
        self.start = time.perf_counter() - began
        self.start_cpu = status_of(self.process.pid)[1]

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def starts(folder: Path) -> dict[str, Any]:
    """Seconds to the first answer and memory at rest: with a worker of the installed packs, and the bare server, in turn."""
    found: dict[bool, list[tuple[float, float, float]]] = {True: [], False: []}
    for index in range(5):
        for bare in (True, False):
            server = Server(folder / f"start-{bare}-{index}", pack=False, bare=bare)
            time.sleep(2)
            found[bare].append((server.start, server.start_cpu, status_of(server.process.pid)[0]))
            server.stop()
    result: dict[str, Any] = {}
    for bare, rows in found.items():
        name = "bare_start" if bare else "start"
        result[name] = round(min(row[0] for row in rows), 3)
        result[f"{name}_cpu"] = round(min(row[1] for row in rows), 2)
        result[f"{name}_idle_mib"] = round(max(row[2] for row in rows), 1)
    return result


@asynccontextmanager
async def session(server: Server) -> AsyncIterator[Any]:
    """A client of the server, once a worker is ready."""
    from aiohttp import ClientSession, TCPConnector

    async with ClientSession(connector=TCPConnector(limit=0)) as client:
        while (await client.get(f"{server.url}/ready")).status != 200:
            await asyncio.sleep(0.1)
        yield client


async def long_chain(server: Server) -> dict[str, Any]:
    """A chain of 900: from the POST to the last message, first and unchanged, and bytes of messages."""
    found: dict[str, Any] = {}
    async with (
        session(server) as client,
        client.ws_connect(f"{server.url}/ws?clientId=bench", max_msg_size=0) as ws,
    ):
        body = {"client_id": "bench", "prompt": chain(LENGTH)}
        for name in ("first", "unchanged"):
            if name == "unchanged":
                await asyncio.sleep(0.5)
            began, cpu = time.perf_counter(), status_of(server.process.pid)[1]
            posted = asyncio.create_task(client.post(f"{server.url}/prompt", json=body))
            size = 0
            while True:
                message = await ws.receive(timeout=60)
                size += len(message.data)
                if message.data.startswith('{"type":"executing","data":{"node":null'):
                    break
            found[name] = round(time.perf_counter() - began, 3)
            found[f"{name}_server_cpu"] = round(status_of(server.process.pid)[1] - cpu, 3)
            found[f"{name}_mb"] = round(size / 1e6, 3)
            assert (await posted).status == 200
    return found


def burst(server: Server, output: Path) -> dict[str, Any]:
    """200 prompts at once, each with a saved file, with 10,000 files in the folder: accepted and finished a second."""
    for index in range(FILES):
        (output / f"old_{index:05}_.txt").touch()
    while not asked(server.port, [request("GET", "/ready")])[0].startswith(b"HTTP/1.1 200"):
        time.sleep(0.1)
    (worker,) = children(server.process.pid)
    rounds = [one_burst(server, worker, output, number) for number in range(ROUNDS)]
    found: dict[str, Any] = {}
    for name in rounds[0]:
        values = [row[name] for row in rounds]
        best = min(values) if name.endswith("_ms") else max(values)
        found[name] = {"median": round(statistics.median(values), 2), "best": round(best, 2)}
    return found


def one_burst(server: Server, worker: int, output: Path, number: int) -> dict[str, float]:
    """One round: jobs accepted and finished a second, and what each took of the processors, in milliseconds.

    `unwaited` are the rates without the time in which the server's loop was ready to go on and waited for a processor
    that did other work.
    """
    posts = []
    for index in range(PROMPTS):
        inputs = {"name": f"new_{number}_{index}.txt", "text": str(index)}
        posts.append(
            request("POST", "/prompt", {"prompt": {"1": {"class_type": "BenchSave", "inputs": inputs}}})
        )
    look = request("GET", "/prompt")
    processes = {"server": server.process.pid, "worker": worker, "client": os.getpid()}
    began, before = time.perf_counter(), {name: spent(pid) for name, pid in processes.items()}
    answers = asked(server.port, posts)
    accepted = time.perf_counter() - began
    accept_waited = spent(server.process.pid)[1] - before["server"][1]
    # Asked only once all files are there: each question costs the server what half a job does.
    for index in range(PROMPTS):
        while not (output / f"new_{number}_{index}.txt").exists():
            time.sleep(0.005)
    while b'"queue_remaining":0}' not in asked(server.port, [look])[0]:
        time.sleep(0.005)
    finished = time.perf_counter() - began
    after = {name: spent(pid) for name, pid in processes.items()}
    waited = after["server"][1] - before["server"][1]
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    assert len(list(output.glob(f"new_{number}_*"))) == PROMPTS
    return {
        "accepted": PROMPTS / accepted,
        "finished": PROMPTS / finished,
        "accepted_unwaited": PROMPTS / (accepted - accept_waited),
        "finished_unwaited": PROMPTS / (finished - waited),
        **{f"{name}_cpu_ms": 1000 * (after[name][0] - before[name][0]) / PROMPTS for name in processes},
    }


def request(method: str, path: str, body: object = None) -> bytes:
    """The bytes of a request that is answered on a connection of its own."""
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return f"{head}\r\n".encode() + data


def asked(port: int, requests: Sequence[bytes]) -> list[bytes]:
    """Answers to requests that are all sent before the first is read, each on a connection of its own.

    Bare sockets: a client library takes as much of the processor for a request as the server does.
    """
    connections = []
    for data in requests:
        connections.append(socket.create_connection(("127.0.0.1", port), 60))
        connections[-1].sendall(data)
    answers = []
    for connection in connections:
        with connection:
            answer = b""
            while part := connection.recv(2**16):
                answer += part
            answers.append(answer)
    return answers


def children(pid: int) -> list[int]:
    """Processes that a process started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found


async def crowd(server: Server) -> dict[str, Any]:
    """p99 of /health and /queue?limit= with 1,000 websockets and 10,000 queued jobs while a node steps, in milliseconds."""
    async with session(server) as client:
        sockets = []
        for start in range(0, CLIENTS, 100):
            urls = [f"{server.url}/ws?clientId=c{start + index}" for index in range(100)]
            sockets += await asyncio.gather(*(client.ws_connect(url) for url in urls))

        async def drain(ws: Any) -> None:
            async for _ in ws:
                pass

        readers = [asyncio.create_task(drain(ws)) for ws in sockets]
        prompt = {"1": {"class_type": "BenchSleep", "inputs": {"seconds": 600.0}}}
        await client.post(f"{server.url}/prompt", json={"prompt": prompt, "client_id": "c0"})

        async def post(count: int) -> None:
            for index in range(count):
                inputs = {"name": f"queued_{index}.txt"}
                data = {"prompt": {"1": {"class_type": "BenchSave", "inputs": inputs}}}
                async with client.post(f"{server.url}/prompt", json=data) as answer:
                    assert answer.status == 200

        await asyncio.gather(*(post(QUEUED // 100) for _ in range(100)))
        await asyncio.sleep(1)
        found = {}
        for name, path in (("health", "/health"), ("queue", "/queue?limit=50")):
            times = []
            for _ in range(300):
                began = time.perf_counter()
                async with client.get(server.url + path) as answer:
                    await answer.read()
                times.append(time.perf_counter() - began)
            found[f"{name}_p99_ms"] = round(1000 * sorted(times)[int(0.99 * len(times))], 1)
            found[f"{name}_median_ms"] = round(1000 * statistics.median(times), 1)
        found["crowded_mib"] = round(status_of(server.process.pid)[0], 1)
        await client.post(f"{server.url}/queue", json={"clear": True})
        await client.post(f"{server.url}/interrupt", json={})
        await asyncio.gather(*(ws.close() for ws in sockets))
        for reader in readers:
            reader.cancel()
    return found


def main() -> None:
    """Run every part that the command line names, all without."""
    wanted = sys.argv[1:] or ["start", "chain", "burst", "crowd"]
    result: dict[str, Any] = {
        "python": platform.python_version(),
        "aiohttp": version("aiohttp"),
        "cpus": os.cpu_count(),
        "load": [round(item, 1) for item in os.getloadavg()],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "start" in wanted:
            result |= starts(folder)
        for part in ("chain", "burst", "crowd"):
            if part not in wanted:
                continue
            server = Server(folder / part)
            try:
                if part == "chain":
                    result["chain"] = asyncio.run(long_chain(server))
                elif part == "burst":
                    result["burst"] = burst(server, folder / part / "output")
                else:
                    result["crowd"] = asyncio.run(crowd(server))
            finally:
                server.stop()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
