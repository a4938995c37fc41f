"""The data directory: of one server at a time, of a version, copied before it is brought up to date, never changed in vain."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from nodegraph import __version__
from nodegraph.errors import NodegraphError
from nodegraph.jobs import JobRequest, JobStatus, JobStore
from nodegraph.jobs.schema import MIGRATIONS
from nodegraph.server.data_directory import Step, prepare
from tests.nodegraph.server.test_command import start


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the lock."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def version(folder: Path) -> dict[str, object]:
    """What the version file says."""
    found: dict[str, object] = json.loads((folder / "version.json").read_text(encoding="utf-8"))
    return found


def refusal(folder: Path, *steps: Step) -> NodegraphError:
    """Why the directory is not taken."""
    with pytest.raises(NodegraphError) as caught:
        prepare(folder, steps)
    return caught.value


def rename(folder: Path) -> None:
    """Settings get another name, workflows another place."""
    os.replace(folder / "settings.json", folder / "preferences.json")
    (folder / "user" / "kept").mkdir()
    os.replace(folder / "user" / "a.json", folder / "user" / "kept" / "a.json")


def note(folder: Path) -> None:
    """Needs what the step before did."""
    text = (folder / "preferences.json").read_text(encoding="utf-8")
    (folder / "preferences.json").write_text(f"{text}, noted", encoding="utf-8")


RENAME = Step(("settings.json", "preferences.json", "user"), rename)
NOTE = Step(("preferences.json",), note)


def old(folder: Path) -> Path:
    """A data directory from before there were version files."""
    (folder / "user").mkdir(parents=True)
    (folder / "output").mkdir()
    (folder / "jobs.sqlite3").write_bytes(b"jobs")
    (folder / "settings.json").write_text("red", encoding="utf-8")
    (folder / "user" / "a.json").write_text("a", encoding="utf-8")
    (folder / "output" / "picture.png").write_bytes(b"picture")
    return folder


def test_a_new_directory_gets_the_newest_version(tmp_path: Path) -> None:
    assert prepare(tmp_path, [RENAME, NOTE]) is None
    assert version(tmp_path) == {"version": 3, "release": __version__}
    assert prepare(tmp_path, [RENAME, NOTE]) is None
    assert list(contents(tmp_path)) == ["version.json"]


def test_an_older_directory_is_copied_and_brought_up_to_date(tmp_path: Path) -> None:
    old(tmp_path)
    assert prepare(tmp_path, []) is None
    assert version(tmp_path)["version"] == 1
    backup = prepare(tmp_path, [RENAME, NOTE])
    assert backup is not None
    assert contents(backup) == {"settings.json": b"red", "user/a.json": b"a"}
    now = contents(tmp_path)
    assert (now["preferences.json"], now["user/kept/a.json"]) == (b"red, noted", b"a")
    assert "settings.json" not in now and "user/a.json" not in now
    assert now["output/picture.png"] == b"picture"
    assert version(tmp_path) == {"version": 3, "release": __version__}


def test_one_that_was_never_marked_is_brought_up_to_date_too(tmp_path: Path) -> None:
    assert prepare(old(tmp_path), [RENAME]) is not None
    assert (tmp_path / "preferences.json").exists()


def test_a_step_that_fails_is_undone(tmp_path: Path) -> None:
    before = contents(old(tmp_path))

    def fail(folder: Path) -> None:
        (folder / "preferences.json").unlink()
        raise ValueError("the colour is unknown")

    error = refusal(tmp_path, RENAME, Step(("preferences.json",), fail))
    assert error.problems[0].code == "migration_failed"
    assert "the colour is unknown" in str(error) and "backup-v1" in str(error)
    after = {name: data for name, data in contents(tmp_path).items() if not name.startswith("backup")}
    assert after.pop("version.json").startswith(b'{"version": 1')
    assert after == before
    # A release that can do it goes on from there.
    assert prepare(tmp_path, [RENAME, NOTE]) == tmp_path / "backup-v1-2"
    assert contents(tmp_path)["preferences.json"] == b"red, noted"


KILLED = """
import os, pathlib, sys
from nodegraph.server.data_directory import prepare
from tests.nodegraph.server import test_data_directory as here

def die(folder):
    (folder / "preferences.json").unlink()
    os.kill(os.getpid(), 9)

