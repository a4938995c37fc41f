"""The editor's page and what it asks of the server beside ComfyUI's routes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from nodegraph.server.editor import bundle
from tests.nodegraph.running import n
from tests.nodegraph.server.serving import ROOT, served

BUNDLE = ROOT / "web" / "bundle"
MOST_SCRIPT = 250_000


async def test_the_page_and_its_parts_are_served_with_a_policy_that_runs_no_other_script(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as server:
        async with server.session.get(server.url + "/") as answer:
            assert answer.status == 200
            assert answer.content_type == "text/html"
            policy = answer.headers["Content-Security-Policy"]
            assert "script-src 'self';" in policy and "unsafe" not in policy
            text = await answer.text()
        for name in ("editor.js", "editor.css"):
            assert f"/assets/{name}" in text
            async with server.session.get(f"{server.url}/assets/{name}") as answer:
                assert answer.status == 200
                assert await answer.read() == (BUNDLE / "assets" / name).read_bytes()
        assert "<script>" not in text and "http" not in text.replace("http://www.w3.org/2000/svg", "")


async def test_a_browser_that_has_the_page_is_told_that_it_is_still_right(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        url = f"{server.url}/assets/editor.js"
        tags = []
        for encoding in ("gzip", "identity"):
            async with server.session.get(url, headers={"Accept-Encoding": encoding}) as answer:
                assert answer.headers["Cache-Control"] == "no-cache"
                assert answer.headers.get("Content-Encoding") == ("gzip" if encoding == "gzip" else None)
                tags.append(answer.headers["ETag"])
            known = {"Accept-Encoding": encoding, "If-None-Match": tags[-1]}
            async with server.session.get(url, headers=known) as answer:
                assert answer.status == 304
                assert await answer.read() == b""
        assert tags[0] != tags[1]


async def test_nothing_else_is_served_as_a_part_of_the_page(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        for name in ("nothing.js", "..%2Findex.html", "%2e%2e%2f%2e%2e%2fpackage.json", "LICENSES.md"):
            assert await server.error("GET", f"/assets/{name}", 404) == "not_found"
        assert await server.error("GET", "/api/assets/editor.js", 404) == "not_found"


def test_the_scripts_are_small_enough() -> None:
    scripts = [part for part in bundle().values() if part.kind == "text/javascript"]
    assert scripts
    assert sum(len(part.packed) for part in scripts) <= MOST_SCRIPT


async def test_the_examples_are_what_ships(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        listed = (await server.get("/examples"))["examples"]
        assert {"name": "text_to_image", "title": "Text to image"} in listed
        assert {item["name"] for item in listed} == {
            path.stem for path in (ROOT / "workflows").glob("*.json")
        }
        written = json.loads((ROOT / "workflows" / "text_to_image.json").read_bytes())
        assert await server.get("/examples/text_to_image") == written
        for name in ("nothing", "..%2Fpyproject", "*"):
            assert await server.error("GET", f"/examples/{name}", 404) == "not_found"


async def test_a_workflow_is_converted_and_its_numbers_keep_every_digit(tmp_path: Path) -> None:
    seed = 18446744073709551615
    async with served(tmp_path) as server:
        api = {"1": n("ToyInt", value=seed), "2": n("ToyShow", item=["1", 0])}
        document = (await server.post("/convert", api))["workflow"]
        assert document["nodegraph"] == 1
        ui = (await server.post("/convert?to=ui", document))["workflow"]
        assert {node["type"] for node in ui["nodes"]} == {"ToyInt", "ToyShow"}
        found = await server.post("/convert?to=api", ui)
        assert found["workflow"]["1"]["inputs"]["value"] == seed
        assert found["problems"] == []


async def test_what_is_no_workflow_is_not_converted(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        assert await server.error("POST", "/convert", 400, json=[]) == "invalid_prompt"
        assert await server.error("POST", "/convert", 400, json={"a": 1}) == "invalid_prompt"
        assert await server.error("POST", "/convert?to=xml", 400, json={}) == "invalid_request"
        picture = {"Content-Type": "image/png"}
        assert await server.error("POST", "/convert", 400, data=b"GIF89a", headers=picture) == "not_a_picture"


def test_a_packed_part_is_the_part() -> None:
    for part in bundle().values():
        assert gzip.decompress(part.packed) == part.body
