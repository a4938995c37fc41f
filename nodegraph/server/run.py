"""POST /run: a workflow in, what it made out; several at once with a sweep; POST /plan: what a run would do."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import mimetypes
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypedDict
from urllib.parse import urlencode

from aiohttp import web

from nodegraph.errors import Problem, ValidationError
from nodegraph.formats.json_text import parse
from nodegraph.jobs import Job, JobStatus
from nodegraph.server.answers import ErrorAnswer, Refused, dumps, error_data, read_json, reply
from nodegraph.server.comfy import listener_id
from nodegraph.server.files import address
from nodegraph.server.given import WORKFLOW, form_values, read_run_form, settled
from nodegraph.server.hub import Payload
from nodegraph.server.jobs import NAMES
from nodegraph.server.prompts import Accepted, BadPrompt, PromptBody, accept, files_of, problems_of
from nodegraph.server.routing import Route, query_of
from nodegraph.server.shapes import checked
from nodegraph.server.state import STATE, State
from nodegraph.sockets import Range

if TYPE_CHECKING:
    from nodegraph.workflow import Workflow

MOST_RUNS = 1000
"""Jobs of one sweep."""
_MOST_INLINE = 64 * 2**20
_FINAL_STATUS = {JobStatus.FINISHED: 200, JobStatus.FAILED: 422, JobStatus.CANCELLED: 409}


@dataclass(frozen=True, slots=True)
class RunQuery:
    """How long to wait, and how files are answered."""

    wait: Annotated[float, Range(0, 86_400)] = 600.0
    """Seconds; a run that takes longer is answered with 202 and goes on."""
    outputs: Literal["links", "inline"] = "links"


@dataclass(frozen=True)
class RunOptions:
    """What a body of /run may have beside those of /prompt."""

    values: dict[str, Any] | None = None
    """Values of the workflow's declared parameters."""
    sweep: dict[str, Any] | None = None
    """Lists of values by parameter: a job for each combination."""
    sweep_mode: Literal["product", "zip"] = "product"
    """Every combination, or the first values together, then the second..."""


@dataclass(frozen=True)
class RunBody(RunOptions, PromptBody):
    """A workflow, how to run it, and values for its parameters; where one names a file it may be data:, sha256: or https:."""


class RunResult(TypedDict):
    """What became of a job."""

    id: str
    status: str
    seconds: float | None
    outputs: dict[str, Any]
    files: list[dict[str, Any]]
    problems: list[dict[str, Any]]
    job: str
    node_errors: NotRequired[dict[str, Any]]


class SweepResult(TypedDict):
    """What became of the jobs of a sweep, in the order of its values."""

    runs: list[RunResult]


class PlanResult(TypedDict):
    """Each node's state, and what is wrong."""

    nodes: list[dict[str, Any]]
    problems: list[dict[str, Any]]
    node_errors: dict[str, Any]


async def post_run(request: web.Request) -> web.StreamResponse:
    """Run a workflow and answer with what it made; with `Accept: text/event-stream`, with what happens meanwhile too."""
    state = request.app[STATE]
    if request.content_type != "multipart/form-data":
        return await answer(request, await read_json(request, state.config.limits.body))
    from nodegraph.workflow import Workflow

    with await read_run_form(request, state, workflow=True) as form:
        data = parse(form.fields[WORKFLOW], "the workflow")

        def read() -> dict[str, Any]:
            return form_values(state, Workflow.from_data(_body(data), name="the workflow"), form)

        values = await asyncio.to_thread(read)
    return await answer(request, data, values)


