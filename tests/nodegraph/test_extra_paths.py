"""ComfyUI's extra_model_paths.yaml: read as it is, and refused quickly where it is none."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nodegraph.errors import ValidationError
from nodegraph.extra_paths import MAX_BYTES, NamedFolder, read_extra_paths

EXAMPLE = """\
#all you have to do is change the base_path to where yours is installed
a111:
    base_path: {base}/stable-diffusion-webui/

    checkpoints: models/Stable-diffusion
    loras: |
         models/Lora
         models/LyCORIS

    embeddings: embeddings
    custom_nodes: path/custom_nodes
comfyui:
    base_path: $PLACE/comfy
    is_default: true
    unet: models/unet/
    clip: /elsewhere/clip
#other: of no account
empty:
bare:
    vae: here/vae
    configs:
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "extra_model_paths.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_file_is_read_as_comfyui_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("PLACE", "relative")
    file = written(tmp_path, EXAMPLE.format(base="~"))
    web, comfy = Path("/home/someone/stable-diffusion-webui"), tmp_path / "relative" / "comfy"
    assert read_extra_paths(file) == (
        NamedFolder("checkpoints", web / "models" / "Stable-diffusion"),
        NamedFolder("loras", web / "models" / "Lora"),
        NamedFolder("loras", web / "models" / "LyCORIS"),
        NamedFolder("embeddings", web / "embeddings"),
        NamedFolder("diffusion_models", comfy / "models" / "unet", True),
        NamedFolder("text_encoders", Path("/elsewhere/clip"), True),
        NamedFolder("vae", tmp_path / "here" / "vae"),
    )


def test_anchors_are_read_and_an_empty_file_names_nothing(tmp_path: Path) -> None:
    text = "a: &a {base_path: /x, vae: v}\nb:\n    <<: *a\n    base_path: /y\n    loras: [l, m]\n"
    paths = [(item.kind, str(item.path)) for item in read_extra_paths(written(tmp_path, text))]
    assert paths == [("vae", "/x/v"), ("vae", "/y/v"), ("loras", "/y/l"), ("loras", "/y/m")]
    assert read_extra_paths(written(tmp_path, "# nothing\n")) == ()
    assert read_extra_paths(written(tmp_path, b"\xef\xbb\xbfa:\n    vae: /v\n")) == (
        NamedFolder("vae", Path("/v")),
    )


def bomb(form: str) -> str:
    """Aliases of aliases, which written out come to 3^40 values."""
    lines = ["a0: &a0 {k: v, l: w}"]
    lines += [f"a{i}: &a{i} {form.format(*[f'*a{i - 1}'] * 3)}" for i in range(1, 40)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (bomb("{{<<: [{}, {}, {}]}}"), "more than 2,000 values"),
        (bomb("[{}, {}, {}]"), "more than 2,000 values"),
        ("a: {vae: x}\n" * (MAX_BYTES // 12 + 1), "larger than 65,536 bytes"),
        ("a: {vae: x}\n" * 2000, "more than 2,000 values"),
        ("[" * MAX_BYTES, "nested more than 8 deep"),
        ("- " * (MAX_BYTES // 2), "nested more than 8 deep"),
        ("a: &a {vae: *a}", "alias 'a'"),
        ("a: {vae: *b}", "alias 'b'"),
        ("a: !!python/object/apply:os.system ['true']", "line 1: could not determine a constructor"),
        ("a: [b\n", "line 2: "),
        ("a:\n\tvae: x", "line 2: "),
        ("a: {vae: 2001-99-99}", "it is not YAML: month"),
        ("a: {? [b] : c}", "line 1: "),
        ("- vae: x", "must hold sections"),
        ("base_path: /x\nvae: y", "section 'base_path' must hold folders"),
        ("a: {vae: 7}", "'vae' of section 'a' must be text with one folder a line"),
        ("a: {vae: [[x]]}", "'vae' of section 'a' must be text with one folder a line"),
        ('a: {vae: "x\\0"}', "'vae' of section 'a' must be text with one folder a line"),
        ("a: {base_path: 7}", "base_path of section 'a' must be text"),
        ("a: {is_default: maybe}", "is_default of section 'a' must be true or false"),
        (b"a: \xff", "not text in UTF-8"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_is_wrong_is_said_quickly(tmp_path: Path, text: str | bytes, part: str) -> None:
    file = written(tmp_path, text)
    before = time.process_time()
    with pytest.raises(ValidationError) as caught:
        read_extra_paths(file)
    assert time.process_time() - before < 2
    (problem,) = caught.value.problems
    assert problem.code == "bad_model_paths" and problem.message.startswith(f"{file}: ")
    assert part in problem.message and problem.hint and len(str(problem)) < 600


def test_a_file_that_is_not_there_or_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="No such file") as caught:
        read_extra_paths(tmp_path / "none.yaml")
    assert str(tmp_path / "none.yaml") in str(caught.value)
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ValidationError, match="it is not a file"):
        read_extra_paths(tmp_path / "pipe.yaml")


def test_yaml_is_loaded_for_such_a_file_only(tmp_path: Path) -> None:
    (tmp_path / "models" / "vae").mkdir(parents=True)
    code = "import sys; from nodegraph.folders import default_folders; default_folders(); print('yaml' in sys.modules)"

    def loaded() -> str:
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
        ).stdout.strip()

    assert loaded() == "False"
    written(tmp_path, "a: {vae: x}")
    assert loaded() == "True"
