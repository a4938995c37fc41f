"""POST /prompt: a document is checked as far as that goes without running anything, stored, and then acknowledged."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypedDict

from aiohttp import web

from nodegraph.errors import Problem, ValidationError
from nodegraph.jobs import Job, JobRequest
from nodegraph.server.answers import Refused, compact, error_data, error_item, read_json, reply
from nodegraph.server.routing import Route
from nodegraph.server.shapes import checked
from nodegraph.server.state import STATE, State
from nodegraph.server.webhooks import admit_webhook
from nodegraph.sockets import Range

if TYPE_CHECKING:
    from nodegraph.graph import Report
    from nodegraph.workflow import Workflow

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
SECRETS = ("auth_token_comfy_org", "api_key_comfy_org")
"""Entries of extra_data, at any depth, with which editors pass on credentials. They are dropped: nothing here needs them."""
_ENVELOPE = frozenset(
    {
        *("client_id", "prompt_id", "number", "front", "extra_data", "partial_execution_targets"),
        *("timeout", "max_attempts", "webhook", "strict"),
    }
)
"""Fields of a body that are not part of the document."""
NO_OUTPUTS = "prompt_no_outputs"
_MOST_WALKS = 200
SMALL = 20
"""Nodes of a document that is checked at once; larger ones are checked beside the loop, so that others are answered."""
DESCRIBED = 30.0
"""Seconds after the start that a workflow with an unknown node waits for a worker to say which nodes there are."""
FAILED = "prompt_outputs_failed_validation"


@dataclass(frozen=True, slots=True)
class PromptBody:
    """A workflow and how to run it. `prompt` holds the nodes; a whole document of nodegraph's is a body too."""

    prompt: dict[str, Any]
    client_id: str | None = None
    """Whose websocket gets the messages."""
    prompt_id: str | None = None
    """The job's id, else one is made."""
    extra_data: dict[str, Any] | None = None
    number: float | None = None
    """The place in the queue, lower first."""
    front: bool = False
    partial_execution_targets: tuple[Any, ...] | None = None
    """Ids of the outputs to run; all where it is left out."""
    timeout: Annotated[float | None, Range(0.001, 30 * 86_400)] = None
    """Seconds that it may run."""
    max_attempts: Annotated[int, Range(1, 10)] = 2
    webhook: str | None = None
    """Who is told, signed, that it has ended; `extra_data` may hold it as well."""
    strict: bool = False
    """Refuse a workflow of which any output is wrong, in place of running the others."""


class PromptAnswer(TypedDict):
    """A job that was stored, and what is wrong with the outputs that are left out."""

    prompt_id: str
    number: float
    node_errors: dict[str, Any]
    warnings: NotRequired[list[dict[str, Any]]]


class QueueLength(TypedDict):
    """How many jobs are left."""

    queue_remaining: int


class QueueInfo(TypedDict):
    """What editors show of the queue."""

    exec_info: QueueLength


class BadPrompt(ValidationError):
    """A workflow of which no output can run, with ComfyUI's report on its nodes."""

    def __init__(self, first: Problem, problems: Sequence[Problem], node_errors: Mapping[str, Any]) -> None:
        super().__init__((first, *problems))
        self.node_errors = node_errors


@dataclass(frozen=True, slots=True)
class Accepted:
    """A checked workflow: what is stored, and what is wrong with the outputs that are left out."""

    request: JobRequest
    node_errors: Mapping[str, Any]
    warnings: tuple[Problem, ...]


async def post_prompt(request: web.Request) -> web.Response:
    """Check and store a workflow; the answer comes once it is on the disk."""
    state = request.app[STATE]
    data = await read_json(request, state.config.limits.body)
    key = request.headers.get("Idempotency-Key")
    try:
        accepted = await accept(state, data, idempotency_key=key)
    except BadPrompt as error:
        return reply(error_data(error.problems, error.node_errors), 400)
    (job,) = await state.dispatch.submit(accepted.request)
    found: PromptAnswer = {
        "prompt_id": job.id,
        "number": plain_number(job.number),
        "node_errors": dict(accepted.node_errors),
    }
    if accepted.warnings:
        found["warnings"] = [problem.data() for problem in accepted.warnings[:100]]
    return reply(found)


