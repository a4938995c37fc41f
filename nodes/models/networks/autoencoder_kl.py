"""The autoencoder of latent diffusion (https://arxiv.org/abs/2112.10752) between pictures and latents."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from nodes.models.networks.convolutions import STRIP, Conv2d
from nodes.models.networks.layers import GroupNorm, attend, cast
from nodes.models.networks.steps import Norm, Step, Steps, local, of_input


class StripConv(Conv2d):
    """A 3x3 convolution with a padding of 1 that takes large pictures in strips on a CPU.

    The library copies its input and output into layouts of its own, which at full size doubles the peak of a decode.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, channels, h, w) to (b, out, h, w)."""
        if x.device.type != "cpu" or x.numel() <= STRIP:
            return super().forward(x)
        height = x.shape[-2]
        rows = max(1, height * STRIP // x.numel())
        weight, bias = self.weight.to(x.dtype), cast(self.bias, x)
        out = x.new_empty(x.shape[0], self.out_channels, height, x.shape[-1])
        for top in range(0, height, rows):
            bottom = min(height, top + rows)
            part = x[:, :, max(0, top - 1) : bottom + 1]
            part = F.pad(part, (1, 1, int(top == 0), int(bottom == height)))
            out[:, :, top:bottom] = F.conv2d(part, weight, bias)
        return out


class ResnetBlock(nn.Module):
    """Two convolutions with a skip."""

    def __init__(self, channels: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = GroupNorm(channels, 1e-6, groups), StripConv(channels, out)
        self.norm2, self.conv2 = GroupNorm(out, 1e-6, groups), StripConv(out, out)
        if channels != out:
            self.nin_shortcut = Conv2d(channels, out, 1)
        self.same = channels == out

    def forward(self, x: Tensor, norm: Norm = of_input) -> Tensor:
        """Map (b, channels, h, w) to (b, out, h, w)."""
        h = self.conv1(F.silu(norm(self.norm1, x), inplace=True))
        h = self.conv2(F.silu(norm(self.norm2, h), inplace=True))
        return (x if self.same else self.nin_shortcut(x)) + h


class AttnBlock(nn.Module):
    """Single-head attention over the pixels."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = GroupNorm(channels, 1e-6, groups)
        self.q, self.k = Conv2d(channels, channels, 1), Conv2d(channels, channels, 1)
        self.v, self.proj_out = Conv2d(channels, channels, 1), Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, channels, h, w) to the same shape."""
        h = self.norm(x)
        # Channels next to each other: attention holds the whole matrix of its weights otherwise.
        q, k, v = (part(h).flatten(2).transpose(1, 2).contiguous() for part in (self.q, self.k, self.v))
        out = attend(q, k, v, heads=1).transpose(1, 2).reshape(x.shape)
        return x + self.proj_out(out)


class Downsample(nn.Module):
    """Half the height and width; the padding is on the right and below only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, c, h / 2, w / 2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double the height and width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = StripConv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, c, 2 h, 2 w)."""
        return self.conv.of_doubled(x)


def _middle(channels: int, groups: int) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "block_1": ResnetBlock(channels, channels, groups),
            "attn_1": AttnBlock(channels, groups),
            "block_2": ResnetBlock(channels, channels, groups),
        }
    )


class Encoder(nn.Module):
    """Pictures to the moments of latents."""

    def __init__(
        self, channels: int, mult: tuple[int, ...], blocks: int, in_channels: int, out: int, groups: int
    ) -> None:
        super().__init__()
        self.conv_in = StripConv(in_channels, channels)
        widths = [channels * factor for factor in mult]
        current, levels = channels, []
        for level, width in enumerate(widths):
            stack = nn.ModuleList()
            for _ in range(blocks):
                stack.append(ResnetBlock(current, width, groups))
                current = width
            entry = nn.ModuleDict({"block": stack})
            if level != len(widths) - 1:
                entry["downsample"] = Downsample(current)
            levels.append(entry)
        self.down = nn.ModuleList(levels)
        self.mid = _middle(current, groups)
        self.norm_out, self.conv_out = GroupNorm(current, 1e-6, groups), StripConv(current, out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, in_channels, H, W) to (b, out, h, w)."""
        h = self.conv_in(x)
        for level in self.down:
            for block in level["block"]:  # type: ignore[index]
                h = block(h)
            if "downsample" in level:  # type: ignore[operator]
                h = level["downsample"](h)  # type: ignore[index]
        for block in self.mid.values():
            h = block(h)
        return self.conv_out(F.silu(self.norm_out(h), inplace=True))


