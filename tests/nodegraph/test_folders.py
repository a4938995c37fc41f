"""Folders: finding files and never leaving."""

from __future__ import annotations

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
