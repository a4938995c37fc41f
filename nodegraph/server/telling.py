"""What the supervisor of the workers tells the server: clients hear of it, the history keeps it, those who wait are woken.

Loaded when the workers are started, which is after the server answers.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from nodegraph.errors import Problem
from nodegraph.jobs import Job
from nodegraph.server.answers import compact
from nodegraph.server.catalogue import Catalogue
from nodegraph.server.comfy import Stream
from nodegraph.server.config import ServerConfig
from nodegraph.server.hub import Hub
from nodegraph.server.listing import ListedFolders
from nodegraph.worker.messages import Descriptions, Done, FromWorker, Preview, RunEvents, WorkerSettings
from nodegraph.worker.states import Kept, Listener, WorkerState
from nodegraph.worker.supervisor import Supervisor

if TYPE_CHECKING:
    from nodegraph.server.dispatch import Dispatch

LOG = logging.getLogger("nodegraph.server")


def supervisor_of(
    config: ServerConfig, folders: ListedFolders, dispatch: Dispatch, catalogue: Catalogue, hub: Hub
) -> Supervisor:
    """The supervisor of the workers that a configuration asks for; not started yet."""
    settings = WorkerSettings(
        models=tuple(str(root.expanduser().absolute()) for root in config.models_dirs),
        input=str(folders.input),
        output=str(folders.output),
        temp=str(folders.temp),
        device=config.device,
        dtype=config.dtype,
        packs=config.packs,
        paths=config.pack_paths,
    )
    return Supervisor(dispatch.store, settings, config.workers, listener=Teller(dispatch, catalogue, hub))


class Teller(Listener):
    """Listens to the supervisor; see the base class for when each method is called."""

    def __init__(self, dispatch: Dispatch, catalogue: Catalogue, hub: Hub) -> None:
        self._dispatch = dispatch
        self._catalogue = catalogue
        self._hub = hub

    def begun(self, job: Job) -> None:
        """See Listener."""
        self._stream(job)

    def retried(self, job: Job, why: Problem) -> None:
        """See Listener."""
        stream = self._dispatch.streams.pop(job.id, None)
        if stream is not None:
            stream.close()

    def said(self, job: Job, message: RunEvents | Preview) -> None:
        """See Listener."""
        stream = self._dispatch.streams.get(job.id)
        if stream is None:
            return
        if isinstance(message, RunEvents):
            stream.events(message.events)
        else:
            stream.preview(message.node, message.image, message.mime)

    def ending(self, job: Job, done: Done) -> Kept:
        """See Listener."""
        stream = self._dispatch.streams.get(job.id)
        if stream is None:
            # It never ran: cancelled, or lost with its worker before it began.
            stream = self._stream(job)
        stream.finish(done.status, [problem.data() for problem in done.problems])
        outputs = {**stream.outputs, **done.outputs}
        return Kept(compact(outputs), compact(stream.meta()), compact(stream.messages))

    def ended(self, job: Job, done: Done) -> None:
        """See Listener."""
        self._dispatch.left = max(0, self._dispatch.left - 1)
        stream = self._dispatch.streams.pop(job.id, None)
        if stream is not None:
            stream.end(self._dispatch.left)
        self._dispatch.wake(job.id)

    def heard(self, worker: WorkerState, message: FromWorker) -> None:
        """See Listener."""
        if isinstance(message, Descriptions):
            self._dispatch.background(self._learn(message))

    def _stream(self, job: Job) -> Stream:
        stream = Stream(self._hub, job.id, job.client_id, _Types(job))
        self._dispatch.streams[job.id] = stream
        stream.start(self._dispatch.left)
        return stream

    async def _learn(self, message: Descriptions) -> None:
        try:
            await self._catalogue.update(message.packs, message.problems)
        except OSError:
            # They are known all the same; the next start learns them anew.
            LOG.exception("the descriptions of nodes cannot be kept")


class _Types:
    """The class of each node of a job's document, read when one is asked for: most runs never do."""

    def __init__(self, job: Job) -> None:
        self._document = job.document
        self._known: dict[str, str] | None = None

    def __call__(self, node: str) -> str:
        """The class of a node; empty where there is none."""
        if self._known is None:
            prompt = json.loads(self._document).get("prompt", {})
            self._known = {name: str(item.get("class_type", "")) for name, item in prompt.items()}
        return self._known.get(node, "")