async def accept(state: State, data: Any, *, idempotency_key: str | None = None) -> Accepted:
    """Check the body of a prompt. Raises ValidationError, and BadPrompt where no output can run."""
    if not isinstance(data, dict) or "prompt" not in data:
        text = "No prompt provided"
        raise BadPrompt(Problem("no_prompt", text), (), {})
    if not isinstance(data["prompt"], dict):
        raise BadPrompt(
            Problem("invalid_prompt", "the prompt must be an object with a node for each id."), (), {}
        )
    body = checked(PromptBody, data)
    if idempotency_key is not None and not 0 < len(idempotency_key) <= 200:
        raise Refused(400, "invalid_request", "an Idempotency-Key has 1 to 200 letters.")
    for name, value in (("prompt_id", body.prompt_id), ("client_id", body.client_id)):
        if value is not None and not _ID.fullmatch(value):
            text = f"{name!r} must be 1 to 128 letters, digits and any of _ . : -"
            raise Refused(400, "invalid_request", text, input=name, found=repr(value[:100]))
    if len(body.prompt) > state.config.limits.nodes:
        text = f"the workflow has more than {state.config.limits.nodes} nodes, the most that is taken."
        raise Refused(413, "too_large", text, found=str(len(body.prompt)))

    async def once() -> Accepted:
        if len(body.prompt) <= SMALL and not state.catalogue.lists_files(body.prompt):
            # Sooner done than handed to a thread.
            return _accepted(state, data, body, idempotency_key)
        return await asyncio.to_thread(_accepted, state, data, body, idempotency_key)

    if not state.catalogue.complete and state.config.workers:
        # A node of a pack that no worker has described yet is not refused for that.
        try:
            accepted = await once()
            if not _any_unknown(accepted.node_errors):
                return accepted
        except BadPrompt as error:
            if not _any_unknown(error.node_errors):
                raise
        await state.catalogue.described(DESCRIBED)
    return await once()


def _any_unknown(node_errors: Mapping[str, Any]) -> bool:
    return any(error["type"] == "unknown_node" for item in node_errors.values() for error in item["errors"])


def _accepted(state: State, data: dict[str, Any], body: PromptBody, key: str | None) -> Accepted:
    from nodegraph.graph import check
    from nodegraph.workflow import Workflow

    extra: dict[str, Any] = _without_secrets(body.extra_data or {})
    # Not kept with the workflow, which goes into pictures: an address may hold a secret of its receiver's.
    listed = extra.pop("webhook", None)
    webhook = listed if body.webhook is None else body.webhook
    if webhook is not None:
        if not isinstance(webhook, str):
            raise Refused(400, "invalid_request", "'webhook' must be text.", input="webhook")
        webhook = admit_webhook(state, webhook)
    document = {name: value for name, value in data.items() if name not in _ENVELOPE}
    if extra:
        document["extra_data"] = extra
    text = compact(document)
    # Before they are looked for: what is there then is there when the job runs.
    state.dispatch.received.use_all(text)
    workflow = Workflow.of_data(document, name="the prompt")
    targets = None
    if body.partial_execution_targets is not None:
        targets = [str(item) for item in body.partial_execution_targets]
    report = check(workflow, state.catalogue.registry, state.folders, targets)
    node_errors = node_errors_of(workflow, report)
    if report.graph is None or (body.strict and report.problems):
        raise BadPrompt(_summary(report), report.problems, node_errors)
    extra_data = {**extra, **({"client_id": body.client_id} if body.client_id is not None else {})}
    made = JobRequest(
        document=text,
        id=body.prompt_id,
        client_id=body.client_id,
        extra_data=compact(extra_data),
        targets=report.graph.targets,
        priority=body.number,
        front=body.front,
        timeout=body.timeout,
        max_attempts=body.max_attempts,
        idempotency_key=key,
        webhook=webhook,
    )
    return Accepted(made, node_errors, report.warnings)


