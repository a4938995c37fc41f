"""What the server says of itself, and the documents that describe it."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from nodegraph.errors import ValidationError
from nodegraph.server import openapi
from nodegraph.server.app import ROUTES
from nodegraph.server.shapes import checked, from_query, schema
from nodegraph.sockets import Range
from tests.nodegraph.server.serving import served

ROOT = Path(__file__).parents[3]


async def test_what_the_stock_front_end_asks_at_its_start(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        assert await server.get("/api/extensions") == []
        assert await server.get("/api/workflow_templates") == {}
        assert await server.get("/api/i18n") == {}
        assert (await server.get("/api/features"))["supports_preview_metadata"] is True
        info = await server.get("/api/object_info")
        assert info["ToyScale"]["input"]["required"]["factor"][1]["max"] == 10
        assert info["ToyLoadModel"]["input"]["required"]["name"][0] == ["toy.safetensors"]
        assert list(await server.get("/api/object_info/ToyScale")) == ["ToyScale"]
        assert (await server.get("/object_info/ToyScal", 404))["error"]["type"] == "unknown_node"
        async with server.session.patch(server.url + "/internal/logs/subscribe", json={}) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    "path", ["/api/nothing", "/api/", "/nothing", "/api/queue/x/y", "/api/view/x", "/static/../x"]
)
async def test_an_unknown_route_is_404_in_json_never_a_page(tmp_path: Path, path: str) -> None:
    async with served(tmp_path) as server:
        for method in ("GET", "POST"):
            assert await server.error(method, path, 404) == "not_found"


async def test_health_and_readiness(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        assert (await server.get("/health"))["status"] == "ok"
        assert await server.get("/ready", 503) == {"status": "starting", "workers": 0, "ready": 0}


async def test_metrics_are_prometheus_text(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        await server.post("/prompt", {"prompt": {"1": {"class_type": "ToyShow", "inputs": {"item": 1}}}})
        async with server.session.get(server.url + "/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            text = await answer.text()
        assert 'nodegraph_jobs{status="queued"} 1' in text
        for line in text.splitlines():
            assert re.fullmatch(
                r"# (HELP|TYPE) nodegraph_\w+ .+|nodegraph_\w+(\{[^}]*\})? [0-9.e+-]+", line
            ), line


async def test_the_description_has_every_route(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        document = await server.get("/openapi.json")
        assert document["openapi"].startswith("3.1")
        for route in ROUTES:
            if route.path != "/ws":
                assert route.method.lower() in document["paths"][route.path], route
        body = document["paths"]["/prompt"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert body["required"] == ["prompt"]
        taken = document["paths"]["/run"]["post"]["requestBody"]["content"]
        run = taken["application/json"]["schema"]
        assert set(run["properties"]) >= {"prompt", "webhook", "strict", "values", "sweep", "sweep_mode"}
        assert taken["multipart/form-data"]["schema"]["properties"] == {"workflow": run}
        saved = document["paths"]["/workflows/{name}/run"]["post"]["requestBody"]["content"]
        assert set(saved) == {"application/json", "multipart/form-data"}
        wait = document["paths"]["/run"]["post"]["parameters"]
        assert {item["name"] for item in wait} == {"wait", "outputs"}
        async with server.session.get(server.url + "/docs") as answer:
            page = await answer.text()
            assert answer.content_type == "text/html"
        assert "http://" not in page and "https://" not in page and "<script" not in page
        assert all(f"<code>{route.path}</code>" in page for route in ROUTES)


def test_every_route_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
    everything = [*ROUTES, *openapi.routes(ROUTES)]
    missing = [f"{route.method} {route.path}" for route in everything if f"`{route.path}" not in text]
    assert missing == []


@dataclass(frozen=True)
class Inner:
    """An inner shape."""

    x: int


@dataclass(frozen=True)
class Shape:
    """A shape."""

    name: str
    count: Annotated[int, Range(1, 5)] = 1
    ratio: float | None = None
    on: bool = False
    kind: Literal["a", "b"] = "a"
    items: tuple[str, ...] = ()
    inner: Inner | None = None
    more: dict[str, Any] | None = None


def test_a_shape_takes_what_fits_and_says_everything_that_does_not() -> None:
    data = {"name": "n", "count": 5.0, "ratio": 1, "on": True, "items": ["a"], "inner": {"x": 1}, "other": 1}
    assert checked(Shape, data) == Shape("n", 5, 1.0, True, "a", ("a",), Inner(1))
    bad = {"count": 6, "ratio": "x", "on": 1, "kind": "c", "items": "a", "inner": {}, "more": []}
    with pytest.raises(ValidationError) as caught:
        checked(Shape, bad)
    assert {problem.input for problem in caught.value.problems} == {"name", *bad}
    wrong: Any
    for wrong in ([], None, "text", 3):
        with pytest.raises(ValidationError):
            checked(Shape, wrong)
    with pytest.raises(ValidationError):
        checked(Shape, {"name": "n", "ratio": 10**400})


def test_a_query_string_is_words() -> None:
    assert from_query(Shape, {"name": "1", "count": "2", "on": "true", "ratio": "0.5"}) == Shape(
        "1", 2, 0.5, True
    )
    for query in ({"count": "x"}, {"on": "maybe"}, {"ratio": "nan"}, {"count": "9" * 5000}):
        with pytest.raises(ValidationError):
            from_query(Shape, {"name": "n", **query})


def test_the_schema_of_a_shape() -> None:
    found = schema(Shape)
    assert found["required"] == ["name"] and found["description"] == "A shape."
    assert found["properties"]["count"] == {"type": "integer", "minimum": 1, "maximum": 5, "default": 1}
    assert found["properties"]["ratio"] == {"anyOf": [{"type": "number"}, {"type": "null"}]}
    assert found["properties"]["kind"] == {"enum": ["a", "b"], "default": "a"}
    assert found["properties"]["items"] == {"type": "array", "items": {"type": "string"}}


SMALL = """
import asyncio, sys
from pathlib import Path
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from nodegraph.server.app import create_app
from nodegraph.server.config import ServerConfig

async def main():
    server = TestServer(create_app(ServerConfig(port=0, data_dir=Path(sys.argv[1]), workers=0)))
    await server.start_server()
    idle = {"networkx", "pydantic", "rich", "numpy", "typer", "PIL", "torch"} & set(sys.modules)
    async with ClientSession() as session:
        await session.get(server.make_url("/object_info"))
        inputs = {"images": ["1", 0]}
        prompt = {"1": {"class_type": "EmptyImage", "inputs": {}}, "2": {"class_type": "SaveImage", "inputs": inputs}}
        async with session.post(server.make_url("/prompt"), json={"prompt": prompt}) as answer:
            assert answer.status == 200, await answer.text()
    await server.close()
    late = {"torch", "diffusers", "transformers", "nodes", "networkx"} & set(sys.modules)
    print(sorted(idle), sorted(late))

asyncio.run(main())
"""


def test_the_server_process_loads_no_torch_and_little_else(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SMALL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.strip(), done.returncode) == ("[] []", 0), done.stderr
