"""Where models are looked for: in what order, named by whom."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nodegraph.errors import ValidationError
from nodegraph.folders import Folders, default_folders
from nodegraph.locking import locked
from nodegraph.model_folders import Origin, checked_sources, model_folders
from nodegraph.remembered import config_dir, forget_models, remember_models, remembered_models


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with settings and an environment of its own."""
    monkeypatch.delenv("NODEGRAPH_MODELS", raising=False)
    monkeypatch.setenv("NODEGRAPH_CONFIG", str(tmp_path / "config"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def origins(*given: Path) -> list[tuple[Path, Origin, str | None]]:
    return [(item.path, item.origin, item.kind) for item in model_folders(given)]


def test_the_order_is_that_of_who_names_them(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODEGRAPH_MODELS", os.pathsep.join([str(place / "e"), str(place / "a")]))
    remember_models([place / "r", place / "e"])
    assert origins(place / "a", place / "b") == [
        (place / "a", Origin.GIVEN, None),
        (place / "b", Origin.GIVEN, None),
        (place / "e", Origin.ENVIRONMENT, None),
        (place / "r", Origin.REMEMBERED, None),
        (place / "work" / "models", Origin.HERE, None),
    ]
    packs = [item.path for item in model_folders((), [place / "r", place / "pack"])][-2:]
    assert packs == [place / "work" / "models", place / "pack"]


def test_the_folder_of_comfyui_stands_for_its_models_and_its_file(place: Path) -> None:
    comfy, web = place / "ComfyUI", place / "web"
    files(comfy, "models/checkpoints/a.safetensors", "models/loras/l.safetensors", "models/t2i_adapter/t.pth")
    files(
        web, "Stable-diffusion/a.safetensors", "Stable-diffusion/b.ckpt", "Lora/l.safetensors", "other/x.pt"
    )
    (comfy / "extra_model_paths.yaml").write_text(
        "web:\n  base_path: ../web\n  checkpoints: Stable-diffusion\n  loras: |\n    Lora\n    missing\n  odd: other\n"
    )
    for given in (comfy, comfy / "models"):
        folders = default_folders([given], pack_roots=[place / "pack"])
        assert folders.models == (comfy / "models", place / "work" / "models", place / "pack")
        assert folders.list("checkpoints") == ["a.safetensors", "b.ckpt"]
        # Of two files of one name the first folder's is taken.
        assert folders.find("checkpoints", "a.safetensors") == comfy / "models/checkpoints/a.safetensors"
        assert folders.find("checkpoints", "b.ckpt") == web / "Stable-diffusion" / "b.ckpt"
        assert folders.roots("checkpoints")[-1] == place / "pack" / "checkpoints"
        assert folders.roots("loras")[1:3] == [web / "Lora", web / "missing"]
        assert folders.list("odd") == ["x.pt"] and folders.list("controlnet") == ["t.pth"]
        assert str(web / "Stable-diffusion") in folders.missing("checkpoints", "c", []).message


def test_a_default_section_comes_first_among_those_of_its_origin(place: Path) -> None:
    files(place, "given/vae/v.pt", "known/vae/v.pt", "first/v.pt", "second/v.pt", "late/v.pt")
    file = place / "paths.yaml"
    file.write_text(
        f"a: {{base_path: {place}, vae: late}}\n"
        f"b:\n  base_path: {place}\n  is_default: true\n  vae: |\n    second\n    first\n"
    )
    assert default_folders([place / "given", file]).roots("vae")[:4] == [
        place / "first",
        place / "second",
        place / "given" / "vae",
        place / "late",
    ]
    remember_models([place / "known", file])
    assert default_folders([place / "given"]).find("vae", "v.pt") == place / "given/vae/v.pt"
    assert default_folders().find("vae", "v.pt") == place / "first/v.pt"


def test_a_file_is_read_once_however_it_is_named(place: Path) -> None:
    files(place, "models/vae/v.pt", "x/w.pt")
    file = place / "extra_model_paths.yaml"
    file.write_text("a: {vae: x}")
    (place / "link.yaml").symlink_to(file)
    assert [path for path, _, kind in origins(place / "models", file, place / "link.yaml") if kind] == [
        place / "x"
    ]


def test_legacy_names_of_kinds_mean_the_kinds(place: Path) -> None:
    files(place, "m/unet/u.sft", "m/clip/c.sft", "m/configs/v1.yaml")
    folders = default_folders([place / "m"])
    assert folders.list("unet") == folders.list("diffusion_models") == ["u.sft"]
    assert folders.list("clip") == folders.list("text_encoders") == ["c.sft"]
    assert folders.list("configs") == ["v1.yaml"]


def test_no_kind_of_a_file_takes_the_place_of_input_and_output(place: Path) -> None:
    file = place / "paths.yaml"
    file.write_text("a: {input: /etc, output: /etc, temp: /etc, custom_nodes: /etc}")
    folders = default_folders([file])
    assert folders.named == {} and folders.roots("input") == [place / "work" / "input"]


@pytest.mark.parametrize("name", ["../secret.pt", "/etc/passwd"])
def test_names_may_not_lead_out_of_a_named_folder(place: Path, name: str) -> None:
    files(place, "vae/v.pt", "secret.pt")
    folders = Folders((), place, place, place, {"vae": (place / "vae",)})
    with pytest.raises(Exception, match="leads out"):
        folders.find("vae", name)


def test_what_a_person_names_must_be_there(place: Path) -> None:
    files(place, "m/vae/v.pt")
    (place / "p.yaml").write_text("a: {vae: x}")
    assert checked_sources([place / "m", Path("../p.yaml")]) == (place / "m", place / "work" / "../p.yaml")
    with pytest.raises(ValidationError) as caught:
        checked_sources([place / "m", place / "none", place / "nor"])
    assert [item.code for item in caught.value.problems] == ["missing_folder"] * 2
    assert str(place / "none") in str(caught.value) and "--models-dir" in str(caught.value)
    with pytest.raises(ValidationError, match="No such file"):
        checked_sources([place / "none.yaml"])


def test_what_is_remembered_stays_in_the_order_of_adding(place: Path) -> None:
    settings = place / "config" / "settings.json"
    assert remembered_models() == ()
    remember_models([place / "b"])
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "theme": "dark"}))
    assert remember_models([place / "a", place / "b"]) == remembered_models() == (place / "b", place / "a")
    assert json.loads(settings.read_text())["theme"] == "dark"
    with pytest.raises(ValidationError, match="is not remembered") as caught:
        forget_models([place / "a", place / "c"])
    assert str(place / "b") in str(caught.value)
    assert forget_models([place / "b"]) == remembered_models() == (place / "a",)


