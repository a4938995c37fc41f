"""Folders: finding files and never leaving."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nodegraph.errors import NodeError
from nodegraph.folders import Folders


def made(root: Path, *names: str) -> Folders:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return Folders((root / "m1", root / "m2"), root / "input", root / "output", root / "temp")


def test_listing_merges_roots_and_names_of_a_kind(tmp_path: Path) -> None:
    folders = made(
        tmp_path,
        "m1/unet/a.safetensors",
        "m2/diffusion_models/sub/b.SFT",
        "m2/unet/a.safetensors",
        "m1/unet/readme.txt",
        "m1/unet/.hidden/c.safetensors",
        "m1/unet/.d.safetensors",
    )
    assert folders.list("diffusion_models") == ["a.safetensors", "sub/b.SFT"]
    assert folders.find("diffusion_models", "a.safetensors") == tmp_path / "m1/unet/a.safetensors"
    assert folders.list("vae") == []


def test_a_diffusers_model_is_a_folder(tmp_path: Path) -> None:
    folders = made(tmp_path, "m1/diffusers/sd/model_index.json", "m1/diffusers/sd/unet/x.safetensors")
    assert folders.list("diffusers") == ["sd"]


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "sub/../../secret.png", "link/secret.png"])
def test_names_may_not_lead_out(tmp_path: Path, name: str) -> None:
    folders = made(tmp_path, "input/a.png", "secret.png", "input/sub/b.png")
    (tmp_path / "input" / "link").symlink_to(tmp_path)
    with pytest.raises(NodeError, match="leads out"):
        folders.find("input", name)
    if "link" not in name:
        with pytest.raises(NodeError, match="leads out"):
            folders.find("checkpoints", name)


def test_a_name_may_say_its_folder(tmp_path: Path) -> None:
    folders = made(tmp_path, "input/a.png", "output/a.png", "output/b [x].png", "input/c [output].png")
    assert folders.find("input", "a.png [output]") == tmp_path / "output/a.png"
    assert folders.find("output", "a.png [input]") == tmp_path / "input/a.png"
    assert folders.find("output", "b [x].png") == tmp_path / "output/b [x].png"
    with pytest.raises(NodeError, match="leads out"):
        folders.find("input", "../a.png [output]")


def test_a_missing_file_says_where_it_was_looked_for_and_what_is_near(tmp_path: Path) -> None:
    folders = made(tmp_path, *(f"m1/vae/file{i}.safetensors" for i in range(14)))
    with pytest.raises(NodeError) as caught:
        folders.find("vae", "fle3.safetensors")
    assert str(tmp_path / "m2" / "vae") in caught.value.message
    assert "'file3.safetensors'" in str(caught.value.hint)
    assert str(caught.value.allowed).endswith("and 2 more")


def test_only_files_that_are_there_are_listed_and_no_circle_is_followed(tmp_path: Path) -> None:
    folders = made(tmp_path, "m1/vae/a.safetensors", "m1/vae/sub/b.safetensors", "elsewhere/c.safetensors")
    vae = tmp_path / "m1" / "vae"
    for link, target in (("x", "x"), ("gone", "nowhere"), ("more", "elsewhere")):
        suffix = "" if link == "more" else ".safetensors"
        (vae / f"{link}{suffix}").symlink_to(tmp_path / target if link != "x" else vae / "x.safetensors")
    for circle in ("one", "two"):
        (vae / "sub" / circle).symlink_to(vae)
    os.mkfifo(vae / "pipe.safetensors")
    (vae / "folder.safetensors").mkdir()
    assert folders.list("vae") == ["a.safetensors", "more/c.safetensors", "sub/b.safetensors"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["input", "vae"])
def test_a_pipe_or_device_is_no_file(tmp_path: Path, kind: str) -> None:
    folders = made(tmp_path, "input/a.png", "m1/vae/a.safetensors")
    root = folders.roots(kind)[0]
    os.mkfifo(root / "pipe")
    with pytest.raises(NodeError, match="pipe or a device") as caught:
        folders.find(kind, "pipe")
    assert str(root / "pipe") in caught.value.message
    if kind == "vae":
        (root / "zero").symlink_to("/dev/zero")
        with pytest.raises(NodeError, match="pipe or a device"):
            folders.find(kind, "zero")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "circle"])
@pytest.mark.parametrize("kind", ["input", "vae"])
def test_what_can_be_no_file_name_is_one_short_error(tmp_path: Path, kind: str, name: str) -> None:
    folders = made(tmp_path, "input/a.png", "m1/vae/a.safetensors")
    (folders.roots(kind)[0] / "circle").symlink_to(folders.roots(kind)[0] / "circle")
    with pytest.raises(NodeError) as caught:
        folders.find(kind, name)
    assert len(str(caught.value)) < 500


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a person whom permissions bind")
def test_what_may_not_be_read_says_so(tmp_path: Path) -> None:
    folders = made(tmp_path, "m1/vae/a.safetensors")
    (tmp_path / "m1" / "vae").chmod(0)
    try:
        with pytest.raises(NodeError, match="permission denied"):
            folders.find("vae", "a.safetensors")
    finally:
        (tmp_path / "m1" / "vae").chmod(0o700)
