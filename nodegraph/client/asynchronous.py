"""AsyncClient: a nodegraph server from a program with an event loop."""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp

from nodegraph.client.connection import Connection, segment
from nodegraph.client.records import JobState, RunRecorder
from nodegraph.client.told import FEATURES, Told
from nodegraph.client.transfers import Transfers
from nodegraph.context import CancelToken
from nodegraph.errors import ServerError
from nodegraph.events import Event
from nodegraph.result import Result
from nodegraph.workflow import Workflow

OnEvent = Callable[[Event], None]
_FIRST_SILENCE, _LONGEST_SILENCE = 0.25, 5.0
"""Seconds without a message after which the job is looked at; each time twice as long."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
"""Seconds before a request is sent again; each time up to twice as long."""
_PASSING = (None, 429, 502, 503, 504)
"""Statuses of a server that stops, starts or has too much to do, and of what stands before one that is away."""


class AsyncClient(Transfers):
    """A nodegraph server. Made and used in one event loop; an async context manager.

    `server` is its address (`http://` where no scheme is given, a path where it stands behind another server), `token`
    what it asks for, and `patience` the seconds for which a job is followed though the server cannot be reached: jobs
    outlive it. Every method raises ServerError where the server cannot be reached or refuses, and ValidationError
    where it says that the request is wrong.
    """

    def __init__(self, server: str, *, token: str | None = None, patience: float = 60.0) -> None:
        self.id = uuid.uuid4().hex
        """What the client calls itself; the server tells it of the jobs that were posted under this id."""
        self.patience = patience
        super().__init__(Connection(server, token))

    async def submit(
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
        """Queue a run, and give the job's id once it is on the server's disk.

        A parameter whose value is a Path is a file here, which is uploaded unless the server has it. `timeout` is how many
        seconds the run may take, `webhook` the address that is told of its end. A workflow of which some outputs are
        wrong is refused with ValidationError, unless `partial` has the others run.

        Where the connection is lost on the way it is asked again, for as long as `patience`, and queued once: the request
        carries a key, `idempotency_key` or one that is made, by which the server knows it.
        """
        body = await self._body(workflow, parameters, targets, webhook, strict=not partial)
        body["front"] = front
        if timeout is not None:
            body["timeout"] = timeout
        return str((await self._queued("/prompt", body, idempotency_key))["prompt_id"])

    async def sweep(
        self,
        workflow: Workflow,
        values: Mapping[str, Sequence[Any]],
        parameters: Mapping[str, Any] | None = None,
        *,
        mode: Literal["product", "zip"] = "product",
        targets: Sequence[str] | None = None,
        webhook: str | None = None,
    ) -> list[str]:
        """Queue a run for each combination of values by parameter, all or none, and give the jobs' ids in their order.

        The last parameter changes quickest; with `zip` the first values go together, then the second. `parameters` are
        those of every run; Paths are files here, as in `submit`. Raises ValidationError for more than 1,000 runs.
        """
        body = await self._body(workflow, parameters, targets, webhook, strict=True)
        lists = {name: [await self._file(value) for value in items] for name, items in values.items()}
        body |= {"sweep": lists, "sweep_mode": mode}
        found = await self._connection.json("POST", "/run?wait=0", 202, 409, 422, json=body)
        return [str(run["id"]) for run in found.get("runs", [found])]

    async def _queued(
        self, path: str, body: dict[str, Any], key: str | None = None, stop: asyncio.Event | None = None
    ) -> Any:
        """The answer to a POST that queues one job, however often it has to be sent until `stop` is set."""
        headers = {"Idempotency-Key": key if key is not None else uuid.uuid4().hex}
        until = time.monotonic() + self.patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._connection.json("POST", path, 202, 409, 422, json=body, headers=headers)
            except ServerError as error:
                left = until - time.monotonic()
                if not _lost(error) or not self._connection.reached or left <= 0 or (stop and stop.is_set()):
                    raise
            # Not all clients at the same moment.
            await asyncio.sleep(min(pause * random.uniform(0.5, 1.0), left))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _body(
        self,
        workflow: Workflow,
        parameters: Mapping[str, Any] | None,
        targets: Sequence[str] | None,
        webhook: str | None,
        *,
        strict: bool,
    ) -> dict[str, Any]:
        values = await self._sent(parameters)
        changed = workflow.with_values(values) if values else workflow
        body: dict[str, Any] = {**changed.document(), "client_id": self.id, "strict": strict}
        if targets is not None:
            body["partial_execution_targets"] = list(targets)
        if webhook is not None:
            body["webhook"] = webhook
        return body

    async def _sent(self, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
        return {name: await self._file(value) for name, value in (parameters or {}).items()}

    async def _file(self, value: Any) -> Any:
        return await self.ensure_uploaded(value) if isinstance(value, Path) else value

    async def job(self, id: str) -> JobState:
        """A job as it is now."""
        return JobState.of(await self._connection.json("GET", f"/jobs/{segment(id)}"))

    async def cancel(self, id: str) -> JobState:
        """Cancel a job that waits or runs, and give it as it is then; one that has ended stays as it is."""
        await self._connection.json("POST", f"/jobs/{segment(id)}/cancel")
        return await self.job(id)

    async def wait(self, id: str, timeout: float | None = None) -> JobState:
        """The job once it has ended. Raises TimeoutError after `timeout` seconds; the job goes on."""
        async with asyncio.timeout(timeout), aclosing(self.events(id)) as events:
            async for _ in events:
                pass
        return await self.job(id)

    def events(self, id: str, cancel: CancelToken | None = None) -> AsyncGenerator[Event, None]:
        """What happens in a job, as a local run tells it, up to RunFinished; held results are named by RunStarted alone.

        Of a job that this client did not submit only its end is told. The `preview` of a NodeProgress is an encoded
        picture. `cancel` cancels the job; closing the generator leaves it alone.
        """

        async def known(_: asyncio.Event) -> str:
            return id

        return self._follow(known, cancel)

    async def run(
        self,
        workflow: Workflow,
        parameters: Mapping[str, Any] | None = None,
        *,
        targets: Sequence[str] | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        on_event: OnEvent | None = None,
        cancel: CancelToken | None = None,
    ) -> Result:
        """Run to the end and give the result, whatever its status.

        The files are downloaded into `output_dir`; without one `Result.ui` has them as the server addresses them.
        `Result.outputs` is empty: values stay on the server.
        """
        recorder = RunRecorder()
        result = None
        async with aclosing(self.following(workflow, parameters, targets, cancel)) as events:
            async for event in events:
                result = recorder.note(event) or result
                if on_event is not None:
                    on_event(event)
        assert result is not None
        return await self.fetched(result, output_dir)

    def following(
        self,
        workflow: Workflow,
        parameters: Mapping[str, Any] | None = None,
        targets: Sequence[str] | None = None,
        cancel: CancelToken | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Submit a run and give its events, from the first one on; see `events`."""

        async def begin(stop: asyncio.Event) -> str:
            body = await self._body(workflow, parameters, targets, None, strict=True)
            return str((await self._queued("/prompt", body, stop=stop))["prompt_id"])

        return self._follow(begin, cancel)

    async def plan(
        self,
        workflow: Workflow,
        parameters: Mapping[str, Any] | None = None,
        *,
        targets: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """What a run would do now: for each node whether its result is held, and why it would run."""
        changed = workflow.with_values(parameters) if parameters else workflow
        body = changed.document()
        if targets is not None:
            body["partial_execution_targets"] = list(targets)
        found: dict[str, Any] = await self._connection.json("POST", "/plan", json=body)
        return found

    async def object_info(self) -> dict[str, Any]:
        """The node types of the server, as ComfyUI describes them."""
        found: dict[str, Any] = await self._connection.json("GET", "/object_info")
        return found

    async def workflows(self) -> list[str]:
        """Names of the saved workflows."""
        found: list[str] = (await self._connection.json("GET", "/workflows"))["workflows"]
        return found

    async def workflow(self, name: str) -> Workflow:
        """A saved workflow."""
        return Workflow.from_data(
            await self._connection.json("GET", f"/workflows/{segment(name)}"), name=name
        )

    async def save_workflow(self, name: str, workflow: Workflow) -> None:
        """Save a workflow; one of that name is replaced."""
        await self._connection.json("PUT", f"/workflows/{segment(name)}", json=workflow.document())

    async def delete_workflow(self, name: str) -> None:
        """Remove a saved workflow."""
        await self._connection.bytes("DELETE", f"/workflows/{segment(name)}")

    async def schema(self, name: str) -> dict[str, Any]:
        """JSON Schema of the parameters of a saved workflow."""
        found: dict[str, Any] = await self._connection.json("GET", f"/workflows/{segment(name)}/schema")
        return found

    async def submit_saved(self, name: str, parameters: Mapping[str, Any] | None = None) -> str:
        """Queue a run of a saved workflow, and give the job's id; Paths are files here, as in `submit`.

        Only its end is told by `events`. A lost connection is made good as in `submit`.
        """
        path = f"/workflows/{segment(name)}/run?wait=0"
        found = await self._queued(path, await self._sent(parameters))
        return str(found["id"])

    async def close(self) -> None:
        """Let go of the connections; jobs go on."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _follow(
        self, begin: Callable[[asyncio.Event], Awaitable[str]], cancel: CancelToken | None
    ) -> AsyncGenerator[Event, None]:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        unsubscribe = (
            cancel.subscribe(lambda: loop.call_soon_threadsafe(stop.set)) if cancel is not None else None
        )
        id: str | None = None
        told: Told | None = None
        lost: float | None = None
        try:
            while True:
                try:
                    async with self._connection.websocket(self.id, FEATURES) as socket:
                        # Listened first, so that nothing of the job is missed.
                        id = id if id is not None else await begin(stop)
                        job = await self.job(id)
                        told = told if told is not None else Told(job)
                        lost = None
                        if not job.ended:
                            async with aclosing(self._listen(socket, id, told, stop)) as events:
                                async for event in events:
                                    yield event
                        job = await self.job(id)
                        if job.ended:
                            break
                except ServerError as error:
                    # Not known whether it was taken, or it was refused: nothing to wait for.
                    if id is None or error.status not in _PASSING or stop.is_set():
                        raise
                    lost = lost if lost is not None else time.monotonic()
                    if time.monotonic() - lost > self.patience:
                        raise
                await asyncio.sleep(0.5)
            for event in told.finish(job, await self._held(id) if told.late else ()):
                yield event
        finally:
            if unsubscribe is not None:
                unsubscribe()

    async def _listen(
        self, socket: aiohttp.ClientWebSocketResponse, id: str, told: Told, stop: asyncio.Event
    ) -> AsyncGenerator[Event, None]:
        """The events that come over a websocket, until the job or the connection ends."""
        stopping = asyncio.ensure_future(stop.wait())
        receiving = asyncio.ensure_future(socket.receive())
        asked = False
        silence = _FIRST_SILENCE
        try:
            while not told.ended:
                waiting = {receiving} if asked else {receiving, stopping}
                done, _ = await asyncio.wait(waiting, timeout=silence, return_when=asyncio.FIRST_COMPLETED)
                if stopping.done() and not asked:
                    await self.cancel(id)
                    asked = True
                if receiving.done():
                    message = receiving.result()
                    if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                        return
                    silence = _FIRST_SILENCE
                    for event in told.take(message.data):
                        yield event
                    receiving = asyncio.ensure_future(socket.receive())
                elif not done:
                    # Others' jobs are not told of, and one that is cancelled while it waits never speaks.
                    if (await self.job(id)).ended:
                        return
                    silence = min(2 * silence, _LONGEST_SILENCE)
        finally:
            stopping.cancel()
            receiving.cancel()

    async def _held(self, id: str) -> tuple[str, ...]:
        """The nodes whose results were held when a job that has ended began."""
        history = await self._connection.json("GET", f"/history/{segment(id)}")
        messages = history.get(id, {}).get("status", {}).get("messages", ())
        return next((tuple(data["nodes"]) for kind, data in messages if kind == "execution_cached"), ())


def _lost(error: ServerError) -> bool:
    """Whether a server that stops, starts or is away may not have taken what was sent, and may do so later."""
    away = error.status in (None, 502, 503, 504)
    return away and all(problem.code != "store_corrupt" for problem in error.problems)
