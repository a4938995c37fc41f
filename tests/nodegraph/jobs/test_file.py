"""The file of the store: who may open it, what becomes of an older, newer, foreign or damaged one."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from nodegraph.jobs import JobError, JobRequest, JobStatus, JobStore
from nodegraph.jobs.changes import claim
from nodegraph.jobs.file import connect, prepare
from nodegraph.jobs.schema import MIGRATIONS

LATER = "ALTER TABLE jobs ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'; UPDATE counts SET n = n + 0;"


async def filled(path: Path, count: int = 20) -> None:
    """A store that was closed properly."""
    store = await JobStore.open(path)
    await store.submit(*(JobRequest(document=json.dumps("x" * 3_000), id=f"{i}") for i in range(count)))
    await store.claim("w")
    await store.finish("0", JobStatus.FINISHED, outputs="{}")
    await store.close()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}


def user_version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


async def refusal(path: Path) -> JobError:
    """Why the store cannot be opened."""
    with pytest.raises(JobError) as caught:
        await JobStore.open(path)
    return caught.value


def test_a_commit_is_flushed_to_the_disk(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "jobs.db")) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "data" / "jobs.db"
    store = await JobStore.open(path)
    assert (await refusal(path)).code == "store_in_use"
    code = (
        "import asyncio, pathlib, sys; from nodegraph.jobs import JobStore;"
        "asyncio.run(JobStore.open(pathlib.Path(sys.argv[1])))"
    )
    other = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert other.returncode != 0
    assert "Another server uses this job store" in other.stderr
    await store.close()
    await (await JobStore.open(path)).close()


async def test_a_closed_store_refuses(tmp_path: Path) -> None:
    store = await JobStore.open(tmp_path / "jobs.db")
    await store.close()
    await store.close()
    for call in (store.submit(JobRequest("{}")), store.counts()):
        with pytest.raises(JobError) as caught:
            await call
        assert caught.value.code == "store_closed"


async def test_what_waits_when_the_store_closes_is_committed(tmp_path: Path) -> None:
    store = await JobStore.open(tmp_path / "jobs.db")
    waiting = [store._writer.ask(lambda _, payloads: payloads, i) for i in range(100)]
    await store.close()
    assert [answer.result() for answer in waiting] == list(range(100))


async def test_an_older_file_is_copied_then_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    await filled(path)
    version = len(MIGRATIONS)
    assert prepare(path) is None
    backup = prepare(path, (*MIGRATIONS, LATER))
    assert backup == tmp_path / f"jobs.db.v{version}.backup"
    assert user_version(path) == version + 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*), min(colour) FROM jobs").fetchone() == (20, "blue")
    # The copy is a store of the earlier release, whole.
    assert (await refusal(path)).code == "store_too_new"
    path.unlink()
    backup.rename(path)
    store = await JobStore.open(path)
    assert (await store.counts())[JobStatus.QUEUED] == 19
    job = await store.get("0")
    assert job is not None
    assert job.outputs == "{}"
    await store.close()


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    await filled(path)
    with pytest.raises(JobError) as caught:
        prepare(path, (*MIGRATIONS, LATER, "DELETE FROM jobs; SELECT * FROM nothing;"))
    assert caught.value.code == "migration_failed"
    assert "nothing" in str(caught.value)
    assert user_version(path) == len(MIGRATIONS)
    # A second try keeps the copy of the first.
    with pytest.raises(JobError):
        prepare(path, (*MIGRATIONS, "SELECT * FROM nothing;"))
    assert len(list(tmp_path.glob("*.backup"))) == 2
    store = await JobStore.open(path)
    assert (await store.counts())[JobStatus.QUEUED] == 19
    await store.close()


async def test_a_later_releases_file_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    await filled(path)
    prepare(path, (*MIGRATIONS, LATER))
    before = contents(tmp_path)
    assert (await refusal(path)).code == "store_too_new"
    assert contents(tmp_path) == before


async def test_a_database_of_something_else_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    before = contents(tmp_path)
    assert (await refusal(path)).code == "not_a_job_store"
    assert contents(tmp_path) == before


@pytest.mark.parametrize("damage", ["text", "header", "page", "cut", "scrambled"])
async def test_a_damaged_file_is_named_and_stays_as_it_is(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "jobs.db"
    await filled(path, 200)
    data = bytearray(path.read_bytes())
    if damage == "text":
        data = bytearray(b"not a database" * 1_000)
    elif damage == "header":
        data[:16] = bytes(16)
    elif damage == "page":
        data[4_096:8_192] = os.urandom(4_096)
    elif damage == "cut":
        del data[len(data) // 2 :]
    else:
        for place in range(4_096, len(data), 4_096):
            data[place : place + 64] = os.urandom(64)
    path.write_bytes(data)
    before = contents(tmp_path)
    error = await refusal(path)
    assert error.code == "store_corrupt"
    assert str(path) in str(error)
    assert error.problems[0].hint is not None
    assert contents(tmp_path) == before
    # Once it has been moved away, as the hint says, the store begins anew.
    path.rename(tmp_path / "aside")
    await (await JobStore.open(path)).close()


async def test_damage_that_is_met_later_is_named_and_the_rest_is_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await JobStore.open(tmp_path / "jobs.db")
    await store.submit(*(JobRequest(document=json.dumps("x" * 3_000), id=f"{i}") for i in range(2_000)))
    await store.close()
    path = tmp_path / "jobs.db"
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'documents'").fetchone()
    store = await JobStore.open(path)
    with path.open("r+b") as file:
        file.seek((root - 1) * 4_096)
        file.write(os.urandom(4_096))
    with pytest.raises(JobError) as caught:
        for i in range(2_000):
            await store.get(f"{i}")
    assert caught.value.code == "store_corrupt"
    assert str(path) in str(caught.value) and "Stop the server" in str(caught.value)
    assert (await store.counts())[JobStatus.QUEUED] == 2_000
    before = contents(tmp_path)
    for change in (
        store.submit(JobRequest("{}")),
        store.claim("w"),
        store.cancel("1"),
        store.clear_history(),
    ):
        with pytest.raises(JobError) as caught:
            await change
        assert caught.value.code == "store_corrupt"
    assert contents(tmp_path) == before
    assert [record.levelname for record in caplog.records] == ["ERROR"] and str(path) in caplog.text
    await store.close()


@pytest.mark.parametrize("what", ["removed", "moved", "replaced"])
async def test_nothing_is_written_into_a_file_that_has_lost_its_name(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "jobs.db"
    store = await JobStore.open(path)
    await store.submit(JobRequest("{}", id="1"))
    if what == "removed":
        path.unlink()
    elif what == "moved":
        path.rename(tmp_path / "aside.db")
        (tmp_path / "jobs.db-wal").rename(tmp_path / "aside.db-wal")
    else:
        (tmp_path / "other").write_bytes(path.read_bytes())
        (tmp_path / "other").replace(path)
    for _ in range(2):
        with pytest.raises(JobError) as caught:
            await store.submit(JobRequest("{}", id="2"))
    assert caught.value.code == "store_corrupt"
    assert "removed or replaced" in str(caught.value) and str(path) in str(caught.value)
    assert (await store.get("1")) is not None and (await store.get("2")) is None
    assert [record.levelname for record in caplog.records] == ["ERROR"] and str(path) in caplog.text
    await store.close()
    if what == "moved":
        # The remedy that it names.
        for item in tmp_path.glob("aside.db*"):
            item.rename(tmp_path / item.name.replace("aside", "jobs"))
        store = await JobStore.open(path)
        assert (await store.get("1")) is not None
        await store.submit(JobRequest("{}", id="2"))
        await store.close()


@pytest.mark.parametrize("what", ["status = 'eaten'", "targets = '['", "targets = x'00'", "targets = 7"])
async def test_a_row_that_nobody_wrote_is_damage(tmp_path: Path, what: str) -> None:
    path = tmp_path / "jobs.db"
    store = await JobStore.open(path)
    await store.submit(JobRequest("{}", id="1"), JobRequest("{}", id="2"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("DROP TRIGGER IF EXISTS jobs_updated")
        connection.execute(f"UPDATE jobs SET {what} WHERE id = '1'")
        connection.commit()
    with pytest.raises(JobError) as caught:
        await store.get("1")
    assert caught.value.code == "store_corrupt"
    assert (await store.get("2")) is not None and store.damage is not None
    await store.close()


async def test_any_number_is_claimed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    await filled(path, 300)
    with closing(connect(path)) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 50)
        (jobs,) = claim(connection, [("w", 10**6)])
    assert [job.id for job in jobs] == [f"{i}" for i in range(1, 300)]


async def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    path.touch()
    store = await JobStore.open(path)
    await store.submit(JobRequest("{}"))
    await store.close()
    assert user_version(path) == len(MIGRATIONS)


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = await refusal(tmp_path / "file" / "jobs.db")
    assert error.code == "store_unwritable"
    assert "file" in str(error)
    (tmp_path / "jobs.db").mkdir()
    assert (await refusal(tmp_path / "jobs.db")).code == "store_unwritable"
