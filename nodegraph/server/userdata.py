"""Routes of the person's own files: what an editor saves by name, saved workflows above all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from nodegraph.naming import named
from nodegraph.parts import Part
from nodegraph.server.answers import Refused, read_body, read_json, reply
from nodegraph.server.routing import Route, query_of
from nodegraph.server.security import file_headers, inside, plain_path
from nodegraph.server.state import STATE

_MOST_NAME = 200


@dataclass(frozen=True, slots=True)
class ListQuery:
    """The folder to list, and in which form."""

    dir: str
    recurse: bool = False
    split: bool = False
    full_info: bool = False


@dataclass(frozen=True, slots=True)
class PathQuery:
    """The folder to list."""

    path: str = ""


@dataclass(frozen=True, slots=True)
class WriteQuery:
    """Whether a file that is there may be replaced, and what is answered."""

    overwrite: bool = True
    full_info: bool = False


@dataclass(frozen=True, slots=True)
class MoveQuery:
    """Whether a file that is there may be replaced, and what is answered."""

    overwrite: bool = False
    full_info: bool = False


async def list_files(request: web.Request) -> web.Response:
    """Names of the files under a folder; 404 where there is none."""
    asked = query_of(request, ListQuery)
    if not asked.dir:
        raise Refused(400, "invalid_request", "'dir' must name a folder.", input="dir")
    root = _root(request)
    most = request.app[STATE].config.limits.files
    return reply(await asyncio.to_thread(_listed, root, asked, most))


def _listed(root: Path, asked: ListQuery, most: int) -> list[Any]:
    folder = inside(root, *plain_path(asked.dir))
    if not folder.is_dir():
        raise Refused(404, "not_found", "there is no such folder.", found=repr(asked.dir[:200]))
    found: list[Any] = []
    for path in _files(folder, asked.recurse):
        name = path.relative_to(folder).as_posix()
        if asked.full_info:
            found.append({**_info(path), "path": name})
        else:
            found.append([name, *name.split("/")] if asked.split else name)
        if len(found) >= most:
            break
    return found


def _files(folder: Path, recurse: bool) -> Iterator[Path]:
    """Files under a folder in the order of their names; links are not followed."""
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda item: item.name)
    for item in listed:
        if item.name.startswith("."):
            continue
        if item.is_file(follow_symlinks=False):
            yield folder / item.name
        elif recurse and item.is_dir(follow_symlinks=False):
            yield from _files(folder / item.name, recurse)


async def list_entries(request: web.Request) -> web.Response:
    """Files and folders in a folder, with sizes and times."""
    asked = query_of(request, PathQuery)
    root = _root(request)

    def listed() -> list[dict[str, Any]]:
        folder = inside(root, *plain_path(asked.path))
        if not folder.is_dir():
            if asked.path:
                raise Refused(404, "not_found", "there is no such folder.", found=repr(asked.path[:200]))
            return []
        found = []
        with os.scandir(folder) as entries:
            items = sorted(
                (item for item in entries if not item.name.startswith(".")), key=lambda item: item.name
            )
        for item in items:
            path = folder / item.name
            entry: dict[str, Any] = {"name": item.name, "path": path.relative_to(root).as_posix()}
            if item.is_dir(follow_symlinks=False):
                found.append({**entry, "type": "directory"})
            elif item.is_file(follow_symlinks=False):
                found.append({**_info(path), **entry, "type": "file"})
        return found

    return reply(await asyncio.to_thread(listed))


async def read_file(request: web.Request) -> web.StreamResponse:
    """A saved file."""
    path = _path(request, "file")
    if not path.is_file():
        raise _missing(path)
    kind = {"Content-Type": "application/json"} if path.suffix.lower() == ".json" else {}
    return web.FileResponse(path, headers={**file_headers(path.name), **kind, "Cache-Control": "no-cache"})


async def write_file(request: web.Request) -> web.Response:
    """Save a file, replacing it at once or not at all; 409 where it is there and may not be replaced."""
    asked = query_of(request, WriteQuery)
    path = _path(request, "file")
    data = await read_body(request, request.app[STATE].config.limits.body)
    root = _root(request)
    await asyncio.to_thread(_write, path, data, asked.overwrite)
    return reply(_answer(path, root, asked.full_info))


def _write(path: Path, data: bytes, overwrite: bool) -> None:
    if path.is_dir():
        raise Refused(409, "already_there", "a folder has this name.", found=repr(path.name))
    path.parent.mkdir(parents=True, exist_ok=True)
    with Part(path.parent) as part:
        part.file.write(data)
        _put(part.whole(), path, overwrite)


def _put(source: Path, target: Path, overwrite: bool) -> None:
    if overwrite:
        os.replace(source, target)
    elif not named(source, target):
        raise Refused(409, "already_there", "a file has this name already.", found=repr(target.name))


async def delete_file(request: web.Request) -> web.Response:
    """Remove a saved file."""
    path = _path(request, "file")
    try:
        await asyncio.to_thread(path.unlink)
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(path) from None
    except (IsADirectoryError, PermissionError):
        raise Refused(
            400, "not_a_file", "this is no file that can be removed.", found=repr(path.name)
        ) from None
    return web.Response(status=204)


async def move_file(request: web.Request) -> web.Response:
    """Give a saved file another name."""
    asked = query_of(request, MoveQuery)
    source, target = _path(request, "file"), _path(request, "dest")
    root = _root(request)

    def move() -> None:
        if not source.is_file():
            raise _missing(source)
        if target.is_dir():
            raise Refused(409, "already_there", "a folder has this name.", found=repr(target.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        _put(source, target, asked.overwrite)
        source.unlink(missing_ok=True)

    await asyncio.to_thread(move)
    return reply(_answer(target, root, asked.full_info))


async def get_settings(request: web.Request) -> web.Response:
    """Every setting by name."""
    return reply(await request.app[STATE].settings.all())


async def get_setting(request: web.Request) -> web.Response:
    """One setting, null where it is not set."""
    return reply((await request.app[STATE].settings.all()).get(request.match_info["id"]))


async def set_settings(request: web.Request) -> web.Response:
    """Set the settings that the body has; the others stay."""
    changes = await body_of_any(request)
    if not isinstance(changes, dict):
        raise Refused(400, "invalid_request", "the body must be a JSON object.")
    await request.app[STATE].settings.update(changes)
    return web.Response()


async def set_setting(request: web.Request) -> web.Response:
    """Set one setting to the body."""
    await request.app[STATE].settings.update(
        {request.match_info["id"][:_MOST_NAME]: await body_of_any(request)}
    )
    return web.Response()


async def body_of_any(request: web.Request) -> Any:
    """The JSON body, whatever it is."""
    return await read_json(request, request.app[STATE].config.limits.body)


async def users(request: web.Request) -> web.Response:
    """Who may use the server: one person, whose settings are kept here."""
    return reply({"storage": "server", "migrated": True})


def _root(request: web.Request) -> Path:
    return request.app[STATE].config.user_dir / "files"


def _path(request: web.Request, part: str) -> Path:
    parts = plain_path(request.match_info[part])
    if not parts:
        raise Refused(400, "bad_name", "no file is named.")
    return inside(_root(request), *parts)


def _missing(path: Path) -> Refused:
    return Refused(404, "not_found", "there is no such file.", found=repr(path.name))


def _answer(path: Path, root: Path, full: bool) -> Any:
    name = path.relative_to(root).as_posix()
    return {**_info(path), "path": name} if full else name


def _info(path: Path) -> dict[str, Any]:
    state = path.stat()
    return {
        "path": path.name,
        "size": state.st_size,
        "modified": int(state.st_mtime * 1000),
        "created": int(state.st_ctime * 1000),
    }


ROUTES = (
    Route("GET", "/users", users, "Who may use the server", answers={200: dict[str, Any]}),
    Route("GET", "/settings", get_settings, "Every setting", answers={200: dict[str, Any]}),
    Route("POST", "/settings", set_settings, "Set several settings", body=dict, answers={200: None}),
    Route("GET", "/settings/{id}", get_setting, "One setting"),
    Route("POST", "/settings/{id}", set_setting, "Set one setting", body=object, answers={200: None}),
    Route("GET", "/userdata", list_files, "Names of saved files", query=ListQuery, answers={200: list[Any]}),
    Route(
        "GET",
        "/v2/userdata",
        list_entries,
        "Files and folders with sizes and times",
        query=PathQuery,
        answers={200: list[dict[str, Any]]},
    ),
    Route(
        "POST",
        "/userdata/{file}/move/{dest}",
        move_file,
        "Rename a saved file",
        query=MoveQuery,
        answers={200: str | dict[str, Any]},
    ),
    Route("GET", "/userdata/{file}", read_file, "A saved file", gives="*/*"),
    Route(
        "POST",
        "/userdata/{file}",
        write_file,
        "Save a file",
        query=WriteQuery,
        upload=True,
        answers={200: str | dict[str, Any]},
    ),
    Route("DELETE", "/userdata/{file}", delete_file, "Remove a saved file", answers={204: None}),
)
