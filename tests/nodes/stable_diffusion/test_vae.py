"""Autoencoder nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nodegraph.node import Cancelled, NodeError
from nodes.stable_diffusion.loaders import load_checkpoint
from nodes.stable_diffusion.vae import (
    grow,
    vae_decode,
    vae_decode_tiled,
    vae_encode,
    vae_encode_for_inpaint,
    vae_encode_tiled,
)
from nodes.values import Image, Latent, Mask, Vae


@pytest.fixture(scope="module")
def vae(checkpoint: Path) -> Vae:
    return load_checkpoint(checkpoint).VAE


def test_a_picture_survives_encoding_and_decoding(make_context: Any, vae: Vae) -> None:
    context = make_context()
    pixels = torch.zeros(1, 64, 64, 3)
    pixels[..., 2] = 1.0
    pixels[:, 16:48, 16:48] = torch.tensor([1.0, 0.0, 0.0])
    samples = vae_encode(ctx=context, pixels=Image(pixels), vae=vae)
    assert samples.samples.shape == (1, 4, 8, 8)
    found = vae_decode(ctx=context, samples=samples, vae=vae).pixels
    assert found.shape == pixels.shape
    assert float((found - pixels).abs().mean()) < 0.15


def test_tiled_forms_give_the_same_where_one_tile_holds_all(make_context: Any, vae: Vae) -> None:
    context = make_context()
    pixels = Image(torch.rand(1, 64, 48, 3))
    samples = vae_encode(ctx=context, pixels=pixels, vae=vae)
    tiled = vae_encode_tiled(ctx=context, pixels=pixels, vae=vae, tile_size=128, overlap=32)
    torch.testing.assert_close(tiled.samples, samples.samples)
    whole = vae_decode(ctx=context, samples=samples, vae=vae).pixels
    tiles = vae_decode_tiled(ctx=context, samples=samples, vae=vae, tile_size=128, overlap=4096).pixels
    torch.testing.assert_close(tiles, whole)


def test_a_tile_of_64_with_a_large_overlap_still_moves_on(make_context: Any, vae: Vae) -> None:
    context = make_context()
    pixels = Image(torch.rand(1, 96, 64, 3))
    tiled = vae_encode_tiled(ctx=context, pixels=pixels, vae=vae, tile_size=64, overlap=64)
    assert tiled.samples.shape == (1, 4, 12, 8)


def test_cancelling_stops_between_tiles(make_context: Any, vae: Vae) -> None:
    context = make_context()
    context.cancelled = True
    with pytest.raises(Cancelled):
        vae_decode_tiled(
            ctx=context, samples=Latent(torch.zeros(1, 4, 16, 16)), vae=vae, tile_size=64, overlap=0
        )


def test_inpainting_greys_what_the_mask_covers(make_context: Any, vae: Vae) -> None:
    context = make_context()
    pixels, mask = torch.rand(1, 40, 48, 3), torch.zeros(1, 40, 48)
    mask[:, 8:24, 16:32] = 1.0
    found = vae_encode_for_inpaint(
        ctx=context, pixels=Image(pixels), vae=vae, mask=Mask(mask), grow_mask_by=6
    )
    grey = torch.where(mask[..., None] > 0.5, torch.tensor(0.5), pixels)
    wanted = vae_encode(ctx=context, pixels=Image(grey), vae=vae).samples
    torch.testing.assert_close(found.samples, wanted)
    assert found.noise_mask is not None
    assert found.noise_mask.shape == (1, 1, 40, 48)
    # A window of six reaches two pixels beyond the edge on one side and three on the other.
    rows = found.noise_mask[0, 0, :, 20].nonzero().flatten().tolist()
    assert (rows[0], rows[-1]) == (6, 26)


def test_growing_by_zero_keeps_the_mask_and_by_one_rounds_it() -> None:
    mask = torch.tensor([0.0, 0.4, 0.6, 1.0]).reshape(1, 1, 1, 4)
    assert torch.equal(grow(mask, 0), mask)
    assert torch.equal(grow(mask, 1), mask.round())


def test_masks_of_another_size_and_pictures_that_need_cropping(make_context: Any, vae: Vae) -> None:
    found = vae_encode_for_inpaint(
        ctx=make_context(),
        pixels=Image(torch.rand(1, 43, 50, 4)),
        vae=vae,
        mask=Mask(torch.ones(1, 10, 10)),
        grow_mask_by=0,
    )
    assert found.samples.shape == (1, 4, 5, 6)
    assert found.noise_mask is not None
    assert found.noise_mask.shape == (1, 1, 40, 48)
    assert float(found.noise_mask.min()) == 1.0


def test_masks_that_do_not_fit_are_refused(make_context: Any, vae: Vae) -> None:
    with pytest.raises(NodeError, match="the masks do not fit"):
        vae_encode_for_inpaint(
            ctx=make_context(),
            pixels=Image(torch.rand(3, 16, 16, 3)),
            vae=vae,
            mask=Mask(torch.ones(2, 16, 16)),
        )
