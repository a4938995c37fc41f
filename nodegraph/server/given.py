"""Files that come with a request, in place of the name of a file.

Where an input names a picture, mask or latent, a run may have `data:image/png;base64,...`, `sha256:...` of a file that was
sent before, or, where that is switched on, `https://...`. What is given so lies in the input folder by its hash,
under `.received/`, and the job has its name.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from nodegraph.folders import OWN_KINDS
from nodegraph.naming import place
from nodegraph.node import InputSpec
from nodegraph.parts import Part
from nodegraph.server.answers import Refused, too_large
from nodegraph.server.contents import HASH, Content
from nodegraph.server.files import open_picture
from nodegraph.server.forms import Form, FormFile, read_form
from nodegraph.server.received import FOLDER
from nodegraph.server.security import inside
from nodegraph.server.state import State

if TYPE_CHECKING:
    from nodegraph.workflow import Workflow

MOST_FILES = 1000
MOST_URLS = 32
_AT_ONCE = 4
_SCHEMES = ("data:", "sha256:", "http://", "https://")
_LONGEST_SCHEME = max(map(len, _SCHEMES))
_MOST_HEADER = 8 * 2**20
_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tiff"}
WORKFLOW = "workflow"
"""The part of a form that holds what the body would be."""
_MOST_PARTS = 256


async def read_run_form(request: web.Request, state: State, *, workflow: bool) -> Form:
    """A multipart run: files and words by the parameters that they set, and with `workflow` the JSON that is run."""
    limits = state.config.limits
    found = await read_form(
        request,
        _folder(state),
        limits.upload,
        # A workflow may be sent as a file; it is read like any other text.
        lambda item: item.filename is not None and not (workflow and item.name == WORKFLOW),
        parts=_MOST_PARTS,
        long={WORKFLOW: limits.body} if workflow else None,
    )
    if workflow and WORKFLOW not in found.fields:
        found.__exit__(None, None, None)
        text = f"the form has no part named {WORKFLOW!r} with the workflow as JSON."
        raise Refused(400, "no_workflow", text, input=WORKFLOW)
    return found


def form_values(state: State, workflow: Workflow, form: Form) -> dict[str, Any]:
    """Values by parameter, or by `NODE.INPUT`: words as their inputs' types have them, files by their hash.

    Raises Refused for a file where none is taken, or that is neither a picture nor a latent.
    """
    from nodegraph.arguments import literal_of

    found: dict[str, Any] = {}
    for name, text in form.fields.items():
        if name != WORKFLOW:
            found[name] = literal_of(text, _input(state, workflow, name))
    for name, file in form.files.items():
        item = _input(state, workflow, name)
        if item is not None and not takes_file(item):
            raise Refused(400, "no_file_taken", f"{name[:100]!r} is not set by a file.", input=name[:100])
        found[name] = f"sha256:{_kept(state, file).sha256}"
    return found


def _input(state: State, workflow: Workflow, name: str) -> InputSpec | None:
    """What a parameter or a `NODE.INPUT` sets; None where that is not known."""
    parameter = workflow.parameters.get(name)
    node_id, input_name = (
        (parameter.targets[0].node, parameter.targets[0].input)
        if parameter is not None
        else workflow.split_place(name)
    )
    node: Mapping[str, Any] = workflow.prompt.get(node_id, {})
    spec = state.catalogue.registry.get(str(node.get("class_type", "")))
    return spec.inputs.get(input_name) if spec is not None else None


def takes_file(item: InputSpec) -> bool:
    """Whether an input names a file of the input, output or temporary folder."""
    return item.choice is not None and item.choice.files in OWN_KINDS


async def settled(state: State, documents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The documents with the names of files in place of what was given. Raises Refused."""
    wanted: dict[str, tuple[str, str]] = {}
    for document in documents:
        for node, name, value in _given(state, document):
            wanted.setdefault(value, (node, name))
    if not wanted:
        return list(documents)
    if len(wanted) > MOST_FILES:
        text = f"more than {MOST_FILES} files are given at once."
        raise Refused(413, "too_large", text, found=str(len(wanted)))
    urls = [value for value in wanted if _is_url(value)]
    if len(urls) > MOST_URLS:
        raise Refused(413, "too_large", f"more than {MOST_URLS} addresses are given.", found=str(len(urls)))
    if urls and not state.config.allow_url_inputs:
        node, name = wanted[urls[0]]
        text = "this server fetches no inputs from other addresses."
        hint = "Send the file itself (data:...;base64, or an upload), or start the server with --allow-url-inputs."
        raise Refused(403, "url_inputs_off", text, node=node, input=name, hint=hint)
    names: dict[str, str] = {}
    for value, (node, name) in wanted.items():
        if not _is_url(value):
            async with state.decoding:
                names[value] = await _at(node, name, asyncio.to_thread(_held, state, value))
    names |= await _fetched(state, {value: wanted[value] for value in urls})
    for kind in OWN_KINDS:
        state.folders.forget(kind)
    return [_replaced(state, document, names) for document in documents]


