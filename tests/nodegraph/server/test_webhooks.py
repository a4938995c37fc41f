"""Webhooks: signed, told until they are taken, through restarts; and refused where they would lead inside."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from nodegraph.errors import ValidationError
from nodegraph.server.config import read_secret
from tests.nodegraph.running import n
from tests.nodegraph.server.receiving import Received, Receiver, receiving
from tests.nodegraph.server.serving import ROOT, WORKING, Served, ready, served

SECRET = b"a secret of some length"
SHOWING = {"1": n("ToyShow", item=1)}
QUICK = (0.2, 0.2, 0.2)


def verified(message: Received, secret: bytes = SECRET) -> Any:
    """The body of a message whose signature is right: what a receiver does, in Python's own words."""
    id, stamp = message.headers["webhook-id"], message.headers["webhook-timestamp"]
    assert abs(time.time() - int(stamp)) < 300
    right = hmac.new(secret, f"{id}.{stamp}.".encode() + message.body, hashlib.sha256).digest()
    assert message.headers["webhook-signature"] == "v1," + base64.b64encode(right).decode()
    return message.data


def documented() -> Callable[[str, Mapping[str, str], bytes], bool]:
    """The function that docs/server.md shows."""
    text = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (block,) = [item for item in blocks if "def verified" in item]
    scope: dict[str, Any] = {}
    exec(block, scope)
    found: Callable[[str, Mapping[str, str], bytes], bool] = scope["verified"]
    return found


async def state(server: Served, job: str, wanted: str) -> dict[str, Any]:
    """How a job's webhook stands, once that is what is wanted."""
    async with asyncio.timeout(30):
        while (found := (await server.get(f"/jobs/{job}"))["webhook"])["state"] != wanted:
            await asyncio.sleep(0.02)
    return dict(found)


async def test_each_end_of_a_job_is_told_with_a_signature(tmp_path: Path) -> None:
    async with (
        receiving() as receiver,
        served(tmp_path, **WORKING, webhook_secret=SECRET, internal=receiver.allowed) as server,
    ):
        await ready(server)
        hook = receiver.url("/hook?token=hidden")
        saving = {"1": n("WorkSave", text="saved", name="a.txt")}
        done = await server.post("/run", {"prompt": saving, "webhook": hook})
        (message,) = await receiver.until(1)
        data = verified(message)
        assert data["type"] == "job.completed" and re.match(
            r"20..-..-..T..:..:..\....\+00:00$", data["timestamp"]
        )
        assert {**data["data"], "node_errors": {}} == done
        shown = documented()
        whsec = "whsec_" + base64.b64encode(SECRET).decode()
        assert shown(SECRET.decode(), message.headers, message.body)
        assert shown(whsec, message.headers, message.body)
        assert not shown(whsec, message.headers, message.body + b" ")
        assert not shown("another secret, as long", message.headers, message.body)
        assert data["data"]["files"][0]["filename"] == "a.txt"
        failing = {"1": n("ToyFail"), "2": n("ToyShow", item=["1", 0])}
        posted = await server.post("/prompt", {"prompt": failing, "extra_data": {"webhook": hook, "a": 1}})
        await receiver.until(2)
        data = verified(receiver.got[1])
        assert (data["type"], data["data"]["id"]) == ("job.failed", posted["prompt_id"])
        assert data["data"]["problems"][0]["node"] == "1"
        assert await state(server, posted["prompt_id"], "delivered") == {"state": "delivered", "attempts": 1}
        # The address stays between the two: it is not in the history, nor where pictures take their workflow from.
        everything = json.dumps([await server.get("/history"), await server.get("/jobs")])
        job = await server.state.dispatch.store.get(posted["prompt_id"])
        assert job is not None and job.extra_data == '{"a":1}'
        assert "hidden" not in everything + job.document + job.extra_data
        await server.post("/queue/pause")
        sweep = {"prompt": SHOWING, "parameters": {"i": {"node": "1", "input": "item"}}, "nodegraph": 1}
        runs = await server.post("/run?wait=0", {**sweep, "sweep": {"i": [1, 2]}, "webhook": hook}, 202)
        await server.post("/queue", {"clear": True})
        await receiver.until(4)
        told = {verified(item)["data"]["id"]: item.data["type"] for item in receiver.got[2:]}
        assert told == {run["id"]: "job.cancelled" for run in runs["runs"]}
        assert len({item.headers["webhook-id"] for item in receiver.got}) == 4


async def test_it_is_tried_again_until_it_is_taken_or_given_up(tmp_path: Path) -> None:
    config = {**WORKING, "webhook_secret": SECRET, "webhook_delays": QUICK}
    async with (
        receiving(500, 302, 204) as receiver,
        served(tmp_path, **config, internal=receiver.allowed) as server,
    ):
        await ready(server)
        job = (await server.post("/run", {"prompt": SHOWING, "webhook": receiver.url()}))["id"]
        first, second, third = await receiver.until(3)
        assert first.body == second.body == third.body and verified(third)["data"]["id"] == job
        assert len({item.headers["webhook-id"] for item in receiver.got}) == 1
        assert (await state(server, job, "delivered"))["attempts"] == 3
        receiver.statuses = [500] * 4
        job = (await server.post("/run", {"prompt": SHOWING, "webhook": receiver.url()}))["id"]
        failed = await state(server, job, "failed")
        assert failed == {
            "state": "failed",
            "attempts": 4,
            "problem": "it was answered with HTTP status 500.",
        }
        receiver.statuses = [410]
        job = (await server.post("/run", {"prompt": SHOWING, "webhook": receiver.url()}))["id"]
        assert (await state(server, job, "failed"))["attempts"] == 1
        assert len(receiver.got) == 8


