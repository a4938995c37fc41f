"""What a sampler's step shows of its picture: a linear projection of the latent's channels onto red, green and blue.

The factors of published latent spaces are those that are in common use: least-squares fits of pictures to their latents.
That of the embedded model was fitted in the same way to drawings of its own (R^2 0.92 to 0.95 by channel).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from nodes.values import LatentFormat, Model

QUALITY = 80
"""Of the JPEG."""


@dataclass(frozen=True, slots=True)
class Projection:
    """From the channels of the network's space to RGB, -1..1: `latent @ factors + bias`."""

    factors: tuple[tuple[float, float, float], ...]
    """One row a channel."""
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)


PROJECTIONS: Mapping[str, Projection] = {
    "sd1": Projection(
        (
            (0.3512, 0.2297, 0.3227),
            (0.3250, 0.4974, 0.2350),
            (-0.2829, 0.1762, 0.2721),
            (-0.2120, -0.2616, -0.7177),
        )
    ),
    "sdxl": Projection(
        (
            (0.3651, 0.4232, 0.4341),
            (-0.2533, -0.0042, 0.1068),
            (0.1076, 0.1111, -0.0362),
            (-0.3165, -0.2492, -0.2188),
        ),
        (0.1084, -0.0175, -0.0011),
    ),
    "cascade_b": Projection(
        (
            (0.1121, 0.2006, 0.1023),
            (-0.2093, -0.0222, -0.0195),
            (-0.3087, -0.1535, 0.0366),
            (0.0290, -0.1574, -0.4078),
        )
    ),
    "cascade_c": Projection(
        (
            (-0.0326, -0.0204, -0.0127),
            (-0.1592, -0.0427, 0.0216),
            (0.0873, 0.0638, -0.0020),
            (-0.0602, 0.0442, 0.1304),
            (0.0800, -0.0313, -0.1796),
            (-0.0810, -0.0638, -0.1581),
            (0.1791, 0.1180, 0.0967),
            (0.0740, 0.1416, 0.0432),
            (-0.1745, -0.1888, -0.1373),
            (0.2412, 0.1577, 0.0928),
            (0.1908, 0.0998, 0.0682),
            (0.0209, 0.0365, -0.0092),
            (0.0448, -0.0650, -0.1728),
            (-0.1658, -0.1045, -0.1308),
            (0.0542, 0.1545, 0.1325),
            (-0.0352, -0.1672, -0.2541),
        )
    ),
}
"""By the name of the latent format."""
EMBEDDED = Projection(
    (
        (0.2993, 0.4423, -0.3167),
        (0.3803, 0.5605, 0.2603),
        (-0.2690, 0.1653, 0.3221),
        (-0.3404, 0.1004, -0.1918),
    ),
    (-0.0533, -0.0893, -0.0528),
)
"""The embedded model's, whose autoencoder has Stable Diffusion's format and a space of its own."""
_SD1_CHANNELS = 320
"""Channels of the first level of every published U-Net in the format `sd1`; the embedded one is narrower."""
_TINTS = ((1.0, 1.0, 1.0), (0.5, -0.25, -0.25), (0.0, 0.4, -0.4))
"""What the first three principal components are shown as: brightness, red against cyan, green against blue."""


def projection_of(model: Model) -> Projection | None:
    """Return the projection of a model's latents; None where none is known."""
    if model.latent_format.name == "sd1" and model.architecture.name == "unet":
        narrow = model.architecture["model_channels"] < _SD1_CHANNELS
        return EMBEDDED if narrow else PROJECTIONS["sd1"]
    return PROJECTIONS.get(model.latent_format.name)


@dataclass(frozen=True, eq=False)
class StepPreview:
    """What a step shows of its picture: x0 as it lies on the device, and the format that it is scaled in.

    `projection` is that of the latent's channels, None for a space of which none is known.
    """

    x0: Tensor
    """(batch, channels, height, width), in the network's space; the first of the batch is shown."""
    latent_format: LatentFormat
    projection: Projection | None = None

    def jpeg(self, max_side: int) -> bytes:
        """Return the picture as a JPEG file: as large as the finished one, and at most `max_side` pixels a side."""
        pixels = to_rgb(self.x0[0], self.latent_format, self.projection)
        picture = Image.fromarray(pixels.numpy(), "RGB")
        grow = min(self.latent_format.downscale, max_side / max(picture.size))
        size = tuple(max(1, min(max_side, round(side * grow))) for side in picture.size)
        file = io.BytesIO()
        picture.resize((size[0], size[1]), Image.Resampling.BILINEAR).save(file, "JPEG", quality=QUALITY)
        return file.getvalue()


@torch.no_grad()
def to_rgb(latent: Tensor, latent_format: LatentFormat, projection: Projection | None) -> Tensor:
    """Return what a latent (channels, height, width) looks like: (height, width, RGB), 0..255, on the CPU.

    Pictures that are their own latents are shown as they are. Without a projection the three principal components
    of the channels are shown, which has the shapes, but not the colours, of the picture.
    """
    channels = latent.to("cpu", torch.float32).nan_to_num().permute(1, 2, 0)
    if latent_format.name == "pixels":
        rgb = channels[..., :3] if channels.shape[-1] >= 3 else channels[..., :1].expand(-1, -1, 3)
    elif projection is not None and len(projection.factors) == channels.shape[-1]:
        rgb = channels @ torch.tensor(projection.factors) + torch.tensor(projection.bias)
    else:
        rgb = _principal(channels)
    return ((rgb + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).contiguous()


def _principal(channels: Tensor) -> Tensor:
    """Return the first three principal components over the pixels as tints, scaled to about -1..1."""
    flat = channels.flatten(0, 1)
    flat = flat - flat.mean(0)
    _, directions = torch.linalg.eigh(flat.T @ flat)
    # The largest come last. A direction's sign is free: the same one each time, so that steps look alike.
    top = directions.flip(-1)[:, :3]
    top = top * top.gather(0, top.abs().argmax(0, keepdim=True)).sign()
    parts = flat @ top
    parts = parts / (2.0 * parts[:, :1].std(correction=0)).clamp_min(1e-6)
    rgb: Tensor = parts @ torch.tensor(_TINTS)[: top.shape[1]]
    return rgb.reshape(*channels.shape[:2], 3)
