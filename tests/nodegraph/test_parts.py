"""Files that are not whole yet: who holds them, and what becomes of those of killed processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nodegraph.parts import Part, remove_abandoned
from tests.nodegraph.halfway import aged, writer


def test_what_a_killed_process_left_goes_and_what_another_writes_stays(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with writer(tmp_path / "a" / "b") as (killed, left), writer(tmp_path) as (living, held):
        assert remove_abandoned(tmp_path) == 0 and left.exists()
        killed.kill()
        killed.wait()
        assert left.read_bytes() == b"half"
        assert remove_abandoned(tmp_path) == 1
        assert not left.exists() and held.exists()
        assert living.stdin is not None
        living.stdin.close()
        assert living.wait(30) == 0
        living.stdin = None
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["picture.png"]
    assert (tmp_path / "picture.png").read_bytes() == b"half and half"


def test_what_was_changed_just_now_stays(tmp_path: Path) -> None:
    left = tmp_path / ".0123456789abcdef.part"
    left.write_bytes(b"half")
    assert remove_abandoned(tmp_path) == 0
    aged(left)
    assert remove_abandoned(tmp_path) == 1


@pytest.mark.parametrize(
    "name",
    ["0123456789abcdef.part", ".part", ".mine.part", ".0123456789ABCDEF.part", ".0123456789abcdef.png"],
)
def test_files_of_other_names_stay(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"mine")
    aged(tmp_path / name)
    assert remove_abandoned(tmp_path) == 0


def test_links_and_pipes_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for path in (tmp_path / "elsewhere" / ".0123456789abcdef.part", tmp_path / "picture.png"):
        path.write_bytes(b"mine")
        aged(path)
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    link = tmp_path / "root" / ".fedcba9876543210.part"
    link.symlink_to(tmp_path / "picture.png")
    os.utime(link, (0, 0), follow_symlinks=False)
    assert remove_abandoned(tmp_path / "root") == 0
    assert remove_abandoned(tmp_path / "not there") == 0
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "root" / ".00000000.part")
        aged(tmp_path / "root" / ".00000000.part")
        assert remove_abandoned(tmp_path / "root") == 0


def test_what_got_no_name_is_removed_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Part(tmp_path, "x" * 300) as part:
        part.file.write(b"half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
