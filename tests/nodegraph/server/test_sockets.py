"""Connections of programs that speak no proper HTTP, or none at all: each ends in time, and others are answered meanwhile."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from nodegraph.server.config import Limits
from tests.nodegraph.server.process import BOUND, Serving, serving
from tests.nodegraph.server.serving import served

QUICK = 2.0
"""Seconds in which another client is answered meanwhile; milliseconds, on a machine with nothing else to do."""
HEAD = b"Host: localhost\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server without workers, whose log stays empty whatever comes."""
    with serving(tmp_path_factory.mktemp("parent")) as found:
        yield found


@contextmanager
def connected(server: Serving, data: bytes = b"") -> Iterator[socket.socket]:
    """A connection on which this much was said."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=BOUND) as connection:
        connection.sendall(data)
        yield connection


def told(server: Serving, data: bytes) -> bytes:
    """What comes back until the server ends the connection, which it does."""
    with connected(server) as connection:
        try:
            connection.sendall(data)
            return rest(connection)
        except (BrokenPipeError, ConnectionResetError):
            # It did not wait for the rest.
            return b"reset"


def rest(connection: socket.socket) -> bytes:
    """Everything until the end of the connection."""
    found = b""
    try:
        while piece := connection.recv(2**16):
            found += piece
    except ConnectionResetError:
        return found or b"reset"
    return found


def others_are_answered(server: Serving) -> None:
    """Three answers in a row, each in time."""
    for _ in range(3):
        answer = server.ask("GET", "/health")
        assert answer.status == 200 and answer.seconds < QUICK, answer


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"get / http/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n: nameless\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: local\x00host\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: b\r\n folded\r\n\r\n",
        b"GET /" + b"a" * 2**20 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"b" * 2**20 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A" * 2**20,
        bytes(2**16),
        os.urandom(2**12) + b"\r\n\r\n",
    ],
    ids=lambda junk: repr(junk[:24]),
)
def test_what_is_no_http_is_refused_and_cut_off(server: Serving, junk: bytes) -> None:
    began = time.monotonic()
    answer = told(server, junk)
    assert time.monotonic() - began < BOUND
    assert answer == b"reset" or b" 400 " in answer.split(b"\r\n")[0], answer[:200]
    others_are_answered(server)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5_0\r\n",
        b"Content-Length: 0x5\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
    ],
)
def test_a_body_whose_length_is_in_doubt_is_refused(server: Serving, head: bytes) -> None:
    smuggled = b"GET /queue HTTP/1.1\r\n" + HEAD + b"\r\n"
    answer = told(server, b"POST /prompt HTTP/1.1\r\n" + HEAD + head + b"\r\n0\r\n\r\n" + smuggled)
    assert b" 400 " in answer.split(b"\r\n")[0], answer
    assert b"queue_running" not in answer


@pytest.mark.parametrize("path", [b"/prompt", b"/userdata/a", b"/upload/image", b"/workflows/a/run"])
@pytest.mark.parametrize(
    "chunks",
    [b"ZZZ\r\n", b"-5\r\nabcde\r\n", b"f" * 40 + b"\r\n", b"5\r\nabcdefgh\r\n", b"\r\n"],
)
def test_chunks_that_are_none_are_refused(server: Serving, path: bytes, chunks: bytes) -> None:
    kind = b"multipart/form-data; boundary=x" if b"upload" in path else b"application/json"
    head = (
        b"POST "
        + path
        + b" HTTP/1.1\r\n"
        + HEAD
        + b"Content-Type: "
        + kind
        + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    answer = told(server, head + chunks)
    assert answer == b"reset" or b" 400 " in answer.split(b"\r\n")[0], answer


@pytest.mark.parametrize("chunks", [b"ZZZ\r\n", b"5\r\nabcdefgh\r\n"])
async def test_chunks_that_turn_bad_while_they_are_read_are_given_up(tmp_path: Path, chunks: bytes) -> None:
    async with served(tmp_path, limits=Limits(stall=0.5)) as server:
        for path in (b"/prompt", b"/userdata/a"):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
            writer.write(
                b"POST " + path + b" HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n"
            )
            await asyncio.sleep(0.1)
            writer.write(chunks)
            answer = await asyncio.wait_for(reader.read(4096), BOUND)
            # The parser in C does not tell who reads; they run out of patience.
            assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 408")), answer
            writer.close()


def test_the_parser_in_python_tells_who_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOHTTP_NO_EXTENSIONS", "1")
    with serving(tmp_path) as server:
        head = b"POST /prompt HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n"
        with connected(server, head) as connection:
            time.sleep(0.2)
            connection.sendall(b"ZZZ\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 400")


def test_a_body_without_end_is_cut_off_at_the_bound(server: Serving) -> None:
    head = b"POST /prompt HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    before = resident(server)
    began = time.monotonic()
    with connected(server, head) as connection:
        sent = 0
        # Read past once the bound is reached, for as long as a client may need to take note.
        with suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
            while time.monotonic() - began < 2 * BOUND:
                connection.sendall(b"100000\r\n" + b" " * 2**20 + b"\r\n")
                sent += 1
                if sent % 50 == 0:
                    others_are_answered(server)
    assert sent > 32 and time.monotonic() - began < 2 * BOUND
    assert resident(server) < before + 150 * 2**20


def resident(server: Serving) -> int:
    """Bytes of memory that the server has."""
    with open(f"/proc/{server.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


def test_what_is_announced_as_too_large_is_refused_before_it_comes(server: Serving) -> None:
    length = b"Content-Length: 10000000000\r\n"
    for head in (length, length + b"Expect: 100-continue\r\n", b"Expect: what\r\nContent-Length: 1\r\n"):
        began = time.monotonic()
        with connected(server, b"POST /prompt HTTP/1.1\r\n" + HEAD + head + b"\r\n") as connection:
            found = connection.recv(4096)
            while b" 413 " not in found and b" 417 " not in found:
                found += connection.recv(4096)
        assert time.monotonic() - began < QUICK


def test_connections_that_do_nothing_or_almost_nothing_slow_nobody(server: Serving) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connected(server)) for _ in range(200)]
        slow = [
            stack.enter_context(connected(server, b"POST /prompt HTTP/1.1\r\nHost: loc")) for _ in range(100)
        ]
        head = b"POST /userdata/slow HTTP/1.1\r\n" + HEAD + b"Content-Length: 1000\r\n\r\n"
        bodies = [stack.enter_context(connected(server, head)) for _ in range(100)]
        for _ in range(5):
            for connection in slow:
                connection.sendall(b"a")
            for connection in bodies:
                connection.sendall(b"x")
            others_are_answered(server)
        # Nobody was given up on before the time.
        silent[-1].sendall(b"GET /health HTTP/1.1\r\n" + HEAD + b"\r\n")
        assert silent[-1].recv(4096).startswith(b"HTTP/1.1 200")


async def test_a_request_that_does_not_get_on_is_given_up(tmp_path: Path) -> None:
    async with served(tmp_path, limits=Limits(idle=0.5, stall=0.5)) as server:
        for data, status in (
            (b"", None),
            (b"GET /health HTTP/1.1\r\nHost: loc", None),
            (b"POST /prompt HTTP/1.1\r\n" + HEAD + b"Content-Length: 9\r\n\r\n{", 408),
            (b"POST /userdata/a HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", 408),
            (
                b"POST /upload/image HTTP/1.1\r\n"
                + HEAD
                + b"Content-Type: multipart/form-data; boundary=x\r\n"
                b"Content-Length: 900\r\n\r\n--x\r\nContent-Disposition: form-data; name=image; filename=a.png\r\n\r\nx",
                408,
            ),
        ):
            began = time.monotonic()
            answer = await server.sent(data)
            assert 0.4 < time.monotonic() - began < BOUND
            assert answer.startswith(f"HTTP/1.1 {status}".encode()) if status else answer == b"", answer
        assert list((tmp_path / "data" / "incoming").iterdir()) == []


async def test_a_body_that_comes_in_drops_is_given_up(tmp_path: Path) -> None:
    async with served(tmp_path, limits=Limits(stall=0.5)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        writer.write(b"POST /prompt HTTP/1.1\r\n" + HEAD + b"Content-Length: 1000\r\n\r\n")
        answering = asyncio.ensure_future(reader.read(4096))
        began = time.monotonic()
        while not answering.done() and time.monotonic() - began < BOUND:
            writer.write(b" ")
            await asyncio.sleep(0.1)
        assert answering.done() and answering.result().startswith(b"HTTP/1.1 408")
        writer.close()


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(server: Serving) -> None:
    form = b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 90000\r\n\r\n"
    part = b"--x\r\nContent-Disposition: form-data; name=image; filename=gone.png\r\n\r\n" + bytes(5000)
    for data in (
        b"POST /upload/image HTTP/1.1\r\n" + HEAD + form + part,
        b"POST /userdata/gone HTTP/1.1\r\n" + HEAD + b"Content-Length: 900\r\n\r\nabc",
        b"POST /prompt HTTP/1.1\r\n" + HEAD + b"Content-Length: 900\r\n\r\n{",
        b"GET /object_info HTTP/1.1\r\n" + HEAD + b"\r\n",
    ):
        for hard in (False, True):
            with connected(server, data) as connection:
                if hard:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    folder = server.root / "data"
    for _ in range(100):
        if not list((folder / "incoming").glob("*")):
            break
        time.sleep(0.05)
    assert list((folder / "incoming").glob("*")) == []
    assert not (server.root / "input" / "gone.png").exists()
    assert not list((folder / "user").rglob("*gone*"))
    others_are_answered(server)


def test_requests_sent_at_once_are_answered_one_by_one_up_to_the_junk(server: Serving) -> None:
    one = b"GET /health HTTP/1.1\r\n" + HEAD + b"\r\n"
    answer = told(server, one * 5 + b"junk\r\n\r\n" + one * 5)
    # What came in one piece with the junk may go unanswered with it; what came after it always does.
    assert answer.count(b"HTTP/1.1 200") <= 5 and answer.count(b" 400 ") == 1
    assert (
        told(server, one * 5 + b"GET /health HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n\r\n").count(
            b" 200 "
        )
        == 6
    )


def test_a_client_that_asks_on_and_on_without_reading_is_not_served_on(server: Serving) -> None:
    with ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(connected(server))
            connection.settimeout(0.5)
            try:
                for _ in range(200):
                    connection.sendall((b"GET /object_info HTTP/1.1\r\n" + HEAD + b"\r\n") * 100)
            except TimeoutError:
                # It takes no more while nobody reads what it says.
                pass
        others_are_answered(server)
        assert resident(server) < 400 * 2**20
    others_are_answered(server)


def frame(
    opcode: int, payload: bytes, *, final: bool = True, masked: bool = True, length: int | None = None
) -> bytes:
    """A websocket frame, right or wrong; `length` is what it says that follows. RFC 6455, 5.2."""
    size = len(payload) if length is None else length
    mark = 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", opcode | (0x80 if final else 0), mark | size)
    elif size < 2**16:
        head = struct.pack("!BBH", opcode | (0x80 if final else 0), mark | 126, size)
    else:
        head = struct.pack("!BBQ", opcode | (0x80 if final else 0), mark | 127, size)
    # A mask of zeros changes nothing.
    return head + (bytes(4) if masked else b"") + payload


@contextmanager
def websocket(server: Serving, client: str = "raw") -> Iterator[socket.socket]:
    """A websocket that was opened by hand."""
    key = base64.b64encode(os.urandom(16))
    head = b"GET /ws?clientId=" + client.encode() + b" HTTP/1.1\r\n" + HEAD
    head += (
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key
    )
    with connected(server, head + b"\r\n\r\n") as connection:
        found = b""
        while b"\r\n\r\n" not in found:
            found += connection.recv(4096)
        assert found.startswith(b"HTTP/1.1 101")
        yield connection


TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9


@pytest.mark.parametrize(
    ("what", "frames"),
    [
        ("larger than is taken", frame(TEXT, b"", length=2**20 + 1) + b" " * (2**20 + 1)),
        ("said to be endless", frame(TEXT, b"x", length=2**62)),
        ("of a negative length", frame(TEXT, b"x", length=2**64 - 1)),
        (
            "in pieces without end",
            frame(TEXT, b" " * 2**16, final=False) + frame(0, b" " * 2**16, final=False) * 40,
        ),
        (
            "in empty pieces",
            frame(TEXT, b"", final=False) + frame(0, b"", final=False) * 50_000 + frame(3, b""),
        ),
        ("going on with nothing", frame(0, b"x")),
        ("begun twice", frame(TEXT, b"a", final=False) + frame(TEXT, b"b")),
        ("of an unknown kind", frame(3, b"")),
        ("with reserved bits", frame(TEXT | 0x40, b"x")),
        ("no text", frame(TEXT, b"\xff\xfe")),
        ("a large ping", frame(PING, b"x" * 126)),
        ("a ping in pieces", frame(PING, b"x", final=False)),
        ("an end of one byte", frame(CLOSE, b"x")),
        ("an end for no reason", frame(CLOSE, struct.pack("!H", 0))),
        ("http again", b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n"),
        ("noise", os.urandom(2**16)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_websocket_frame_that_is_wrong_ends_the_connection(
    server: Serving, what: str, frames: bytes
) -> None:
    with websocket(server) as connection:
        try:
            connection.sendall(frames)
            rest(connection)
        except (BrokenPipeError, ConnectionResetError):
            pass
    others_are_answered(server)


def test_pings_that_nobody_reads_the_answers_of_slow_nobody(server: Serving) -> None:
    with websocket(server) as connection:
        connection.settimeout(0.5)
        try:
            for _ in range(200):
                connection.sendall(frame(PING, b"x" * 125) * 1000)
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            pass
        others_are_answered(server)


def test_it_has_let_go_of_every_connection(server: Serving) -> None:
    for _ in range(200):
        if "nodegraph_websocket_clients 0\n" in server.ask("GET", "/metrics").body.decode():
            break
        time.sleep(0.05)
    else:
        raise AssertionError("websockets are still held")
