"""Files that come with a run: whole, by their hash, in a form, from an address; and addresses that lead elsewhere."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import socket
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData, web
from aiohttp.abc import AbstractResolver, ResolveResult
from PIL import Image

from nodegraph.parts import Part
from nodegraph.server.addresses import Internal
from nodegraph.server.answers import Refused
from nodegraph.server.config import Limits
from nodegraph.server.outgoing import Outgoing
from tests.nodegraph.running import n
from tests.nodegraph.server.receiving import Receiver, receiving
from tests.nodegraph.server.serving import WORKING, Served, ready, served

Json = Any
DOCUMENT: Json = {
    "nodegraph": 1,
    "parameters": {"picture": {"node": "1", "input": "file"}, "times": {"node": "1", "input": "times"}},
    "prompt": {"1": n("WorkDigest", file="none.png", times=1)},
}


def picture(size: tuple[int, int] = (4, 3), form: str = "PNG", colour: int = 9) -> bytes:
    """An encoded picture."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (colour, 20, 30)).save(buffer, form)
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def latent() -> bytes:
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0\0\0\0"


def digests(found: Json) -> list[str]:
    """What the node showed of its file, that many times."""
    return list(found["outputs"]["1"]["text"])


def form(**fields: str | bytes) -> FormData:
    made = FormData(quote_fields=False, default_to_multipart=True)
    for name, value in fields.items():
        file = {"filename": f"{name}.png"} if isinstance(value, bytes) else {}
        made.add_field(name.replace("__", "."), value, **file)
    return made


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    """A server with a worker that is ready."""
    async with served(tmp_path, **WORKING, limits=Limits(pixels=10_000)) as running:
        await ready(running)
        yield running


async def posted(server: Served, path: str, data: FormData, status: int = 200) -> Json:
    async with server.session.post(server.url + path, data=data) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def test_a_file_is_given_whole_by_its_hash_or_by_its_name(server: Served) -> None:
    data = picture()
    for value in (data_url(data), f"sha256:{sha256(data)}", f"SHA256:{sha256(data).upper()}"):
        found = await server.post("/run", {**DOCUMENT, "values": {"picture": value}})
        assert digests(found) == [sha256(data)]
        # In the nodes themselves as well, and in the workflow that is kept it is the name of a file.
        prompt = {"1": n("WorkDigest", file=value)}
        job = (await server.post("/run", {"prompt": prompt}))["id"]
        kept = (await server.get(f"/jobs/{job}"))["workflow"]["prompt"]["1"]["inputs"]["file"]
        assert kept == f".received/{sha256(data)}.png"
    folder = server.root / "input" / ".received"
    assert [path.name for path in folder.iterdir()] == [f"{sha256(data)}.png"]
    assert "received" not in json.dumps(await server.get("/object_info/WorkDigest"))
    for form_, suffix in (("JPEG", "jpg"), ("WEBP", "webp"), ("GIF", "gif")):
        other = picture(form=form_)
        found = await server.post("/run", {**DOCUMENT, "values": {"picture": data_url(other, "image/png")}})
        assert digests(found) == [sha256(other)]
        assert (folder / f"{sha256(other)}.{suffix}").read_bytes() == other
    found = await server.post("/run", {**DOCUMENT, "values": {"picture": data_url(latent())}})
    assert digests(found) == [sha256(latent())]


async def test_what_was_uploaded_need_not_be_sent_again(server: Served) -> None:
    data = picture()
    assert await server.error("GET", f"/uploads/{sha256(data)}", 404) == "unknown_content"
    refused = await server.post("/run", {**DOCUMENT, "values": {"picture": f"sha256:{sha256(data)}"}}, 400)
    (problem,) = refused["problems"]
    assert (problem["code"], problem["node"], problem["input"]) == ("unknown_content", "1", "file")
    made = await server.upload("/upload/image", "mine.png", data, subfolder="deep")
    assert made == {
        "name": "mine.png",
        "subfolder": "deep",
        "type": "input",
        "sha256": sha256(data),
        "size": len(data),
    }
    for hash in (sha256(data), sha256(data).upper(), f"sha256:{sha256(data)}"):
        assert await server.get(f"/uploads/{hash}") == made
    found = await server.post("/run", {**DOCUMENT, "values": {"picture": f"sha256:{sha256(data)}"}})
    assert digests(found) == [sha256(data)]
    # What was changed since is another file.
    path = server.root / "input" / "deep" / "mine.png"
    path.write_bytes(picture(colour=1))
    assert await server.error("GET", f"/uploads/{sha256(data)}", 404) == "unknown_content"
    # A file of another folder says which.
    output = await server.upload("/upload/image", "out.png", data, type="output")
    assert output["type"] == "output"
    found = await server.post("/run", {**DOCUMENT, "values": {"picture": f"sha256:{sha256(data)}"}})
    assert digests(found) == [sha256(data)]
    for hash in ("..%2F..%2Fx", "x", "0" * 63):
        assert await server.error("GET", f"/uploads/{hash}", 404) == "unknown_content"


