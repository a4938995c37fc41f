"""What nobody needs any more is removed at the start and now and then: old jobs, and what killed processes left behind."""

from __future__ import annotations

import asyncio
import logging

from nodegraph.folders import Folders
from nodegraph.jobs import JobError, JobStore
from nodegraph.parts import remove_abandoned
from nodegraph.server.config import Limits, ServerConfig
from nodegraph.server.received import FOLDER, NAMES, Received

LOG = logging.getLogger("nodegraph.server")
INTERVAL = 3600.0
"""Seconds between two looks."""
DELAY = 1.0
"""Seconds before the folders are walked: the first requests should not wait for that."""


async def tidying(store: JobStore, folders: Folders, config: ServerConfig, received: Received) -> None:
    """Look for ever, beside everything else."""
    while True:
        try:
            await store.prune()
        except JobError as error:
            LOG.warning("old jobs could not be forgotten: %s", error)
        await asyncio.sleep(DELAY)
        try:
            await prune_received(store, received, config.limits)
        except (JobError, OSError) as error:
            LOG.warning("old files that came with runs could not be removed: %s", error)
        for root in (config.data_dir, folders.input, folders.output, folders.temp):
            await asyncio.to_thread(remove_abandoned, root)
        await asyncio.sleep(INTERVAL)


async def prune_received(store: JobStore, received: Received, limits: Limits) -> int:
    """Remove files that came with runs, where they are too old or too many and no job that waits or runs names them.

    How many went. Raises JobError, OSError.
    """
    if not await asyncio.to_thread(received.superfluous, limits):
        return 0
    named = await store.named(FOLDER, NAMES)
    chosen = await asyncio.to_thread(received.superfluous, limits, named)
    return await asyncio.to_thread(received.remove, chosen)
