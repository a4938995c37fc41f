"""Workers whose only pack is the tests' own, so that none imports torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodegraph.worker.messages import WorkerSettings
from tests.nodegraph.worker.talk import settings_in


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    """Settings of a worker in folders of its own."""
    return settings_in(tmp_path)
