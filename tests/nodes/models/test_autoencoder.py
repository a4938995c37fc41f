"""The autoencoder: cropping, tiles, memory that runs out, what does not fit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nodegraph.node import NodeError
from nodes.models.autoencoder import Autoencoder, crop
from nodes.models.coding import coding
from nodes.models.loading import empty_module
from nodes.models.memory import peak_of
from nodes.models.networks.autoencoder_kl import AutoencoderKL, StripConv
from nodes.models.networks.convolutions import STRIP, Conv2d
from nodes.models.pool import ModelPool
from nodes.stable_diffusion.loaders import load_checkpoint
from nodes.values import Architecture


@pytest.fixture
def autoencoder(first: Any, pool: ModelPool) -> Iterator[Autoencoder]:
    with pool.vae(load_checkpoint(first.file).VAE) as found:
        yield found


def test_sides_are_cropped_around_the_middle() -> None:
    pixels = torch.arange(19 * 21, dtype=torch.float32).reshape(1, 19, 21, 1)
    assert torch.equal(crop(pixels, 8), pixels[:, 1:17, 2:18])
    assert crop(pixels[:, :16, :16], 8).shape == (1, 16, 16, 1)


def test_what_is_no_autoencoder_has_no_coding() -> None:
    with pytest.raises(KeyError, match="no autoencoder is called 'unet'"):
        coding(Architecture("unet", ()))


def test_encoding_crops_and_leaves_alpha_out(autoencoder: Autoencoder) -> None:
    pixels = torch.rand(2, 19, 26, 4)
    found = autoencoder.encode(pixels)
    assert found.shape == (2, 4, 2, 3)
    assert torch.equal(found, autoencoder.encode(pixels[:, 1:17, 1:25, :3]))


def test_pictures_are_0_to_1(autoencoder: Autoencoder) -> None:
    found = autoencoder.decode(torch.randn(1, 4, 4, 4) * 50)
    assert found.shape == (1, 32, 32, 3)
    assert (float(found.min()), float(found.max())) == (0.0, 1.0)


def test_one_tile_is_the_whole(autoencoder: Autoencoder) -> None:
    latents, pixels = torch.randn(1, 4, 5, 4), torch.rand(1, 40, 32, 3)
    torch.testing.assert_close(autoencoder.decode_tiled(latents, 128, 32), autoencoder.decode(latents))
    torch.testing.assert_close(autoencoder.encode_tiled(pixels, 128, 32), autoencoder.encode(pixels))


def test_tiles_give_nearly_the_whole(autoencoder: Autoencoder) -> None:
    latents, pixels = torch.randn(1, 4, 18, 17), torch.rand(1, 144, 136, 3)
    decoded, encoded = autoencoder.decode_tiled(latents, 96, 24), autoencoder.encode_tiled(pixels, 128, 64)
    assert decoded.shape == (1, 144, 136, 3)
    assert encoded.shape == (1, 4, 18, 17)
    whole, whole_latents = autoencoder.decode(latents), autoencoder.encode(pixels)
    assert float((decoded - whole).abs().mean()) < 0.1 * float(whole.std())
    assert float((encoded - whole_latents).abs().mean()) < 0.1 * float(whole_latents.std())


def _limited(autoencoder: Autoencoder, most: int) -> Autoencoder:
    """The same on a device that has memory for convolutions of so many numbers at once."""
    module = AutoencoderKL(**dict(autoencoder.vae.architecture.arguments))
    module.load_state_dict(autoencoder.module.state_dict())

    def check(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        if given[0].numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    for part in module.modules():
        if isinstance(part, Conv2d):
            part.register_forward_pre_hook(check)
    module.requires_grad_(False)
    return Autoencoder(module, autoencoder.vae, autoencoder.device, autoencoder.dtype)


def test_out_of_memory_goes_on_in_smaller_and_smaller_tiles(autoencoder: Autoencoder) -> None:
    latents, pixels = torch.randn(2, 4, 18, 17), torch.rand(1, 144, 136, 3)
    counts: list[tuple[int, int]] = []
    found = _limited(autoencoder, 60_000).decode(latents, lambda done, total: counts.append((done, total)))
    torch.testing.assert_close(found, autoencoder.decode(latents), rtol=0, atol=1e-4)
    assert counts[-1][0] == counts[-1][1] > 10
    assert all(before[0] < after[0] for before, after in itertools.pairwise(counts[-5:]))
    tile = 128
    encoded = _limited(autoencoder, (tile + 1) ** 2 * 8).encode(pixels)
    assert torch.equal(encoded, autoencoder.encode_tiled(pixels, tile, tile // 4))


def test_too_little_memory_for_any_tile_is_said(autoencoder: Autoencoder) -> None:
    limited = _limited(autoencoder, 100)
    with pytest.raises(
        NodeError, match="not enough memory on cpu for the VAE, even in small tiles"
    ) as caught:
        limited.decode(torch.zeros(1, 4, 8, 8))
    assert caught.value.code == "out_of_memory"
    with pytest.raises(NodeError, match="not enough memory on cpu for the VAE, even in tiles of 128 pixels"):
        limited.encode(torch.zeros(1, 64, 64, 3))


@pytest.mark.parametrize("share", [0.6, 0.2, 0.0])
def test_where_the_room_does_not_suffice_tiles_give_the_whole(autoencoder: Autoencoder, share: float) -> None:
    latents = torch.randn(1, 4, 19, 33)
    asked: list[int] = []

    def room(wanted: int) -> int:
        asked.append(wanted)
        return int(wanted * share)

    small = Autoencoder(autoencoder.module, autoencoder.vae, autoencoder.device, autoencoder.dtype, room)
    tiles: list[int] = []
    found = small.decode(latents, lambda done, total: tiles.append(total))
    assert (len(asked), tiles == []) == (1, False)
    torch.testing.assert_close(found, autoencoder.decode(latents), rtol=0, atol=1e-4)


def test_encoding_goes_in_tiles_where_the_room_does_not_suffice(autoencoder: Autoencoder) -> None:
    pixels = torch.rand(1, 160, 144, 3)
    module = empty_module(autoencoder.vae.architecture)
    pictures = torch.empty(1, 3, 160, 144, device="meta")
    counted = peak_of(lambda: module.encode(pictures), module)  # type: ignore[operator]
    assert autoencoder.encode_bytes(160 * 144) == pytest.approx(counted, rel=0.01)
    wanted = autoencoder.encode_bytes(128 * 128)
    parts = (autoencoder.module, autoencoder.vae, autoencoder.device, autoencoder.dtype)
    small, roomy = Autoencoder(*parts, lambda _: wanted + 1), Autoencoder(*parts, lambda _: counted * 2)
    assert torch.equal(small.encode(pixels), autoencoder.encode_tiled(pixels, 128, 32))
    assert torch.equal(roomy.encode(pixels), autoencoder.encode(pixels))


def test_a_convolution_in_strips_is_the_convolution() -> None:
    torch.manual_seed(0)
    module = StripConv(64, 8)
    x = torch.randn(2, 64, 401, 256)
    assert x.numel() > STRIP
    with torch.no_grad():
        torch.testing.assert_close(module(x), Conv2d.forward(module, x), rtol=1e-5, atol=1e-6)


def test_what_does_not_fit_is_refused(autoencoder: Autoencoder) -> None:
    for latents in (torch.zeros(1, 16, 4, 4), torch.zeros(4, 4, 4), torch.zeros(0, 4, 4, 4)):
        with pytest.raises(NodeError, match="the latent does not fit the VAE"):
            autoencoder.decode(latents)
    for pixels in (torch.zeros(1, 7, 64, 3), torch.zeros(1, 64, 64, 1), torch.zeros(64, 64, 3)):
        with pytest.raises(NodeError, match="the picture does not fit the VAE"):
            autoencoder.encode(pixels)
