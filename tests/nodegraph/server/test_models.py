"""Model folders of a server: those that ComfyUI's extra_model_paths.yaml names are listed, checked and run from."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodegraph.errors import ValidationError
from nodegraph.server.app import create_app
from tests.nodegraph.server.serving import WORKING, served, toy_config
from tests.nodegraph.toy import toy_folders


def paths_of(root: Path) -> tuple[Path, Path]:
    """The toy models folder, beside it a file that names two folders more, and what they hold."""
    models = toy_folders(root).models[0]
    for name in ("nets/theirs.safetensors", "nets/toy.safetensors", "face/f.safetensors"):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"theirs")
    file = root / "extra_model_paths.yaml"
    file.write_text("a:\n  checkpoints: nets\n  face_restore: face\n  configs: cfg\n  ../odd: cfg\n")
    return models, file


async def test_listings_and_node_types_tell_of_every_folder(tmp_path: Path) -> None:
    models, file = paths_of(tmp_path)
    async with served(tmp_path) as server:
        assert {"checkpoints", "face_restore"} <= set(await server.get("/models"))
        assert "../odd" not in await server.get("/models")
        assert await server.get("/models/checkpoints") == ["theirs.safetensors", "toy.safetensors"]
        assert await server.get("/models/face_restore") == ["f.safetensors"]
        told = await server.get("/object_info/ToyLoadModel")
        choices = told["ToyLoadModel"]["input"]["required"]["name"][0]
        assert choices == ["theirs.safetensors", "toy.safetensors"]
        places = await server.get("/internal/folder_paths")
        assert places["checkpoints"][:2] == [str(models / "checkpoints"), str(tmp_path / "nets")]
        assert places["face_restore"][:2] == [str(models / "face_restore"), str(tmp_path / "face")]
        # What is read at the start holds: the file may be edited while the server runs.
        file.write_text("a: [")
        assert await server.get("/models/face_restore") == ["f.safetensors"]


async def test_a_worker_runs_with_a_model_of_a_named_folder(tmp_path: Path) -> None:
    _, file = paths_of(tmp_path)
    moved = file.rename(tmp_path / "mine.yaml")
    nodes = {
        "1": {"class_type": "ToyLoadModel", "inputs": {"name": "theirs.safetensors"}},
        "2": {"class_type": "ToyShow", "inputs": {"item": ["1", 0]}},
    }
    config = toy_config(tmp_path)
    async with served(tmp_path, **WORKING, models_dirs=(*config.models_dirs, moved)) as server:
        done = await server.post("/run", {"prompt": nodes})
        assert done["status"] == "completed" and "theirs.safetensors" in str(done["outputs"])


def test_a_server_does_not_start_with_a_file_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: [")
    with pytest.raises(ValidationError, match=r"mine\.yaml: line 1"):
        create_app(toy_config(tmp_path, models_dirs=(tmp_path / "mine.yaml",)))