def _without_secrets(data: Any) -> Any:
    """JSON data, which was bounded in depth when it was read, without the credentials in it."""
    if isinstance(data, dict):
        return {name: _without_secrets(value) for name, value in data.items() if name not in SECRETS}
    return [_without_secrets(value) for value in data] if isinstance(data, list) else data


def _summary(report: Report) -> Problem:
    """What is wrong with the whole, as ComfyUI names it."""
    codes = {problem.code: problem for problem in reversed(report.problems)}
    for code in ("no_outputs", "prompt_no_outputs"):
        if code in codes:
            return Problem(NO_OUTPUTS, "Prompt has no outputs", hint=codes[code].hint)
    if "unknown_node" in codes:
        unknown = codes["unknown_node"]
        return Problem(
            "invalid_prompt",
            f"Cannot execute because node {unknown.class_type} does not exist.",
            hint=f"Node ID '#{unknown.node}'. {unknown.hint or ''}".strip(),
        )
    return Problem(FAILED, "Prompt outputs failed validation")


def node_errors_of(workflow: Workflow, report: Report) -> dict[str, Any]:
    """What is wrong by node, in ComfyUI's shape."""
    by_node: dict[str, list[Problem]] = {}
    for problem in report.problems:
        if problem.node is not None:
            by_node.setdefault(problem.node, []).append(problem)
    dependents = _dependents(report, by_node)
    return {
        node: {
            "errors": [error_item(problem) for problem in problems],
            "dependent_outputs": dependents[node],
            "class_type": str(workflow.prompt.get(node, {}).get("class_type", "")),
        }
        for node, problems in by_node.items()
    }


def _dependents(report: Report, nodes: Iterable[str]) -> dict[str, list[str]]:
    """The failed outputs that need each of these nodes, as far as the first of them go: one walk for each output."""
    found: dict[str, list[str]] = {node: [] for node in nodes}
    for target in report.failed[:_MOST_WALKS]:
        seen = {target}
        waiting = [target]
        while waiting:
            node = waiting.pop()
            if node in found:
                found[node].append(target)
            for source, _ in report.links.get(node, ()):
                if source not in seen:
                    seen.add(source)
                    waiting.append(source)
    return found


def plain_number(number: float) -> float | int:
    """A place in the queue as JSON has it: whole numbers without a fraction."""
    return int(number) if math.isfinite(number) and number == int(number) else number


async def get_prompt(request: web.Request) -> web.Response:
    """How many jobs are left."""
    return reply({"exec_info": {"queue_remaining": await request.app[STATE].dispatch.remaining()}})


def queue_item(job: Job) -> list[Any]:
    """A job as ComfyUI's five-item list: number, id, nodes, extra data, outputs."""
    document = json.loads(job.document)
    return [
        plain_number(job.number),
        job.id,
        document.get("prompt", {}),
        json.loads(job.extra_data),
        list(job.targets),
    ]


def problems_of(job: Job) -> list[dict[str, Any]]:
    """What is wrong with a job that ended, as data."""
    found: list[dict[str, Any]] = json.loads(job.problems) if job.problems else []
    return found


def files_of(outputs: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """The files among what output nodes showed."""
    for shown in outputs.values():
        for items in shown.values() if isinstance(shown, dict) else ():
            for item in items if isinstance(items, list) else ():
                if isinstance(item, dict) and "filename" in item:
                    yield item


ROUTES = (
    Route(
        "POST",
        "/prompt",
        post_prompt,
        "Check, store and queue a workflow",
        body=PromptBody,
        answers={200: PromptAnswer},
    ),
    Route("GET", "/prompt", get_prompt, "How many jobs are left", answers={200: QueueInfo}),
)
