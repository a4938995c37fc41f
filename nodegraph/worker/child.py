"""The worker process: `python -m nodegraph.worker --fd N`, where N is the number of a connected socket."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence

from nodegraph.errors import NodegraphError
from nodegraph.worker.messages import Hello
from nodegraph.worker.pipe import Pipe

OK, CANNOT_START, ORPHANED = 0, 2, 3
GRACE = 3.0
"""Seconds that an orphan may take to end in order."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until the server says Stop or is gone; returns the exit status."""
    parser = argparse.ArgumentParser(prog="nodegraph.worker", description="Run graphs for a server.")
    parser.add_argument("--fd", type=int, required=True, help="number of a connected socket")
    number = parser.parse_args(argv).fd
    # A Ctrl-C at the terminal is the server's to act on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = Pipe(socket.socket(fileno=number))
    try:
        return _serve(pipe)
    finally:
        pipe.close()


def _serve(pipe: Pipe) -> int:
    first = pipe.receive()
    if not first or not isinstance(hello := first[0], Hello):
        return CANNOT_START if first else OK
    from nodegraph.worker.service import Service

    service = Service(pipe.send)
    service.receive(*first[1:])
    threading.Thread(target=_read, args=(pipe, service.receive, service.closed), daemon=True).start()
    try:
        asyncio.run(service.serve(hello.settings))
    except NodegraphError as error:
        print(error, file=sys.stderr)
        return CANNOT_START
    return OK


def _read(pipe: Pipe, receive: object, closed: object) -> None:
    """Hand on what comes. A server that is gone, killed perhaps, leaves no orphan: the process ends within GRACE."""
    assert callable(receive) and callable(closed)
    try:
        while messages := pipe.receive():
            receive(*messages)
    except ValueError:
        traceback.print_exc()
    closed()
    time.sleep(GRACE)
    os._exit(ORPHANED)
