"""Client: a nodegraph server from a program without an event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from nodegraph.client.asynchronous import AsyncClient, OnEvent
from nodegraph.client.records import JobState, RemoteFile, RunRecorder
from nodegraph.context import CancelToken
from nodegraph.events import Event
from nodegraph.result import Result
from nodegraph.workflow import Workflow

T = TypeVar("T")


class Client:
    """A nodegraph server; each method does and raises what the one of AsyncClient does, and returns when it is done.

    A context manager. Works where an event loop runs already, as in a notebook: its own runs in a thread.
    """

    def __init__(self, server: str, *, token: str | None = None, patience: float = 60.0) -> None:
        self._async = AsyncClient(server, token=token, patience=patience)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nodegraph-client", daemon=True)
        self._thread.start()

    @property
    def server(self) -> str:
        """The address."""
        return self._async.server

    def submit(
        self,
        workflow: Workflow,
        parameters: Mapping[str, Any] | None = None,
        *,
        targets: Sequence[str] | None = None,
        front: bool = False,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        partial: bool = False,
        webhook: str | None = None,
    ) -> str:
        """Queue a run, and give the job's id once it is on the server's disk."""
        return self._do(
            self._async.submit(
                workflow,
                parameters,
                targets=targets,
                front=front,
                timeout=timeout,
                idempotency_key=idempotency_key,
                partial=partial,
                webhook=webhook,
            )
        )

    def sweep(
        self,
        workflow: Workflow,
        values: Mapping[str, Sequence[Any]],
        parameters: Mapping[str, Any] | None = None,
        *,
        mode: Literal["product", "zip"] = "product",
        targets: Sequence[str] | None = None,
        webhook: str | None = None,
    ) -> list[str]:
        """Queue a run for each combination of values by parameter, all or none, and give the jobs' ids in their order."""
        return self._do(
            self._async.sweep(workflow, values, parameters, mode=mode, targets=targets, webhook=webhook)
        )

    def job(self, id: str) -> JobState:
        """A job as it is now."""
        return self._do(self._async.job(id))

    def cancel(self, id: str) -> JobState:
        """Cancel a job that waits or runs, and give it as it is then."""
        return self._do(self._async.cancel(id))

    def wait(self, id: str, timeout: float | None = None) -> JobState:
        """The job once it has ended. Raises TimeoutError after `timeout` seconds; the job goes on."""
        return self._do(self._async.wait(id, timeout))

    def events(self, id: str, cancel: CancelToken | None = None) -> Generator[Event, None, None]:
        """What happens in a job, up to RunFinished."""
        return self._each(self._async.events(id, cancel))

    def run(
        self,
        workflow: Workflow,
        parameters: Mapping[str, Any] | None = None,
        *,
        targets: Sequence[str] | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        on_event: OnEvent | None = None,
        cancel: CancelToken | None = None,
    ) -> Result:
        """Run to the end and give the result, whatever its status; `on_event` is called in this thread."""
        recorder = RunRecorder()
        result = None
        with closing(self._each(self._async.following(workflow, parameters, targets, cancel))) as events:
            for event in events:
                result = recorder.note(event) or result
                if on_event is not None:
                    on_event(event)
        assert result is not None
        return self._do(self._async.fetched(result, output_dir))

    def upload(self, path: str | os.PathLike[str], *, subfolder: str = "", overwrite: bool = False) -> str:
        """Put a file into the server's input folder, and give the name under which nodes find it."""
        return self._do(self._async.upload(path, subfolder=subfolder, overwrite=overwrite))

    def ensure_uploaded(self, path: str | os.PathLike[str], *, subfolder: str = "") -> str:
        """Put a file into the server's input folder unless the server has its bytes, and give the name for nodes."""
        return self._do(self._async.ensure_uploaded(path, subfolder=subfolder))

    def upload_mask(
        self,
        path: str | os.PathLike[str],
        original: RemoteFile,
        *,
        subfolder: str = "",
        overwrite: bool = False,
    ) -> str:
        """Give a picture of the server the transparency of a picture here, and give the new file's name for nodes."""
        return self._do(self._async.upload_mask(path, original, subfolder=subfolder, overwrite=overwrite))

    def url(self, file: RemoteFile) -> str:
        """The address at which the server gives a file."""
        return self._async.url(file)

    def download(self, file: RemoteFile, folder: str | os.PathLike[str]) -> Path:
        """Write a file into a folder, under its sub-folder and name, never over another file."""
        return self._do(self._async.download(file, folder))

    def plan(
        self,
        workflow: Workflow,
        parameters: Mapping[str, Any] | None = None,
        *,
        targets: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """What a run would do now: for each node whether its result is held, and why it would run."""
        return self._do(self._async.plan(workflow, parameters, targets=targets))

    def object_info(self) -> dict[str, Any]:
        """The node types of the server, as ComfyUI describes them."""
        return self._do(self._async.object_info())

    def workflows(self) -> list[str]:
        """Names of the saved workflows."""
        return self._do(self._async.workflows())

    def workflow(self, name: str) -> Workflow:
        """A saved workflow."""
        return self._do(self._async.workflow(name))

    def save_workflow(self, name: str, workflow: Workflow) -> None:
        """Save a workflow; one of that name is replaced."""
        self._do(self._async.save_workflow(name, workflow))

    def delete_workflow(self, name: str) -> None:
        """Remove a saved workflow."""
        self._do(self._async.delete_workflow(name))

    def schema(self, name: str) -> dict[str, Any]:
        """JSON Schema of the parameters of a saved workflow."""
        return self._do(self._async.schema(name))

    def submit_saved(self, name: str, parameters: Mapping[str, Any] | None = None) -> str:
        """Queue a run of a saved workflow, and give the job's id."""
        return self._do(self._async.submit_saved(name, parameters))

    def close(self) -> None:
        """Let go of the connections and end the thread; jobs go on."""
        if self._loop.is_closed():
            return
        self._do(self._async.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # A second Ctrl-C, which comes here while the loop still works.
            future.cancel()
            raise

    def _each(self, events: AsyncGenerator[Event, None]) -> Generator[Event, None, None]:
        # One at a time: closing waits until a call that was given up has ended.
        lock = asyncio.Lock()

        async def following() -> Event | None:
            async with lock:
                return await anext(events, None)

        async def ending() -> None:
            async with lock:
                await events.aclose()

        try:
            while (event := self._do(following())) is not None:
                yield event
        finally:
            self._do(ending())
