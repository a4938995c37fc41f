"""A job store that is damaged while the server runs: one clear error, nothing more is written, and the remedy works."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.nodegraph.running import n
from tests.nodegraph.server.process import TOY_WORKER, Serving, serving, until_ready

PAGE = 4096
BODY = {"prompt": {"1": n("ToyShow", item=1)}}


def damage(path: Path, kind: str) -> None:
    """What a failing disk may do to a file that is open."""
    with closing(sqlite3.connect(path)) as connection:
        # What is in the log is read from there.
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    with path.open("r+b") as file:
        size = path.stat().st_size
        if kind == "header":
            file.write(os.urandom(100))
        elif kind == "cut":
            file.truncate(size // 2)
        else:
            for place in range(PAGE, size, PAGE):
                file.seek(place)
                file.write(os.urandom(64))


def filled(server: Serving) -> tuple[str, Path]:
    """A job that ended, among others, and the store."""
    until_ready(server)
    for _ in range(20):
        job = server.post("/prompt", {**BODY, "extra_data": {"filler": "x" * 5000}}).json["prompt_id"]
    while server.ask("GET", f"/jobs/{job}").json["status"] != "completed":
        time.sleep(0.05)
    return job, server.root / "data" / "jobs.sqlite3"


@pytest.mark.parametrize("kind", ["header", "pages", "cut"])
def test_one_clear_error_until_it_is_mended(tmp_path: Path, kind: str) -> None:
    log = tmp_path / "log"
    with serving(tmp_path, *TOY_WORKER, log=log) as server:
        job, path = filled(server)
        damage(path, kind)
        # Pages that were read before are held for a while.
        until = time.monotonic() + 30
        while server.post("/prompt", BODY).status == 200:
            assert time.monotonic() < until
        before = path.read_bytes()
        for method, target in (
            ("POST", "/prompt"),
            ("POST", "/run?wait=1"),
            ("POST", "/queue/pause"),
            ("GET", "/history"),
            ("GET", f"/jobs/{job}"),
            ("GET", "/queue"),
        ):
            answer = server.post(target, BODY, method) if method == "POST" else server.ask(method, target)
            if method == "GET" and answer.status == 200:
                continue
            assert answer.status == 503, (target, answer.body)
            error = answer.json["error"]
            assert error["type"] == "store_corrupt" and "damaged" in error["message"]
            assert str(path) in error["details"] and "Stop the server, move jobs.sqlite3" in error["details"]
        answer = server.ask("GET", "/ready")
        assert (answer.status, answer.json["status"]) == (503, "damaged")
        assert str(path).encode() not in answer.body
        assert server.ask("GET", "/health").status == 200
        # The workers ask for jobs meanwhile.
        time.sleep(2.5)
        assert path.read_bytes() == before
    assert path.read_bytes() == before
    told = log.read_text()
    assert len(told.splitlines()) == 1, told
    assert str(path) in told and "Stop the server" in told
    # The remedy that it names.
    for item in path.parent.glob("jobs.sqlite3*"):
        item.rename(tmp_path / item.name)
    with serving(tmp_path, *TOY_WORKER) as server:
        assert server.ask("GET", "/history").json == {}
        assert server.post("/prompt", BODY).status == 200


def test_damage_shows_in_ready_though_nobody_asked_for_a_job(tmp_path: Path) -> None:
    with serving(tmp_path, *TOY_WORKER, log=tmp_path / "log") as server:
        _, path = filled(server)
        damage(path, "header")
        assert server.ask("GET", "/ready").json == {"status": "damaged", "workers": 1, "ready": 1}
