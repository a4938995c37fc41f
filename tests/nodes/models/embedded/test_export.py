"""The exported file holds the networks that were trained: the loader's modules compute what diffusers' compute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nodes.models.detection import hints_of, need
from nodes.models.embedded.architecture import build_text_encoder, build_unet, build_vae
from nodes.models.embedded.export import MAX_BYTES, checkpoint_tensors, write_checkpoint
from nodes.models.embedded.train import caption_tokens
from nodes.models.loading import Placement, assemble, empty_module, read_tensors
from nodes.models.recipes import clip_recipe, model_recipe, vae_recipe
from nodes.models.tensor_file import TensorHeader, read_headers
from nodes.models.text_encoder import TextEncoder
from nodes.values import Architecture, Weights


@pytest.fixture(scope="module")
def trained() -> Iterator[tuple[Any, Any, Any]]:
    torch.manual_seed(0)
    yield tuple(build().eval().requires_grad_(False) for build in (build_vae, build_unet, build_text_encoder))


@pytest.fixture(scope="module")
def header(trained: tuple[Any, Any, Any], tmp_path_factory: pytest.TempPathFactory) -> TensorHeader:
    file = tmp_path_factory.mktemp("export") / "model.safetensors"
    size = write_checkpoint(file, checkpoint_tensors(*trained))
    assert size == file.stat().st_size <= MAX_BYTES
    assert list(file.parent.iterdir()) == [file]
    return read_headers([file])


def loaded(recipe: Any) -> Any:
    architecture: Architecture = recipe.architecture
    weights: Weights = recipe.weights
    placement = Placement(torch.device("cpu"), torch.float32)
    return assemble(architecture, read_tensors(weights, empty_module(architecture), placement).tensors)


def close(one: Tensor, other: Tensor) -> bool:
    # The file holds float16: about three digits of each weight.
    return float((one - other).abs().max()) < 5e-3 * float(other.abs().max())


def test_the_noise_predictor_survives(trained: tuple[Any, Any, Any], header: TensorHeader) -> None:
    recipe = model_recipe(need(header, "unet"), hints_of(header))
    assert recipe.family == "sd1"
    x, context = torch.randn(2, 4, 16, 12), torch.randn(2, 77, 64)
    times = torch.tensor([500.0, 20.0])
    with torch.no_grad():
        assert close(loaded(recipe)(x, times, context), trained[1](x, times, context).sample)


def test_the_autoencoder_survives(trained: tuple[Any, Any, Any], header: TensorHeader) -> None:
    module = loaded(vae_recipe(need(header, "vae"), hints_of(header)))
    vae, pictures, latents = trained[0], torch.rand(1, 3, 64, 48) * 2 - 1, torch.randn(1, 4, 8, 6)
    with torch.no_grad():
        assert close(module.decode(latents), vae.decode(latents).sample)
        assert close(module.encode(pictures), vae.encode(pictures).latent_dist.mean)


def test_the_text_encoder_survives(trained: tuple[Any, Any, Any], header: TensorHeader) -> None:
    clip = clip_recipe(need(header, "text_encoder"), hints_of(header))
    encoder = TextEncoder(loaded(clip), clip, torch.device("cpu"), lambda name, width: None)
    text = "a large red circle on a blue background"
    with torch.no_grad():
        wanted = trained[2](caption_tokens()([text])).last_hidden_state
        assert close(encoder.encode(text)[0], wanted)


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most 16,000,000"):
        write_checkpoint(tmp_path / "big.safetensors", {"x": torch.zeros(8_000_001, dtype=torch.float16)})
    assert list(tmp_path.iterdir()) == []
