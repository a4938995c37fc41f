"""The file of the job store: held by one process, looked over before anything touches it, brought up to date.

Every refusal leaves the file, with what stands beside it, as it was found.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from nodegraph.jobs.record import JobError, refuse
from nodegraph.jobs.schema import APPLICATION_ID, MIGRATIONS

CHECKED_WHOLE = 32 * 2**20
"""Bytes of a file that is read whole at the start; of a bigger one only the tables that every change needs."""


def make_folder(folder: Path) -> None:
    """Make the folder of the store. JobError: `store_unwritable`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refuse("store_unwritable", "The data directory cannot be made.", found=str(error)) from error


def hold(path: Path) -> sqlite3.Connection:
    """Keep other processes off the store for as long as the connection is open, or this process lives.

    JobError: `store_in_use`.
    """
    # A lock of SQLite's own: the system lets go of it when the process dies, on every platform.
    name = path.with_name(f"{path.name}.lock")
    with _in_words(name):
        lock = sqlite3.connect(name, isolation_level=None, check_same_thread=False, timeout=0)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        lock.close()
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise as_job_error(error) from error
        raise refuse(
            "store_in_use",
            "Another server uses this job store.",
            found=str(path),
            hint="Stop it, or give this one another data directory.",
        ) from error
    return lock


def connect(path: Path, *, cache_kib: int = 2_048) -> sqlite3.Connection:
    """A connection in autocommit mode, for one thread at a time; transactions are opened by hand."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit is on the disk when it returns, through a power cut too.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        connection.execute(f"PRAGMA journal_size_limit = {64 * 2**20}")
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(path: Path, migrations: Sequence[str] = MIGRATIONS) -> Path | None:
    """Check the file, or make it, and bring it to the version after the last of `migrations`.

    Returns the backup where an older file was changed. JobError: `store_corrupt`, `not_a_job_store`,
    `store_too_new`, `migration_failed`, `store_unwritable`, `disk_full`.
    """
    if path.exists() and not path.is_file():
        raise refuse("store_unwritable", "The job store is not a file.", found=str(path))
    version = _inspect(path, len(migrations)) if path.exists() and path.stat().st_size else 0
    if version == len(migrations):
        return None
    with _in_words(path), closing(connect(path)) as connection:
        backup = _back_up(connection, path, version) if version else None
        steps = "".join(migrations[version:])
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {len(migrations)};"
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {steps} {marks} COMMIT;")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if not version or as_job_error(error).code != "store_failed":
                raise
            raise refuse(
                "migration_failed",
                "The job store could not be brought up to date; it is as it was.",
                found=f"{path}, version {version}: {error}",
                allowed=f"version {len(migrations)}",
                hint=f"A copy is at {backup}. The earlier release still reads it.",
            ) from error
    return backup


def _inspect(path: Path, newest: int) -> int:
    """The version of a file that is sound and ours."""
    # Read only: closing such a connection does not fold the write-ahead log into the file. Immutable, where there is
    # no log: the look leaves no files of its own.
    log = path.with_name(f"{path.name}-wal")
    address = f"{path.absolute().as_uri()}?mode=ro{'' if log.exists() else '&immutable=1'}"
    with _in_words(path), closing(sqlite3.connect(address, uri=True)) as look:
        (application,) = look.execute("PRAGMA application_id").fetchone()
        (version,) = look.execute("PRAGMA user_version").fetchone()
        (tables,) = look.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if application != APPLICATION_ID and (tables or version):
            raise refuse("not_a_job_store", "The file is a database of something else.", found=str(path))
        if version > newest:
            raise refuse(
                "store_too_new",
                "The job store was written by a later release.",
                found=f"{path}, version {version}",
                allowed=f"up to version {newest}",
                hint="Install that release again, or give this one another data directory.",
            )
        whole = path.stat().st_size <= CHECKED_WHOLE
        for table in ("",) if whole or not version else ("(jobs)", "(counts)", "(settings)"):
            (state,) = look.execute(f"PRAGMA quick_check{table}").fetchone()
            if state != "ok":
                # A line for each page that is wrong, below a heading; the first says it.
                lines = [line for line in state.splitlines() if not line.startswith("***")] or [state]
                more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
                raise _damaged(path, lines[0] + more)
    return int(version)


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        found = as_job_error(error)
        raise (_damaged(path, str(error)) if found.code == "store_corrupt" else found) from error


def _damaged(path: Path, found: str) -> JobError:
    return refuse(
        "store_corrupt",
        "The file of the job store is damaged; nothing in it was changed.",
        found=f"{path}: {found}",
        hint=(
            f"Move {path.name} and what begins with its name to another place to start with an empty queue;"
            f" {_left(path)}"
        ),
    )


def damaged_in_use(path: Path, found: str) -> JobError:
    """The refusal of a server whose file was damaged under it."""
    return refuse(
        "store_corrupt",
        "The file of the job store was damaged while it was in use; nothing more is written into it.",
        found=f"{path}: {found}",
        hint=(
            f"Stop the server, move {path.name} and what begins with its name to another place, and start it again: it begins"
            f" with an empty queue. {_left(path)}"
        ),
    )


def identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another of its name; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def removed_in_use(path: Path) -> JobError:
    """The refusal of a server whose file was taken away, or another put in its place."""
    return refuse(
        "store_corrupt",
        "The file of the job store was removed or replaced while it was in use; nothing more is stored.",
        found=str(path),
        hint=(
            "Stop the server, put the file back if it was moved, with what begins with its name, and start the server again:"
            " without the file it begins with an empty queue."
        ),
    )


def _left(path: Path) -> str:
    return f"`sqlite3 {path.name} .recover` reads what is left, and a backup may stand beside it."


def _back_up(connection: sqlite3.Connection, path: Path, version: int) -> Path:
    """A whole copy of the file beside it, on the disk before this returns."""
    backup = path.with_name(f"{path.name}.v{version}.backup")
    count = 1
    while backup.exists():
        count += 1
        backup = path.with_name(f"{path.name}.v{version}-{count}.backup")
    part = backup.with_name(f"{backup.name}.part")
    part.unlink(missing_ok=True)
    try:
        connection.execute("VACUUM INTO ?", (str(part),))
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(part, backup)
        if os.name == "posix":
            # The name, too, is on the disk only once its folder is.
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        part.unlink(missing_ok=True)
    return backup


def as_job_error(error: sqlite3.Error) -> JobError:
    """An error of the database in the words of a Problem."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        found = refuse(
            "disk_full",
            "The job store cannot be written: the disk is full or failing.",
            found=str(error),
            hint="Nothing that was stored is lost; make room and ask again.",
        )
    elif code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        hint = "Look at who owns the data directory, and whether it can be written."
        found = refuse(
            "store_unwritable", "The job store cannot be opened or written.", found=str(error), hint=hint
        )
    elif code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        found = refuse("store_corrupt", "The file of the job store is damaged.", found=str(error))
    else:
        found = refuse("store_failed", "The job store failed.", found=str(error))
    found.__cause__ = error
    return found
