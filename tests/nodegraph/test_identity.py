"""Identity of file contents."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path

import pytest

from nodegraph.identity import SMALL, content_hash, file_identity


def test_a_small_file_is_known_by_its_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one.bin", tmp_path / "two.png"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    assert (
        file_identity(one) == file_identity(two) == content_hash(one) == hashlib.sha256(b"same").hexdigest()
    )
    one.write_bytes(b"other")
    os.utime(one, ns=(1, 1))
    assert file_identity(one) != file_identity(two)


def large(path: Path, header: bytes, mtime: int = 10**18) -> Path:
    """A sparse safetensors file above the limit."""
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(SMALL + 4096)
    os.utime(path, ns=(mtime, mtime))
    return path


def test_a_large_file_is_known_by_size_time_and_header(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    one = file_identity(large(tmp_path / "one.safetensors", header))
    assert one == file_identity(large(tmp_path / "two.safetensors", header))
    assert one != file_identity(large(tmp_path / "three.safetensors", header.replace(b"F32", b"F16")))
    assert one != file_identity(large(tmp_path / "four.safetensors", header, mtime=2 * 10**18))
    assert one != file_identity(large(tmp_path / "five.ckpt", header + b"x"))


def test_a_header_longer_than_the_file_is_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 2**63))
        file.truncate(SMALL + 1)
    assert len(file_identity(path)) == 64


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        file_identity(tmp_path / "none")
