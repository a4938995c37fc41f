"""Who may use the server, from where, and what browsers may do with its answers.

- Host: a page of another site can have its name resolve to this machine (DNS rebinding); its requests carry that name.
- Origin and Sec-Fetch-Site: a page of another site can send requests here, which carry where they come from.
- Token: where other machines reach the server, every request but a health check shows it.
- Answers: no sniffing, no framing, no use by other sites; what is not a raster image is downloaded, not shown.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from nodegraph.errors import NodeError
from nodegraph.folders import Folders
from nodegraph.server.answers import Refused
from nodegraph.server.config import ServerConfig, is_loopback, own_names

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
RASTER = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
}
"""Files that a browser may show in place: they cannot hold script."""
OPEN_PATHS = frozenset({"/health", "/ready", "/api/health", "/api/ready"})
"""What a probe may ask without a token."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}
"""On every answer that does not say otherwise; a page brings its own policy."""
NO_STORE = {"Cache-Control": "no-store"}


class Guard:
    """Decides which requests are let in, by configuration alone."""

    def __init__(self, config: ServerConfig) -> None:
        self._token = config.token.encode() if config.token is not None else None
        self._names = own_names(config.host) | {name.lower() for name in config.hosts}
        self._local = is_loopback(config.host)
        self._origins = config.origins

    def admit(self, request: web.Request) -> None:
        """Raises Refused (400, 401 or 403) for a request that may not come in."""
        host = request.headers.getall("Host", [])
        if len(host) != 1 or not self._known_host(host[0]):
            raise Refused(
                403,
                "host_not_allowed",
                "the server is not known under this name.",
                found=", ".join(host)[:200] or "none",
                hint="Use its address, or allow the name with --allow-host.",
            )
        origin = request.headers.get("Origin")
        if origin is not None and not self.known_origin(origin, host[0]):
            raise _foreign(origin)
        site = request.headers.get("Sec-Fetch-Site")
        if origin is None and site == "cross-site" and not _is_visit(request):
            raise _foreign("a page of another site")
        if self._token is not None and request.path not in OPEN_PATHS and not self._shows_token(request):
            raise Refused(401, "token_needed", "this server needs its token: Authorization: Bearer TOKEN.")

    def known_origin(self, origin: str, host: str) -> bool:
        """Whether a page of this origin may use the server: its own pages, and those that were allowed."""
        if origin in self._origins:
            return True
        try:
            parts = urlsplit(origin)
            return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()
        except ValueError:
            return False

    def allowed_origin(self, request: web.Request) -> str | None:
        """The request's origin where it was allowed by name, and so may read answers."""
        origin = request.headers.get("Origin")
        return origin if origin is not None and origin in self._origins else None

    def _known_host(self, header: str) -> bool:
        try:
            name = urlsplit(f"//{header}").hostname
        except ValueError:
            return False
        if not name or "@" in header or "/" in header:
            return False
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # No name was resolved for an address, so there was nothing to rebind.
        return address.is_loopback or not self._local

    def _shows_token(self, request: web.Request) -> bool:
        assert self._token is not None
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        # Bytes that are no UTF-8 come as halves of surrogate pairs.
        shown = given.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() == "basic":
            # What a browser's password dialog and http://name:token@host/ send.
            try:
                shown = base64.b64decode(shown, validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(shown, self._token)


def _foreign(origin: str) -> Refused:
    return Refused(
        403,
        "origin_not_allowed",
        "pages of other sites may not use this server.",
        found=origin[:200],
        hint="Allow the page's origin with --allow-origin.",
    )


def _is_visit(request: web.Request) -> bool:
    """Whether a person followed a link here, as opposed to a page loading something from here."""
    return (
        request.method == "GET"
        and request.headers.get("Sec-Fetch-Mode") == "navigate"
        and request.headers.get("Sec-Fetch-Dest") == "document"
    )


def guarding(guard: Guard) -> Any:
    """The middleware that lets requests in, and answers the questions that browsers ask beforehand."""

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            # Carries no token; says only what the Origin header may do.
            if guard.allowed_origin(request) is None:
                raise _foreign(request.headers.get("Origin", "none"))
            return web.Response(
                status=204,
                headers={
                    "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
                    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Comfy-User",
                    "Access-Control-Max-Age": "600",
                },
            )
        guard.admit(request)
        return await handler(request)

    return admit


def dressing(guard: Guard) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """The signal handler that gives every answer its headers."""

    async def dress(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        if response.status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="nodegraph", charset="UTF-8"'
        origin = guard.allowed_origin(request)
        if origin is not None:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Allow-Credentials"] = "true"
            headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            headers["Vary"] = "Origin"
        if "Server" in headers:
            headers["Server"] = "nodegraph"

    return dress


def file_headers(name: str) -> dict[str, str]:
    """Headers of a file's answer: shown in place where it is a raster image, else downloaded."""
    from urllib.parse import quote

    kind = RASTER.get(Path(name).suffix.lower())
    plain = "".join(
        letter if letter.isascii() and letter.isprintable() and letter not in '"\\;%' else "_"
        for letter in name
    )
    where = "inline" if kind is not None else "attachment"
    return {
        "Content-Type": kind or "application/octet-stream",
        "Content-Disposition": f"{where}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
    }


def plain_name(name: str) -> str:
    """The file name itself, where it is one that is safe to write. Raises Refused.

    No folder, no hidden file, no control character, nothing that Windows takes for a device or a stream.
    """
    bad = (
        not name
        or len(name.encode("utf-8", "replace")) > 240
        or name[0] in ". "
        or name[-1] in ". "
        or any(letter in '/\\:*?"<>|' or not letter.isprintable() for letter in name)
        or name.split(".")[0].upper() in _DEVICES
    )
    if bad:
        raise Refused(400, "bad_name", "this is no name for a file.", found=repr(name[:200]))
    return name


_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{kind}{n}" for kind in ("COM", "LPT") for n in range(10))}


def plain_path(path: str, *, what: str = "path") -> tuple[str, ...]:
    """The parts of a relative path, each a plain name; empty for an empty path. Raises Refused."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    if path.startswith(("/", "\\")) or ".." in parts:
        raise Refused(403, "outside_folder", f"this {what} leads out of its folder.", found=repr(path[:200]))
    if len(parts) > 32:
        raise Refused(400, "bad_name", f"this {what} has too many parts.")
    return tuple(plain_name(part) for part in parts)


def inside(root: Path, *parts: str) -> Path:
    """The path of `parts` under `root`. Raises Refused where links lead it out of there."""
    path = root.joinpath(*parts)
    try:
        contained = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):
        contained = False
    if not contained:
        raise Refused(
            403, "outside_folder", "this name leads out of its folder.", found=repr("/".join(parts)[:200])
        )
    return path


def found_file(folders: Folders, kind: str, name: str) -> Path:
    """An existing file of a folder kind. Raises Refused where there is none or the name leads out."""
    try:
        path = folders.look(kind, name)
    except (NodeError, ValueError) as error:
        raise Refused(403, "outside_folder", str(error)) from None
    if path is None or not path.is_file():
        raise Refused(404, "not_found", "there is no such file.", found=repr(name[:200]))
    return path
