"""The autoencoder of models that work on the pixels themselves: nothing to learn, nothing to change."""

from __future__ import annotations

from torch import Tensor, nn


class PixelCodec(nn.Module):
    """Hands pictures through; a model of one channel sees and makes them in grey."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def encode(self, pictures: Tensor) -> Tensor:
        """Map pictures (b, 3, H, W) to (b, channels, H, W); grey is their luminance (ITU-R BT.601)."""
        if self.channels == 3:
            return pictures
        weights = pictures.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        return (pictures * weights).sum(dim=1, keepdim=True)

    def decode(self, latents: Tensor) -> Tensor:
        """Map (b, channels, H, W) to pictures (b, 3, H, W)."""
        return latents if self.channels == 3 else latents.expand(-1, 3, -1, -1)
