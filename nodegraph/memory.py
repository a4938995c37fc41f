"""Free memory goes back to the system between runs.

The C library keeps what a run freed, in pieces that the next run's tensors do not quite fit: over hundreds of runs
a process grows although nothing is held. `benchmarks/repeated_runs.py` measures it.
"""

from __future__ import annotations

import ctypes
import sys
import time

SECONDS_BETWEEN = 1.0
"""Quick runs that follow one another do it once in this time."""


class Trimmer:
    """Returns free memory to the system, at most once in `SECONDS_BETWEEN`. Does nothing where the C library cannot."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None

    def __call__(self) -> bool:
        """Whether memory was asked back."""
        now = time.monotonic()
        if self._trim is None or now - self._last < SECONDS_BETWEEN:
            return False
        self._trim(0)
        self._last = time.monotonic()
        return True
