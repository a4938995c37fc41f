"""Convolutions in their input's dtype, by the route that is quickest on a CPU where the library's own is not."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nodes.models.networks.layers import cast

STRIP = 1 << 23
"""Elements of a large input that are convolved at once: the library copies them into layouts of its own."""
_MANY_WEIGHTS = 1 << 22
"""From so many on, the library spends longer on putting the weights into its own layout than few pixels are worth."""
_FEW_PIXELS = 256
"""In the whole batch; with more the library's convolution is as quick as a matrix product."""
_WORTH_ADDING = 512
"""Pixels in the whole batch from which sums of weights cost less than the products that they save."""


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` in its input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (batch, in, height, width)."""
        weight = self.weight if self.weight.dtype == x.dtype else self.weight.to(x.dtype)
        bias = cast(self.bias, x)
        if weight.numel() >= _MANY_WEIGHTS and _quick(x) and _pixels(x) <= _FEW_PIXELS and _plain(self):
            return _as_product(x, weight, bias)
        return self._conv_forward(x, weight, bias)

    def of_doubled(self, x: Tensor) -> Tensor:
        """Map (batch, in, h, w) to (batch, out, 2 h, 2 w): the 3x3 convolution of x doubled by nearest neighbours.

        Of the three rows that an output row sees two are the same row of x, and so are the columns. With their weights
        added up the sum over 3x3 is one over 2x2 for each of the four places that a pixel becomes: 4 products for 9.
        """
        if not (_quick(x) and _pixels(x) >= _WORTH_ADDING):
            return self(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        weight, bias = self.weight.to(x.dtype), cast(self.bias, x)
        height, width = x.shape[-2:]
        padded = F.pad(x, (1, 1, 1, 1))
        out = x.new_empty(x.shape[0], self.out_channels, 2 * height, 2 * width)
        rows = max(1, height * STRIP // x.numel())
        for row, of_row in enumerate(_halves(weight, 2)):
            for column, summed in enumerate(_halves(of_row, 3)):
                places = out[:, :, row::2, column::2]
                for top in range(0, height, rows):
                    bottom = min(height, top + rows)
                    seen = padded[:, :, top + row : bottom + row + 1, column : column + width + 1]
                    places[:, :, top:bottom] = F.conv2d(seen, summed, bias)
        return out


class ConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` in its input's dtype."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Apply to (batch, in, height, width)."""
        weight, bias = self.weight.to(x.dtype), cast(self.bias, x)
        return F.conv_transpose2d(x, weight, bias, self.stride, self.padding)  # type: ignore[arg-type]


class Upsample(nn.Module):
    """Nearest-neighbour enlargement and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        """Map (b, c, h, w) to (b, c, *size)."""
        if size == (2 * x.shape[-2], 2 * x.shape[-1]):
            return self.conv.of_doubled(x)
        return self.conv(F.interpolate(x, size=tuple(size), mode="nearest"))


def _quick(x: Tensor) -> bool:
    # Sums of half-precision weights would be rounded, and a GPU's library has quick routes of its own.
    return x.device.type == "cpu" and x.dtype == torch.float32


def _pixels(x: Tensor) -> int:
    return x.shape[0] * x.shape[-2] * x.shape[-1]


def _plain(layer: nn.Conv2d) -> bool:
    """Whether it is 3x3 and gives as many pixels as it takes."""
    same = layer.stride == layer.dilation == (1, 1) and layer.groups == 1 and layer.padding_mode == "zeros"
    return same and layer.kernel_size == (3, 3) and layer.padding == (1, 1)


def _as_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The 3x3 convolution as one product of the weights as they lie in memory with what each pixel sees."""
    batch, _, height, width = x.shape
    seen = F.unfold(x, 3, padding=1).transpose(0, 1).flatten(1)
    matrix = weight.flatten(1)
    product = matrix @ seen if bias is None else torch.addmm(bias[:, None], matrix, seen)
    return product.view(-1, batch, height, width).transpose(0, 1).contiguous()


def _halves(weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Three weights along an axis as two for the first of a doubled pixel's places, and two for the second."""
    before, own, after = weight.unbind(axis)
    return torch.stack((before, own + after), axis), torch.stack((before + own, after), axis)
