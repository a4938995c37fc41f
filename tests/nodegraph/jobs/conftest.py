from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nodegraph.jobs import JobStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[JobStore]:
    store = await JobStore.open(tmp_path / "jobs.db")
    yield store
    await store.close()
