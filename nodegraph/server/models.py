"""Routes of model files: what there is, and what a file's header says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from nodegraph.folders import MODEL_SUFFIXES, OWN_KINDS, Folders
from nodegraph.model_folders import ALIASES, KINDS
from nodegraph.server.answers import Refused, reply
from nodegraph.server.routing import Route, query_of
from nodegraph.server.security import found_file
from nodegraph.server.state import STATE

_KIND = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_MOST_HEADER = 64 * 2**20


@dataclass(frozen=True, slots=True)
class FileQuery:
    """The file that is asked for."""

    filename: str


async def list_kinds(request: web.Request) -> web.Response:
    """Names of the model folders: ComfyUI's, and others that are there."""
    return reply(await asyncio.to_thread(_kinds, request.app[STATE].folders))


def _kinds(folders: Folders) -> list[str]:
    found = dict.fromkeys((*KINDS, *(kind for kind in folders.named if _KIND.fullmatch(kind))))
    aliases = {name: kind for kind, names in ALIASES.items() for name in names}
    for root in folders.models:
        try:
            with os.scandir(root) as entries:
                names = sorted(item.name for item in entries if item.is_dir() and _KIND.fullmatch(item.name))
        except OSError:
            # A folder that is not there, or may not be read, has no kinds.
            continue
        found |= dict.fromkeys(aliases.get(name, name) for name in names)
    return list(found)


async def list_files(request: web.Request) -> web.Response:
    """Names of the files in a model folder."""
    folders = request.app[STATE].folders
    kind = request.match_info["folder"]
    known = await asyncio.to_thread(_kinds, folders)
    if kind not in known and not any(kind in names for names in ALIASES.values()):
        raise Refused(404, "not_found", "there is no such model folder.", found=repr(kind[:100]))
    return reply(await asyncio.to_thread(folders.list, kind))


async def list_embeddings(request: web.Request) -> web.Response:
    """Names of the textual inversions, without suffix, as a prompt's `embedding:` takes them."""
    names = await asyncio.to_thread(request.app[STATE].folders.list, "embeddings")
    return reply([os.path.splitext(name)[0] for name in names])


async def view_metadata(request: web.Request) -> web.Response:
    """The `__metadata__` of a safetensors file; 404 where it has none."""
    kind = request.match_info["folder"]
    if not _KIND.fullmatch(kind) or kind in OWN_KINDS:
        raise Refused(404, "not_found", "there is no such model folder.", found=repr(kind[:100]))
    path = found_file(request.app[STATE].folders, kind, query_of(request, FileQuery).filename)
    if path.suffix.lower() not in (".safetensors", ".sft"):
        text = "only safetensors files carry metadata."
        raise Refused(404, "not_found", text, allowed=", ".join(MODEL_SUFFIXES[:2]))
    metadata = await asyncio.to_thread(_metadata, path)
    if metadata is None:
        raise Refused(404, "not_found", "the file carries no metadata.")
    return reply(metadata)


def _metadata(path: Path) -> Any:
    """A safetensors file's own metadata, None where there is none or the file is damaged."""
    with open(path, "rb") as file:
        start = file.read(8)
        if len(start) < 8:
            return None
        (size,) = struct.unpack("<Q", start)
        if size > min(_MOST_HEADER, os.fstat(file.fileno()).st_size - 8):
            return None
        header = file.read(size)
    try:
        found = json.loads(header)
    except (ValueError, RecursionError):
        return None
    return found.get("__metadata__") if isinstance(found, dict) else None


ROUTES = (
    Route("GET", "/models", list_kinds, "Names of the model folders", answers={200: list[str]}),
    Route(
        "GET",
        "/models/{folder}",
        list_files,
        "Names of the files in a model folder",
        answers={200: list[str]},
    ),
    Route("GET", "/embeddings", list_embeddings, "Names of the textual inversions", answers={200: list[str]}),
    Route(
        "GET", "/view_metadata/{folder}", view_metadata, "The metadata of a safetensors file", query=FileQuery
    ),
)