async def answer(
    request: web.Request, data: Any, values: Mapping[str, Any] | None = None
) -> web.StreamResponse:
    """The answer to a run of the document `data`, the body of a POST /run, with further values of its parameters."""
    state = request.app[STATE]
    asked = query_of(request, RunQuery)
    options = checked(RunOptions, data)
    given = values or {}
    most = state.config.limits.sweep
    if options.sweep is None and not options.values and not given:
        documents = variants(data, options, most, given)
    else:
        # Beside the loop: it may be a thousand large documents.
        documents = await asyncio.to_thread(variants, data, options, most, given)
    documents = await settled(state, documents)
    events = "text/event-stream" in request.headers.get("Accept", "")
    key = request.headers.get("Idempotency-Key")
    if len(documents) > 1 and (events or key is not None):
        raise Refused(400, "invalid_request", "a sweep has neither an event stream nor an Idempotency-Key.")
    try:
        accepted = [await accept(state, document, idempotency_key=key) for document in documents]
    except BadPrompt as error:
        return reply(error_data(error.problems, error.node_errors), 400)
    if events:
        return await _streamed(request, state, accepted[0])
    jobs = await state.dispatch.submit(*(item.request for item in accepted))
    ended = await state.dispatch.wait([job.id for job in jobs], asked.wait)
    results = [await asyncio.to_thread(result, state, job, asked.outputs) for job in ended]
    if len(documents) == 1:
        return reply({**results[0], "node_errors": accepted[0].node_errors}, _status(ended[0]))
    done = all(job.status.final for job in ended)
    return reply({"runs": results}, 200 if done else 202)


def _status(job: Job) -> int:
    return _FINAL_STATUS.get(job.status, 202)


