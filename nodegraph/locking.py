"""A lock that one process holds at a time, and that ends with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold the lock file `path` against all others, in this process too; wait up to `seconds` for it.

    The file is made where there is none, and stays. Raises OSError where it cannot be made, TimeoutError where another
    holds it for so long.
    """
    # Here, for it costs some milliseconds and most commands lock nothing.
    import sqlite3

    def said(error: sqlite3.Error) -> OSError:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            return TimeoutError(None, "another process holds its lock", str(path))
        return OSError(None, str(error), str(path))

    # A lock of SQLite's own: the system lets go of it when the process dies, on every platform.
    try:
        lock = sqlite3.connect(path, isolation_level=None, timeout=seconds)
    except sqlite3.Error as error:
        raise said(error) from error
    with closing(lock):
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            raise said(error) from error
        yield
