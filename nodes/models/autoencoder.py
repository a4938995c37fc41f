"""Pictures to latents and back, whole or in tiles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from nodegraph.node import NodeError
from nodes.models.coding import coding
from nodes.models.loading import Placement
from nodes.models.tiling import OnTile, average_of_tilings, memory_shortage
from nodes.pairing import check_decoder, check_picture, wrong_latent_for_vae
from nodes.values import Vae

RETRIES = ((512, 128), (256, 64), (128, 32))
"""Tiles and overlaps in pixels that are tried one after the other where memory runs out."""


class Autoencoder:
    """An autoencoder on its device. Latents are unscaled; pictures are float32, 0..1, on the CPU."""

    def __init__(self, module: nn.Module, vae: Vae, device: torch.device, dtype: torch.dtype) -> None:
        self.module = module
        self.vae = vae
        self.device = device
        self.dtype = dtype
        self.coding = coding(vae.architecture)

    def decode(self, samples: Tensor, on_tile: OnTile | None = None) -> Tensor:
        """Return pictures (batch, H, W, 3) of latents (batch, channels, h, w); in tiles where memory is short.

        Raises NodeError for latents of another shape.
        """
        self._check_latents(samples)

        def whole() -> Tensor:
            parts = [self._decode(samples[index : index + 1]) for index in range(samples.shape[0])]
            return self._pictures(torch.cat(parts))

        return self._smaller(whole, lambda tile, shared: self.decode_tiled(samples, tile, shared, on_tile))

    def decode_tiled(
        self, samples: Tensor, tile_size: int, overlap: int, on_tile: OnTile | None = None
    ) -> Tensor:
        """Return pictures as `decode` does, from tiles of `tile_size` pixels that overlap by `overlap`.

        The overlap is at most a quarter of the tile.
        """
        self._check_latents(samples)
        step, channels = self.coding.decode_step, self.coding.picture_channels
        tile = max(2, tile_size // step)
        shared = min(overlap, tile_size // 4) // step
        return self._pictures(
            average_of_tilings(samples, self._decode, tile, shared, step, channels, on_tile)
        )

    def encode(self, pixels: Tensor, on_tile: OnTile | None = None) -> Tensor:
        """Return latents (batch, channels, h, w) of pictures (batch, H, W, 3 or more); the posterior's mean.

        The picture is cropped around its middle to a multiple of the encoder's step; channels after the third are
        left out. In tiles where memory is short. Raises NodeError for pictures that are too small.
        """
        pictures = self._planes(pixels)

        def whole() -> Tensor:
            parts = [self._encode(pictures[index : index + 1]) for index in range(pictures.shape[0])]
            return torch.cat(parts)

        return self._smaller(whole, lambda tile, shared: self._encode_tiles(pictures, tile, shared, on_tile))

    def encode_tiled(
        self, pixels: Tensor, tile_size: int, overlap: int, on_tile: OnTile | None = None
    ) -> Tensor:
        """Return latents as `encode` does, from tiles of `tile_size` pixels that overlap by `overlap`."""
        return self._encode_tiles(self._planes(pixels), tile_size, overlap, on_tile)

    def _smaller(self, whole: Callable[[], Tensor], tiled: Callable[[int, int], Tensor]) -> Tensor:
        """What `whole` gives; where memory runs out, what tiles of falling size give."""
        smaller = (partial(tiled, tile, shared) for tile, shared in RETRIES)
        attempts: tuple[Callable[[], Tensor], ...] = (whole, *smaller)
        for attempt in attempts:
            try:
                return attempt()
            except Exception as error:
                if not memory_shortage(error):
                    raise
            # Outside the handler: the exception holds the frames, and they hold what was computed so far.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        raise NodeError(
            f"there is not enough memory on {self.device} for the VAE, even in tiles of {RETRIES[-1][0]} pixels.",
            code="out_of_memory",
            hint="Make the picture smaller, or close what else uses the memory.",
        )

    def _encode_tiles(self, pictures: Tensor, tile_size: int, overlap: int, on_tile: OnTile | None) -> Tensor:
        # The narrower tilings are half a tile wide: an overlap of that much would leave no step between them.
        shared = overlap if overlap < tile_size // 2 else tile_size // 4
        scale, channels = 1 / self.coding.encode_step, self.coding.latent_channels
        return average_of_tilings(pictures, self._encode, tile_size, shared, scale, channels, on_tile)

    @torch.no_grad()
    def _decode(self, samples: Tensor) -> Tensor:
        assert self.coding.decode is not None
        return self.coding.decode(self.module, self._input(samples)).float().cpu()

    @torch.no_grad()
    def _encode(self, pictures: Tensor) -> Tensor:
        assert self.coding.encode is not None
        moved = self._input(self.coding.into_network(pictures))
        return self.coding.encode(self.module, moved).float().cpu()

    def _pictures(self, decoded: Tensor) -> Tensor:
        return self.coding.out_of_network(decoded).movedim(1, -1)

    def _input(self, samples: Tensor) -> Tensor:
        moved = samples.to(self.device, self.dtype)
        if Placement(self.device, self.dtype).channels_last:
            moved = moved.contiguous(memory_format=torch.channels_last)
        return moved

    def _check_latents(self, samples: Tensor) -> None:
        check_decoder(self.coding)
        if samples.ndim != 4 or samples.shape[1] != self.coding.latent_channels or 0 in samples.shape:
            raise wrong_latent_for_vae(self.coding, f"samples of shape {tuple(samples.shape)}")

    def _planes(self, pixels: Tensor) -> Tensor:
        """(batch, H, W, channels) as (batch, 3, H, W), cropped to a multiple of the encoder's step."""
        check_picture(self.coding, tuple(pixels.shape))
        return crop(pixels, self.coding.encode_step)[..., :3].movedim(-1, 1)


def crop(pixels: Tensor, step: int) -> Tensor:
    """Return pictures (batch, H, W, ...) cut around their middle to multiples of `step`."""
    for side in (1, 2):
        over = pixels.shape[side] % step
        pixels = pixels.narrow(side, over // 2, pixels.shape[side] - over)
    return pixels
