"""Connections: how long one that does not get on is kept, how many there may be, and what is not said of them in the log."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Awaitable
from typing import TypeVar

from aiohttp import StreamReader
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.multipart import BadContentDispositionHeader, BadContentDispositionParam
from aiohttp.web import RequestPayloadError

T = TypeVar("T")
SLOWEST = 1024
"""Bytes a second at which a body must come on the whole, so that it cannot come in drops for ever."""
LINGERING = 5.0
"""Seconds in which a client that was refused may go on sending, so that it gets to read why."""
READ = 2**18
"""Bytes that asyncio reads from a connection at once."""
MOST_FILES = 2**16
"""Open files that are asked of the system; connections are such."""


class TooSlow(Exception):
    """A body does not come in time."""


class Patience:
    """How long the pieces of a body are waited for: `seconds` for each, and for all of them at SLOWEST."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began = asyncio.get_running_loop().time()
        self._taken = 0

    async def read(self, content: StreamReader, most: int) -> bytes:
        """Up to so many bytes of a body: what is there already, else the next that come. Raises TooSlow."""
        found = content.read_nowait(most)
        if not found:
            return await self.wait(content.read(most))
        self._taken += len(found)
        return found

    async def wait(self, piece: Awaitable[T]) -> T:
        """The next piece. Raises TooSlow where it does not come in time."""
        now = asyncio.get_running_loop().time()
        until = self._seconds + min(now, self._began + self._taken / SLOWEST)
        try:
            async with asyncio.timeout_at(until):
                found = await piece
        except TimeoutError:
            raise TooSlow from None
        if isinstance(found, bytes):
            self._taken += len(found)
        return found


class _Discreet(logging.Filter):
    """Leaves out clients that go away, and requests that are no HTTP: their headers, and secrets in them, would be quoted."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, (HttpProcessingError, RequestPayloadError, ConnectionError))


def connection_log() -> logging.Logger:
    """The log of what goes wrong with connections. Their clients are told of malformed requests, and only they."""
    found = logging.getLogger("nodegraph.server.connections")
    if not found.filters:
        found.addFilter(_Discreet())
    return found


def prepare_process() -> None:
    """Have the process take as many connections as the system lets it, and not warn of names that clients send."""
    # asyncio reads into 256 KiB, which the C library maps anew for each read and unmaps behind it: until it has taken back
    # a larger block than that once.
    bytes(2 * READ)
    for kind in (BadContentDispositionHeader, BadContentDispositionParam):
        warnings.simplefilter("ignore", kind)
    try:
        import resource
    except ImportError:
        # Windows has no such bound.
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