async def test_a_form_is_a_run(server: Served) -> None:
    data = picture()
    workflow = json.dumps(DOCUMENT)
    found = await posted(server, "/run", form(workflow=workflow, picture=data, times="2"))
    assert digests(found) == [sha256(data)] * 2
    bare = json.dumps({"prompt": DOCUMENT["prompt"]})
    found = await posted(server, "/run", form(workflow=bare, **{"1__file": data}))
    assert digests(found) == [sha256(data)]
    swept = json.dumps({**DOCUMENT, "sweep": {"times": [1, 3]}})
    found = await posted(server, "/run", form(workflow=swept, picture=data))
    assert [len(digests(run)) for run in found["runs"]] == [1, 3]
    async with server.session.put(server.url + "/workflows/mine", json=DOCUMENT) as answer:
        assert answer.status == 201
    found = await posted(server, "/workflows/mine/run", form(picture=data, times="2"))
    assert digests(found) == [sha256(data)] * 2
    found = await server.post("/workflows/mine/run", {"picture": data_url(data), "sweep": {"times": [1, 2]}})
    assert [len(digests(run)) for run in found["runs"]] == [1, 2]
    assert not list((server.root / "input" / ".received").glob(".*.part"))
    schema = await server.get("/workflows/mine/schema")
    assert [item.get("pattern") for item in schema["properties"]["picture"]["anyOf"]][1].startswith("^(data:")
    for bad, code in (
        (form(picture=data), "no_workflow"),
        (form(workflow="{"), "invalid_json"),
        (form(workflow=workflow, picture=b"no picture"), "not_a_picture"),
        (form(workflow=workflow, times=data), "no_file_taken"),
        (form(workflow=workflow, none="1"), "unknown_parameter"),
    ):
        assert (await posted(server, "/run", bad, 400))["error"]["type"] == code
    twice = form(workflow=workflow, picture=data)
    twice.add_field("picture", data, filename="b.png")
    assert (await posted(server, "/run", twice, 400))["error"]["type"] == "bad_form"
    assert not list((server.root / "input" / ".received").glob(".*.part"))


async def test_a_sweep_over_files(server: Served) -> None:
    files = [picture(colour=colour) for colour in range(3)]
    await server.upload("/upload/image", "a.png", files[0])
    values = [f"sha256:{sha256(files[0])}", data_url(files[1]), data_url(files[2])]
    found = await server.post("/run", {**DOCUMENT, "sweep": {"picture": values}})
    assert [digests(run) for run in found["runs"]] == [[sha256(item)] for item in files]


@pytest.mark.parametrize(
    ("value", "status", "code"),
    [
        ("data:image/png,x", 400, "bad_data_url"),
        ("data:image/png;base64", 400, "bad_data_url"),
        ("data:image/png;base64,%%%", 400, "bad_data_url"),
        ("data:image/png;base64,", 400, "not_a_picture"),
        (data_url(b"<svg/>", "image/svg+xml"), 400, "not_a_picture"),
        (data_url(picture()[:40]), 400, "not_a_picture"),
        (data_url(picture((200, 51))), 413, "too_large"),
        ("sha256:" + "0" * 64, 400, "unknown_content"),
        ("sha256:../../etc/passwd", 400, "unknown_content"),
        ("https://example.org/a.png", 403, "url_inputs_off"),
        ("HTTP://example.org/a.png", 403, "url_inputs_off"),
    ],
)
async def test_what_is_not_taken(tmp_path: Path, value: str, status: int, code: str) -> None:
    changes = {**WORKING, "workers": 1, "limits": Limits(pixels=10_000)}
    async with served(tmp_path, **changes) as server:
        await ready(server)
        found = await server.post("/run", {**DOCUMENT, "values": {"picture": value}}, status)
        (problem,) = found["problems"]
        assert (problem["code"], problem["node"], problem["input"]) == (code, "1", "file")
        received = tmp_path / "input" / ".received"
        assert not received.exists() or not list(received.iterdir())


async def test_words_that_only_look_like_files_are_left_alone(server: Served) -> None:
    for text in ("data:x", "sha256:x", "http://example.org"):
        found = await server.post("/run", {"prompt": {"1": n("ToyShow", item=text)}})
        assert found["outputs"]["1"]["text"] == [text]


def giving(receiver: Receiver, path: str, data: bytes, pause: float = 0.0, **headers: str) -> str:
    """The address at which a receiver gives bytes."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        for start in range(0, len(data), 4096):
            await response.write(data[start : start + 4096])
            await asyncio.sleep(pause)
        await response.write_eof()
        return response

    receiver.answers[path] = answer
    return receiver.url(path)


def leading(receiver: Receiver, path: str, to: str) -> str:
    """The address at which a receiver redirects."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": to})

    receiver.answers[path] = answer
    return receiver.url(path)


