"""Conditionings on pictures, through the embedded model's autoencoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nodegraph.node import Context, Folders, NodeError, Runtime
from nodes.conditioning import inpaint_model_conditioning, instruct_pix_to_pix_conditioning
from nodes.models.pool import ModelPool
from nodes.stable_diffusion.loaders import checkpoint_loader_simple
from nodes.values import Cond, Conditioning, Image, Mask, Vae
from tests.nodes.conftest import DirectContext

MODELS = Path(__file__).parents[2] / "nodes" / "models" / "embedded"
PROMPTS = Conditioning((Cond(torch.zeros(1, 77, 8)), Cond(torch.ones(1, 77, 8), strength=0.5)))


@pytest.fixture
def context(folders: Folders) -> DirectContext:
    return DirectContext(Runtime(replace(folders, models=(MODELS,))), {"prompt": {}})


@pytest.fixture
def vae(context: DirectContext) -> Vae:
    return checkpoint_loader_simple(ctx=context, ckpt_name="shapes-sd.safetensors")[2]


def encoded(context: Context, vae: Vae, pixels: torch.Tensor) -> torch.Tensor:
    with context.resource(ModelPool).vae(vae) as autoencoder:
        return autoencoder.encode(pixels)


@pytest.mark.parametrize("noise_mask", [True, False])
def test_inpainting_hides_what_the_mask_covers(context: Context, vae: Vae, noise_mask: bool) -> None:
    pixels = torch.rand(1, 27, 36, 4, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 27, 36)
    mask[:, 10:20, :15] = 0.7
    result = inpaint_model_conditioning(PROMPTS, PROMPTS, vae, Image(pixels), Mask(mask), context, noise_mask)
    middle = (slice(None), slice(1, 25), slice(2, 34))
    original, covered = pixels[middle][..., :3], mask[middle]
    hidden = torch.where(covered[..., None] > 0.5, 0.5, original)
    assert result.latent.samples.shape == (1, 4, 3, 4)
    torch.testing.assert_close(result.latent.samples, encoded(context, vae, original))
    for entry in (*result.positive.entries, *result.negative.entries):
        assert entry.concat_latent is not None and entry.concat_mask is not None
        torch.testing.assert_close(entry.concat_latent, encoded(context, vae, hidden))
        torch.testing.assert_close(entry.concat_mask[:, 0], covered)
    assert [entry.strength for entry in result.positive.entries] == [1.0, 0.5]
    assert (result.latent.noise_mask is not None) == noise_mask


def test_inpainting_stretches_the_mask_over_the_picture(context: Context, vae: Vae) -> None:
    mask = Mask(torch.tensor([[[0.0, 1.0]]]))
    result = inpaint_model_conditioning(PROMPTS, PROMPTS, vae, Image(torch.rand(1, 16, 16, 3)), mask, context)
    assert result.latent.noise_mask is not None
    row = result.latent.noise_mask[0, 0, 5]
    assert row[:4].eq(0).all() and row[-4:].eq(1).all() and row.diff().ge(0).all()


def test_editing_shows_the_picture_and_starts_from_nothing(context: Context, vae: Vae) -> None:
    pixels = torch.rand(2, 16, 25, 3, generator=torch.Generator().manual_seed(1))
    result = instruct_pix_to_pix_conditioning(PROMPTS, PROMPTS, vae, Image(pixels), context)
    assert result.latent.samples.shape == (2, 4, 2, 3) and not result.latent.samples.any()
    expected = encoded(context, vae, pixels[:, :, :24])
    for entry in (*result.positive.entries, *result.negative.entries):
        assert entry.concat_latent is not None and entry.concat_mask is None
        torch.testing.assert_close(entry.concat_latent, expected)


def test_a_picture_smaller_than_a_cell_is_refused(context: Context, vae: Vae) -> None:
    with pytest.raises(NodeError, match="smaller than 8x8"):
        instruct_pix_to_pix_conditioning(PROMPTS, PROMPTS, vae, Image(torch.rand(1, 7, 25, 3)), context)