async def test_a_receiver_that_never_answers_keeps_nobody_waiting(tmp_path: Path) -> None:
    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    async with receiving() as stuck, receiving() as receiver:
        stuck.answers["/hook"] = never
        allowed = stuck.allowed + receiver.allowed
        async with served(tmp_path, **WORKING, webhook_secret=SECRET, internal=allowed) as server:
            await ready(server)
            for _ in range(3):
                await server.post("/run", {"prompt": SHOWING, "webhook": stuck.url()})
            began = time.monotonic()
            job = (await server.post("/run", {"prompt": SHOWING, "webhook": receiver.url()}))["id"]
            await state(server, job, "delivered")
            assert time.monotonic() - began < 10


async def test_a_job_that_was_forgotten_is_told_all_the_same(tmp_path: Path) -> None:
    config = {"webhook_secret": SECRET, "webhook_delays": QUICK}
    async with receiving(500) as receiver, served(tmp_path, **config, internal=receiver.allowed) as server:
        job = (await server.post("/prompt", {"prompt": SHOWING, "webhook": receiver.url()}))["prompt_id"]
        await server.post("/queue", {"delete": [job]})
        await receiver.until(1)
        await server.post("/history", {"delete": [job]})
        await receiver.until(2)
        assert verified(receiver.got[1])["data"]["id"] == job


async def start(
    root: Path, receiver: Receiver, session: ClientSession
) -> tuple[asyncio.subprocess.Process, str]:
    secret = root / "secret"
    secret.write_text("whsec_" + base64.b64encode(SECRET).decode(), encoding="utf-8")
    words = ["serve", "--port", "0", "--data-dir", root / "data", "--pack", WORKING["packs"][0]]
    words += ["--pack-path", ROOT, "--webhook-secret-file", secret]
    words += ["--allow-internal", f"127.0.0.1:{receiver.port}", "--no-browser"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nodegraph", *map(str, words)), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().partition("serves at ")[2].split()[0]
    async with asyncio.timeout(60):
        # Which nodes there are is known once a worker has said so.
        while not await (await session.get(url + "/object_info/ToyShow")).json():
            await asyncio.sleep(0.1)
    return process, url


async def test_it_outlives_a_server_that_is_killed(tmp_path: Path) -> None:
    async with receiving(503) as receiver, ClientSession() as session:
        process, url = await start(tmp_path, receiver, session)
        try:
            body = {"prompt": SHOWING, "webhook": receiver.url(), "prompt_id": "mine"}
            async with session.post(url + "/run", json=body) as answer:
                assert answer.status == 200, await answer.text()
            (first,) = await receiver.until(1)
            process.kill()
            await process.wait()
            process, url = await start(tmp_path, receiver, session)
            # The first attempt was refused: it is due five seconds later, in another process by now.
            _, second = await receiver.until(2)
            assert (second.headers["webhook-id"], second.body) == (first.headers["webhook-id"], first.body)
            assert verified(second)["data"]["id"] == "mine"
        finally:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://127.0.0.1:8188/free", "url_not_allowed"),
        ("http://[::1]/", "url_not_allowed"),
        ("http://[::ffff:10.0.0.1]/", "url_not_allowed"),
        ("http://169.254.169.254/latest/meta-data", "url_not_allowed"),
        ("http://100.64.0.1/", "url_not_allowed"),
        ("http://0.0.0.0/", "url_not_allowed"),
        ("file:///etc/passwd", "bad_url"),
        ("gopher://example.org/", "bad_url"),
        ("http://me:word@example.org/", "bad_url"),
        ("http:///nowhere", "bad_url"),
        ("", "bad_url"),
        ("https://example.org/" + "x" * 2000, "bad_url"),
        ("https://example.org/\n", "bad_url"),
    ],
)
async def test_an_address_that_leads_inside_is_refused_at_once(tmp_path: Path, url: str, code: str) -> None:
    async with served(tmp_path, webhook_secret=SECRET) as server:
        status = 403 if code == "url_not_allowed" else 400
        for body in ({"webhook": url}, {"extra_data": {"webhook": url}}):
            found = await server.error("POST", "/prompt", status, json={"prompt": SHOWING, **body})
            assert found == code


async def test_a_name_that_leads_inside_is_refused_when_it_is_connected_to(tmp_path: Path) -> None:
    config = {**WORKING, "webhook_secret": SECRET, "webhook_delays": ()}
    async with receiving() as receiver, served(tmp_path, **config) as server:
        await ready(server)
        hook = receiver.url(host="localhost")
        job = (await server.post("/run", {"prompt": SHOWING, "webhook": hook}))["id"]
        failed = await state(server, job, "failed")
        assert "not on the internet" in failed["problem"] and receiver.got == []


async def test_without_a_secret_there_are_no_webhooks(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        body = {"prompt": SHOWING, "webhook": "https://example.org/"}
        assert await server.error("POST", "/prompt", 400, json=body) == "no_webhooks"
        assert (await server.get("/prompt"))["exec_info"]["queue_remaining"] == 0


@pytest.mark.parametrize("text", ["", "short", "whsec_c2hvcnQ=", "whsec_not base64 at all, but long"])
def test_a_secret_that_could_be_guessed_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secret"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValidationError):
        read_secret(path)