async def test_pictures_from_addresses(tmp_path: Path) -> None:
    limits = Limits(upload=50_000, pixels=10_000, fetch_seconds=2.0)
    async with receiving() as receiver, receiving() as inside:
        config = {**WORKING, "allow_url_inputs": True, "internal": receiver.allowed, "limits": limits}
        async with served(tmp_path, **config) as server:
            await ready(server)
            data = picture()

            async def refused(url: str, status: int) -> str:
                began = time.monotonic()
                found = await server.post("/run", {**DOCUMENT, "values": {"picture": url}}, status)
                assert time.monotonic() - began < 10
                assert found["problems"][0].get("node") == "1" or found["error"]["type"] == "url_failed"
                return str(found["error"]["type"])

            url = giving(receiver, "/a", data)
            for address in (url, leading(receiver, "/b", url), leading(receiver, "/c", "/b#part")):
                found = await server.post("/run", {**DOCUMENT, "values": {"picture": address}})
                assert digests(found) == [sha256(data)]
            assert not {"Authorization", "Cookie"} & set(receiver.got[0].headers)
            # Where nothing answers, where it is not what it should be, where it takes too long.
            giving(receiver, "/page", b"<html>")
            giving(receiver, "/latent", latent())
            giving(receiver, "/large", picture((200, 51)))
            giving(receiver, "/endless", b"\0" * 60_000)
            giving(receiver, "/slow", b"\0" * 40_000, pause=1.0)
            for path, status, code in (
                ("/page", 400, "not_a_picture"),
                ("/latent", 400, "not_a_picture"),
                ("/large", 413, "too_large"),
                ("/endless", 413, "too_large"),
                ("/slow", 400, "url_failed"),
            ):
                assert await refused(receiver.url(path), status) == code
            receiver.statuses = [404]
            assert await refused(receiver.url("/none"), 400) == "url_failed"
            assert await refused(leading(receiver, "/round", "/round"), 400) == "url_failed"
            # None leads inside, at once or by a redirect; the port is part of what was allowed.
            secret = giving(inside, "/secret", data)
            for address in (
                secret,
                leading(receiver, "/1", secret),
                secret.replace("127.0.0.1", "localhost"),
                leading(receiver, "/2", secret.replace("127.0.0.1", "localhost")),
                secret.replace("127.0.0.1", "[::ffff:127.0.0.1]"),
                "http://169.254.169.254/latest/meta-data",
            ):
                assert await refused(address, 403) == "url_not_allowed"
            for number in ("127.1", "2130706433", "0x7f000001"):
                assert await refused(secret.replace("127.0.0.1", number), 400 if number[1] != "x" else 403)
            for to in ("file:///etc/passwd", "ftp://127.0.0.1/", "http://me:word@127.0.0.1/"):
                assert await refused(leading(receiver, "/3", to), 400) == "bad_url"
            assert inside.got == []
            names = {path.name for path in (tmp_path / "input" / ".received").iterdir()}
            assert names == {f"{sha256(data)}.png"}


class Rebinding(AbstractResolver):
    """A name server that gives an address of the internet first, and one of this machine from then on."""

    def __init__(self, *, both: bool) -> None:
        self.asked = 0
        self._both = both

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """One answer, or both at once."""
        self.asked += 1
        public, own = "93.184.216.34", "127.0.0.1"
        chosen = [public, own] if self._both else [public if self.asked == 1 else own]
        return [
            ResolveResult(hostname=host, host=item, port=port, family=socket.AF_INET, proto=0, flags=0)
            for item in chosen
        ]

    async def close(self) -> None:
        """Holds nothing."""


@pytest.mark.parametrize("both", [False, True])
async def test_a_name_that_changes_its_mind_leads_nowhere(tmp_path: Path, both: bool) -> None:
    async with receiving() as receiver:
        resolver = Rebinding(both=both)
        outgoing = Outgoing(resolver=resolver)
        # Somebody looked the name up before, and found it good.
        before = await resolver.resolve("rebound.example")
        assert before[0]["host"] == "93.184.216.34"
        with pytest.raises(Refused) as caught, Part(tmp_path) as part:
            await outgoing.fetch(receiver.url("/a", "rebound.example"), part.file, 1000)
        assert caught.value.problems[0].code == "url_not_allowed" and receiver.got == []
        await outgoing.close()
        # The same way, where that is allowed: it was the guard that refused.
        giving(receiver, "/a", b"bytes")
        allowed = Outgoing((Internal.of(f"127.0.0.1:{receiver.port}"),), resolver=resolver)
        if not both:
            url = receiver.url("/a", "rebound.example")
            with Part(tmp_path) as part:
                assert await allowed.fetch(url, part.file, 1000) == sha256(b"bytes")
                assert part.whole().read_bytes() == b"bytes"
        await allowed.close()


async def test_the_socket_itself_is_the_last_guard(tmp_path: Path) -> None:
    """Though a resolver were to let an address through, nothing connects to it."""
    outgoing = Outgoing()
    for host in ("127.0.0.1", "::1", "169.254.169.254"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with pytest.raises(OSError, match="not an address of the internet"):
            outgoing._socket((family, socket.SOCK_STREAM, 0, "", (host, 80)))
    await outgoing.close()
