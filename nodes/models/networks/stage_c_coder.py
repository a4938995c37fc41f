"""What stands in for an autoencoder beside Stage C of Stable Cascade: the compressor one way, a previewer the other."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from nodes.models.networks.convolutions import Conv2d, ConvTranspose2d
from nodes.models.networks.efficientnet import EfficientNetEncoder
from nodes.models.networks.layers import BatchNorm2d

Arguments = tuple[tuple[str, Any], ...]


class StageCPreviewer(nn.Module):
    """Semantic latents to small pictures, eight times their size, where the whole cascade makes 42 times.

    Parameters are named as in Stable Cascade's `previewer.safetensors`.
    """

    def __init__(self, latent_channels: int = 16, channels: int = 512, picture_channels: int = 3) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        layers = (
            Conv2d(latent_channels, channels, 1),
            Conv2d(channels, channels, 3, padding=1),
            ConvTranspose2d(channels, half, 2, stride=2),
            Conv2d(half, half, 3, padding=1),
            ConvTranspose2d(half, quarter, 2, stride=2),
            Conv2d(quarter, quarter, 3, padding=1),
            ConvTranspose2d(quarter, quarter, 2, stride=2),
            Conv2d(quarter, quarter, 3, padding=1),
        )
        self.blocks = nn.Sequential()
        for layer in layers:
            self.blocks.extend((layer, nn.GELU(), BatchNorm2d(layer.out_channels)))
        self.blocks.append(Conv2d(quarter, picture_channels, 1))

    def decode(self, latents: Tensor) -> Tensor:
        """Map latents (batch, latent_channels, h, w) to pictures (batch, picture_channels, 8 h, 8 w), about 0..1."""
        return self.blocks(latents)


class StageCCoder(nn.Module):
    """The compressor and the previewer, each by its arguments, as the checkpoints of Stage C hold them together."""

    def __init__(self, encoder: Arguments = (), previewer: Arguments = ()) -> None:
        super().__init__()
        self.encoder = EfficientNetEncoder(**dict(encoder))
        self.previewer = StageCPreviewer(**dict(previewer))

    def encode(self, pictures: Tensor) -> Tensor:
        """Map pictures (batch, 3, height, width), 0..1, to latents (batch, channels, height / 32, width / 32)."""
        return self.encoder.encode(pictures)

    def decode(self, latents: Tensor) -> Tensor:
        """Map latents (batch, channels, h, w) to pictures (batch, 3, 8 h, 8 w), about 0..1."""
        return self.previewer.decode(latents)
