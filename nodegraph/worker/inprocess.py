"""A worker in this process: the same interface as a process, in a thread. For tests and the command line."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import AsyncIterator

from nodegraph.errors import NodegraphError
from nodegraph.worker.messages import FromWorker, Message, Stop, ToWorker, WorkerSettings
from nodegraph.worker.service import Service


class InProcessWorker:
    """Runs a Service in a thread of its own. What kills a process kills this one too; `kill` waits for the run's next step."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._said: asyncio.Queue[FromWorker | None] = asyncio.Queue()
        self._service = Service(self._send)
        self._thread = threading.Thread(target=self._work, name="nodegraph-worker", daemon=True)
        self._lines: tuple[str, ...] = ()
        self._reason = ""

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The trace of the error that ended it; what nodes print goes where this process prints."""
        return self._lines

    @property
    def reason(self) -> str:
        """See Worker."""
        return self._reason

    async def start(self) -> None:
        """See Worker."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def send(self, *messages: ToWorker) -> None:
        """See Worker."""
        self._service.receive(*messages)

    async def messages(self) -> AsyncIterator[FromWorker]:
        """See Worker."""
        while (message := await self._said.get()) is not None:
            yield message
        await asyncio.to_thread(self._thread.join)

    async def kill(self) -> None:
        """Cancel everything and wait until it is gone: a thread cannot be ended from outside."""
        self._service.receive(Stop())
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def _send(self, *messages: Message) -> None:
        for message in messages:
            self._put(message)

    def _put(self, message: Message | None) -> None:
        assert self._loop is not None
        try:
            # Only those come from a worker.
            self._loop.call_soon_threadsafe(self._said.put_nowait, message)  # type: ignore[arg-type]
        except RuntimeError as error:
            # The loop that listened is closed, as a pipe may be.
            raise BrokenPipeError from error

    def _work(self) -> None:
        try:
            asyncio.run(self._service.serve(self._settings))
            self._reason = "it ended by itself"
        except NodegraphError as error:
            self._reason, self._lines = "it could not start", tuple(str(error).splitlines())
        except Exception as error:  # as a process that dies: the supervisor is told why
            self._reason = f"it failed: {type(error).__name__}"
            self._lines = tuple(traceback.format_exc().splitlines())
        finally:
            try:
                self._put(None)
            except BrokenPipeError:
                self._reason = self._reason or "nobody listens"
