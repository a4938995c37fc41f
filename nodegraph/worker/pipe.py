"""Messages over a connected socket: a blocking end for a worker, a coroutine for a server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

from nodegraph.worker.messages import LENGTH, Message, decode_parts, encode

PIECE = 1 << 16
"""Bytes that are read at once."""
MOST_BYTES = 1 << 30
"""Of a header or a blob; a larger length is no length, but damage."""


class Pipe:
    """A worker's end. `send` may be called from any thread, `receive` from one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._frames = Frames()
        self._lock = threading.Lock()

    def send(self, *messages: Message) -> None:
        """Write messages, one behind the other. Raises OSError where nobody reads any more."""
        data = b"".join(encode(message) for message in messages)
        with self._lock:
            self._connection.sendall(data)

    def receive(self) -> tuple[Message, ...]:
        """Wait for messages: all that came; none where the other end is closed. Raises ValueError for what is no message."""
        while piece := self._piece():
            if messages := tuple(self._frames.take(piece)):
                return messages
        return ()

    def close(self) -> None:
        """Say that nothing more will come; a thread that waits in `receive` gets nothing."""
        with suppress(OSError):
            # The other end may be gone already.
            self._connection.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Give the socket up, once no thread uses it."""
        self._connection.close()

    def _piece(self) -> bytes:
        try:
            return self._connection.recv(PIECE)
        except OSError:
            # A killed server resets the connection.
            return b""


class Frames:
    """Messages from bytes, in whatever pieces they come: a busy end finds many messages in one piece."""

    def __init__(self) -> None:
        self._data = bytearray()

    def take(self, piece: bytes) -> Iterator[Message]:
        """The messages that are whole now; to be read to the end. Raises ValueError for what is no message."""
        self._data += piece
        start = 0
        while (header := self._part(start)) is not None and (blob := self._part(header.stop)) is not None:
            yield decode_parts(bytes(self._data[header]), bytes(self._data[blob]))
            start = blob.stop
        del self._data[:start]

    def _part(self, start: int) -> slice | None:
        """Where the part is whose length stands at `start`; None where it is not all there."""
        begin = start + LENGTH.size
        if len(self._data) < begin:
            return None
        end = begin + _size(self._data[start:begin])
        return slice(begin, end) if len(self._data) >= end else None


def _size(length: bytes | bytearray) -> int:
    (size,) = LENGTH.unpack(length)
    if size > MOST_BYTES:
        raise ValueError(f"a length of {size} bytes is no message's")
    return int(size)
