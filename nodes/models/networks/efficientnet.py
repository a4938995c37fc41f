"""EfficientNetV2 as the semantic compressor of Würstchen and Stable Cascade: pictures to 16 channels at 1/32 of their size.

Parameters are named as in Stable Cascade's `effnet_encoder.safetensors`: `backbone.` as torchvision names the features of
its EfficientNetV2, `mapper.` the projection to the latent. Source: https://arxiv.org/abs/2104.00298 and, for its use as a
compressor, https://arxiv.org/abs/2306.00637.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nodes.models.networks.convolutions import Conv2d
from nodes.models.networks.layers import BatchNorm2d

Stage = tuple[str, int, int, int, int, int]
"""(`fused` or `mb`, expansion, stride of the first block, input channels, output channels, blocks)."""
V2_S: tuple[Stage, ...] = (
    ("fused", 1, 1, 24, 24, 2),
    ("fused", 4, 2, 24, 48, 4),
    ("fused", 4, 2, 48, 64, 4),
    ("mb", 4, 2, 64, 128, 6),
    ("mb", 6, 1, 128, 160, 9),
    ("mb", 6, 2, 160, 256, 15),
)
"""The stages of EfficientNetV2-S, which the published compressors have."""
_EPS = 1e-3
# What pictures are normalised with before a network that was trained on ImageNet.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def _conv(
    inner: int, outer: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [
        Conv2d(inner, outer, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        BatchNorm2d(outer, eps=_EPS),
    ]
    return nn.Sequential(*layers, nn.SiLU()) if act else nn.Sequential(*layers)


class SqueezeExcitation(nn.Module):
    """Scales channels by what the whole picture holds (https://arxiv.org/abs/1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = Conv2d(channels, squeezed, 1)
        self.fc2 = Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (batch, channels, height, width)."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(F.silu(self.fc1(mean))))


class Block(nn.Module):
    """One inverted residual, fused (a full convolution expands) or not (a 1x1, then a depthwise one)."""

    def __init__(self, kind: str, expansion: int, stride: int, inner: int, outer: int) -> None:
        super().__init__()
        wide = inner * expansion
        layers: list[nn.Module]
        if kind == "fused":
            layers = [_conv(inner, wide if expansion > 1 else outer, 3, stride)]
            if expansion > 1:
                layers.append(_conv(wide, outer, 1, act=False))
        else:
            layers = [_conv(inner, wide, 1)] if expansion > 1 else []
            layers += [
                _conv(wide, wide, 3, stride, groups=wide),
                SqueezeExcitation(wide, max(1, inner // 4)),
                _conv(wide, outer, 1, act=False),
            ]
        self.block = nn.Sequential(*layers)
        self.residual = stride == 1 and inner == outer

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (batch, inner, height, width)."""
        out = self.block(x)
        return x + out if self.residual else out


class EfficientNetEncoder(nn.Module):
    """Pictures (batch, 3, height, width), 0..1, to the semantic latent (batch, latent_channels, height / 32, width / 32).

    The mapper's normalisation without scale gives every channel zero mean and unit variance over the training pictures.
    """

    def __init__(
        self, stages: tuple[Stage, ...] = V2_S, last_channels: int = 1280, latent_channels: int = 16
    ) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        features = [_conv(3, stages[0][3], 3, 2)]
        for kind, expansion, stride, inner, outer, blocks in stages:
            features.append(
                nn.Sequential(
                    *(
                        Block(kind, expansion, 1 if index else stride, outer if index else inner, outer)
                        for index in range(blocks)
                    )
                )
            )
        features.append(_conv(stages[-1][4], last_channels, 1))
        self.backbone = nn.Sequential(*features)
        self.mapper = nn.Sequential(
            Conv2d(last_channels, latent_channels, 1, bias=False),
            BatchNorm2d(latent_channels, affine=False),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the latent of pictures (batch, 3, height, width), 0..1, in their dtype."""
        mean = pictures.new_tensor(_MEAN)[:, None, None]
        std = pictures.new_tensor(_STD)[:, None, None]
        return self.mapper(self.backbone((pictures - mean) / std))

    def encode(self, pictures: Tensor) -> Tensor:
        """Return the latent of pictures, as a call does: what autoencoders call it."""
        return self(pictures)
