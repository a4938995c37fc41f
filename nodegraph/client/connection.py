"""The connection to a server: requests with their errors, and the websocket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

from nodegraph.client.records import refusal
from nodegraph.errors import Problem, ServerError, ValidationError

_CONNECT = 10.0
_SILENCE = 120.0
"""Seconds without a byte after which an answer is given up; a plan may take 60."""

_BROKEN = (
    aiohttp.ClientOSError,
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientPayloadError,
    aiohttp.SocketTimeoutError,
)
"""What goes wrong on a connection that a server has taken."""


class Connection:
    """One server: its address, its token, and the connections that are held."""

    def __init__(self, server: str, token: str | None) -> None:
        """Raises ValidationError for what is no address, or no token."""
        self.server = _address(server)
        self._headers = {}
        if token is not None:
            if not token or not token.isascii() or not token.isprintable() or " " in token:
                raise ValidationError(Problem("bad_token", "the token has letters that no token has."))
            self._headers["Authorization"] = f"Bearer {token}"
        self._session: aiohttp.ClientSession | None = None
        self.reached = False
        """Whether there is a server: it has taken a connection."""

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def json(self, method: str, path: str, *statuses: int, **more: Any) -> Any:
        """The JSON of an answer; `statuses` are taken beside 200 and 201. Raises as `bytes`."""
        body = await self.bytes(method, path, *statuses, **more)
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise refusal(200, body, self.server) from None

    async def bytes(self, method: str, path: str, *statuses: int, **more: Any) -> bytes:
        """The body of an answer.

        Raises ServerError where the server cannot be reached or does not do it, ValidationError where it says that
        the request is wrong.
        """
        async with self._answer(method, path, statuses, more) as answer:
            return await answer.read()

    async def save(self, path: str, query: Mapping[str, str], target: BinaryIO) -> None:
        """Write the body of an answer into a file, as it comes. Raises as `bytes`, and OSError."""
        async with self._answer("GET", path, (), {"params": query}) as answer:
            async for chunk in answer.content.iter_chunked(2**18):
                target.write(chunk)

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, statuses: tuple[int, ...], more: Mapping[str, Any]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            # No redirects: they would carry the token, or a POST as a GET, to where nobody meant it to go.
            async with self._opened().request(
                method, self._url(path), allow_redirects=False, **more
            ) as answer:
                self.reached = True
                if answer.status not in (200, 201, 204, *statuses):
                    raise refusal(answer.status, await answer.read(), self.server)
                yield answer
        except (aiohttp.ClientError, TimeoutError) as error:
            if isinstance(error, _BROKEN) and not isinstance(error, aiohttp.ClientConnectorError):
                self.reached = True
            raise self._lost(error) from error

    @asynccontextmanager
    async def websocket(
        self, client: str, first: Mapping[str, Any]
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A websocket of a client, on which a first message was sent. Raises ServerError where none can be opened."""
        timeout = aiohttp.ClientWSTimeout(ws_close=2.0)
        try:
            socket = await self._opened().ws_connect(
                self._url(f"/ws?clientId={client}"), heartbeat=30, max_msg_size=0, timeout=timeout
            )
        except aiohttp.WSServerHandshakeError as error:
            # The answer's body, which says why, is lost; another request is refused for the same reason.
            await self.bytes("GET", "/prompt")
            raise refusal(error.status, b"", self.server) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._lost(error) from error
        self.reached = True
        try:
            try:
                await socket.send_json(first)
            except (aiohttp.ClientError, ConnectionError) as error:
                raise self._lost(error) from error
            yield socket
        finally:
            await socket.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE)
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout)
        return self._session

    def _url(self, path: str) -> URL:
        return URL(self.server + path, encoded=True)

    def _lost(self, error: BaseException) -> ServerError:
        reason = getattr(error, "strerror", None) or str(error) or "it does not answer"
        text = f"the server {self.server} cannot be reached: {reason}."
        return ServerError(Problem("unreachable", text, hint="Is `nodegraph serve` running there?"))


def segment(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


def _address(server: str) -> str:
    text = server if "://" in server else f"http://{server}"
    try:
        parts = urlsplit(text)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right or parts.query or parts.fragment:
        raise ValidationError(
            Problem(
                "bad_address",
                f"{server!r} is no address of a server.",
                allowed="such as http://127.0.0.1:8188",
            )
        )
    return text.rstrip("/")
