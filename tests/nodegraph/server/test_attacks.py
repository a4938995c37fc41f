"""Attacks on the whole of the server: every route by GET, pictures that grow, files that lie, secrets that get out."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import re
import socket
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nodegraph.jobs import JobStatus
from nodegraph.server.app import ROUTES
from nodegraph.server.config import Limits
from nodegraph.server.state import DECODING
from tests.nodegraph.running import n
from tests.nodegraph.server.process import TOY_WORKER, serving, until_ready
from tests.nodegraph.server.serving import Served, served

TOKEN = "a-token-of-some-length"
GRAPH: dict[str, Any] = {"prompt": {"1": n("ToyShow", item=1)}}


async def everything(server: Served) -> dict[str, Any]:
    """What a request could change: files with their content, jobs, whether the queue stands still."""
    files = {
        str(path): path.read_bytes()
        for path in server.root.rglob("*")
        if path.is_file() and "sqlite3" not in path.name
    }
    store = server.state.dispatch.store
    page = await store.jobs(tuple(JobStatus), 100, 0)
    return {"files": files, "jobs": page.jobs, "paused": store.paused}


async def test_no_get_and_no_head_changes_anything(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        made = await server.post("/prompt", GRAPH)
        async with server.session.put(server.url + "/workflows/w", json=GRAPH) as answer:
            assert answer.status == 201
        await server.post("/settings", {"id": 1})
        before = await everything(server)
        names = {
            "name": "w",
            "prompt_id": made["prompt_id"],
            "job_id": made["prompt_id"],
            "file": "workflows%2Fw.json",
        }
        names |= {
            "id": "id",
            "folder": "checkpoints",
            "class": "ToyShow",
            "directory_type": "input",
            "dest": "x.json",
        }
        query = "?clear=true&delete=id&overwrite=true&filename=toy.safetensors&dir=workflows&path=&free_memory=true"
        for route in ROUTES:
            path = re.sub(r"\{(\w+)\}", lambda part: names.get(part[1], "x"), route.path)
            for method in ("GET", "HEAD"):
                async with server.session.request(method, server.url + path + query) as answer:
                    taken = "GET" in [other.method for other in ROUTES if other.path == route.path]
                    assert answer.status in ((200, 400, 404, 405, 503) if taken else (404, 405)), path
        assert await everything(server) == before


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side: int) -> bytes:
    """A PNG of side x side black pixels; a thousandth of its pixels' size."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [12_500, 30_000])
async def test_a_small_file_that_is_a_huge_picture_is_not_unpacked(tmp_path: Path, side: int) -> None:
    huge = bomb(side)
    assert len(huge) < 200_000
    async with served(tmp_path) as server:
        (tmp_path / "output" / "a.png").write_bytes(huge)
        began = time.monotonic()
        for query in ("preview=webp", "preview=jpeg;90", "channel=rgb", "channel=a"):
            assert await server.error("GET", f"/view?filename=a.png&{query}", 413) == "too_large"
        found = await server.upload("/upload/mask", "m.png", huge, 413, original_ref='{"filename": "a.png"}')
        assert found["error"]["type"] == "too_large"
        # As it is it may be fetched: that unpacks nothing here.
        async with server.session.get(server.url + "/view?filename=a.png") as answer:
            assert await answer.read() == huge
        assert time.monotonic() - began < 10


HUGE = {
    # Where each format says how large its picture is, and the most that it can say.
    "GIF": (6, struct.pack("<HH", 2**16 - 1, 2**16 - 1)),
    "WEBP": (26, struct.pack("<HH", 2**14 - 1, 2**14 - 1)),
    "BMP": (18, struct.pack("<ii", 2**30, 2**30)),
}


@pytest.mark.parametrize("kind", HUGE)
async def test_a_picture_that_says_it_is_huge_is_not_given_the_memory(tmp_path: Path, kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2)).save(buffer, kind)
    place, size = HUGE[kind]
    data = buffer.getvalue()
    async with served(tmp_path) as server:
        (tmp_path / "output" / "a.png").write_bytes(data[:place] + size + data[place + len(size) :])
        assert await server.error("GET", "/view?filename=a.png&preview=webp", 413) == "too_large"


async def status(server: Served, path: str, method: str = "GET", **more: Any) -> int:
    """The status of the answer."""
    async with server.session.request(method, server.url + path, **more) as answer:
        await answer.read()
        return answer.status


async def test_a_workflow_that_unpacks_to_more_than_is_read_is_refused(tmp_path: Path) -> None:
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    text = b"workflow\0\0" + zlib.compress(b'{"a": "' + bytes(48 * 2**20) + b'"}', 9)
    international = b"prompt\0\1\0\0\0" + zlib.compress(b"{" + b" " * (48 * 2**20) + b"}", 9)
    async with served(tmp_path) as server:
        for data in (chunk(b"zTXt", text), chunk(b"iTXt", international), chunk(b"zTXt", text) * 3):
            began = time.monotonic()
            headers = {"Content-Type": "image/png"}
            assert await status(server, "/workflows/w", "PUT", data=head + data, headers=headers) in (
                400,
                413,
            )
            assert time.monotonic() - began < 10
        assert await status(server, "/workflows/w") == 404


