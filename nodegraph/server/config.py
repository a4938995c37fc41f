"""ServerConfig: where the server listens, what it may touch and how much it takes."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path

from nodegraph.errors import Problem, ValidationError
from nodegraph.limits import MAX_BYTES, MAX_NODES
from nodegraph.server.addresses import Internal

PORT = 8188
"""ComfyUI's, so that clients find the server where they look for it."""
DATABASE = "jobs.sqlite3"
"""The job store's file in the data directory."""
MIN_TOKEN = 16
"""Letters that a token must have: a shorter one can be guessed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request, one client and one document may ask for."""

    body: int = MAX_BYTES
    """Bytes of a JSON body."""
    upload: int = 256 * 2**20
    """Bytes of an uploaded file."""
    nodes: int = MAX_NODES
    """Nodes of a document."""
    pixels: int = 2**27
    """Pixels of a picture that is decoded here, for a preview or a mask."""
    queued: int = 100_000
    """Jobs that may wait."""
    clients: int = 4_000
    """Open websockets."""
    client_messages: int = 20_000
    """Messages that may wait for one client; one that reads slower is dropped."""
    client_bytes: int = 32 * 2**20
    """Bytes that may wait for one client."""
    idle: float = 75.0
    """Seconds that a connection may take to say what it wants."""
    stall: float = 60.0
    """Seconds between two pieces of a body."""
    sweep: int = 256 * 2**20
    """Bytes of all documents of a sweep."""
    files: int = 50_000
    """Files that one listing gives."""
    received_age: float = 30 * 86_400.0
    """Seconds since its last use that a file which came with a run is kept."""
    received_bytes: int = 10 * 2**30
    """Bytes of all files that came with runs; of more, the longest unused go."""
    fetch_seconds: float = 30.0
    """Seconds for all that a request has fetched from other addresses."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How a server is set up. `checked` says what is wrong with it."""

    host: str = "127.0.0.1"
    port: int = PORT
    """0 lets the system choose."""
    data_dir: Path = Path("data")
    """Jobs, settings, workflows, and unless named otherwise the input, output and temporary folders."""
    models_dirs: tuple[Path, ...] = ()
    """Models folders, and files in the format of ComfyUI's extra_model_paths.yaml."""
    input_dir: Path | None = None
    output_dir: Path | None = None
    workers: int = 1
    device: str = "auto"
    dtype: str = "auto"
    packs: tuple[str, ...] | None = None
    """`module:attribute` of each pack of nodes, in place of the installed ones."""
    pack_paths: tuple[str, ...] = ()
    """Folders from which the modules of `packs` may be imported."""
    token: str | None = field(default=None, repr=False)
    """What a client must show (`Authorization: Bearer`, or Basic with it as password); None: nothing."""
    hosts: frozenset[str] = frozenset()
    """Names, beside the machine's own, that a request's Host header may have."""
    origins: frozenset[str] = frozenset()
    """Origins of other sites' pages that may use the server, such as `http://localhost:5173`."""
    allow_url_inputs: bool = False
    """Whether inputs may be addresses, which the server fetches."""
    internal: tuple[Internal, ...] = ()
    """Parts of the own network to which inputs and webhooks may lead."""
    webhook_secret: bytes | None = field(default=None, repr=False)
    """What webhooks are signed with; None: there are none."""
    webhook_delays: tuple[float, ...] = (5, 30, 120, 600, 1800, 3600, 10_800, 21_600, 43_200)
    """Seconds before each further attempt of a webhook that was not taken; after the last it is given up."""
    limits: Limits = field(default_factory=Limits)

    def checked(self) -> ServerConfig:
        """The same configuration. Raises ValidationError for one that would be unsafe or cannot work."""
        problems = []
        if not is_loopback(self.host) and self.token is None:
            problems.append(
                Problem(
                    "token_needed",
                    f"{self.host} can be reached from other machines, so a token is needed.",
                    hint="Give --token-file FILE, or listen on 127.0.0.1.",
                )
            )
        if self.token is not None and (len(self.token) < MIN_TOKEN or not self.token.isascii()):
            problems.append(
                Problem(
                    "weak_token",
                    f"the token must have at least {MIN_TOKEN} ASCII letters.",
                    found=f"{len(self.token)}",
                    hint='Make one with: python -c "import secrets; print(secrets.token_urlsafe(24))".',
                )
            )
        if not 0 <= self.port <= 65535:
            problems.append(Problem("bad_port", "there is no such port.", found=str(self.port)))
        if not 0 <= self.workers <= 256:
            problems.append(Problem("bad_workers", "that many workers cannot run.", found=str(self.workers)))
        if problems:
            raise ValidationError(problems)
        return self

    @property
    def user_dir(self) -> Path:
        """Settings and saved files of the person."""
        return self.data_dir / "user"

    @property
    def database(self) -> Path:
        """The job store's file."""
        return self.data_dir / DATABASE


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def own_names(host: str) -> frozenset[str]:
    """The names under which a server that listens on `host` is known to itself, without addresses."""
    if is_loopback(host):
        return frozenset({"localhost"})
    names = {"localhost", host, socket.gethostname(), f"{socket.gethostname()}.local"}
    return frozenset(name.lower() for name in names)


def default_data_dir() -> Path:
    """Where this person's data lives: $NODEGRAPH_DATA, or what the system has for such."""
    given = os.environ.get("NODEGRAPH_DATA")
    if given:
        return Path(given)
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "nodegraph"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "nodegraph"
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "nodegraph"


def read_secret(path: Path) -> bytes:
    """The key that webhooks are signed with: after `whsec_` in base64, else the file's text. Raises as `read_token`."""
    text = read_token(path)
    try:
        secret = base64.b64decode(text[6:], validate=True) if text.startswith("whsec_") else text.encode()
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) < MIN_TOKEN:
        raise ValidationError(
            Problem(
                "weak_secret",
                f"the secret in {path} is shorter than {MIN_TOKEN} bytes, or no base64 after whsec_.",
                hint='Make one with: python -c "import base64, secrets; '
                "print('whsec_' + base64.b64encode(secrets.token_bytes(32)).decode())\".",
            )
        )
    return secret


def read_token(path: Path) -> str:
    """The token that a file holds. Raises ValidationError where it cannot be read or is empty."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ValidationError(Problem("cannot_read", f"cannot read the file {path}: {reason}.")) from None
    if not text:
        raise ValidationError(Problem("weak_token", f"the file {path} is empty."))
    return text
