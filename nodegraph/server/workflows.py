"""Routes of saved workflows: kept by name, described by their parameters, and run with values for them.

They lie where an editor saves its own, `workflows/` of the person's files.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from aiohttp import web

from nodegraph.errors import ValidationError
from nodegraph.node import InputSpec, NodeSpec
from nodegraph.server.answers import Refused, read_body, read_json, reply
from nodegraph.server.given import form_values, read_run_form, takes_file
from nodegraph.server.routing import Route
from nodegraph.server.run import RUN_ANSWERS, RunQuery, answer
from nodegraph.server.security import inside, plain_path
from nodegraph.server.state import STATE, State

if TYPE_CHECKING:
    from nodegraph.workflow import Workflow

_OPTIONS = ("sweep", "sweep_mode", "webhook")
_TYPES = {"INT": "integer", "FLOAT": "number", "STRING": "string", "BOOLEAN": "boolean", "COMBO": "string"}


class Names(TypedDict):
    """Names of the saved workflows."""

    workflows: list[str]


class Saved(TypedDict):
    """The name under which a workflow was saved."""

    name: str


async def list_workflows(request: web.Request) -> web.Response:
    """Names of the saved workflows."""
    root = _root(request.app[STATE])

    def listed() -> list[str]:
        found = []
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            here = Path(folder).relative_to(root)
            found += [
                (here / name[:-5]).as_posix() for name in names if name.endswith(".json") and name[0] != "."
            ]
        return sorted(found)

    return reply({"workflows": await asyncio.to_thread(listed)})


async def get_workflow(request: web.Request) -> web.Response:
    """A saved workflow, as it was saved."""
    path = _path(request)
    try:
        data = await asyncio.to_thread(path.read_bytes)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise _missing(path) from None
    return web.Response(body=data, content_type="application/json", charset="utf-8")


async def put_workflow(request: web.Request) -> web.Response:
    """Save a workflow of any format that is read; it is kept as a document of nodegraph's."""
    state = request.app[STATE]
    path = _path(request)
    data = await read_workflow(request)
    there = path.is_file()
    await asyncio.to_thread(_save, state, path, data)
    return reply({"name": _name(request)}, 200 if there else 201)


def _save(state: State, path: Path, data: Any) -> None:
    workflow = workflow_of(state, data, "the workflow")
    path.parent.mkdir(parents=True, exist_ok=True)
    workflow.save(path)


async def read_workflow(request: web.Request) -> Any:
    """A body that is a workflow: JSON data, or the bytes of what is said to be a picture. Raises Refused."""
    limits = request.app[STATE].config.limits
    if request.content_type in ("image/png", "image/webp"):
        return await read_body(request, limits.upload)
    data = await read_json(request, limits.body)
    if not isinstance(data, dict):
        raise Refused(400, "invalid_prompt", "the body must be a workflow.")
    return data


def workflow_of(state: State, data: Any, name: str) -> Workflow:
    """The workflow of what `read_workflow` read, `name` what errors call JSON. Raises ValidationError or Refused."""
    from nodegraph.formats.png import is_picture
    from nodegraph.workflow import Workflow

    registry = state.catalogue.registry
    if not isinstance(data, bytes):
        return Workflow.from_data(data, registry, name=name)
    if not is_picture(data):
        raise Refused(400, "not_a_picture", "the body is neither a PNG nor a WebP.")
    return Workflow.of_picture(data, "the picture", registry, state.folders.list)


async def delete_workflow(request: web.Request) -> web.Response:
    """Remove a saved workflow."""
    path = _path(request)
    try:
        await asyncio.to_thread(path.unlink)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise _missing(path) from None
    return web.Response(status=204)


async def get_schema(request: web.Request) -> web.Response:
    """The JSON Schema of the values that a run of the workflow takes."""
    state = request.app[STATE]
    path = _path(request)
    return reply(await asyncio.to_thread(lambda: schema_of(_loaded(state, path), state)))


