"""Whatever is sent to a route: an answer in time, as the description says, and no file outside its folder.

NODEGRAPH_EXAMPLES=n draws n times as many examples.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.core.result import Err
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from nodegraph.server import openapi
from nodegraph.server.app import ROUTES
from tests.nodegraph.running import n
from tests.nodegraph.server.mutations import in_address, mutated, names
from tests.nodegraph.server.process import BOUND, TOY_WORKER, Answer, Serving, serving, until_ready
from tests.nodegraph.server.serving import ROOT

TIMES = int(os.environ.get("NODEGRAPH_EXAMPLES", "1"))
DOCUMENT = openapi.document([*ROUTES, *openapi.routes(ROUTES)])
OPERATIONS = {
    found.ok().label: found.ok()
    for found in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()
    if not isinstance(found, Err)
}
SHIPPED = [
    json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "workflows").glob("*.json"))
]
TOY: list[Any] = [
    {
        "prompt": {
            "1": n("ToyInt", value=3),
            "2": n("ToyAdd", a=["1", 0], b=0.5),
            "3": n("ToyShow", item=["2", 0]),
        }
    },
    {
        "nodegraph": 1,
        "title": "All sorts",
        "parameters": {"x": {"node": "1", "input": "value"}},
        "prompt": {
            "1": n("ToyInt", value=3),
            "2": n("ToySplit", x=["1", 0]),
            "3": n("ToyScale", x=["2", 1], factor=2.5, rounding="down"),
            "4": n("ToySwitch", flag=True, if_true=["3", 0], if_false=["2", 0]),
            "5": n("ToyPower", x=["4", 0], exponent=3),
            "6": n("ToyRange", count=4),
            "7": n("ToySum", items=["6", 0]),
            "8": n("ToyLoadModel", name="toy.safetensors"),
            "9": n("ToyReadFile", name="hello.png"),
            "10": {**n("ToyShow", item=["7", 0]), "_meta": {"title": "sum", "pos": [0, 1], "mode": 4}},
            "11": n("ToyShow", item=["5", 0]),
        },
        "canvas": {"notes": [], "reroutes": []},
    },
    {
        "nodes": [
            {
                "id": 1,
                "type": "ToyInt",
                "outputs": [{"name": "INT", "links": [1]}],
                "widgets_values": [3, "fixed"],
            },
            {"id": 2, "type": "Reroute", "inputs": [{"name": "", "link": 1}], "outputs": [{"links": [2]}]},
            {"id": 3, "type": "ToyShow", "mode": 0, "inputs": [{"name": "item", "type": "*", "link": 2}]},
        ],
        "links": [[1, 1, 0, 2, 0, "INT"], [2, 2, 0, 3, 0, "*"]],
        "groups": [{"title": "g", "bounding": [0, 0, 9, 9]}],
        "version": 0.4,
    },
]
TYPES = (
    "ToyInt",
    "ToyAdd",
    "ToySplit",
    "ToySwitch",
    "ToyShow",
    "ToyShowAll",
    "ToyDocument",
    "ToySum",
    "None",
)


def examples(count: int) -> Callable[[Any], Any]:
    """As many examples from a fixed seed."""

    def decorate(test: Any) -> Any:
        # No shrinking: an example says enough, and each call of the server is dear.
        chosen = settings(
            max_examples=count * TIMES,
            deadline=None,
            database=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        return seed(4)(chosen(test))

    return decorate


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with one worker of toy nodes, and links out of each of its folders."""
    with serving(tmp_path_factory.mktemp("parent"), *TOY_WORKER) as found:
        until_ready(found)
        lay_links(found)
        assert found.post("/settings", {"theme": "dark"}).status == 200
        yield found


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server without workers, which knows the built-in nodes."""
    with serving(tmp_path_factory.mktemp("parent")) as found:
        yield found


def lay_links(server: Serving) -> None:
    """Links that lead out of every folder in which clients name files."""
    files = server.root / "data" / "user" / "files"
    for folder in (files, files / "workflows", *owned(server)[:3], server.root / "models" / "checkpoints"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "link").symlink_to(server.root.parent)
        (folder / "file-link.png").symlink_to(server.secret)
        (folder / "loop").symlink_to(folder / "loop")
        (folder / "nowhere").symlink_to(server.root.parent / "made")


def owned(server: Serving) -> list[Path]:
    """The folders in which clients may have files made."""
    data = server.root / "data"
    made = [server.root / "input", server.root / "output", data / "temp", data / "user" / "files"]
    return [*made, data / "incoming", data / "contents"]


def elsewhere(server: Serving) -> dict[str, tuple[int, int] | None]:
    """Everything outside of those folders, by path; sizes and times of what nobody has reason to change."""
    found: dict[str, tuple[int, int] | None] = {}
    inside = {str(path) for path in owned(server)}
    for folder, folders, files in os.walk(server.root.parent):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in inside]
        for name in (*folders, *files):
            path = Path(folder, name)
            state = path.lstat()
            kept = path.is_file() and "data" not in path.parts and path.name != "log"
            found[str(path)] = (state.st_size, state.st_mtime_ns) if kept else None
    return found


def well(answer: Answer) -> None:
    """An answer that any request may get."""
    assert answer.status < 500, answer
    assert answer.seconds < BOUND, answer
    assert b"nobody's business" not in answer.body and b"root:" not in answer.body
    if answer.status >= 400 and answer.body:
        assert set(answer.json) >= {"error", "node_errors"}


def modes(label: str) -> list[schemathesis.GenerationMode]:
    """Requests that fit the description, and where there is anything to get wrong, some that do not."""
    method, path = label.split(" ")
    described = DOCUMENT["paths"][path][method.lower()]
    shapes = [item["schema"] for item in described["parameters"] if item["schema"] != {"type": "string"}]
    shapes += [item["schema"] for item in described.get("requestBody", {}).get("content", {}).values()]
    negative = [schemathesis.GenerationMode.NEGATIVE] if any(shapes) else []
    return [schemathesis.GenerationMode.POSITIVE, *negative]


def test_no_operation_is_left_out() -> None:
    described = {f"{method.upper()} {path}" for path, item in DOCUMENT["paths"].items() for method in item}
    assert set(OPERATIONS) == described


def as_text(label: str) -> bool:
    """Whether what is sent is text that may mean other than it was meant: a form's `null` is a name, an empty flag is false."""
    method, path = label.split(" ")
    described = json.dumps(DOCUMENT["paths"][path][method.lower()])
    return "multipart/form-data" in described or '"boolean"' in described.partition('"requestBody"')[0]


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_operation_answers_as_it_is_described(server: Serving, label: str) -> None:
    # What a schema cannot say makes a request wrong too: a name that is no file's, a graph without outputs.
    without: list[Any] = [positive_data_acceptance, *([negative_data_rejection] if as_text(label) else [])]
    for mode in modes(label):

        @examples(4)
        @given(OPERATIONS[label].as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case[Any]) -> None:
            case.validate_response(case.call(base_url=server.url, timeout=BOUND), excluded_checks=without)

        check()


