"""A worker process as its server sees it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Protocol

from nodegraph.worker.messages import FromWorker, Hello, ToWorker, WorkerSettings, encode
from nodegraph.worker.pipe import PIECE, Frames

LINES, LINE_BYTES = 200, 2000
"""How many of the last log lines are kept, and how much of each."""
_SIGNALS: dict[int, str] = {
    signal.SIGKILL: "perhaps the system ran out of memory",
    signal.SIGSEGV: "a native library crashed",
    signal.SIGABRT: "a native library gave up",
    signal.SIGBUS: "a file that was mapped shrank, or a disk is full",
    signal.SIGILL: "a native library was built for another processor",
    signal.SIGFPE: "a native library crashed",
}


class Worker(Protocol):
    """What carries messages to a service and back."""

    async def start(self) -> None:
        """Begin, and send the Hello; the Ready comes when the session is open."""
        ...

    async def send(self, *messages: ToWorker) -> None:
        """Send messages; where the worker is gone, nothing happens."""
        ...

    def messages(self) -> AsyncIterator[FromWorker]:
        """What it says, until it ends or is killed."""
        ...

    async def kill(self) -> None:
        """End it at once, and wait until it is gone. May be called again."""
        ...

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The end of its log."""
        ...

    @property
    def reason(self) -> str:
        """Why it ended, in words; empty while it lives."""
        ...


class WorkerProcess:
    """A process of its own, in a process group of its own. Its output goes into a ring of lines."""

    def __init__(self, settings: WorkerSettings, environment: Mapping[str, str] | None = None) -> None:
        self._settings = settings
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._log: asyncio.Task[None] | None = None
        self._lines: deque[str] = deque(maxlen=LINES)
        self._damage = ""
        self._killed = False

    @property
    def pid(self) -> int | None:
        """Its process id, once it has started."""
        return self._process.pid if self._process is not None else None

    @property
    def returncode(self) -> int | None:
        """Its exit status, below 0 the number of a signal; None while it lives."""
        return self._process.returncode if self._process is not None else None

    @property
    def last_lines(self) -> tuple[str, ...]:
        """See Worker."""
        return tuple(self._lines)

    @property
    def reason(self) -> str:
        """See Worker."""
        if self._killed and self.returncode == -signal.SIGKILL:
            return self._damage or "it was ended"
        return self._damage or ended(self.returncode)

    async def start(self) -> None:
        """See Worker. Raises OSError where no process can be made."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    # -P: what lies in the folder where the server was started is no module.
                    *(sys.executable, "-P", "-m", "nodegraph.worker", "--fd", str(theirs.fileno())),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    limit=1 << 20,
                    env={
                        **(os.environ if self._environment is None else self._environment),
                        # Lines are seen when they are printed, and a crash in native code says where it was.
                        **{"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"},
                    },
                )
            except BaseException:
                ours.close()
                raise
        self._log = asyncio.create_task(self._keep_log(self._process))
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        await self.send(Hello(self._settings))

    async def send(self, *messages: ToWorker) -> None:
        """See Worker."""
        if self._writer is None or self._writer.is_closing():
            return
        with suppress(ConnectionError):
            # It died: `messages` ends and says so.
            self._writer.write(b"".join(encode(message) for message in messages))
            await self._writer.drain()

    async def messages(self) -> AsyncIterator[FromWorker]:
        """See Worker. What is no message ends the worker."""
        assert self._reader is not None and self._process is not None
        frames = Frames()
        try:
            while piece := await self._reader.read(PIECE):
                for message in frames.take(piece):
                    # Only those come from a worker.
                    yield message  # type: ignore[misc]
        except ConnectionError:
            # Killed, it may reset the connection.
            pass
        except ValueError as error:
            self._damage = f"what it said could not be read: {error}"
        await self._gone()

    async def wait(self) -> int:
        """Wait for its end; the exit status."""
        assert self._process is not None
        return await self._process.wait()

    async def kill(self) -> None:
        """See Worker. Processes that its nodes started go with it."""
        if self._process is None:
            return
        self._killed |= self.returncode is None
        # The group: it may be there although the process has gone.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._gone()

    async def _gone(self) -> None:
        """Wait for the end of the process, killing it where it has closed its pipe and lives on."""
        assert self._process is not None
        if self._writer is not None:
            self._writer.close()
            with suppress(ConnectionError):
                await self._writer.wait_closed()
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        except TimeoutError:
            self._killed = True
            self._damage = self._damage or "it closed its pipe and did not end"
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        if self._log is not None:
            # A process that it started may hold its output open for ever.
            await asyncio.wait([self._log], timeout=3)
            self._log.cancel()

    async def _keep_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        rest = b""
        while chunk := await process.stdout.read(PIECE):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._note(line)
            rest = rest[-LINE_BYTES:]
        if rest:
            self._note(rest)

    def _note(self, line: bytes) -> None:
        # Of a progress bar the last state counts.
        text = line[-LINE_BYTES:].decode("utf-8", "replace").rstrip().rpartition("\r")[2]
        if text:
            self._lines.append(text)


def ended(returncode: int | None) -> str:
    """What an exit status means, in words; empty for None."""
    if returncode is None:
        return ""
    if returncode < 0:
        number = -returncode
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "unknown"
        why = _SIGNALS.get(number)
        return f"killed by signal {number} ({name})" + (f"; {why}" if why else "")
    return "it ended by itself" if returncode == 0 else f"it ended with status {returncode}"
