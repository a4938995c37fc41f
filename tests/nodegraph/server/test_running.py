"""Jobs that run: a real worker process, messages to the client, history, /run and saved workflows."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType

from tests.nodegraph.running import n
from tests.nodegraph.server.serving import WORKING, Served, ready, served, until_end


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    """A server with a worker that is ready."""
    async with served(tmp_path, **WORKING) as running:
        await ready(running)
        yield running


async def test_a_job_from_its_post_to_its_history(server: Served) -> None:
    prompt = {"1": n("WorkSteps", steps=3), "2": n("ToyShow", item=["1", 0])}
    async with server.websocket("me") as me, server.websocket("you") as you:
        made = await server.post("/prompt", {"prompt": prompt, "client_id": "me"})
        job = made["prompt_id"]
        got = await until_end(me, job)
        kinds = [item["type"] for item in got]
        assert kinds[0] == kinds[-2] == "status"
        # The state of the queue is told whenever it changes, in between too.
        assert [kind for kind in kinds if kind not in ("status", "progress_state", "progress")] == [
            *("execution_start", "execution_cached", "executing", "executing", "executed"),
            *("execution_success", "executing"),
        ]
        assert kinds.index("progress_state") < kinds.index("executing")
        # The last message says that the history has it.
        history = await server.get(f"/history/{job}")
        await server.post("/prompt", {"prompt": prompt, "client_id": "you", "prompt_id": "yours"})
        theirs = await until_end(you, "yours")
        others = {item["data"].get("prompt_id") for item in theirs if item["type"] != "status"}
        assert others == {"yours"}
        cached = next(item["data"]["nodes"] for item in theirs if item["type"] == "execution_cached")
        assert "2" in cached
        assert any(item["type"] == "executed" and item["data"]["node"] == "2" for item in theirs)
    found = history[job]
    assert found["prompt"][1:] == [job, prompt, {"client_id": "me"}, ["2"]]
    assert found["outputs"] == {"2": {"text": ["3"]}}
    assert (found["status"]["status_str"], found["status"]["completed"]) == ("success", True)
    names = [name for name, _ in found["status"]["messages"]]
    assert names == ["execution_start", "execution_cached", "execution_success"]
    assert found["meta"]["2"]["display_node"] == "2"
    listed = await server.get("/history?max_items=1")
    assert list(listed) == ["yours"]
    assert list(await server.get("/history")) == [job, "yours"]
    await server.post("/history", {"delete": [job]})
    assert list(await server.get("/history")) == ["yours"]


async def test_what_a_run_answers(server: Served) -> None:
    prompt = {"1": n("WorkSave", text="saved", name="a.txt")}
    found = await server.post("/run?outputs=inline", {"prompt": prompt})
    assert found["status"] == "completed" and found["problems"] == []
    (file,) = found["files"]
    assert base64.b64decode(file["data"]) == b"saved"
    async with server.session.get(server.url + file["url"]) as answer:
        assert await answer.read() == b"saved"
        assert answer.headers["Content-Disposition"].startswith("attachment")
    linked = await server.post("/run", {"prompt": prompt})
    assert "data" not in linked["files"][0]
    assert (await server.post("/run", {"prompt": {"1": n("ToyShow")}}, 400))["node_errors"]


async def test_a_run_that_fails_or_is_cancelled_or_takes_longer(server: Served) -> None:
    failing = {"1": n("ToyFail"), "2": n("ToyShow", item=["1", 0])}
    found = await server.post("/run", {"prompt": failing}, 422)
    assert found["status"] == "failed" and found["problems"][0]["node"] == "1"
    job = (await server.get(f"/history/{found['id']}"))[found["id"]]
    assert job["status"]["status_str"] == "error"
    name, error = job["status"]["messages"][-1]
    assert name == "execution_error" and error["node_id"] == "1" and error["node_type"] == "ToyFail"
    slow = {"1": n("WorkSteps", steps=600, seconds=0.05), "2": n("ToyShow", item=["1", 0])}
    late = await server.post("/run?wait=0.1", {"prompt": slow}, 202)
    assert late["status"] in ("pending", "in_progress")
    waiting = asyncio.create_task(server.post("/run", {"prompt": slow, "prompt_id": "second"}, 409))
    while (await server.get("/prompt"))["exec_info"]["queue_remaining"] < 2:
        await asyncio.sleep(0.02)
    await server.post("/queue", {"delete": ["second"]})
    assert (await waiting)["status"] == "cancelled"
    while (await server.get(f"/jobs/{late['id']}"))["status"] != "in_progress":
        await asyncio.sleep(0.02)
    await server.post("/interrupt", {"prompt_id": late["id"]})
    while (await server.get(f"/jobs/{late['id']}"))["status"] != "cancelled":
        await asyncio.sleep(0.02)
    messages = (await server.get(f"/history/{late['id']}"))[late["id"]]["status"]["messages"]
    assert messages[-1][0] == "execution_interrupted" and messages[-1][1]["node_id"] == "1"


async def test_a_worker_that_is_killed_costs_one_job_and_clients_are_told(server: Served) -> None:
    async with server.websocket("me") as me:
        prompt = {"1": n("WorkDie"), "2": n("ToyShow", item=["1", 0])}
        await server.post(
            "/prompt", {"prompt": prompt, "client_id": "me", "prompt_id": "dying", "max_attempts": 1}
        )
        after = await server.post("/prompt", {"prompt": {"1": n("ToyShow", item=1)}, "client_id": "me"})
        got = await until_end(me, "dying")
        (error,) = [item["data"] for item in got if item["type"] == "execution_error"]
        assert error["exception_type"] == "worker_died"
        await until_end(me, after["prompt_id"])
    assert (await server.get("/jobs/dying"))["status"] == "failed"
    metrics = await (await server.session.get(server.url + "/metrics")).text()
    assert 'nodegraph_jobs{status="finished"} 1' in metrics
    assert 'nodegraph_worker_restarts_total{worker="worker-1"} 1' in metrics


async def test_events_of_a_run_as_they_happen(server: Served) -> None:
    body = {"prompt": {"1": n("WorkSteps", steps=2), "2": n("ToyShow", item=["1", 0])}}
    headers = {"Accept": "text/event-stream"}
    async with server.session.post(server.url + "/run", json=body, headers=headers) as answer:
        assert answer.content_type == "text/event-stream"
        text = await answer.text()
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert names[0] == "status" and "executed" in names and names[-1] == "result"
    result = json.loads(text.rpartition("data: ")[2])
    assert result["status"] == "completed" and result["outputs"] == {"2": {"text": ["2"]}}


DOCUMENT: dict[str, Any] = {
    "nodegraph": 1,
    "title": "Sum",
    "parameters": {
        "first": {"node": "1", "input": "a", "description": "the first"},
        "factor": {"node": "2", "input": "factor"},
        "rounding": {"node": "2", "input": "rounding"},
    },
    "prompt": {
        "1": n("ToyAdd", a=1, b=2),
        "2": n("ToyScale", x=["1", 0], factor=2, rounding="none"),
        "3": n("ToyShow", item=["2", 0]),
    },
}


async def test_a_saved_workflow_is_an_endpoint(server: Served) -> None:
    async with server.session.put(server.url + "/workflows/sum", json=DOCUMENT) as answer:
        assert answer.status == 201
    assert (await server.get("/workflows"))["workflows"] == ["sum"]
    assert (await server.get("/workflows/sum"))["title"] == "Sum"
    assert await server.get("/api/userdata?dir=workflows") == ["sum.json"]
    schema = await server.get("/workflows/sum/schema")
    assert schema["properties"]["first"] == {"type": "number", "default": 1, "description": "the first"}
    assert schema["properties"]["factor"] == {"type": "number", "minimum": -10, "maximum": 10, "default": 2}
    assert schema["properties"]["rounding"]["enum"] == ["none", "down", "nearest"]
    found = await server.post("/workflows/sum/run", {"first": 4, "factor": 3})
    assert found["outputs"] == {"3": {"text": ["18.0"]}}
    assert (await server.post("/workflows/sum/run", {"frist": 4}, 400))["error"][
        "type"
    ] == "unknown_parameter"
    refused = await server.post("/workflows/sum/run", {"factor": 99}, 400)
    assert refused["node_errors"]["2"]["errors"][0]["type"] == "value_bigger_than_max"
    await server.post("/workflows/none/run", {}, 404)
    async with server.session.put(server.url + "/workflows/bad", json={"x": 1}) as answer:
        assert answer.status == 400
    assert await server.error("PUT", "/workflows/..%2Fx", 403, json=DOCUMENT) == "outside_folder"
    async with server.session.delete(server.url + "/workflows/sum") as answer:
        assert answer.status == 204
    assert await server.error("GET", "/workflows/sum", 404) == "not_found"


async def test_a_sweep_is_a_job_for_each_combination(server: Served) -> None:
    body = {**DOCUMENT, "sweep": {"first": [1, 2], "factor": [1, 3]}}
    found = await server.post("/run", body)
    assert [run["outputs"]["3"]["text"] for run in found["runs"]] == [["3.0"], ["9.0"], ["4.0"], ["12.0"]]
    found = await server.post("/run", {**body, "sweep_mode": "zip"})
    assert [run["outputs"]["3"]["text"] for run in found["runs"]] == [["3.0"], ["12.0"]]
    for sweep, mode in (
        ({"first": [1], "factor": [1, 2]}, "zip"),
        ({"first": []}, "product"),
        ({"first": [0] * 2000}, "product"),
    ):
        refused = await server.post("/run", {**DOCUMENT, "sweep": sweep, "sweep_mode": mode}, 400)
        assert refused["error"]["type"] == "invalid_request"
    assert (await server.post("/run", {**DOCUMENT, "sweep": {"none": [1]}}, 400))["error"][
        "type"
    ] == "unknown_parameter"


async def test_a_plan_says_what_would_run(server: Served) -> None:
    found = await server.post("/plan", {"prompt": DOCUMENT["prompt"]})
    assert {row["node"]: row["state"] for row in found["nodes"]} == {"1": "run", "2": "run", "3": "run"}
    await server.post("/run", {"prompt": DOCUMENT["prompt"]})
    found = await server.post("/plan", {"prompt": DOCUMENT["prompt"]})
    assert {row["node"]: row["state"] for row in found["nodes"]}["3"] == "cached"
    assert "run" not in {row["state"] for row in found["nodes"]}
    await server.post("/free", {"free_memory": True})


async def test_what_the_workers_say(server: Served) -> None:
    assert "WorkSteps" in await server.get("/object_info")
    stats = await server.get("/system_stats")
    assert len(stats["devices"]) == 1
    device = stats["devices"][0]
    assert set(device) == {
        "name",
        "type",
        "index",
        "vram_total",
        "vram_free",
        "torch_vram_total",
        "torch_vram_free",
    }
    assert stats["system"]["ram_total"] > stats["system"]["ram_free"] > 0
    assert await server.get("/ready") == {"status": "ready", "workers": 1, "ready": 1}
    assert set(await server.get("/internal/logs/raw")) == {"entries", "size"}


async def test_a_node_that_no_worker_has_described_yet_is_waited_for(tmp_path: Path) -> None:
    # What ships does not have the nodes of this pack; the worker that says so has not started when the posts come.
    async with served(tmp_path, **WORKING) as server:
        assert not server.state.catalogue.complete
        made, both, refused = await asyncio.gather(
            server.post("/prompt", {"prompt": {"1": n("WorkPid")}}),
            server.post("/prompt", {"prompt": {"1": n("WorkPid"), "2": n("ToyShow", item=1)}}),
            server.error("POST", "/prompt", 400, json={"prompt": {"1": n("WorkNothing")}}),
        )
        assert made["node_errors"] == both["node_errors"] == {}
        assert refused == "invalid_prompt"
        assert server.state.catalogue.complete


async def test_clients_at_once_see_their_own_progress_and_nobody_elses(server: Served) -> None:
    async with (
        server.websocket("me") as me,
        server.websocket("you") as you,
        server.websocket("stranger") as stranger,
    ):
        sockets = {"me": me, "you": you, "stranger": stranger}
        jobs: dict[str, list[str]] = {name: [] for name in sockets}
        for number, name in enumerate(("me", "you", "me", "you")):
            prompt = {"1": n("WorkSteps", steps=8 + number, seconds=0.1), "2": n("ToyShow", item=["1", 0])}
            made = await server.post("/prompt", {"prompt": prompt, "client_id": name})
            jobs[name].append(made["prompt_id"])
        # Nobody's: its messages go to nobody.
        await server.post("/prompt", {"prompt": {"1": n("ToyShow", item="alone")}, "prompt_id": "last"})
        while not (await server.get("/history/last")):
            await asyncio.sleep(0.05)
        for name, socket in sockets.items():
            texts, previews = [], 0
            while True:
                try:
                    message = await socket.receive(timeout=0.5)
                except TimeoutError:
                    break
                if message.type is WSMsgType.BINARY:
                    previews += 1
                else:
                    texts.append(json.loads(message.data))
            told = {item["data"]["prompt_id"] for item in texts if "prompt_id" in item["data"]}
            assert told == set(jobs[name])
            assert {item["type"] for item in texts} >= (
                {"progress_state", "executed"} if told else {"status"}
            )
            assert (previews > 0) == bool(told)
