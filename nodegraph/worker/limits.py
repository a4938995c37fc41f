"""How long a supervisor waits for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, all of them, but for `least_ahead` and `most_ahead`."""

    start: float = 600.0
    """Until a worker is ready: it may have to read large libraries from a slow disk."""
    silence: float = 60.0
    """Without a message of any kind; a worker beats once a second."""
    hang: float = 900.0
    """Without an event of the job that runs. Decoding a large picture on a CPU says nothing for minutes."""
    cancel: float = 30.0
    """Between a cancel and the end of the run, before the worker is killed."""
    stop: float = 5.0
    """For workers to end by themselves when the supervisor stops."""
    backoff: float = 0.25
    """Before the first of several restarts without success between them; each one after waits twice as long."""
    backoff_most: float = 30.0
    quick: float = 0.05
    """A job under this is quick: while jobs are, a worker has several at once and never waits for the disk."""
    ahead: float = 0.25
    """What the quick jobs take that a worker has, from `least_ahead` to `most_ahead` of them."""
    least_ahead: int = 8
    most_ahead: int = 32
    give_back: float = 0.5
    """A job that runs longer than this does not keep others waiting behind it: they go back to the queue."""
