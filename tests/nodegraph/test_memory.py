"""Free memory goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import pathlib, nodegraph.memory as memory
def resident():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
trim = memory.Trimmer()
memory.SECONDS_BETWEEN = 0.0
blocks = [bytes(1000) for _ in range(200_000)]
blocks = blocks[::100]
held = resident()
worked = trim()
print(worked, held - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is glibc's")
def test_what_was_freed_leaves_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    worked, freed = done.stdout.split()
    assert worked == "True"
    assert int(freed) > 50_000, "of about 200,000 kB freed in pieces"


def test_quick_runs_do_not_trim_each_time() -> None:
    from nodegraph.memory import Trimmer

    trim = Trimmer()
    assert trim() is False