async def run_workflow(request: web.Request) -> web.StreamResponse:
    """Run a saved workflow with values for its parameters, and answer as POST /run does.

    `sweep`, `sweep_mode` and `webhook` are those of /run where the workflow declares no parameter of that name.
    """
    state = request.app[STATE]
    path = _path(request)
    if request.content_type == "multipart/form-data":
        with await read_run_form(request, state, workflow=False) as form:

            def read() -> tuple[Workflow, dict[str, Any]]:
                found = _loaded(state, path)
                return found, form_values(state, found, form)

            workflow, values = await asyncio.to_thread(read)
    else:
        values = await read_json(request, state.config.limits.body, empty={})
        if not isinstance(values, dict):
            raise Refused(
                400, "invalid_request", "the body must be an object with a value for each parameter."
            )
        workflow = await asyncio.to_thread(_loaded, state, path)
    options = {
        name: values.pop(name) for name in _OPTIONS if name in values and name not in workflow.parameters
    }
    return await answer(request, {**workflow.document(), **options}, values)


def _loaded(state: State, path: Path) -> Workflow:
    from nodegraph.workflow import Workflow

    try:
        return Workflow.load(path, state.catalogue.registry)
    except ValidationError:
        if not path.is_file():
            raise _missing(path) from None
        raise


def schema_of(workflow: Workflow, state: State) -> dict[str, Any]:
    """JSON Schema of a workflow's parameters: types, ranges and choices of the inputs that they set."""
    properties = {}
    for name, parameter in workflow.parameters.items():
        target = parameter.targets[0]
        node: Mapping[str, Any] = workflow.prompt.get(target.node, {})
        spec: NodeSpec | None = state.catalogue.registry.get(str(node.get("class_type", "")))
        item = spec.inputs.get(target.input) if spec is not None else None
        properties[name] = input_schema(item, state) if item is not None else {}
        now = workflow.value_of(name)
        if isinstance(now, (str, int, float)):
            properties[name]["default"] = now
        if parameter.description:
            properties[name]["description"] = parameter.description
    found: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return {**found, "title": workflow.title} if workflow.title else found


def input_schema(item: InputSpec, state: State) -> dict[str, Any]:
    """JSON Schema of an input's literals."""
    if item.choice is not None:
        files = state.folders.list(item.choice.files) if item.choice.files is not None else []
        listed = {"enum": [*item.choice.options, *files]}
        # The file itself, the hash of one that was sent before, or an address.
        sent = {"type": "string", "pattern": "^(data:|sha256:|https?://)"}
        return {"anyOf": [listed, sent]} if takes_file(item) else listed
    found: dict[str, Any] = {"type": _TYPES[item.type]} if item.type in _TYPES else {}
    if item.range is not None:
        found |= {"minimum": item.range.min, "maximum": item.range.max}
    return found


def _root(state: State) -> Path:
    return state.config.user_dir / "files" / "workflows"


def _name(request: web.Request) -> str:
    return request.match_info["name"].removesuffix(".json")


def _path(request: web.Request) -> Path:
    parts = plain_path(_name(request), what="name")
    if not parts:
        raise Refused(400, "bad_name", "no workflow is named.")
    return inside(_root(request.app[STATE]), *parts[:-1], f"{parts[-1]}.json")


def _missing(path: Path) -> Refused:
    return Refused(404, "not_found", "there is no such workflow.", found=repr(path.stem))


ROUTES = (
    Route("GET", "/workflows", list_workflows, "Names of the saved workflows", answers={200: Names}),
    Route(
        "GET",
        "/workflows/{name}/schema",
        get_schema,
        "JSON Schema of a workflow's parameters",
        answers={200: dict[str, Any]},
    ),
    Route(
        "POST",
        "/workflows/{name}/run",
        run_workflow,
        "Run a saved workflow",
        query=RunQuery,
        body=dict,
        form=True,
        answers=RUN_ANSWERS,
    ),
    Route("GET", "/workflows/{name}", get_workflow, "A saved workflow", answers={200: dict[str, Any]}),
    Route(
        "PUT",
        "/workflows/{name}",
        put_workflow,
        "Save a workflow",
        body=dict,
        answers={200: Saved, 201: Saved},
    ),
    Route("DELETE", "/workflows/{name}", delete_workflow, "Remove a saved workflow", answers={204: None}),
)
