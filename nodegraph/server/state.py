"""What the routes of a running server share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from nodegraph.server.catalogue import Catalogue
from nodegraph.server.config import ServerConfig
from nodegraph.server.contents import Contents
from nodegraph.server.hub import Hub
from nodegraph.server.listing import ListedFolders, server_folders
from nodegraph.server.settings import Settings

if TYPE_CHECKING:
    from nodegraph.server.dispatch import Dispatch
    from nodegraph.server.outgoing import Outgoing

DECODING = 2
"""Pictures that are decoded at once."""


@dataclass
class State:
    """The parts of a running server."""

    config: ServerConfig
    catalogue: Catalogue
    hub: Hub
    settings: Settings
    dispatch: Dispatch
    """The job store, the workers, and the messages of what runs."""
    outgoing: Outgoing
    """Requests to addresses that clients name."""
    contents: Contents
    """Which files hold which bytes."""
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(DECODING))
    """Held while a picture is decoded, which may take gigabytes of memory."""
    started: float = field(default_factory=time.time)
    _folders: tuple[tuple[Path, ...], ListedFolders] = field(init=False)

    def __post_init__(self) -> None:
        # Read once: a file of model paths that is being edited must not fail a request.
        self._own = server_folders(self.config)
        self._folders = ((), self._own)

    @property
    def folders(self) -> ListedFolders:
        """The folders as the packs that are known now make them."""
        roots = self.catalogue.model_roots
        if self._folders[0] != roots:
            self._folders = (roots, self._own.and_models(roots))
        return self._folders[1]

    @property
    def features(self) -> Mapping[str, object]:
        """What the server can do, as clients ask for it."""
        return {
            "supports_preview_metadata": True,
            "supports_progress_deltas": True,
            "max_upload_size": self.config.limits.upload,
        }


STATE: web.AppKey[State] = web.AppKey("state", State)