prepare(pathlib.Path(sys.argv[1]), [here.RENAME, here.Step(("preferences.json",), die)])
"""


def test_a_kill_on_the_way_is_made_good(tmp_path: Path) -> None:
    old(tmp_path)
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)]).returncode == -9
        assert "preferences.json" not in contents(tmp_path)
    backup = prepare(tmp_path, [RENAME, NOTE])
    assert backup == tmp_path / "backup-v1"
    assert contents(tmp_path)["preferences.json"] == b"red, noted"
    assert version(tmp_path) == {"version": 3, "release": __version__}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"version": "1"}', '{"version": 0}', '{"version": true}', "[" * 10**5]
)
def test_a_damaged_version_file_is_named(tmp_path: Path, text: str) -> None:
    (old(tmp_path) / "version.json").write_text(text, encoding="utf-8")
    before = contents(tmp_path)
    error = refusal(tmp_path, RENAME)
    assert error.problems[0].code == "data_damaged"
    assert str(tmp_path / "version.json") in str(error) and '{"version": 2}' in str(error)
    assert contents(tmp_path) == before


def test_a_backup_that_has_gone_is_not_put_back(tmp_path: Path) -> None:
    (old(tmp_path) / "version.json").write_text('{"version": 1, "backup": "backup-v1"}', encoding="utf-8")
    before = contents(tmp_path)
    assert refusal(tmp_path, RENAME).problems[0].code == "data_damaged"
    assert contents(tmp_path) == before


def test_a_disk_without_room_for_the_backup(small_disk: Path) -> None:
    old(small_disk)
    (small_disk / "settings.json").write_bytes(bytes(2**20))
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2**21 + 2**19))
    before = contents(small_disk)
    assert refusal(small_disk, RENAME).problems[0].code == "data_unwritable"
    after = {name: data for name, data in contents(small_disk).items() if not name.startswith(".")}
    assert after == before
    ballast.unlink()
    assert prepare(small_disk, [RENAME]) is not None
    assert [name for name in contents(small_disk) if name.startswith(".")] == []


async def filled(folder: Path) -> None:
    """A data directory of a server that has taken 200 jobs."""
    store = await JobStore.open(folder / "jobs.sqlite3", first=lambda: prepare(folder))
    await store.submit(*(JobRequest(json.dumps("x" * 3_000), id=f"{i}") for i in range(200)))
    await store.close()


def refused(folder: Path, status: int = 2) -> str:
    """The one line that a server says which does not start."""
    process = start("--data-dir", str(folder), "--workers", "0")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, "")
    assert err.startswith("error: ") and err.count("\n") == 1, err
    return err


def overwrite(path: Path, place: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (title TEXT)")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: overwrite(path, 0, b"no database at all"), "is damaged; nothing in it was changed"),
        (lambda path: overwrite(path, 3 * 4096, os.urandom(8 * 4096)), "is damaged"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "is damaged"),
        (newer, "written by a later release"),
        (foreign, "a database of something else"),
    ],
    ids=["header", "pages", "half", "newer", "foreign"],
)
async def test_a_store_that_cannot_be_used_is_told_in_a_line_and_left_alone(
    tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    await filled(tmp_path)
    path = tmp_path / "jobs.sqlite3"
    damage(path)
    before = contents(tmp_path)
    line = refused(tmp_path)
    assert says in line and str(path) in line
    assert contents(tmp_path) == before


async def test_a_damaged_store_is_moved_aside_as_the_hint_says_and_read_as_far_as_it_goes(
    tmp_path: Path,
) -> None:
    await filled(tmp_path)
    path = tmp_path / "jobs.sqlite3"
    overwrite(path, path.stat().st_size - 4096, os.urandom(4096))
    assert "Move jobs.sqlite3 and what begins with its name to another place" in refused(tmp_path)
    aside = tmp_path / "aside"
    aside.mkdir()
    for item in tmp_path.glob("jobs.sqlite3*"):
        item.rename(aside / item.name)
    store = await JobStore.open(path, first=lambda: prepare(tmp_path))
    assert (await store.counts())[JobStatus.QUEUED] == 0
    await store.close()
    with closing(sqlite3.connect(aside / "jobs.sqlite3")) as damaged:
        assert damaged.execute("SELECT count(*) FROM jobs").fetchone() == (200,)


def test_a_directory_of_a_later_release_is_refused(tmp_path: Path) -> None:
    text = '{"version": 7, "release": "3.1.0"}'
    (old(tmp_path) / "version.json").write_text(text, encoding="utf-8")
    before = contents(tmp_path)
    line = refused(tmp_path)
    assert "written by a later release" in line and "version 7 of nodegraph 3.1.0" in line
    assert contents(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["output", "user"]


def test_a_second_server_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    first = start("--data-dir", str(tmp_path), "--workers", "0")
    assert first.stdout is not None
    try:
        assert first.stdout.readline().startswith("nodegraph serves")
        line = refused(tmp_path)
        assert "Another server uses this" in line and str(tmp_path) in line
        first.kill()
        first.wait()
        second = start("--data-dir", str(tmp_path), "--workers", "0")
        assert second.stdout is not None
        assert second.stdout.readline().startswith("nodegraph serves")
        second.terminate()
        assert second.communicate(timeout=20)[1] == ""
    finally:
        first.kill()
        first.communicate()


def test_a_place_where_nothing_can_be_made_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refused(tmp_path / "file" / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "output").touch()
    assert f"the folder {tmp_path / 'data' / 'output'} cannot be made" in refused(tmp_path / "data")
