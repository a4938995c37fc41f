"""Settings and saved files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.nodegraph.server.serving import Served, served


async def put(server: Served, name: str, data: bytes, status: int = 200, query: str = "") -> object:
    """Save a file."""
    async with server.session.post(f"{server.url}/api/userdata/{name}{query}", data=data) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def test_settings_are_kept_one_by_one_and_together(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        assert await server.get("/api/settings") == {}
        await server.post("/api/settings", {"a": 1, "b": [True]})
        await server.post("/settings/c.d", "text")
        assert await server.get("/settings") == {"a": 1, "b": [True], "c.d": "text"}
        assert await server.get("/settings/b") == [True]
        assert await server.get("/settings/none") is None
        await asyncio.gather(*(server.post(f"/settings/n{i}", i) for i in range(20)))
        found = await server.get("/settings")
        assert [found[f"n{i}"] for i in range(20)] == list(range(20))
        await server.post("/settings", [1], 400)
    async with served(tmp_path) as server:
        assert (await server.get("/settings"))["c.d"] == "text"


async def test_a_damaged_settings_file_is_told_and_not_written_over(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        await server.post("/settings", {"a": 1})
        path = tmp_path / "data" / "user" / "settings.json"
        path.write_text("{", encoding="utf-8")
        assert await server.error("GET", "/settings", 400) == "invalid_json"
        assert await server.error("POST", "/settings", 400, json={"a": 2}) == "invalid_json"
        assert path.read_text(encoding="utf-8") == "{"


async def test_a_setting_that_could_not_be_read_again_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        await server.post("/settings", {"a": 1, "many": [1] * 300_000})
        deep = b"[" * 100 + b"]" * 100
        assert await server.error("POST", "/settings/deep", 400, data=deep) == "invalid_json"
        assert await server.error("POST", "/settings/more", 413, json=[1] * 250_000) == "too_large"
        assert (await server.get("/settings"))["a"] == 1


async def test_files_are_saved_listed_moved_and_removed(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        await server.get("/api/userdata?dir=workflows&recurse=true&split=false&full_info=true", 404)
        assert await put(server, "workflows%2Fone.json", b"{}") == "workflows/one.json"
        assert await put(server, "workflows/deep/two.json", b"[2]") == "workflows/deep/two.json"
        info = await put(server, "workflows%2Fone.json", b"{1}", query="?full_info=true")
        assert isinstance(info, dict) and (info["path"], info["size"]) == ("workflows/one.json", 3)
        await put(server, "workflows%2Fone.json", b"{2}", 409, query="?overwrite=false")
        assert await server.get("/api/userdata?dir=workflows") == ["one.json"]
        listed = await server.get("/api/userdata?dir=workflows&recurse=true")
        assert sorted(listed) == ["deep/two.json", "one.json"]
        split = await server.get("/api/userdata?dir=workflows&recurse=true&split=true")
        assert sorted(split) == [["deep/two.json", "deep", "two.json"], ["one.json", "one.json"]]
        full = await server.get("/api/userdata?dir=workflows&full_info=true")
        assert full[0]["path"] == "one.json" and full[0]["modified"] > 1e12
        entries = await server.get("/api/v2/userdata?path=workflows")
        assert [(item["name"], item["type"]) for item in entries] == [
            ("deep", "directory"),
            ("one.json", "file"),
        ]
        async with server.session.get(server.url + "/api/userdata/workflows%2Fone.json") as answer:
            assert await answer.read() == b"{1}"
        moved = await server.post("/api/userdata/workflows%2Fone.json/move/workflows%2Fthree.json")
        assert moved == "workflows/three.json"
        await server.post("/api/userdata/workflows%2Fthree.json/move/workflows%2Fdeep%2Ftwo.json", status=409)
        async with server.session.delete(server.url + "/api/userdata/workflows%2Fthree.json") as answer:
            assert answer.status == 204
        assert await server.error("DELETE", "/api/userdata/workflows%2Fthree.json", 404) == "not_found"
        assert await server.error("DELETE", "/api/userdata/workflows", 400) == "not_a_file"
        assert await server.get("/api/userdata?dir=workflows&recurse=true") == ["deep/two.json"]


@pytest.mark.parametrize(
    "name", ["..%2Fsettings.json", "a%2F..%2F..%2Fx.json", "%2Fetc%2Fx", "..%5Cx", "link%2Fx.json"]
)
async def test_no_saved_file_lies_elsewhere(tmp_path: Path, name: str) -> None:
    async with served(tmp_path) as server:
        await put(server, "good.json", b"{}")
        root = tmp_path / "data" / "user" / "files"
        (root / "link").symlink_to(tmp_path)
        assert await server.error("POST", f"/userdata/{name}", 403, data=b"x") == "outside_folder"
        assert await server.error("GET", f"/userdata/{name}", 403) == "outside_folder"
        assert await server.error("DELETE", f"/userdata/{name}", 403) == "outside_folder"
        assert await server.error("POST", f"/userdata/good.json/move/{name}", 403) == "outside_folder"
        assert (
            await server.error("GET", f"/userdata?dir={name.rpartition('%2F')[0] or name}", 403)
            == "outside_folder"
        )


async def test_a_saved_page_is_downloaded(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        await put(server, "page.html", b"<script>")
        async with server.session.get(server.url + "/userdata/page.html") as answer:
            assert answer.headers["Content-Type"] == "application/octet-stream"
            assert answer.headers["Content-Disposition"].startswith("attachment")


async def test_the_one_person(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        assert await server.get("/api/users") == {"storage": "server", "migrated": True}
