"""Server and workers that are killed at random moments: no job is lost, none ends twice, files are whole.

`python benchmarks/chaos.py` does the same for longer.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.chaos import Setup, chaos


@pytest.mark.timeout(180)
async def test_nothing_is_lost_whoever_is_killed(tmp_path: Path) -> None:
    setup = Setup(jobs=60, kills=10, seed=3)
    planned = [kill.victim for kill in setup.schedule()]
    assert min(planned.count("server"), planned.count("worker")) >= 3
    found = await chaos(setup, tmp_path)
    assert found["broken"] == []
    assert found["ended"]["completed"] >= 40
    # It was no walk in the park: jobs were under way when their worker or server died.
    assert sum(found["killed"].values()) >= 8
    assert found["jobs_of_several_attempts"] >= 2
    assert found["starts"] == found["killed"]["server"] + 1