@examples(60)
@given(
    mutated(TOY, TYPES), st.sampled_from(("/prompt", "/run?wait=0", "/plan", "/workflows/m", "/api/prompt"))
)
def test_a_mutated_graph_gets_an_answer(server: Serving, body: bytes, route: str) -> None:
    well(server.post(route, body, "PUT" if "workflows" in route else "POST"))
    if "workflows" in route:
        for target in ("/workflows/m", "/workflows/m/schema"):
            well(server.ask("GET", target))
        well(server.post("/workflows/m/run?wait=0", b"{}"))


@examples(40)
@given(mutated(SHIPPED), st.sampled_from(("/prompt", "/run?wait=0", "/workflows/m")))
def test_a_mutated_workflow_gets_an_answer(idle: Serving, body: bytes, route: str) -> None:
    well(idle.post(route, body, "PUT" if "workflows" in route else "POST"))
    if "workflows" in route:
        well(idle.ask("GET", "/workflows/m/schema"))


_NAMED = (
    *(("GET", f"/view?filename={{}}&type={kind}") for kind in ("output", "input", "temp")),
    *(("GET", f"/view?filename=secret.png&subfolder={{}}&type={kind}") for kind in ("output", "input")),
    ("GET", "/view?filename={}&preview=webp"),
    *((method, "/userdata/{}") for method in ("GET", "POST", "DELETE", "HEAD")),
    *((method, "/api/workflows/{}") for method in ("GET", "PUT", "DELETE")),
    ("GET", "/workflows/{}/schema"),
    ("POST", "/workflows/{}/run?wait=0"),
    ("POST", "/userdata/{}/move/b.json"),
    ("POST", "/userdata/b.json/move/{}?overwrite=true"),
    ("GET", "/userdata?dir={}&recurse=true&full_info=true"),
    ("GET", "/v2/userdata?path={}"),
    ("GET", "/view_metadata/checkpoints?filename={}"),
    ("GET", "/view_metadata/{}?filename=secret.png"),
    ("GET", "/models/{}"),
    ("GET", "/internal/files/{}"),
    ("GET", "/object_info/{}"),
    ("GET", "/settings/{}"),
    ("POST", "/settings/{}"),
    ("GET", "/history/{}"),
    ("GET", "/jobs/{}"),
    ("POST", "/jobs/{}/cancel"),
    ("GET", "/{}"),
)


@examples(150)
@given(st.sampled_from(_NAMED), in_address(names()))
def test_no_name_in_an_address_leads_outside(server: Serving, route: tuple[str, str], name: str) -> None:
    method, target = route
    before = elsewhere(server)
    body = json.dumps(TOY[0]).encode() if method in ("PUT", "POST") else None
    well(server.ask(method, target.replace("{}", name), body, {"Content-Type": "application/json"}))
    assert elsewhere(server) == before


@examples(60)
@given(
    names(),
    names(),
    st.sampled_from(("input", "output", "temp", "models", "")),
    st.sampled_from(("image", "mask")),
)
def test_no_upload_leads_outside(server: Serving, name: str, folder: str, kind: str, route: str) -> None:
    before = elsewhere(server)
    fields = {"type": kind, "subfolder": folder, "overwrite": "true"}
    if route == "mask":
        fields["original_ref"] = json.dumps({"filename": folder, "subfolder": name, "type": kind})
    parts = [
        f'name="image"; filename="{name}"\r\n\r\nx',
        *(f'name="{key}"\r\n\r\n{fields[key]}' for key in fields),
    ]
    body = (
        "".join(f"--x\r\nContent-Disposition: form-data; {part}\r\n" for part in parts).encode()
        + b"--x--\r\n"
    )
    well(server.ask("POST", f"/upload/{route}", body, {"Content-Type": "multipart/form-data; boundary=x"}))
    assert elsewhere(server) == before


def test_it_is_still_well(server: Serving, idle: Serving) -> None:
    for one in (server, idle):
        well(one.ask("GET", "/health"))
        for target in ("/queue", "/history", "/jobs", "/settings", "/userdata?dir=workflows", "/workflows"):
            answer = one.ask("GET", target)
            assert answer.status == 200 or (one is idle and answer.status == 404), (target, answer.body)
        assert list((one.root / "data").glob("incoming/*")) == []