DRAWING = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>'


@pytest.mark.parametrize(
    "name", ["x.svg", "x.html", "x.xml", "x.xhtml", "x.pdf", "x.js", "x.png.svg", "x", "x.webp2"]
)
async def test_a_file_that_may_hold_script_is_never_shown(tmp_path: Path, name: str) -> None:
    async with served(tmp_path) as server:
        await server.upload("/upload/image", name, DRAWING)
        await server.upload("/upload/image", name, DRAWING, type="output")
        async with server.session.post(f"{server.url}/userdata/{name}", data=DRAWING) as answer:
            assert answer.status == 200
        for path in (f"/view?filename={name}&type=input", f"/view?filename={name}", f"/userdata/{name}"):
            async with server.session.get(server.url + path) as answer:
                assert await answer.read() == DRAWING
                assert answer.headers["Content-Type"] == "application/octet-stream"
                assert answer.headers["Content-Disposition"].startswith("attachment")
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert await status(server, f"/view?filename={name}&preview=webp") == 400


async def test_a_name_cannot_add_a_header(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        name = 'a"\r\nSet-Cookie: x=1\r\n.png'
        (tmp_path / "output" / name).write_bytes(b"x")
        async with server.session.get(server.url + "/view", params={"filename": name}) as answer:
            assert answer.status == 200 and "Set-Cookie" not in answer.headers


async def test_no_saved_workflow_lies_elsewhere(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        outside = tmp_path / "outside.json"
        outside.write_text(json.dumps(GRAPH), encoding="utf-8")
        folder = tmp_path / "data" / "user" / "files" / "workflows"
        folder.mkdir(parents=True)
        (folder / "link").symlink_to(tmp_path)
        (folder / "one.json").symlink_to(outside)
        (folder / "new.json").symlink_to(tmp_path / "made.json")
        before = sorted(tmp_path.rglob("*"))
        for name in ("one", "new", "link%2Foutside", "..%2F..%2F..%2Foutside", "%2Fetc%2Fx", "..%5Coutside"):
            for method, tail in (
                ("GET", ""),
                ("GET", "/schema"),
                ("PUT", ""),
                ("DELETE", ""),
                ("POST", "/run"),
            ):
                found = await server.error(method, f"/workflows/{name}{tail}", 403, json=GRAPH)
                assert found == "outside_folder"
        assert sorted(tmp_path.rglob("*")) == before
        assert json.loads(outside.read_text(encoding="utf-8")) == GRAPH


async def test_pickles_are_not_listed_and_say_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        folder = tmp_path / "models" / "checkpoints"
        for name in ("m.ckpt", "m.pt", "m.pth", "m.bin", "m.pkl", "m.exe"):
            (folder / name).write_bytes(b"\x80\x02cos\nsystem\n")
        (tmp_path / "models" / "embeddings").mkdir()
        (tmp_path / "models" / "embeddings" / "e.pt").write_bytes(b"\x80\x02cos\nsystem\n")
        assert await server.get("/models/checkpoints") == ["toy.safetensors"]
        assert await server.get("/embeddings") == []
        info = await server.get("/object_info/ToyLoadModel")
        assert info["ToyLoadModel"]["input"]["required"]["name"][0] == ["toy.safetensors"]
        assert await status(server, "/view_metadata/checkpoints?filename=m.ckpt") == 404


async def test_a_handshake_of_another_sites_page_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        head = (
            b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        )
        head += b"Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\n"
        mine = b"Host: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n"
        assert (await server.sent(head + mine + b"\r\n")).startswith(b"HTTP/1.1 101")
        for other in (
            b"Host: 127.0.0.1\r\nOrigin: https://evil.example\r\n",
            b"Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: websocket\r\n",
            b"Host: evil.example\r\nOrigin: http://evil.example\r\n",
            b"Host: 127.0.0.1\r\nOrigin: null\r\n",
        ):
            assert (await server.sent(head + other + b"\r\n")).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        " ",
        TOKEN[:-1],
        TOKEN + TOKEN[-1],
        TOKEN.upper(),
        TOKEN[::-1],
        "\0" * len(TOKEN),
        "*",
        "None",
        "true",
    ],
)
async def test_a_token_is_right_to_its_last_letter(tmp_path: Path, wrong: str) -> None:
    async with served(tmp_path, token=TOKEN) as server:
        head = f"GET /queue HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {wrong}\r\n\r\n".encode()
        answer = await server.sent(head)
        assert answer.startswith((b"HTTP/1.1 401", b"HTTP/1.0 400")), answer
        # Nor is it taken from where it would get into logs and histories of browsers.
        for query in (f"token={TOKEN}", f"access_token={TOKEN}", f"api_key={TOKEN}"):
            assert await server.error("GET", f"/queue?{query}", 401) == "token_needed"
            assert await server.error("GET", f"/ws?{query}", 401) == "token_needed"
        assert (
            await server.error("GET", "/queue", 401, headers={"Cookie": f"token={TOKEN}"}) == "token_needed"
        )


