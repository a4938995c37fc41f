"""POST /prompt, the queue, history and jobs on a real store; no worker empties the queue here."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from nodegraph.server.config import Limits
from tests.nodegraph.running import n
from tests.nodegraph.server.serving import served

GOOD = {"1": n("ToyAdd", a=1, b=2), "2": n("ToyShow", item=["1", 0])}


async def test_a_prompt_is_stored_before_it_is_answered(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        extra: dict[str, Any] = {"extra_pnginfo": {"workflow": {"nodes": []}}}
        made = await server.post("/api/prompt", {"prompt": GOOD, "client_id": "me", "extra_data": extra})
        assert set(made) == {"prompt_id", "number", "node_errors"} and made["node_errors"] == {}
        assert await server.get("/prompt") == {"exec_info": {"queue_remaining": 1}}
        assert await server.get("/history") == {}
    async with served(tmp_path) as server:
        queue = await server.get("/queue")
        assert queue["queue_running"] == []
        expected = [made["number"], made["prompt_id"], GOOD, {**extra, "client_id": "me"}, ["2"]]
        assert queue["queue_pending"] == [expected]


async def test_a_whole_document_is_a_body_too(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        document = {
            "nodegraph": 1,
            "title": "T",
            "parameters": {"a": {"node": "1", "input": "a"}},
            "prompt": GOOD,
        }
        made = await server.post("/prompt", {**document, "client_id": "me"})
        job = await server.state.dispatch.store.get(made["prompt_id"])
        assert job is not None and job.client_id == "me"
        assert '"title":"T"' in job.document and "client_id" not in job.document


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({}, "no_prompt"),
        ([], "no_prompt"),
        ({"prompt": None}, "invalid_prompt"),
        ({"prompt": [1]}, "invalid_prompt"),
        ({"prompt": {}}, "prompt_no_outputs"),
        ({"prompt": {"1": n("ToyAdd", a=1, b=2)}}, "prompt_no_outputs"),
        ({"prompt": {"1": {"inputs": {}}}}, "invalid_prompt"),
        ({"prompt": {"1": 5}}, "invalid_prompt"),
        ({"prompt": {"1": {"class_type": ["ToyShow"], "inputs": {}}}}, "invalid_prompt"),
        ({"prompt": {"1": {"class_type": "ToyShow", "inputs": []}}}, "invalid_prompt"),
        ({"prompt": {"1": n("Nothing")}}, "invalid_prompt"),
        ({"prompt": {"1": n("ToyShow")}}, "prompt_outputs_failed_validation"),
        ({"prompt": GOOD, "partial_execution_targets": ["9"]}, "prompt_outputs_failed_validation"),
        ({"prompt": GOOD, "client_id": 3}, "invalid_request"),
        ({"prompt": GOOD, "prompt_id": "a/b"}, "invalid_request"),
        ({"prompt": GOOD, "number": "first"}, "invalid_request"),
        ({"prompt": GOOD, "timeout": -1}, "invalid_request"),
        ({"nodegraph": 9, "prompt": GOOD}, "invalid_prompt"),
    ],
)
async def test_what_is_no_prompt_is_refused_in_comfyuis_words(tmp_path: Path, body: Any, kind: str) -> None:
    async with served(tmp_path) as server:
        found = await server.post("/prompt", body, 400)
        assert found["error"]["type"] == kind
        assert set(found["error"]) == {"type", "message", "details", "extra_info"}
        assert isinstance(found["node_errors"], dict)
        assert (await server.get("/queue"))["queue_pending"] == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b'{"prompt": NaN}', b'{"a": 1, "a": 2}', b"[" * 10**5]
)
async def test_what_is_no_json_is_refused(tmp_path: Path, body: bytes) -> None:
    async with served(tmp_path) as server:
        headers = {"Content-Type": "application/json"}
        async with server.session.post(server.url + "/prompt", data=body, headers=headers) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["type"] in (
                "invalid_json",
                "not_utf8",
                "no_prompt",
                "nested_too_deeply",
            )


@pytest.mark.parametrize(
    ("node", "kind", "input"),
    [
        (n("ToyScale", x=1, factor=11), "value_bigger_than_max", "factor"),
        (n("ToyScale", x=1, factor=-11), "value_smaller_than_min", "factor"),
        (n("ToyScale", x=1, rounding="up"), "value_not_in_list", "rounding"),
        (n("ToyScale", x="one"), "invalid_input_type", "x"),
        (n("ToyScale"), "required_input_missing", "x"),
        (n("ToyScale", x=["9", 0]), "bad_linked_input", "x"),
        (n("ToyScale", x=["1", 0]), "dependency_cycle", None),
        (n("ToyLoadModel", name="none.safetensors"), "value_not_in_list", "name"),
    ],
)
async def test_errors_of_nodes_have_comfyuis_types(
    tmp_path: Path, node: dict[str, Any], kind: str, input: str | None
) -> None:
    async with served(tmp_path) as server:
        prompt = {"1": node, "2": n("ToyShow", item=["1", 0])}
        found = await server.post("/prompt", {"prompt": prompt}, 400)
        assert found["error"]["type"] == "prompt_outputs_failed_validation"
        report = found["node_errors"]["1"]
        assert report["dependent_outputs"] == ["2"]
        assert report["class_type"] == node["class_type"]
        (error,) = report["errors"]
        assert error["type"] == kind
        assert error["extra_info"].get("input_name") == input


async def test_a_type_mismatch_is_told_at_the_input(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        prompt = {"1": n("ToyBlob"), "2": n("ToyScale", x=["1", 0]), "3": n("ToyShow", item=["2", 0])}
        found = await server.post("/prompt", {"prompt": prompt}, 400)
        assert found["node_errors"]["2"]["errors"][0]["type"] == "return_type_mismatch"


async def test_good_outputs_run_when_others_fail(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        prompt = {
            **GOOD,
            "3": n("ToyScale", x=1, factor=99),
            "4": n("ToyShow", item=["3", 0]),
            "5": n("Nothing"),
        }
        made = await server.post("/prompt", {"prompt": prompt})
        assert set(made["node_errors"]) == {"3"}
        assert made["node_errors"]["3"]["dependent_outputs"] == ["4"]
        assert (await server.get("/queue"))["queue_pending"][0][4] == ["2"]


async def test_only_the_named_outputs_are_kept(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        prompt = {**GOOD, "3": n("ToyShow", item=4)}
        for given, kept in ((["3"], ["3"]), ([3], ["3"]), (None, ["2", "3"])):
            body = {"prompt": prompt, "partial_execution_targets": given}
            made = await server.post("/prompt", body)
            job = await server.state.dispatch.store.get(made["prompt_id"])
            assert job is not None and list(job.targets) == kept


async def test_places_in_the_queue(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        ids = []
        more: dict[str, Any]
        for more in ({}, {"front": True}, {"number": -0.5}, {}):
            ids.append((await server.post("/prompt", {"prompt": GOOD, **more}))["prompt_id"])
        listed = [item[1] for item in (await server.get("/queue"))["queue_pending"]]
        assert listed == [ids[1], ids[2], ids[0], ids[3]]
        page = (await server.get("/queue?limit=2&offset=1"))["queue_pending"]
        assert [item[1] for item in page] == [ids[2], ids[0]]


async def test_an_id_is_taken_once_and_a_key_gives_the_same_job(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        made = await server.post("/prompt", {"prompt": GOOD, "prompt_id": "mine"})
        assert made["prompt_id"] == "mine"
        assert (await server.post("/prompt", {"prompt": GOOD, "prompt_id": "mine"}, 409))["error"][
            "type"
        ] == "duplicate_id"
        headers: dict[str, Any] = {"Idempotency-Key": "k"}
        first, second = [await server.post("/prompt", {"prompt": GOOD}, **headers) for _ in range(2)]
        assert first["prompt_id"] == second["prompt_id"]
        assert await server.get("/prompt") == {"exec_info": {"queue_remaining": 2}}
        assert server.state.dispatch.left == 2


async def test_two_hundred_at_once(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        made = await asyncio.gather(*(server.post("/prompt", {"prompt": GOOD}) for _ in range(200)))
        assert len({item["prompt_id"] for item in made}) == 200
        assert len((await server.get("/queue"))["queue_pending"]) == 200


async def test_a_queue_has_an_end(tmp_path: Path) -> None:
    async with served(tmp_path, limits=Limits(queued=2)) as server:
        for _ in range(2):
            await server.post("/prompt", {"prompt": GOOD})
        assert (await server.post("/prompt", {"prompt": GOOD}, 429))["error"]["type"] == "too_many"


async def test_waiting_jobs_are_taken_out(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        ids = [(await server.post("/prompt", {"prompt": GOOD}))["prompt_id"] for _ in range(4)]
        await server.post("/queue", {"delete": [ids[1], "none"]})
        await server.post("/interrupt", {"prompt_id": ids[0]})
        await server.post("/interrupt")
        assert [item[1] for item in (await server.get("/queue"))["queue_pending"]] == [ids[0], ids[2], ids[3]]
        cancelled = await server.post(f"/api/jobs/{ids[0]}/cancel")
        assert cancelled == {"id": ids[0], "status": "cancelled", "cancelled": True}
        assert await server.post(f"/api/jobs/{ids[0]}/cancel") == cancelled
        await server.post("/jobs/none/cancel", status=404)
        await server.post("/queue", {"clear": True})
        assert await server.get("/queue") == {"queue_running": [], "queue_pending": []}
        # What never ran is no history, as in ComfyUI, but the list of jobs knows it.
        assert await server.get("/history") == {} and await server.get(f"/history/{ids[0]}") == {}
        page = await server.get("/api/jobs?status=cancelled&limit=3")
        assert [job["status"] for job in page["jobs"]] == ["cancelled"] * 3
        assert page["pagination"] == {"offset": 0, "limit": 3, "total": 4, "has_more": True}
        await server.post("/history", {"clear": True})
        assert (await server.get("/api/jobs"))["pagination"]["total"] == 0


async def test_one_job_and_pages_of_them(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        made = await server.post("/prompt", {"prompt": GOOD})
        job = await server.get(f"/api/jobs/{made['prompt_id']}")
        assert (job["status"], job["workflow"]["prompt"], job["targets"]) == ("pending", GOOD, ["2"])
        assert [item["id"] for item in (await server.get("/jobs?status=pending,in_progress"))["jobs"]] == [
            job["id"]
        ]
        assert (await server.get("/jobs?status=completed"))["jobs"] == []
        await server.get("/jobs/none", 404)
        for query in ("status=odd", "limit=0", "limit=x", "offset=-1", "sort_order=up"):
            assert (await server.get(f"/jobs?{query}", 400))["error"]["type"] == "invalid_request"


async def test_the_queue_can_be_paused(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        assert await server.post("/queue/pause") == {"paused": True}
        assert server.state.dispatch.store.paused
        assert await server.get("/queue/pause") == {"paused": True}
        assert await server.post("/queue/resume") == {"paused": False}
        assert not server.state.dispatch.store.paused


async def test_a_job_that_waits_is_moved(tmp_path: Path) -> None:
    async def order() -> list[str]:
        return [item[1] for item in (await server.get("/queue"))["queue_pending"]]

    async with served(tmp_path, workers=0) as server:
        for name in ("a", "b", "c"):
            await server.post("/prompt", {"prompt": GOOD, "prompt_id": name, "title": name.upper()})
        await server.post("/jobs/c/move", {"front": True})
        assert await order() == ["c", "a", "b"]
        places = {job["id"]: job["priority"] for job in (await server.get("/jobs"))["jobs"]}
        between = (places["a"] + places["b"]) / 2
        assert await server.post("/jobs/c/move", {"number": between}) == {"id": "c", "priority": between}
        assert await order() == ["a", "c", "b"]
        for wrong in ({}, {"front": True, "number": 1}, {"number": "first"}):
            assert (await server.post("/jobs/a/move", wrong, 400))["error"]["type"] == "invalid_request"
        assert (await server.post("/jobs/x/move", {"front": True}, 404))["error"]["type"] == "unknown_job"
        await server.post("/jobs/a/cancel")
        assert (await server.post("/jobs/a/move", {"front": True}, 409))["error"]["type"] == "not_queued"
        assert [job["title"] for job in (await server.get("/jobs"))["jobs"]] == ["C", "B", "A"]
        assert (await server.get("/jobs/b"))["document"] == {"prompt": GOOD, "title": "B"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/queue", {"delete": "all"}),
        ("/queue", {"clear": "yes"}),
        ("/queue", [1]),
        ("/history", {"delete": [1]}),
        ("/interrupt", {"prompt_id": 1}),
        ("/free", {"unload_models": "no"}),
    ],
)
async def test_other_bodies_are_checked_too(tmp_path: Path, path: str, body: Any) -> None:
    async with served(tmp_path) as server:
        assert (await server.post(path, body, 400))["error"]["type"] == "invalid_request"


async def test_a_plan_needs_a_worker(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        assert (await server.post("/plan", {"prompt": GOOD}, 503))["error"]["type"] == "no_worker"
