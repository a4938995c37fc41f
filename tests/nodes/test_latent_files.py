"""Saving and loading latents."""

from __future__ import annotations

import json
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from nodegraph.node import Context, Folders, NodeError
from nodes.forms import LatentForm
from nodes.latent_files import _foresee, load_latent, save_latent
from nodes.values import Latent
from tests.nodes.conftest import MakeContext

DOCUMENT: dict[str, Any] = {"nodegraph": 1, "prompt": {"1": {"class_type": "A", "inputs": {}}}}


def test_a_saved_latent_loads_again(make_context: MakeContext, folders: Folders) -> None:
    samples = torch.randn(2, 4, 3, 5).transpose(2, 3)
    context = make_context(DOCUMENT)
    (file,) = save_latent(Latent(samples), context).ui["latents"]
    assert (file.filename, file.subfolder) == ("ComfyUI_00001_.latent", "latents")
    file.path.rename(folders.input / "mine.latent")
    loaded = load_latent("mine.latent", context)
    torch.testing.assert_close(loaded.samples, samples, rtol=0, atol=0)
    with safe_open(folders.input / "mine.latent", "pt") as opened:
        assert sorted(opened.keys()) == ["latent_format_version_0", "latent_tensor"]
        assert json.loads(opened.metadata()["prompt"]) == DOCUMENT["prompt"]


@pytest.mark.parametrize("downscale", [4, 8, 128 / 3, 42.67])
def test_how_many_pixels_it_stands_for_is_kept(
    make_context: MakeContext, folders: Folders, downscale: float
) -> None:
    context = make_context(DOCUMENT)
    (file,) = save_latent(Latent(torch.zeros(1, 16, 3, 5), downscale=downscale), context).ui["latents"]
    file.path.rename(folders.input / "mine.latent")
    assert load_latent("mine.latent", context).downscale == downscale
    (form,) = _foresee("mine.latent", context.runtime).outputs
    assert form == LatentForm(1, 16, 3, 5, downscale=downscale)
    with safe_open(folders.input / "mine.latent", "pt") as opened:
        assert sorted(opened.keys()) == ["latent_format_version_0", "latent_tensor"]
        assert ("downscale" in opened.metadata()) == (downscale != 8)


@pytest.mark.parametrize("noted", ["", "none", "nan", "0", "-4", "inf", "{}"])
def test_what_is_no_number_of_pixels_is_refused(context: Context, folders: Folders, noted: str) -> None:
    tensors = {"latent_tensor": torch.zeros(1, 4, 2, 2), "latent_format_version_0": torch.zeros(0)}
    safetensors.torch.save_file(tensors, folders.input / "a.latent", {"downscale": noted})
    for read in (load_latent, lambda name, context: _foresee(name, context.runtime)):
        with pytest.raises(NodeError, match="how many pixels") as caught:
            read("a.latent", context)
        assert caught.value.found == repr(noted)


def test_it_is_kept_where_the_workflow_is_not(make_context: MakeContext, folders: Folders) -> None:
    context = make_context(DOCUMENT, metadata=False)
    (file,) = save_latent(Latent(torch.zeros(1, 4, 2, 2), downscale=4), context).ui["latents"]
    with safe_open(file.path, "pt") as opened:
        assert opened.metadata() == {"downscale": "4"}


def test_a_file_without_the_version_is_scaled(context: Context, folders: Folders) -> None:
    stored = torch.full((1, 4, 2, 2), 0.18215, dtype=torch.float16)
    safetensors.torch.save_file({"latent_tensor": stored}, folders.input / "old.latent")
    loaded = load_latent("old.latent", context).samples
    assert loaded.dtype == torch.float32
    torch.testing.assert_close(loaded, torch.ones(1, 4, 2, 2), rtol=1e-3, atol=0)


def test_a_file_of_other_tensors_is_refused(context: Context, folders: Folders) -> None:
    safetensors.torch.save_file({"weight": torch.zeros(1)}, folders.input / "a.latent")
    with pytest.raises(NodeError, match="holds no latent") as caught:
        load_latent("a.latent", context)
    assert caught.value.found == "weight"


@pytest.mark.parametrize("content", [b"", b"not a latent at all"])
def test_a_damaged_file_is_refused(context: Context, folders: Folders, content: bytes) -> None:
    (folders.input / "a.latent").write_bytes(content)
    with pytest.raises(NodeError, match=r"a\.latent is no latent"):
        load_latent("a.latent", context)
