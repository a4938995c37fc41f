"""Tiny models of the stages, saved as their published folders are, among the model folders of a context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.nodes.conftest import DirectContext
from tests.nodes.wuerstchen import tiny

EMBEDDED = Path(__file__).parents[3] / "nodes" / "models" / "embedded" / "diffusers" / "shapes-wuerstchen"


@pytest.fixture(scope="session")
def tiny_wuerstchen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny.wuerstchen(tmp_path_factory.mktemp("wuerstchen"))


@pytest.fixture(scope="session")
def tiny_cascade(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny.cascade(tmp_path_factory.mktemp("cascade"))


@pytest.fixture(scope="session")
def embedded_wuerstchen() -> Any:
    return tiny.embedded(EMBEDDED)


@pytest.fixture
def diffusers(context: DirectContext) -> Path:
    """The models folder for diffusers folders."""
    place = context.folders.models[0] / "diffusers"
    place.mkdir(parents=True)
    return place
