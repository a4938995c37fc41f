"""A real `nodegraph serve` and a real Chromium: for the editor's tests, its benchmark and its screenshots."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str | None:
    """Where a Chromium is: $CHROMIUM, else one on the path."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def start(data: Path, port: int = 0, threads: int | None = None) -> tuple[subprocess.Popen[str], str]:
    """A server with its data in a folder, and its address; its worker computes with so many threads."""
    command = [sys.executable, "-m", "nodegraph", "serve", "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    server = subprocess.Popen(
        [*command, "--no-browser", "--data-dir", str(data)],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    told = server.stdout.readline()
    found = re.search(r"http://[\w.:]+", told)
    if found is None:
        server.kill()
        raise AssertionError(f"the server does not say where it is: {told!r}")
    return server, found.group()


@contextmanager
def served(data: Path, threads: int | None = None) -> Iterator[str]:
    """The address of a server that is there meanwhile."""
    server, address = start(data, threads=threads)
    with server:
        try:
            yield address
        finally:
            server.terminate()
            server.wait(20)
