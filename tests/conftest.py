"""What every test starts from: nothing of the settings of the person who runs them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def no_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No model folders are remembered, in the processes that tests start either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NODEGRAPH_CONFIG", str(tmp_path_factory.mktemp("config")))
        yield