class Decoder(nn.Module):
    """Latents to pictures."""

    def __init__(
        self, channels: int, mult: tuple[int, ...], blocks: int, z_channels: int, out: int, groups: int
    ) -> None:
        super().__init__()
        widths = [channels * factor for factor in mult]
        current = widths[-1]
        self.conv_in = StripConv(z_channels, current)
        self.mid = _middle(current, groups)
        levels: list[nn.Module] = []
        for level, width in reversed(list(enumerate(widths))):
            stack = nn.ModuleList()
            for _ in range(blocks + 1):
                stack.append(ResnetBlock(current, width, groups))
                current = width
            entry = nn.ModuleDict({"block": stack})
            if level:
                entry["upsample"] = Upsample(current)
            levels.insert(0, entry)
        self.up = nn.ModuleList(levels)
        self.norm_out, self.conv_out = GroupNorm(current, 1e-6, groups), StripConv(current, out)

    def forward(self, z: Tensor) -> Tensor:
        """Map (b, z_channels, h, w) to (b, out, H, W)."""
        h = self.head(z)
        for level in reversed(self.up):
            for block in level["block"]:  # type: ignore[index]
                h = block(h)
            if "upsample" in level:  # type: ignore[operator]
                h = level["upsample"](h)  # type: ignore[index]
        return self.last(h)

    def head(self, z: Tensor) -> Tensor:
        """Map (b, z_channels, h, w) to (b, channels, h, w): what is done at the latent's size, attention included."""
        h = self.conv_in(z)
        for block in self.mid.values():
            h = block(h)
        return h

    def last(self, h: Tensor, norm: Norm = of_input) -> Tensor:
        """Map (b, channels, H, W) to (b, out, H, W)."""
        return self.conv_out(F.silu(norm(self.norm_out, h), inplace=True))

    def steps(self) -> tuple[Step, ...]:
        """Return what follows the head."""
        found: list[Step] = []
        for level in reversed(self.up):
            for block in level["block"]:  # type: ignore[index]
                wide, narrow = block.conv1.in_channels, block.conv1.out_channels
                # The input, and the larger of: a convolution's input and output; the same of the second, and its skip.
                peak = wide + max(wide + narrow, 3 * narrow)
                found.append(Step(block, 2, narrow, peak, norms=2))
            if "upsample" in level:  # type: ignore[operator]
                larger = level["upsample"]  # type: ignore[index]
                channels = larger.conv.out_channels
                found.append(Step(local(larger), 1, channels, 2.25 * channels, scale=2))
        wide, out = self.conv_out.in_channels, self.conv_out.out_channels
        found.append(Step(self.last, 1, out, 2 * wide + out, norms=1))
        return tuple(found)


class AutoencoderKL(nn.Module):
    """Encoder and decoder with 1x1 convolutions on the latent side.

    `encoder` False builds the decoder alone, and the reverse, for files that hold one of them.
    """

    def __init__(
        self,
        channels: int,
        channel_mult: tuple[int, ...],
        num_res_blocks: int,
        z_channels: int,
        latent_channels: int,
        picture_channels: int = 3,
        encoder: bool = True,
        decoder: bool = True,
        norm_groups: int = 32,
    ) -> None:
        super().__init__()
        if encoder:
            self.encoder = Encoder(
                channels, channel_mult, num_res_blocks, picture_channels, 2 * z_channels, norm_groups
            )
            self.quant_conv = Conv2d(2 * z_channels, 2 * latent_channels, 1)
        if decoder:
            self.post_quant_conv = Conv2d(latent_channels, z_channels, 1)
            self.decoder = Decoder(
                channels, channel_mult, num_res_blocks, z_channels, picture_channels, norm_groups
            )

    def encode(self, pictures: Tensor) -> Tensor:
        """Map pictures (b, 3, H, W), -1..1, to the posterior's mean (b, latent_channels, h, w)."""
        return self.quant_conv(self.encoder(pictures)).chunk(2, dim=1)[0]

    def decode(self, latents: Tensor) -> Tensor:
        """Map latents (b, latent_channels, h, w) to pictures (b, 3, H, W), about -1..1."""
        return self.decoder(self.post_quant_conv(latents))

    def steps(self) -> Steps:
        """Return the decoder in steps."""
        width = self.decoder.conv_in.out_channels

        def head(latents: Tensor) -> Tensor:
            return self.decoder.head(self.post_quant_conv(latents))

        # In the attention: its input, the normalised one, three projections, two of them in two layouts, the latent.
        return Steps(head, width, 8 * width + self.post_quant_conv.in_channels, self.decoder.steps())
