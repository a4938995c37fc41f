"""What nobody needs any more is removed at the start and now and then: old jobs, and what killed processes left behind."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from nodegraph.folders import Folders
from nodegraph.jobs import JobError, JobStore
from nodegraph.parts import remove_abandoned

LOG = logging.getLogger("nodegraph.server")
INTERVAL = 3600.0
"""Seconds between two looks."""
DELAY = 1.0
"""Seconds before the folders are walked: the first requests should not wait for that."""


async def tidying(store: JobStore, folders: Folders, data_dir: Path) -> None:
    """Look for ever, beside everything else."""
    while True:
        try:
            await store.prune()
        except JobError as error:
            LOG.warning("old jobs could not be forgotten: %s", error)
        await asyncio.sleep(DELAY)
        for root in (data_dir, folders.input, folders.output, folders.temp):
            await asyncio.to_thread(remove_abandoned, root)
        await asyncio.sleep(INTERVAL)
