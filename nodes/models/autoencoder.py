"""Pictures to latents and back, whole or in tiles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from nodegraph.node import NodeError
from nodes.models.loading import Placement
from nodes.models.networks.autoencoder_kl import AutoencoderKL
from nodes.models.tiling import OnTile, average_of_tilings, memory_shortage
from nodes.values import Vae

RETRIES = ((512, 128), (256, 64), (128, 32))
"""Tiles and overlaps in pixels that are tried one after the other where memory runs out."""


class Autoencoder:
    """An autoencoder on its device. Latents are unscaled; pictures are float32, 0..1, on the CPU."""

    def __init__(self, module: AutoencoderKL, vae: Vae, device: torch.device, dtype: torch.dtype) -> None:
        self.module = module
        self.vae = vae
        self.device = device
        self.dtype = dtype
        self.downscale = vae.latent_format.downscale

    def decode(self, samples: Tensor, on_tile: OnTile | None = None) -> Tensor:
        """Return pictures (batch, H, W, 3) of latents (batch, channels, h, w); in tiles where memory is short.

        Raises NodeError for latents of another shape.
        """
        self._check_latents(samples)

        def whole() -> Tensor:
            parts = [self._decode(samples[index : index + 1]) for index in range(samples.shape[0])]
            return _pictures(torch.cat(parts))

        return self._smaller(whole, lambda tile, shared: self.decode_tiled(samples, tile, shared, on_tile))

    def decode_tiled(
        self, samples: Tensor, tile_size: int, overlap: int, on_tile: OnTile | None = None
    ) -> Tensor:
        """Return pictures as `decode` does, from tiles of `tile_size` pixels that overlap by `overlap`.

        The overlap is at most a quarter of the tile.
        """
        self._check_latents(samples)
        tile = max(2, tile_size // self.downscale)
        shared = min(overlap, tile_size // 4) // self.downscale
        channels = self._argument("picture_channels", 3)
        return _pictures(
            average_of_tilings(samples, self._decode, tile, shared, self.downscale, channels, on_tile)
        )

    def encode(self, pixels: Tensor, on_tile: OnTile | None = None) -> Tensor:
        """Return latents (batch, channels, h, w) of pictures (batch, H, W, 3 or more); the posterior's mean.

        The picture is cropped around its middle to a multiple of the downscale; channels after the third are left
        out. In tiles where memory is short. Raises NodeError for pictures that are too small.
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
        channels = self._argument("latent_channels", 4)
        return average_of_tilings(
            pictures, self._encode, tile_size, shared, 1 / self.downscale, channels, on_tile
        )

    def _argument(self, name: str, default: int) -> int:
        value: int = dict(self.vae.architecture.arguments).get(name, default)
        return value

    @torch.no_grad()
    def _decode(self, samples: Tensor) -> Tensor:
        moved = self._input(samples)
        return self.module.decode(moved).float().cpu()

    @torch.no_grad()
    def _encode(self, pictures: Tensor) -> Tensor:
        moved = self._input(pictures * 2.0 - 1.0)
        return self.module.encode(moved).float().cpu()

    def _input(self, samples: Tensor) -> Tensor:
        moved = samples.to(self.device, self.dtype)
        if Placement(self.device, self.dtype).channels_last:
            moved = moved.contiguous(memory_format=torch.channels_last)
        return moved

    def _check_latents(self, samples: Tensor) -> None:
        channels = self._argument("latent_channels", 4)
        if "decoder" not in dict(self.module.named_children()):
            raise NodeError("this VAE file holds an encoder only: it cannot decode.", input="vae")
        if samples.ndim != 4 or samples.shape[1] != channels or 0 in samples.shape:
            raise NodeError(
                "the latent does not fit the VAE.",
                input="samples",
                found=f"samples of shape {tuple(samples.shape)}",
                allowed=f"(batch, {channels}, height, width)",
            )

    def _planes(self, pixels: Tensor) -> Tensor:
        """(batch, H, W, channels) as (batch, 3, H, W), cropped to a multiple of the downscale."""
        if "encoder" not in dict(self.module.named_children()):
            raise NodeError("this VAE file holds a decoder only: it cannot encode.", input="vae")
        step = self.downscale
        if pixels.ndim != 4 or pixels.shape[-1] < 3 or min(pixels.shape[1:3]) < step:
            raise NodeError(
                f"the picture does not fit the VAE: it needs colour and at least {step} pixels a side.",
                input="pixels",
                found=f"pixels of shape {tuple(pixels.shape)}",
            )
        return crop(pixels, step)[..., :3].movedim(-1, 1)


def crop(pixels: Tensor, step: int) -> Tensor:
    """Return pictures (batch, H, W, ...) cut around their middle to multiples of `step`."""
    for side in (1, 2):
        over = pixels.shape[side] % step
        pixels = pixels.narrow(side, over // 2, pixels.shape[side] - over)
    return pixels


def _pictures(decoded: Tensor) -> Tensor:
    return ((decoded + 1.0) / 2.0).clamp(0.0, 1.0).movedim(1, -1)