def test_no_secret_gets_into_a_log_or_a_file(tmp_path: Path) -> None:
    """Of a process, whose log is what it really writes; with a worker, which gets the document that a PNG carries."""
    key = "comfyui-0123456789"
    mine = {"Authorization": f"Bearer {TOKEN}"}
    log = tmp_path / "log"
    with serving(tmp_path, *TOY_WORKER, token=TOKEN, log=log) as server:
        until_ready(server)
        body = {
            "prompt": {
                "1": n("ToyShow", item=1),
                "2": n("ToyFail", message="no"),
                "3": n("ToyShow", item=["2", 0]),
            },
            "extra_data": {"api_key_comfy_org": key, "auth_token_comfy_org": key},
        }
        data = json.dumps(body).encode()
        for target in ("/prompt", "/run?wait=10", "/run?wait=0", "/plan"):
            assert server.ask("POST", target, data, mine).status in (200, 202, 422)
        assert server.ask("PUT", "/workflows/w", data, mine).status == 201
        assert server.ask("POST", "/workflows/w/run", b"{}", mine).status == 422
        (server.root / "data" / "user" / "settings.json").mkdir()
        assert server.ask("GET", "/settings", None, mine).status == 500
        assert server.ask("GET", f"/queue?token={TOKEN}").status == 401
        for head in (
            f"Authorization: Bearer {TOKEN}\0",
            f"Authorization: Bearer {TOKEN}\x01",
            f"Authorization : Bearer {TOKEN}",
            f"Authorization: Bearer {TOKEN}\r\nContent-Length: x",
            f"Authorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\nZZ",
        ):
            _told(
                server.port,
                f"POST /prompt?token={TOKEN} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode(),
            )
        said = b""
        for target in (
            "/history",
            "/queue",
            "/jobs",
            "/internal/logs",
            "/metrics",
            "/system_stats",
            "/workflows/w",
        ):
            said += server.ask("GET", target, None, mine).body
    kept = {str(path): path.read_bytes() for path in server.root.rglob("*") if path.is_file()}
    for secret in (TOKEN.encode(), key.encode()):
        assert secret not in said
        assert [path for path, data in kept.items() if secret in data] == []
        assert secret not in log.read_bytes()
    # The failure above is told there, so it is the log.
    assert b"GET /settings failed" in log.read_bytes()


async def test_what_is_no_http_is_told_so_in_the_form_of_every_error(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        for junk in (
            b"\x00\xff\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET /queue HTTP/1.1\r\nHost: localhost\r\nX-Secret : letter\r\n\r\n",
            b"POST /prompt HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
            b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
                connection.sendall(junk)
                with http.client.HTTPResponse(connection) as answer:
                    answer.begin()
                    found = json.loads(answer.read())
                    assert answer.status == 400
                    assert answer.headers["X-Content-Type-Options"] == "nosniff"
                    assert answer.headers["Server"] == "nodegraph"
                assert found["error"]["type"] == "bad_request" and found["node_errors"] == {}
                assert b"letter" not in json.dumps(found).encode()
                assert connection.recv(1) == b""
        assert server.ask("GET", "/health").status == 200


def _told(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        connection.settimeout(0.5)
        try:
            while connection.recv(4096):
                pass
        except (TimeoutError, ConnectionResetError):
            pass


async def test_a_sweep_does_not_multiply_a_large_document(tmp_path: Path) -> None:
    graph = {"prompt": {**GRAPH["prompt"], "2": n("ToyText", text="x" * 5000)}, "nodegraph": 1}
    graph["parameters"] = {"item": {"node": "1", "input": "item"}}
    async with served(tmp_path, limits=Limits(sweep=20_000)) as server:
        await server.post("/run?wait=0", {**graph, "sweep": {"item": [1, 2, 3]}}, 202)
        found = await server.error(
            "POST", "/run?wait=0", 413, json={**graph, "sweep": {"item": [1, 2, 3, 4]}}
        )
        assert found == "too_large"
        assert (await server.get("/jobs"))["pagination"]["total"] == 3


async def test_no_more_than_a_few_pictures_are_unpacked_at_once(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        Image.new("RGB", (3, 2)).save(tmp_path / "output" / "a.png")
        assert await status(server, "/view?filename=a.png&preview=webp") == 200
        for _ in range(DECODING):
            await server.state.decoding.acquire()
        waiting = asyncio.ensure_future(status(server, "/view?filename=a.png&preview=webp"))
        assert await status(server, "/view?filename=a.png") == 200
        await asyncio.sleep(1)
        assert not waiting.done()
        server.state.decoding.release()
        assert await asyncio.wait_for(waiting, 10) == 200
