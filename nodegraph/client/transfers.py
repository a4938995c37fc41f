"""Transfers: files to a server and from it, each sent only where it is not there already."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp

from nodegraph.client.connection import Connection
from nodegraph.client.records import RemoteFile, input_name
from nodegraph.client.saving import folder_of
from nodegraph.errors import ServerError
from nodegraph.naming import digest, place
from nodegraph.node import SavedFile
from nodegraph.parts import Part
from nodegraph.result import Result

_SAVED = ("output", "temp")


class Transfers:
    """The part of a client that moves files; every method raises as those of AsyncClient do."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def server(self) -> str:
        """The address."""
        return self._connection.server

    async def fetched(self, result: Result, output_dir: str | os.PathLike[str] | None) -> Result:
        """The result with its files downloaded into a folder; the same where that is None."""
        if output_dir is None:
            return result

        async def saved(item: Any) -> Any:
            file = RemoteFile.of(item)
            if file is None or file.type not in _SAVED:
                return item
            path = await self.download(file, output_dir)
            return SavedFile(path.name, file.subfolder, file.type, path, path.stat().st_size)

        ui = {
            node: {name: tuple([await saved(item) for item in items]) for name, items in shown.items()}
            for node, shown in result.ui.items()
        }
        return replace(result, ui=ui)

    async def upload(
        self, path: str | os.PathLike[str], *, subfolder: str = "", overwrite: bool = False
    ) -> str:
        """Put a file into the server's input folder, and give the name under which nodes find it.

        Where another file has its name it gets a new one, unless `overwrite`. Raises OSError where it cannot be read.
        """
        return await self._upload("/upload/image", path, subfolder, overwrite, {})

    async def ensure_uploaded(self, path: str | os.PathLike[str], *, subfolder: str = "") -> str:
        """Put a file into the server's input folder unless the server has its bytes, and give the name for nodes.

        Only files that were sent to it count, whatever their name and folder. Raises OSError where it cannot be read.
        """
        sha256 = await asyncio.to_thread(digest, Path(path))
        try:
            return input_name(await self._connection.json("GET", f"/uploads/{sha256}"))
        except ServerError as error:
            if error.status != 404:
                raise
        return await self.upload(path, subfolder=subfolder)

    async def upload_mask(
        self,
        path: str | os.PathLike[str],
        original: RemoteFile,
        *,
        subfolder: str = "",
        overwrite: bool = False,
    ) -> str:
        """Give a picture of the server the transparency of a picture here, as a new file, and give its name for nodes.

        Both must be of one size. Raises OSError where the mask cannot be read.
        """
        return await self._upload(
            "/upload/mask", path, subfolder, overwrite, {"original_ref": json.dumps(asdict(original))}
        )

    async def _upload(
        self,
        route: str,
        path: str | os.PathLike[str],
        subfolder: str,
        overwrite: bool,
        fields: Mapping[str, str],
    ) -> str:
        with open(path, "rb") as file:
            form = aiohttp.FormData(quote_fields=False)
            form.add_field("subfolder", subfolder)
            form.add_field("overwrite", "true" if overwrite else "false")
            for name, text in fields.items():
                form.add_field(name, text)
            form.add_field("image", file, filename=os.path.basename(path))
            return input_name(await self._connection.json("POST", route, data=form))

    def url(self, file: RemoteFile) -> str:
        """The address at which the server gives a file; where it asks for a token, that must be shown there too."""
        return f"{self.server}/view?{urlencode(asdict(file))}"

    async def download(self, file: RemoteFile, folder: str | os.PathLike[str]) -> Path:
        """Write a file into a folder, under its sub-folder and name; where another file has that, as `name (1).ext`.

        Raises OSError where it cannot be written.
        """
        where, name = folder_of(Path(folder).absolute(), file)
        query = {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}
        with Part(where) as part:
            await self._connection.save("/view", query, part.file)
            return where / await asyncio.to_thread(place, part.whole(durable=False), where, name)
