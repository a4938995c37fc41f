"""Output files: names, counters, containment, and never a partial or replaced file."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodegraph.node import Context, Folders, NodeError
from nodes import saving


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writing more than `size` bytes to a file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_counts_up_and_says_what_it_wrote(context: Context, folders: Folders) -> None:
    files = saving.series(context, "pictures/cat")
    saved = [files.write(data, ".png") for data in (b"one", b"two")]
    assert [item.filename for item in saved] == ["cat_00001_.png", "cat_00002_.png"]
    assert (saved[0].subfolder, saved[0].type) == ("pictures", "output")
    assert saved[1].path == folders.output / "pictures" / "cat_00002_.png"
    assert saved[1].path.read_bytes() == b"two"
    assert (saved[1].size, saved[1].sha256) == (3, hashlib.sha256(b"two").hexdigest())


def test_goes_on_after_the_highest_number_of_any_suffix(context: Context, folders: Folders) -> None:
    folders.output.mkdir()
    for name in ("x_00007_.webp", "x_00003_.png", "xy_00090_.png", "x_y_00050_.png", "x_oops_.png"):
        (folders.output / name).touch()
    assert saving.series(context, "x").write(b"", ".png").filename == "x_00008_.png"


def test_never_replaces_a_file(context: Context, folders: Folders) -> None:
    files = saving.series(context, "x")
    files.write(b"mine", ".png")
    (folders.output / "x_00002_.png").write_bytes(b"theirs")
    assert files.write(b"mine too", ".png").filename == "x_00003_.png"
    assert (folders.output / "x_00002_.png").read_bytes() == b"theirs"


def test_batch_number_is_filled_in(context: Context) -> None:
    files = saving.series(context, "x%batch_num%")
    names = [files.write(b"", ".png", number).filename for number in range(2)]
    assert names == ["x0_00001_.png", "x1_00002_.png"]


@pytest.mark.parametrize(
    "prefix", ["../x", "a/../../x", "/etc/x", "a/../..", "..", "link/x", "..\\x", "deep/../link/sub/x"]
)
def test_stays_in_the_output_folder(context: Context, folders: Folders, prefix: str) -> None:
    folders.output.mkdir()
    outside = folders.output.parent / "outside"
    outside.mkdir()
    (folders.output / "link").symlink_to(outside)
    with pytest.raises(NodeError, match="leads out of the output folder") as caught:
        saving.series(context, prefix)
    assert caught.value.input == "filename_prefix"
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("prefix", "name"), [("", "ComfyUI"), ("./", "ComfyUI"), ("a//b/", "b"), ("a/./b/../c", "c")]
)
def test_odd_prefixes_get_sound_names(context: Context, folders: Folders, prefix: str, name: str) -> None:
    saved = saving.series(context, prefix).write(b"", ".png")
    assert saved.filename == f"{name}_00001_.png"
    assert saved.path.parent == folders.output / saved.subfolder


def test_an_absolute_prefix_within_the_output_folder_is_fine(context: Context, folders: Folders) -> None:
    saved = saving.series(context, str(folders.output / "sub" / "x")).write(b"", ".png")
    assert (saved.subfolder, saved.filename) == ("sub", "x_00001_.png")


@pytest.mark.parametrize("prefix", ["a\0b", "a\nb"])
def test_control_characters_are_refused(context: Context, prefix: str) -> None:
    with pytest.raises(NodeError, match="control character"):
        saving.series(context, prefix)


def test_a_name_too_long_is_one_clear_error(context: Context, folders: Folders) -> None:
    with pytest.raises(NodeError, match="the file name is too long") as caught:
        saving.series(context, "x" * 300).write(b"", ".png")
    assert caught.value.hint == "Use a shorter filename_prefix."
    with pytest.raises(NodeError, match="the file name is too long"):
        saving.series(context, "x/" * 1500 + "y").write(b"", ".png")
    assert list(folders.output.iterdir()) == []


def test_a_full_disk_leaves_no_partial_file(context: Context, folders: Folders) -> None:
    files = saving.series(context, "x")
    files.write(b"small", ".png")
    with largest_file(1000), pytest.raises(NodeError, match="larger than is allowed") as caught:
        files.write(bytes(5000), ".png")
    assert str(folders.output) in caught.value.message and caught.value.hint
    assert [item.name for item in folders.output.iterdir()] == ["x_00001_.png"]


def test_a_file_in_place_of_the_folder(context: Context, folders: Folders) -> None:
    folders.output.write_bytes(b"not a folder")
    with pytest.raises(NodeError, match="a part of the path is a file"):
        saving.series(context, "x").write(b"", ".png")
    assert folders.output.read_bytes() == b"not a folder"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere"
)
def test_a_folder_without_permission(context: Context, folders: Folders) -> None:
    folders.output.mkdir(mode=0o500)
    with pytest.raises(NodeError, match="permission was denied"):
        saving.series(context, "x").write(b"", ".png")


def test_where_links_are_not_possible_a_name_is_reserved(
    context: Context, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(source: object, target: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    files = saving.series(context, "x")
    (folders.output).mkdir()
    files.write(b"one", ".png")
    (folders.output / "x_00002_.png").write_bytes(b"theirs")
    files.write(b"three", ".png")
    found = {item.name: item.read_bytes() for item in folders.output.iterdir()}
    assert found == {"x_00001_.png": b"one", "x_00002_.png": b"theirs", "x_00003_.png": b"three"}


WRITER = """
import sys
from pathlib import Path
from nodes.saving import Series
files = Series(Path(sys.argv[1]), "", "x", "output")
for number in range(20):
    files.write(sys.argv[2].encode() + bytes([number]), ".png")
"""


def test_processes_at_once_keep_all_their_files(tmp_path: Path) -> None:
    tags = ("a", "b", "c")
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    workers = [subprocess.Popen([*command, tag], cwd=Path(__file__).parents[2]) for tag in tags]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    contents = sorted(item.read_bytes() for item in tmp_path.iterdir())
    assert contents == sorted(tag.encode() + bytes([number]) for tag in tags for number in range(20))
