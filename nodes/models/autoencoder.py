"""Pictures to latents and back, whole or in tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from nodegraph.node import NodeError
from nodes.models.coding import coding
from nodes.models.devices import host_room
from nodes.models.loading import Placement
from nodes.models.networks.steps import Steps
from nodes.models.seamless import choose, decode, whole_bytes
from nodes.models.tiling import OnTile, average_of_tilings, memory_shortage
from nodes.pairing import check_decoder, check_picture, wrong_latent_for_vae
from nodes.values import Vae

RETRIES = ((512, 128), (256, 64), (128, 32))
"""Tiles and overlaps in pixels that are tried one after the other where memory runs out."""
SHRINK = 4
"""What the room for tiles is divided by where memory runs out all the same."""
Room = Callable[[int], int]
"""Asks for so many bytes of the device to compute in; returns how many there are."""


def unlimited(wanted: int) -> int:
    """Give what is asked for."""
    return wanted


class Autoencoder:
    """An autoencoder on its device. Latents are unscaled; pictures are float32, 0..1, on the CPU."""

    def __init__(
        self,
        module: nn.Module,
        vae: Vae,
        device: torch.device,
        dtype: torch.dtype,
        room: Room = unlimited,
    ) -> None:
        self.module = module
        self._room = room
        self.vae = vae
        self.device = device
        self.dtype = dtype
        self.coding = coding(vae.architecture)

    def decode(self, samples: Tensor, on_tile: OnTile | None = None) -> Tensor:
        """Return pictures (batch, H, W, 3) of latents (batch, channels, h, w).

        Where the room on the device does not suffice for the whole, it goes on in tiles, which show no seam. Raises
        NodeError for latents of another shape.
        """
        self._check_latents(samples)
        count = samples.shape[0]
        parts = []
        for index in range(count):

            def on_part(done: int, total: int, before: int = index) -> None:
                if on_tile is not None:
                    on_tile(before * total + done, count * total)

            parts.append(self._decode_one(samples[index : index + 1], on_part))
        return self._pictures(torch.cat(parts))

    def _decode_one(self, sample: Tensor, on_tile: OnTile) -> Tensor:
        attempts: list[Callable[[], Tensor]] = [partial(self._decode, sample)]
        if self.coding.steps is None:
            for tile, shared in RETRIES:
                attempts.append(partial(self._decode_tiles, sample, tile, shared, on_tile))
            return self._first_that_fits(attempts, f"even in tiles of {RETRIES[-1][0]} pixels")
        steps = self.coding.steps(self.module)
        size = (sample.shape[-2], sample.shape[-1])
        wanted = whole_bytes(steps, size[0] * size[1], self.dtype.itemsize)
        room = self._room(wanted)
        if room < wanted:
            attempts.clear()
        for share in (1, SHRINK, SHRINK**2, SHRINK**3):
            attempts.append(partial(self._in_tiles, steps, sample, min(room, wanted - 1) // share, on_tile))
        return self._first_that_fits(attempts, "even in small tiles")

    @torch.no_grad()
    def _in_tiles(self, steps: Steps, sample: Tensor, room: int, on_tile: OnTile) -> Tensor:
        tiling = choose(
            steps, (sample.shape[-2], sample.shape[-1]), self.dtype.itemsize, room, host_room(self.device)
        )
        return decode(steps, self._input(sample), tiling, self.device, on_tile)

    def decode_tiled(
        self, samples: Tensor, tile_size: int, overlap: int, on_tile: OnTile | None = None
    ) -> Tensor:
        """Return pictures as `decode` does, from tiles of `tile_size` pixels that overlap by `overlap`.

        The overlap is at most a quarter of the tile.
        """
        self._check_latents(samples)
        return self._pictures(self._decode_tiles(samples, tile_size, overlap, on_tile))

    def _decode_tiles(self, samples: Tensor, tile_size: int, overlap: int, on_tile: OnTile | None) -> Tensor:
        step, channels = self.coding.decode_step, self.coding.picture_channels
        tile = max(2, tile_size // step)
        shared = min(overlap, tile_size // 4) // step
        return average_of_tilings(samples, self._decode, tile, shared, step, channels, on_tile)

    def encode(self, pixels: Tensor, on_tile: OnTile | None = None) -> Tensor:
        """Return latents (batch, channels, h, w) of pictures (batch, H, W, 3 or more); the posterior's mean.

        The picture is cropped around its middle to a multiple of the encoder's step; channels after the third are
        left out. In tiles where memory is short. Raises NodeError for pictures that are too small.
        """
        pictures = self._planes(pixels)

        def whole() -> Tensor:
            parts = [self._encode(pictures[index : index + 1]) for index in range(pictures.shape[0])]
            return torch.cat(parts)

        wanted = self.encode_bytes(pictures.shape[-2] * pictures.shape[-1])
        room = self._room(wanted)
        fits = [(tile, shared) for tile, shared in RETRIES if self.encode_bytes(tile * tile) <= room]
        attempts: list[Callable[[], Tensor]] = [whole] if wanted <= room else []
        for tile, shared in fits or RETRIES[-1:]:
            attempts.append(partial(self._encode_tiles, pictures, tile, shared, on_tile))
        return self._first_that_fits(attempts, f"even in tiles of {RETRIES[-1][0]} pixels")

    def encode_bytes(self, pixels: int) -> int:
        """Return the bytes that encoding so many pixels at once takes; 0 where it is not known."""
        return int(self.coding.encode_peak * pixels * self.dtype.itemsize)

    def encode_tiled(
        self, pixels: Tensor, tile_size: int, overlap: int, on_tile: OnTile | None = None
    ) -> Tensor:
        """Return latents as `encode` does, from tiles of `tile_size` pixels that overlap by `overlap`."""
        return self._encode_tiles(self._planes(pixels), tile_size, overlap, on_tile)

    def _first_that_fits(self, attempts: Sequence[Callable[[], Tensor]], tried: str) -> Tensor:
        """What the first of the attempts gives that memory suffices for."""
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
            f"there is not enough memory on {self.device} for the VAE, {tried}.",
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
