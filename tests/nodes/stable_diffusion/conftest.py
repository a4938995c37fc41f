"""The embedded checkpoint, as a copy of its own: the original may be replaced by a newly trained one meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ORIGINAL = Path(__file__).parents[3] / "nodes/models/embedded/checkpoints/shapes-sd.safetensors"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small, complete Stable Diffusion checkpoint."""
    return Path(shutil.copy(ORIGINAL, tmp_path_factory.mktemp("embedded") / "m.safetensors"))
