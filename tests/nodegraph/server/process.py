"""`nodegraph serve` as a process of its own, for the tests that throw things at it."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.nodegraph.server.serving import ROOT
from tests.nodegraph.toy import toy_folders

BOUND = 10.0
"""Seconds within which every request is answered, on a slow and busy core."""


@dataclass(frozen=True)
class Answer:
    """What came back, and after how many seconds."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Serving:
    """A server process whose folders lie in `root`, beside a secret that nobody may read or change."""

    root: Path
    port: int
    pid: int

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def secret(self) -> Path:
        """A file that lies beside the folders."""
        return self.root.parent / "secret.png"

    def ask(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The answer to one request; its target is sent as it is, whatever it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=BOUND)
        began = time.monotonic()
        try:
            connection.request(method, target, body, dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.headers), answer.read(), time.monotonic() - began)
        finally:
            connection.close()

    def post(self, target: str, data: Any, method: str = "POST") -> Answer:
        """The answer to JSON."""
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        return self.ask(method, target, body, {"Content-Type": "application/json"})


@contextmanager
def serving(
    parent: Path, *words: str, token: str | None = None, log: Path | None = None
) -> Iterator[Serving]:
    """A server process without workers unless `words` ask for some. It must end well, and without a word in its log."""
    root = parent / "served"
    toy_folders(root)
    (parent / "secret.png").write_bytes(b"nobody's business")
    options = ["--port", "0", "--no-browser", "--data-dir", str(root / "data"), "--workers", "0"]
    options += ["--models-dir", str(root / "models")]
    options += ["--input-dir", str(root / "input"), "--output-dir", str(root / "output")]
    if token is not None:
        (parent / "token").write_text(token, encoding="utf-8")
        options += ["--token-file", str(parent / "token")]
    errors = log or parent / "log"
    with open(errors, "wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "nodegraph", "serve", *options, *words],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 30)[0], errors.read_text()
        address = re.search(rb"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert address is not None, errors.read_text()
        yield Serving(root, int(address[1]), process.pid)
        assert process.poll() is None, errors.read_text()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, errors.read_text()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    if log is None:
        assert errors.read_text() == ""


TOY_WORKER = ("--workers", "1", "--pack", "tests.nodegraph.worker.pack:PACK", "--pack-path", str(ROOT))
"""Words for a worker process with the toy nodes."""


def until_ready(server: Serving) -> None:
    """Wait until a worker takes jobs."""
    for _ in range(600):
        if server.ask("GET", "/ready").status == 200:
            return
        time.sleep(0.05)
    raise AssertionError("no worker got ready")
