"""Who is let in: hosts, origins, tokens, content types, limits; and what every answer carries."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nodegraph.errors import ValidationError
from nodegraph.server.app import create_app
from nodegraph.server.config import Limits, ServerConfig, is_loopback, read_token
from tests.nodegraph.running import n
from tests.nodegraph.server.serving import Served, served, toy_config

TOKEN = "a-token-of-some-length"
GRAPH = {"prompt": {"1": n("ToyShow", item=1)}}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_a_bind_that_others_reach_needs_a_token(tmp_path: Path, host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ValidationError) as caught:
        create_app(toy_config(tmp_path, host=host))
    assert caught.value.problems[0].code == "token_needed"
    create_app(toy_config(tmp_path, host=host, token=TOKEN))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.3.2.1"])
def test_loopback_needs_none(tmp_path: Path, host: str) -> None:
    assert create_app(toy_config(tmp_path, host=host)) is not None


def test_a_token_that_can_be_guessed_is_refused_and_never_shown(tmp_path: Path) -> None:
    config = toy_config(tmp_path, token="hunter2")
    with pytest.raises(ValidationError) as caught:
        config.checked()
    assert caught.value.problems[0].code == "weak_token"
    assert "hunter2" not in str(caught.value) and "hunter2" not in repr(config)


def test_a_token_file_is_read_without_its_line_end(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n", encoding="utf-8")
    assert read_token(file) == TOKEN
    file.write_text("\n", encoding="utf-8")
    for path in (file, tmp_path / "nowhere"):
        with pytest.raises(ValidationError):
            read_token(path)


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:8188", "127.0.0.1.evil.example", "localhost@evil.example", ""]
)
async def test_a_name_that_was_rebound_to_this_machine_is_refused(tmp_path: Path, name: str) -> None:
    async with served(tmp_path) as server:
        assert await server.error("GET", "/queue", 403, headers={"Host": name}) == "host_not_allowed"
        headers = {"Host": name, "Upgrade": "websocket", "Connection": "Upgrade"}
        assert await server.error("GET", "/ws", 403, headers=headers) == "host_not_allowed"


@pytest.mark.parametrize(
    "name", ["localhost", "LOCALHOST:8188", "127.0.0.1:1", "[::1]:8188", "named.example"]
)
async def test_the_servers_own_names_are_let_in(tmp_path: Path, name: str) -> None:
    async with served(tmp_path, hosts=frozenset({"named.example"})) as server:
        await server.get("/queue", Host=name)


async def test_an_address_is_let_in_only_where_others_may_reach_the_server(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        assert await server.error("GET", "/queue", 403, headers={"Host": "192.168.1.5"}) == "host_not_allowed"
    async with served(tmp_path, host="0.0.0.0", token=TOKEN) as server:
        await server.get("/queue", Host="192.168.1.5:8188", Authorization=f"Bearer {TOKEN}")


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1:1", "file://", "http://[", "http://localhost"],
)
async def test_a_page_of_another_site_is_refused_whatever_it_asks(tmp_path: Path, origin: str) -> None:
    async with served(tmp_path) as server:
        for method, path in (("POST", "/prompt"), ("POST", "/interrupt"), ("GET", "/queue"), ("GET", "/ws")):
            found = await server.error(method, path, 403, headers={"Origin": origin})
            assert found == "origin_not_allowed"
        assert await server.get("/queue") == {"queue_running": [], "queue_pending": []}


async def test_a_page_that_loads_a_picture_from_here_is_refused_and_a_link_is_not(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        loading = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
        assert await server.error("GET", "/view?filename=x.png", 403, headers=loading) == "origin_not_allowed"
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        async with server.session.get(server.url + "/", headers=link) as answer:
            assert answer.status == 200
        assert await server.error("POST", "/interrupt", 403, headers=link) == "origin_not_allowed"


async def test_the_servers_own_page_and_an_allowed_one_may(tmp_path: Path) -> None:
    async with served(tmp_path, origins=frozenset({"https://friend.example"})) as server:
        await server.post("/prompt", GRAPH, Origin=server.url)
        async with server.session.get(
            server.url + "/queue", headers={"Origin": "https://friend.example"}
        ) as answer:
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] == "https://friend.example"
        async with server.session.get(server.url + "/queue", headers={"Origin": server.url}) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers
        asking = {"Access-Control-Request-Method": "POST"}
        async with server.session.options(
            server.url + "/prompt", headers={**asking, "Origin": "https://friend.example"}
        ) as answer:
            assert answer.status == 204
            assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        refused = {**asking, "Origin": "https://evil.example"}
        assert await server.error("OPTIONS", "/prompt", 403, headers=refused) == "origin_not_allowed"


async def test_every_route_but_health_wants_the_token(tmp_path: Path) -> None:
    basic = base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
    async with served(tmp_path, token=TOKEN) as server:
        for path in ("/queue", "/", "/api/queue", "/nothing", "/ws", "/metrics", "/view?filename=x"):
            assert await server.error("GET", path, 401) == "token_needed"
        for given in ("Bearer wrong", f"Bearer {TOKEN}x", "Basic ?", "Basic ", f"Digest {TOKEN}", TOKEN):
            assert (
                await server.error("GET", "/queue", 401, headers={"Authorization": given}) == "token_needed"
            )
        # Bytes that are no text, which a client library would not send.
        for given in ("Bearer \udcff\udcfe", "Basic \udcff", "\udcff", f"Bearer {TOKEN}\udcff"):
            headers = f"GET /queue HTTP/1.1\r\nHost: localhost\r\nAuthorization: {given}\r\n\r\n"
            assert (await server.sent(headers.encode("utf-8", "surrogateescape"))).startswith(b"HTTP/1.1 401")
        for given in (f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Basic {basic}"):
            await server.get("/queue", Authorization=given)
        await server.get("/health")
        async with server.session.get(server.url + "/queue") as answer:
            assert "Basic" in answer.headers["WWW-Authenticate"]
            assert TOKEN not in str(answer.headers) + await answer.text()


async def test_a_browser_must_say_json_and_a_script_need_not(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        body = b'{"prompt": {"1": {"class_type": "ToyShow", "inputs": {"item": 1}}}}'
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            headers = {"Content-Type": kind, "Origin": server.url}
            found = await server.error("POST", "/prompt", 415, data=body, headers=headers)
            assert found == "unsupported_media_type"
        for kind in ("text/plain", "multipart/form-data; boundary=x", "application/xml"):
            await server.error("POST", "/prompt", 415, data=body, headers={"Content-Type": kind})
        # What urllib sends, which ComfyUI's own example scripts use.
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        async with server.session.post(server.url + "/prompt", data=body, headers=headers) as answer:
            assert answer.status == 200
        assert await server.error("POST", "/upload/image", 415, json={}) == "unsupported_media_type"


async def test_nothing_changes_by_get(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        for path in ("/interrupt", "/free", "/queue/resume", "/upload/image", "/workflows/a/run", "/run"):
            async with server.session.get(server.url + path) as answer:
                assert answer.status == 405
                assert (await answer.json())["error"]["type"] == "method_not_allowed"


async def test_bodies_have_bounds(tmp_path: Path) -> None:
    limits = Limits(body=2000, upload=3000, nodes=3)
    async with served(tmp_path, limits=limits) as server:
        large = b"[" + b" " * 3000 + b"]"
        assert await server.error("POST", "/prompt", 413, data=large) == "too_large"

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(300):
                yield b" " * 10

        # No Content-Length says beforehand how much comes.
        assert await server.error("POST", "/prompt", 413, data=chunks()) == "too_large"
        nested = b"[" * 150 + b"]" * 150
        headers = {"Content-Type": "application/json"}
        assert await server.error("POST", "/prompt", 400, data=nested, headers=headers) == "invalid_json"
        many = {"prompt": {str(i): n("ToyShow", item=1) for i in range(4)}}
        assert await server.error("POST", "/prompt", 413, json=many) == "too_large"
        assert await server.upload("/upload/image", "a.png", b"x" * 3001, 413)
        assert list((tmp_path / "data" / "incoming").iterdir()) == []
        assert await server.error("POST", "/userdata/a.json", 413, data=b"x" * 2001) == "too_large"


async def test_answers_are_not_sniffed_framed_or_used_by_others(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        for path in ("/queue", "/nothing", "/", "/view?filename=nothing.png"):
            async with server.session.get(server.url + path) as answer:
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
                assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
                assert "'unsafe" not in answer.headers["Content-Security-Policy"]
                assert answer.headers["Server"] == "nodegraph"


async def test_what_is_no_http_does_not_stop_the_server(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        for junk in (
            b"\x00\xff\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET /%zz HTTP/1.1\r\n\r\n",
        ):
            answer = await server.sent(junk)
            assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer
        await server.get("/health")


async def test_credentials_that_editors_pass_on_are_not_kept(tmp_path: Path) -> None:
    secret = "comfyui-0123456789"
    async with served(tmp_path) as server:
        names = ("api_key_comfy_org", "auth_token_comfy_org")
        extra = {
            **dict.fromkeys(names, secret),
            "extra_pnginfo": {
                "workflow": {"extra": {"deep": [1, [{names[0]: secret, "kept": "beside it"}]]}},
                names[1]: {"token": secret},
            },
        }
        made = await server.post("/prompt", {**GRAPH, "extra_data": extra})
        ((_, _, _, kept, _),) = (await server.get("/queue"))["queue_pending"]
        assert kept == {"extra_pnginfo": {"workflow": {"extra": {"deep": [1, [{"kept": "beside it"}]]}}}}
        assert secret not in str(await server.get("/queue"))
        assert secret not in str(await server.get(f"/jobs/{made['prompt_id']}"))
        await close_store(server)
        assert not any(
            secret.encode() in path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()
        )


async def close_store(server: Served) -> None:
    """Have everything written out."""
    await server.state.dispatch.store.close()


def test_the_configuration_says_everything_that_is_wrong() -> None:
    with pytest.raises(ValidationError) as caught:
        ServerConfig(host="0.0.0.0", port=70000, workers=-1).checked()
    assert {problem.code for problem in caught.value.problems} == {"token_needed", "bad_port", "bad_workers"}
