"""Pictures to latents and back."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from nodegraph.node import Context, Forecast, NodeError, Range, Runtime, node
from nodes import estimates
from nodes.forms import ImageForm, LatentForm, decoded, encoded
from nodes.models.autoencoder import crop
from nodes.models.pool import ModelPool
from nodes.models.tiling import OnTile
from nodes.values import Image, Latent, Mask, Vae

TileSize = Annotated[int, Range(64, 4096, step=32)]
WideTileSize = Annotated[int, Range(64, 4096, step=64)]
Overlap = Annotated[int, Range(0, 4096, step=32)]
Frames = Annotated[int, Range(8, 4096, step=4)]
FramesOverlap = Annotated[int, Range(4, 4096, step=4)]


def _foresee_decode(samples: object, vae: object, runtime: Runtime) -> Forecast:
    return Forecast((decoded(samples, vae),), estimates.decoding(runtime, vae, samples))


def _foresee_tiles(samples: object, vae: object, runtime: Runtime, tile_size: object) -> Forecast:
    # The oblong tilings have tiles of as many pixels as the square one.
    tile = samples
    if isinstance(samples, LatentForm) and isinstance(vae, Vae) and isinstance(tile_size, int):
        side = max(1, int(tile_size / vae.latent_format.downscale))
        tile = replace(
            samples, batch=1, height=_least(side, samples.height), width=_least(side, samples.width)
        )
    return Forecast((decoded(samples, vae),), estimates.decoding(runtime, vae, tile))


def _least(side: int, whole: int | None) -> int | None:
    return None if whole is None else min(side, whole)


def _foresee_encode(pixels: object, vae: object, runtime: Runtime) -> Forecast:
    return Forecast((encoded(pixels, vae),), estimates.encoding(runtime, vae, pixels))


def _foresee_encode_tiles(pixels: object, vae: object, runtime: Runtime, tile_size: object) -> Forecast:
    tile = pixels
    if isinstance(pixels, ImageForm) and isinstance(tile_size, int):
        tile = ImageForm(1, _least(tile_size, pixels.height), _least(tile_size, pixels.width))
    return Forecast((encoded(pixels, vae),), estimates.encoding(runtime, vae, tile))


@node("VAEDecode", category="latent", display_name="VAE Decode", lane="device", foresee=_foresee_decode)
def vae_decode(*, ctx: Context, samples: Latent, vae: Vae) -> Image:
    """Decodes latents into pictures, (batch, height * 8, width * 8, 3); Stage A of Würstchen makes 4 of each pixel.

    Where memory runs out it goes on in tiles.
    """
    with ctx.resource(ModelPool).vae(vae) as autoencoder:
        return Image(autoencoder.decode(samples.samples, _report(ctx)))


@node(
    "VAEDecodeTiled",
    category="_for_testing",
    display_name="VAE Decode (Tiled)",
    lane="device",
    foresee=_foresee_tiles,
)
def vae_decode_tiled(
    *,
    ctx: Context,
    samples: Latent,
    vae: Vae,
    tile_size: TileSize = 512,
    overlap: Overlap = 64,
    temporal_size: Frames = 64,
    temporal_overlap: FramesOverlap = 8,
) -> Image:
    """Decodes latents in overlapping tiles of `tile_size` pixels, which takes less memory.

    The overlap is at most a quarter of the tile. The temporal inputs are for video and change nothing here.
    """
    with ctx.resource(ModelPool).vae(vae) as autoencoder:
        return Image(autoencoder.decode_tiled(samples.samples, tile_size, overlap, _report(ctx)))


@node("VAEEncode", category="latent", display_name="VAE Encode", lane="device", foresee=_foresee_encode)
def vae_encode(*, ctx: Context, pixels: Image, vae: Vae) -> Latent:
    """Encodes pictures into latents, (batch, 4, height / 8, width / 8).

    Sides that are no multiple of 8 are cropped around the middle; alpha is left out.
    """
    with ctx.resource(ModelPool).vae(vae) as autoencoder:
        samples = autoencoder.encode(pixels.pixels, _report(ctx))
    return Latent(samples, downscale=vae.latent_format.downscale)


@node(
    "VAEEncodeTiled",
    category="_for_testing",
    display_name="VAE Encode (Tiled)",
    lane="device",
    foresee=_foresee_encode_tiles,
)
def vae_encode_tiled(
    *,
    ctx: Context,
    pixels: Image,
    vae: Vae,
    tile_size: WideTileSize = 512,
    overlap: Overlap = 64,
    temporal_size: Frames = 64,
    temporal_overlap: FramesOverlap = 8,
) -> Latent:
    """Encodes pictures in overlapping tiles of `tile_size` pixels, which takes less memory.

    The temporal inputs are for video and change nothing here.
    """
    with ctx.resource(ModelPool).vae(vae) as autoencoder:
        samples = autoencoder.encode_tiled(pixels.pixels, tile_size, overlap, _report(ctx))
    return Latent(samples, downscale=vae.latent_format.downscale)


@node(
    "VAEEncodeForInpaint",
    category="latent/inpaint",
    display_name="VAE Encode (for Inpainting)",
    lane="device",
    foresee=_foresee_encode,
)
def vae_encode_for_inpaint(
    *,
    ctx: Context,
    pixels: Image,
    vae: Vae,
    mask: Mask,
    grow_mask_by: Annotated[int, Range(0, 64, step=1)] = 6,
) -> Latent:
    """Encodes pictures with what the mask covers greyed out, and gives the mask to the sampler.

    The sampler's mask is grown by `grow_mask_by` pixels so that the seam is painted over.
    """
    with ctx.resource(ModelPool).vae(vae) as autoencoder:
        step = autoencoder.coding.encode_step
        picture, hidden = crop_with_mask(pixels.pixels, mask.values, step)
        kept = (1.0 - hidden.round()).movedim(1, -1)
        greyed = (picture[..., :3] - 0.5) * kept + 0.5
        samples = autoencoder.encode(greyed, _report(ctx))
    mask_to_paint = grow(hidden, grow_mask_by).round()
    return Latent(samples, noise_mask=mask_to_paint, downscale=vae.latent_format.downscale)


def crop_with_mask(pixels: Tensor, mask: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Return pictures (batch, H, W, c) and the mask (n, 1, H, W) at their size, both cropped to multiples of `step`.

    Raises NodeError where the numbers of pictures and masks do not go together.
    """
    masks = mask.reshape(-1, 1, mask.shape[-2], mask.shape[-1])
    if masks.shape[0] not in (1, pixels.shape[0]):
        raise NodeError(
            "the masks do not fit the pictures.",
            input="mask",
            found=f"{masks.shape[0]} masks for {pixels.shape[0]} pictures",
        )
    fitted = F.interpolate(masks, size=tuple(pixels.shape[1:3]), mode="bilinear")
    return crop(pixels, step), crop(fitted.movedim(1, -1), step).movedim(-1, 1)


def grow(mask: Tensor, by: int) -> Tensor:
    """Return the mask (n, 1, H, W), rounded and 1 wherever a window of `by` pixels meets it; 0 leaves it as it is."""
    if by == 0:
        return mask
    kernel = torch.ones(1, 1, by, by)
    grown = F.conv2d(mask.round(), kernel, padding=math.ceil((by - 1) / 2))
    return grown.clamp(0, 1)[..., : mask.shape[-2], : mask.shape[-1]]


def _report(ctx: Context) -> OnTile:
    def on_tile(done: int, total: int) -> None:
        ctx.progress(done, total)

    return on_tile