def _given(state: State, document: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(node, input, value) of each file that is given in place of a name."""
    prompt = document.get("prompt")
    for id, node in prompt.items() if isinstance(prompt, dict) else ():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        for name, value in inputs.items() if isinstance(inputs, dict) else ():
            if isinstance(value, str) and value[:_LONGEST_SCHEME].lower().startswith(_SCHEMES):
                spec = state.catalogue.registry.get(str(node.get("class_type", "")))
                item = spec.inputs.get(name) if spec is not None else None
                if item is not None and takes_file(item):
                    yield id, name, value


def _replaced(state: State, document: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    changes: dict[str, dict[str, str]] = {}
    for id, name, value in _given(state, document):
        item = state.catalogue.registry[document["prompt"][id]["class_type"]].inputs[name]
        assert item.choice is not None
        found = names[value]
        if item.choice.files != "input" and not found.endswith("]"):
            found += " [input]"
        changes.setdefault(id, {})[name] = found
    if not changes:
        return document
    prompt = dict(document["prompt"])
    for id, inputs in changes.items():
        prompt[id] = {**prompt[id], "inputs": {**prompt[id]["inputs"], **inputs}}
    return {**document, "prompt": prompt}


def _is_url(value: str) -> bool:
    return value[:_LONGEST_SCHEME].lower().startswith(("http://", "https://"))


async def _at(node: str, name: str, work: Any) -> str:
    """What comes of it; a refusal says which input it is about."""
    try:
        found: str = await work
        return found
    except Refused as error:
        error.problems = tuple(dataclasses.replace(item, node=node, input=name) for item in error.problems)
        raise


def _held(state: State, value: str) -> str:
    """The name of a file that is given by its hash or whole."""
    scheme, _, rest = value.partition(":")
    if scheme.lower() == "sha256":
        found = state.dispatch.received.find(rest.lower(), state.folders)
        if found is None:
            text = (
                "no file with this hash was sent here."
                if HASH.fullmatch(rest.lower())
                else "this is no hash."
            )
            hint = "Upload the file (POST /upload/image), then ask again."
            raise Refused(400, "unknown_content", text, found=repr(rest[:80]), hint=hint)
        return found.place
    return _from_data(state, rest).place


def _from_data(state: State, rest: str) -> Content:
    head, comma, text = rest.partition(",")
    limit = state.config.limits.upload
    if not comma or not head.lower().endswith(";base64"):
        raise Refused(400, "bad_data_url", "a file is given as data:image/png;base64,...")
    if len(text) > limit * 4 // 3 + 4:
        raise too_large(limit)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, "bad_data_url", "what follows base64, is no base64.") from None
    folder = _folder(state)
    folder.mkdir(parents=True, exist_ok=True)
    with Part(folder) as part:
        part.file.write(data)
        part.whole()
        return _kept(state, FormFile(part, "", hashlib.sha256(data).hexdigest()))


async def _fetched(state: State, urls: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """The names of what addresses give, all within the time for one request."""
    if not urls:
        return {}
    turns = asyncio.Semaphore(_AT_ONCE)
    seconds = state.config.limits.fetch_seconds
    folder = _folder(state)
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)

    async def fetch(url: str) -> str:
        async with turns:
            with Part(folder) as part:
                sha256 = await state.outgoing.fetch(url, part.file, state.config.limits.upload)
                await asyncio.to_thread(part.whole)
                file = FormFile(part, "", sha256)
                async with state.decoding:
                    return (await asyncio.to_thread(_kept, state, file, only_pictures=True)).place

    tasks = [asyncio.create_task(_at(node, name, fetch(url))) for url, (node, name) in urls.items()]
    try:
        async with asyncio.timeout(seconds):
            return dict(zip(urls, await asyncio.gather(*tasks), strict=True))
    except TimeoutError:
        text = f"the addresses do not give their files within {seconds:g} seconds."
        raise Refused(400, "url_failed", text) from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _folder(state: State) -> Path:
    return inside(state.folders.input, FOLDER)


def _kept(state: State, file: FormFile, *, only_pictures: bool = False) -> Content:
    """A staged file under the name that its bytes give it. Raises Refused for what is neither picture nor latent."""
    size = file.part.stat().st_size
    suffix = None if only_pictures else _latent(file.part, size)
    if suffix is None:
        picture = open_picture(file.part, state.config.limits.pixels)
        suffix = _SUFFIXES[str(picture.format)]
    folder = _folder(state)
    received = state.dispatch.received
    with received.lock:
        name = place(file.part, folder, f"{file.sha256}{suffix}", sha256=file.sha256)
        received.touch(name)
    found = Content(name, FOLDER, "input", file.sha256, size)
    state.contents.note(found, folder / name)
    return found


def _latent(path: Path, size: int) -> str | None:
    """The suffix of a file that begins as safetensors do, as Save Latent writes them."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _MOST_HEADER):
            return None
        header = file.read(length)
    try:
        return ".latent" if isinstance(json.loads(header), dict) else None
    except (ValueError, RecursionError):
        return None
