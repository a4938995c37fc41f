"""Files get their names: all are kept, none is written over, however many come at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nodegraph.naming import named, place


def staged(folder: Path, count: int, text: str) -> Path:
    part = folder / f".{count}.part"
    part.write_text(text)
    return part


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_files_of_one_name_are_all_kept(tmp_path: Path) -> None:
    given = [place(staged(tmp_path, n, text), tmp_path, "x.png") for n, text in enumerate("abacb")]
    assert given == ["x.png", "x (1).png", "x.png", "x (2).png", "x (1).png"]
    assert contents(tmp_path) == {"x.png": "a", "x (1).png": "b", "x (2).png": "c"}
    assert place(staged(tmp_path, 9, "d"), tmp_path, "x.png", overwrite=True) == "x.png"
    assert contents(tmp_path) == {"x.png": "d", "x (1).png": "b", "x (2).png": "c"}


def test_many_at_once(tmp_path: Path) -> None:
    def one(count: int) -> str:
        return place(staged(tmp_path, count, str(count % 10)), tmp_path, "x")

    with ThreadPoolExecutor(8) as threads:
        given = list(threads.map(one, range(40)))
    found = contents(tmp_path)
    assert {found[name] for name in given} == set(found.values()) == {str(n) for n in range(10)}
    assert all(found[name] == str(count % 10) for count, name in enumerate(given))


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_link_is_another_file_and_nothing_is_written_through_it(tmp_path: Path, overwrite: bool) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.write_text("same")
    folder.mkdir()
    (folder / "x").symlink_to(outside)
    name = place(staged(folder, 0, "same"), folder, "x", overwrite=overwrite)
    assert name == ("x" if overwrite else "x (1)")
    assert not (folder / name).is_symlink() and (folder / name).read_text() == "same"
    assert outside.read_text() == "same"


def test_a_taken_name_is_told(tmp_path: Path) -> None:
    source = staged(tmp_path, 0, "new")
    (tmp_path / "x").write_text("old")
    assert not named(source, tmp_path / "x")
    assert named(source, tmp_path / "y")
    assert ((tmp_path / "x").read_text(), (tmp_path / "y").read_text()) == ("old", "new")