def variants(
    data: Any, options: RunOptions, most: int, values: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The documents of a run: one, or one for each combination of a sweep, with the parameters set.

    A value may be set by `NODE.INPUT` too, where no parameter has that name. Raises ValidationError, and Refused where the
    documents would come to more than `most` bytes.
    """
    from nodegraph.workflow import Workflow

    body = _body(data)
    values = {**(options.values or {}), **(values or {})}
    if not values and options.sweep is None:
        return [body]
    envelope = {
        name: data[name] for name in PromptBody.__dataclass_fields__ if name in data and name != "prompt"
    }
    workflow = Workflow.from_data(body, name="the workflow")
    made = []
    wanted = combinations(options)
    if len(wanted) > 1 and len(wanted) * len(dumps([body, values])) > most:
        text = f"the documents of the sweep are larger than {most} bytes, the most that is taken."
        raise Refused(413, "too_large", text, hint="Ask for fewer at once.")
    for chosen in wanted:
        changed = _with_values(workflow, {**values, **chosen})
        made.append({**changed.document(), **envelope})
    if len(made) > 1 and "prompt_id" in envelope:
        raise Refused(
            400, "invalid_request", "the jobs of a sweep cannot share one prompt_id.", input="prompt_id"
        )
    return made


def _body(data: Any) -> dict[str, Any]:
    """What is left of a body without the options of a run."""
    if not isinstance(data, dict):
        raise Refused(400, "invalid_request", "the body must be a JSON object.")
    return {name: value for name, value in data.items() if name not in RunOptions.__dataclass_fields__}


def _with_values(workflow: Workflow, values: Mapping[str, Any]) -> Workflow:
    places = {
        name: value for name, value in values.items() if "." in name and name not in workflow.parameters
    }
    changed = workflow.with_inputs(places) if places else workflow
    return changed.with_values({name: value for name, value in values.items() if name not in places})


def combinations(options: RunOptions) -> list[dict[str, Any]]:
    """The values of each job of a sweep. Raises ValidationError for lists that do not go together, or too many jobs."""
    if options.sweep is None:
        return [{}]
    lists = {name: item if isinstance(item, list) else [item] for name, item in options.sweep.items()}
    problems = [
        Problem("invalid_request", f"the sweep gives no value for {name!r}.", input="sweep")
        for name, items in lists.items()
        if not items
    ]
    if options.sweep_mode == "zip" and len({len(items) for items in lists.values()}) > 1:
        found = ", ".join(f"{name}: {len(items)}" for name, items in lists.items())
        problems.append(
            Problem(
                "invalid_request", "lists that are zipped must be of one length.", input="sweep", found=found
            )
        )
    if problems:
        raise ValidationError(problems)
    count = 1
    for items in lists.values():
        count = len(items) if options.sweep_mode == "zip" else count * len(items)
    if count > MOST_RUNS:
        text = f"the sweep has more than {MOST_RUNS} jobs."
        raise ValidationError(Problem("invalid_request", text, input="sweep", found=str(count)))
    rows = (
        zip(*lists.values(), strict=True)
        if options.sweep_mode == "zip"
        else itertools.product(*lists.values())
    )
    return [dict(zip(lists, row, strict=True)) for row in rows]


def result(state: State, job: Job, form: str) -> RunResult:
    """What became of a job: status, what its nodes showed, and its files as links or whole."""
    outputs = json.loads(job.outputs) if job.outputs else {}
    spent = job.finished - job.started if job.finished is not None and job.started is not None else None
    found: RunResult = {
        "id": job.id,
        "status": NAMES[job.status],
        "seconds": round(spent, 3) if spent is not None else None,
        "outputs": outputs,
        "files": _files(state, outputs, form),
        "problems": problems_of(job),
        "job": f"/jobs/{job.id}",
    }
    return found


def _files(state: State, outputs: Mapping[str, Any], form: str) -> list[dict[str, Any]]:
    found = []
    left = _MOST_INLINE
    for file in files_of(outputs):
        place = {name: file.get(name, "") for name in ("filename", "subfolder", "type")}
        kind = mimetypes.guess_type(place["filename"])[0] or "application/octet-stream"
        item = {**place, "mime": kind, "url": f"/view?{urlencode(place)}"}
        if form == "inline":
            try:
                path = address(state, place["type"], place["subfolder"], place["filename"])
                size = path.stat().st_size
                if size <= left:
                    left -= size
                    item["data"] = base64.b64encode(path.read_bytes()).decode()
            except Refused:
                # Removed since; the link says so to whoever follows it.
                item["data"] = None
        found.append(item)
    return found


async def _streamed(request: web.Request, state: State, accepted: Accepted) -> web.StreamResponse:
    """Server-sent events: the messages that a websocket would get, then `result`."""
    chosen = replace(accepted.request, id=accepted.request.id or uuid.uuid4().hex)
    assert chosen.id is not None
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})

    prepared = asyncio.Event()

    async def transmit(payload: Payload) -> None:
        await prepared.wait()
        if isinstance(payload, str):
            kind = json.loads(payload)["type"]
            await response.write(f"event: {kind}\ndata: {payload}\n\n".encode())

    def abort() -> None:
        if request.transport is not None:
            request.transport.abort()

    async with state.hub.holding(listener_id(chosen.id), transmit, abort) as client:
        (job,) = await state.dispatch.submit(chosen)
        await response.prepare(request)
        prepared.set()
        waiting = asyncio.ensure_future(state.dispatch.wait([job.id], None))
        try:
            while not waiting.done() and not client.dropped:
                # A line now and then, so that what stands between does not take the silence for the end.
                await asyncio.wait([waiting], timeout=15)
                if not waiting.done():
                    await response.write(b": still running\n\n")
            if client.dropped:
                return response
            await client.flushed()
            ended = waiting.result()[0]
        finally:
            waiting.cancel()
        found = await asyncio.to_thread(result, state, ended, query_of(request, RunQuery).outputs)
        await response.write(b"event: result\ndata: " + dumps(found) + b"\n\n")
    await response.write_eof()
    return response


async def post_plan(request: web.Request) -> web.Response:
    """What a run would do now: for each node whether its result is held, and why it would run."""
    state = request.app[STATE]
    data = await read_json(request, state.config.limits.body)
    try:
        accepted = await accept(state, data)
    except BadPrompt as error:
        return reply(error_data(error.problems, error.node_errors), 400)
    found = await state.dispatch.plan(accepted.request.document, accepted.request.targets)
    return reply({**found, "node_errors": accepted.node_errors})


RUN_ANSWERS: Mapping[int, Any] = {
    200: RunResult | SweepResult,
    202: RunResult | SweepResult,
    409: RunResult | ErrorAnswer,
    422: RunResult,
}
"""Done, going on, cancelled (or an id that is taken), failed."""
ROUTES = (
    Route(
        "POST",
        "/run",
        post_run,
        "Run a workflow and wait for what it makes",
        query=RunQuery,
        body=RunBody,
        form=True,
        answers=RUN_ANSWERS,
    ),
    Route(
        "POST",
        "/plan",
        post_plan,
        "What a run would do now, and why",
        body=PromptBody,
        answers={200: PlanResult},
    ),
)
