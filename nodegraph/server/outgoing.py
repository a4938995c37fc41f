"""Requests that leave the server for addresses that a client named, and so never lead into its own network.

An address is judged when it is connected to, as the number that its name stood for at that moment: what a name stood for
earlier counts for nothing (DNS rebinding). Redirects are followed here, each as a new address; nothing of this server's
goes along: no cookie, no token, no proxy.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, BinaryIO

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from nodegraph.server.addresses import Internal, is_public
from nodegraph.server.answers import Refused

MOST_URL = 2000
"""Letters of an address."""
MOST_REDIRECTS = 5
_CONNECT = 10.0
_LOOKED_UP_AT_ONCE = 8
_REDIRECTS = (301, 302, 303, 307, 308)


class NotPublic(OSError):
    """An address that is not for everybody, and that was not allowed."""


def checked_url(text: str) -> URL:
    """An address that a client gave. Raises Refused for what is none, names a person, or is not of http or https."""
    problem = None
    url = URL()
    if len(text) > MOST_URL or not text.isprintable() or " " in text:
        problem = f"an address has at most {MOST_URL} printable letters."
    else:
        try:
            url = URL(text)
            right = url.scheme in ("http", "https") and bool(url.host) and url.port not in (None, 0)
        except ValueError:
            right = False
        if not right:
            problem = "an address begins with http:// or https:// and names a host."
        elif url.user is not None or url.password is not None:
            problem = "an address may not hold a name and password."
    if problem is not None:
        # Not the address itself: what is wrong with it may be a secret in it.
        raise Refused(400, "bad_url", problem)
    return url.with_fragment(None)


class Names(AbstractResolver):
    """The system's names, in threads of their own: a name server that takes its time keeps nothing else waiting."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKED_UP_AT_ONCE, "names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name. Raises OSError where it has none."""
        look = functools.partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look)
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(
                hostname=host, host=str(place[0]), port=port, family=kind, proto=protocol, flags=flags
            )
            for kind, _, protocol, _, place in found
        ]

    async def close(self) -> None:
        """Wait for no look-up."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Guarded(AbstractResolver):
    """Looks names up, and refuses one of which any address is not public."""

    def __init__(self, guard: Outgoing, inner: AbstractResolver) -> None:
        self._guard = guard
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name. Raises NotPublic, and OSError where it has none."""
        found = await self._inner.resolve(host, port, family)
        for item in found:
            self._guard.admit(item["host"], port)
        return found

    async def close(self) -> None:
        """Let go of what the look-ups hold."""
        await self._inner.close()


class Outgoing:
    """Makes the requests. `internal` are the parts of the own network that they may reach."""

    def __init__(self, internal: Iterable[Internal] = (), resolver: AbstractResolver | None = None) -> None:
        self._internal = tuple(internal)
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()

    def admit(self, host: str, port: int) -> None:
        """Raises NotPublic for the number of an address that may not be reached."""
        address = ipaddress.ip_address(host.partition("%")[0])
        if not is_public(address) and not any(item.holds(address, port) for item in self._internal):
            raise NotPublic("it is not an address of the internet")

    def _socket(self, info: Any) -> socket.socket:
        """The last look: at the very number that is connected to."""
        family, kind, protocol, _, place = info
        self.admit(place[0], place[1])
        return socket.socket(family, kind, protocol)

    def admit_url(self, text: str) -> URL:
        """An address that may be asked for, as far as that is known before its name is looked up. Raises Refused."""
        url = checked_url(text)
        try:
            assert url.host is not None and url.port is not None
            self.admit(url.host, url.port)
        except NotPublic as error:
            raise _internal(url) from error
        except ValueError:
            pass  # a name: its numbers are looked at when it is connected to
        return url

    async def fetch(self, text: str, target: BinaryIO, most: int) -> str:
        """Write what an address gives into a file; hexadecimal SHA-256 of its at most `most` bytes.

        Raises Refused (`bad_url`, `url_not_allowed`, `url_failed`, `too_large`), and OSError. The caller bounds the time.
        """
        url = self.admit_url(text)
        for _ in range(MOST_REDIRECTS + 1):
            async with self._asked("GET", url) as answer:
                if answer.status in _REDIRECTS and "Location" in answer.headers:
                    try:
                        url = url.join(URL(answer.headers["Location"]))
                    except ValueError:
                        raise _failed(url, "it redirects to what is no address") from None
                    url = self.admit_url(str(url))
                    continue
                if answer.status != 200:
                    raise _failed(url, f"it answers with HTTP status {answer.status}")
                return await _written(answer, target, most)
        raise _failed(url, f"it redirects more than {MOST_REDIRECTS} times")

    async def post(self, text: str, body: bytes, headers: dict[str, str], seconds: float) -> int:
        """The HTTP status with which an address answers; redirects are not followed. Raises Refused as `fetch`."""
        url = self.admit_url(text)
        try:
            async with (
                asyncio.timeout(seconds),
                self._asked("POST", url, data=body, headers=headers) as answer,
            ):
                return answer.status
        except TimeoutError:
            raise _failed(url, f"it does not answer within {seconds:g} seconds") from None

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def _asked(self, method: str, url: URL, **more: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        session = await self._opened()
        try:
            async with session.request(method, url, allow_redirects=False, **more) as answer:
                yield answer
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, NotPublic):
                raise _internal(url) from error
            raise _failed(url, "it cannot be reached") from error
        except (aiohttp.ClientError, ssl.SSLError) as error:
            raise _failed(url, f"the connection failed ({type(error).__name__})") from error

    async def _opened(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._session is None:
                # aiohttp's own context was made without certificates (see command.py), and reading them takes a while.
                context = await asyncio.to_thread(ssl.create_default_context)
                connector = aiohttp.TCPConnector(
                    resolver=Guarded(self, self._resolver or Names()),
                    socket_factory=self._socket,
                    ssl=context,
                    use_dns_cache=False,
                    force_close=True,
                )
                self._session = aiohttp.ClientSession(
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                    # What is packed could be of any size.
                    auto_decompress=False,
                    headers={"Accept-Encoding": "identity", "User-Agent": "nodegraph"},
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT),
                )
            return self._session


async def _written(answer: aiohttp.ClientResponse, target: BinaryIO, most: int) -> str:
    too_large = Refused(
        413, "too_large", f"the address gives more than {most} bytes, the most that is taken."
    )
    if (answer.content_length or 0) > most:
        raise too_large
    digest = hashlib.sha256()
    size = 0
    async for chunk in answer.content.iter_chunked(2**18):
        size += len(chunk)
        if size > most:
            raise too_large
        digest.update(chunk)
        await asyncio.to_thread(target.write, chunk)
    return digest.hexdigest()


def _internal(url: URL) -> Refused:
    text = "the address leads to a machine that is not on the internet, which this server does not reach for others."
    hint = "Whoever runs the server can allow it: --allow-internal ADDRESS[:PORT]."
    return Refused(403, "url_not_allowed", text, found=url.host, hint=hint)


def _failed(url: URL, why: str) -> Refused:
    # The host alone: paths and queries hold secrets.
    return Refused(400, "url_failed", f"the address cannot be used: {why}.", found=url.host)