def test_changes_by_several_processes_at_once_are_all_kept(place: Path) -> None:
    script = """
import sys
from pathlib import Path
from nodegraph.remembered import forget_models, remember_models
sys.stdin.read()
for count in range(10):
    remember_models([Path(f"/of-{sys.argv[1]}/{count}"), Path(f"/gone-{sys.argv[1]}/{count}")])
    forget_models([Path(f"/gone-{sys.argv[1]}/{count}")])
"""
    names = "abcd"
    running = [
        subprocess.Popen([sys.executable, "-c", script, name], stdin=subprocess.PIPE) for name in names
    ]
    for process in running:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(60) for process in running] == [0] * len(running)
    known = remembered_models()
    assert sorted(known) == sorted(Path(f"/of-{name}/{count}") for name in names for count in range(10))
    for name in names:
        assert [path.name for path in known if path.parent.name == f"of-{name}"] == [*map(str, range(10))]


def test_two_commands_at_once_remember_both(place: Path) -> None:
    files(place, "x/vae/v.safetensors", "y/vae/v.safetensors")
    words = [sys.executable, "-m", "nodegraph", "models", "--json", "--add"]
    running = [subprocess.Popen([*words, str(place / name)], stdout=subprocess.DEVNULL) for name in "xy"]
    assert [process.wait(60) for process in running] == [0, 0]
    assert set(remembered_models()) == {place / "x", place / "y"}


def test_a_lock_that_another_holds_for_too_long_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodegraph.remembered._PATIENCE", 0.05)
    remember_models([place / "a"])
    with (
        locked(place / "config" / "settings.json.lock", 0),
        pytest.raises(ValidationError, match="cannot be written: another process holds its lock"),
    ):
        remember_models([place / "b"])
    assert remember_models([place / "c"]) == (place / "a", place / "c")


@pytest.mark.parametrize(
    "text", ["[", "[]", '{"models": 1}', '{"models": [1]}', '"x"', "[" * 100_000, " " * 2**21]
)
def test_damaged_settings_are_said_and_left_alone(place: Path, text: str) -> None:
    settings = place / "config" / "settings.json"
    files(place, "config/settings.json")
    settings.write_text(text)
    for action in (remembered_models, default_folders, lambda: remember_models([place])):
        with pytest.raises(ValidationError) as caught:
            action()
        assert str(settings) in str(caught.value) and "Mend the file" in str(caught.value)
    assert settings.read_text() == text


def test_settings_that_cannot_be_written_are_an_error(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "config").write_text("a file in the way")
    with pytest.raises(ValidationError, match="cannot be written"):
        remember_models([place])


def test_the_settings_lie_where_the_system_has_them(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_dir() == place / "config"
    monkeypatch.delenv("NODEGRAPH_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "xdg"))
    if os.name == "posix" and os.uname().sysname == "Linux":
        assert config_dir() == place / "xdg" / "nodegraph"
