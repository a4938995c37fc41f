"""The U-Net of DDPM (https://arxiv.org/abs/2006.11239) that works on pixels, with or without a class to draw.

Parameters are named as in the folders that diffusers' UNet2DModel writes, the form in which these models are shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nodes.models.networks.convolutions import Conv2d, Upsample
from nodes.models.networks.denoising import DenoisingModule
from nodes.models.networks.hooks import NO_HOOKS, AttentionPlace, Hooks, Place
from nodes.models.networks.layers import Embedding, GroupNorm, Linear, attend, sinusoidal


class ResnetBlock(nn.Module):
    """Two convolutions around the time embedding, with a skip.

    The embedding is added between them, or with `scale_shift` scales and shifts the second norm.
    """

    def __init__(
        self, channels: int, time_width: int, out: int, groups: int, eps: float, scale_shift: bool
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.norm1, self.conv1 = GroupNorm(channels, eps, groups), Conv2d(channels, out, 3, padding=1)
        self.time_emb_proj = Linear(time_width, 2 * out if scale_shift else out)
        self.norm2, self.conv2 = GroupNorm(out, eps, groups), Conv2d(out, out, 3, padding=1)
        if channels != out:
            self.conv_shortcut = Conv2d(channels, out, 1)
        self.same = channels == out

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Map (b, channels, h, w) and (b, time_width) to (b, out, h, w)."""
        h = self.conv1(F.silu(self.norm1(x)))
        time = self.time_emb_proj(F.silu(emb))[:, :, None, None]
        if self.scale_shift:
            scale, shift = time.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + time)
        return (x if self.same else self.conv_shortcut(x)) + self.conv2(F.silu(h))


class Attention(nn.Module):
    """Self-attention over the pixels of a feature map, with a skip; `groups` None leaves the norm out."""

    def __init__(self, channels: int, heads: int, groups: int | None, eps: float) -> None:
        super().__init__()
        self.heads = heads
        if groups is not None:
            self.group_norm = GroupNorm(channels, eps, groups)
        self.normed = groups is not None
        self.to_q, self.to_k = Linear(channels, channels), Linear(channels, channels)
        self.to_v, self.to_out = Linear(channels, channels), nn.Sequential(Linear(channels, channels))

    def forward(self, x: Tensor, block: Place, hooks: Hooks) -> Tensor:
        """Map (b, channels, h, w) to the same shape."""
        h = self.group_norm(x) if self.normed else x
        h = h.flatten(2).transpose(1, 2)
        q, k, v = self.to_q(h), self.to_k(h), self.to_v(h)
        place = AttentionPlace(block, 0, False, self.heads)
        answers = (hook(place, q, k, v) for hook in hooks.attention)
        found = next((answer for answer in answers if answer is not None), None)
        out = self.to_out(attend(q, k, v, self.heads) if found is None else found)
        return x + out.transpose(1, 2).reshape(x.shape)


class Downsample(nn.Module):
    """Half the height and width by a strided convolution; a `padding` of 0 pads on the right and below only."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, stride=2, padding=padding)
        self.one_sided = padding == 0

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, c, h / 2, w / 2); a side of one pixel stays."""
        if not self.one_sided:
            return self.conv(x)
        height, width = x.shape[-2:]
        return self.conv(F.pad(x, (0, max(1, 3 - width), 0, max(1, 3 - height))))


class Level(nn.Module):
    """Residual blocks of one resolution, an attention behind each where there are any, and the way to the next one."""

    def __init__(
        self,
        resnets: list[ResnetBlock],
        attentions: list[Attention],
        down: Downsample | None = None,
        up: Upsample | None = None,
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        if attentions:
            self.attentions = nn.ModuleList(attentions)
        if down is not None:
            self.downsamplers = nn.ModuleList([down])
        if up is not None:
            self.upsamplers = nn.ModuleList([up])
        self.layers, self.attended = len(resnets), len(attentions)
        self.goes_down, self.goes_up = down is not None, up is not None

    def forward(self, x: Tensor, emb: Tensor, index: int, place: Place, hooks: Hooks) -> Tensor:
        """Apply the residual block at `index` and its attention to (b, channels, h, w)."""
        h = self.resnets[index](x, emb)
        return self.attentions[index](h, place, hooks) if index < self.attended else h

    def down(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, c, h / 2, w / 2)."""
        return self.downsamplers[0](x)

    def up(self, x: Tensor, size: torch.Size) -> Tensor:
        """Map (b, c, h, w) to (b, c, *size)."""
        return self.upsamplers[0](x, size)


class UNet2D(DenoisingModule):
    """The noise predictor.

    `widths`, `down_attention` and `up_attention` have one entry a level, the last from the lowest resolution up. Heads
    are channels / `head_width`, one where it is None. The time's frequencies fall to 1/10,000 over half the first width
    less `time_shift`; `sines_first` puts its sines before its cosines. `classes` is how many there are to draw, None for
    a model without.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        widths: tuple[int, ...],
        layers: int,
        down_attention: tuple[bool, ...],
        up_attention: tuple[bool, ...],
        middle_attention: bool = True,
        head_width: int | None = None,
        norm_groups: int = 32,
        norm_eps: float = 1e-5,
        downsample_padding: int = 1,
        time_shift: float = 0.0,
        sines_first: bool = False,
        scale_shift: bool = False,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.time_shift, self.sines_first = in_channels, time_shift, sines_first
        self.first_width, self.classes = widths[0], classes
        time = widths[0] * 4
        self.time_embedding = nn.ModuleDict(
            {"linear_1": Linear(widths[0], time), "linear_2": Linear(time, time)}
        )
        if classes is not None:
            self.class_embedding = Embedding(classes, time)

        def resnet(channels: int, out: int) -> ResnetBlock:
            return ResnetBlock(channels, time, out, norm_groups, norm_eps, scale_shift)

        def attention(channels: int, groups: int | None = norm_groups) -> Attention:
            return Attention(channels, channels // (head_width or channels), groups, norm_eps)

        self.conv_in = Conv2d(in_channels, widths[0], 3, padding=1)
        channels, skips, levels = widths[0], [widths[0]], []
        for level, (width, attended) in enumerate(zip(widths, down_attention, strict=True)):
            resnets = [resnet(channels if index == 0 else width, width) for index in range(layers)]
            channels, last = width, level == len(widths) - 1
            down = None if last else Downsample(channels, downsample_padding)
            levels.append(Level(resnets, [attention(width) for _ in range(layers * attended)], down=down))
            skips += [channels] * (layers if last else layers + 1)
        self.down_blocks = nn.ModuleList(levels)
        # Where time scales the norms, the attention in the middle has none.
        middle = [attention(channels, None if scale_shift else norm_groups)] if middle_attention else []
        self.mid_block = Level([resnet(channels, channels), resnet(channels, channels)], middle)
        levels = []
        for level, attended in zip(reversed(range(len(widths))), up_attention, strict=True):
            resnets, width = [], widths[level]
            for _ in range(layers + 1):
                resnets.append(resnet(channels + skips.pop(), width))
                channels = width
            attentions = [attention(width) for _ in range((layers + 1) * attended)]
            levels.append(Level(resnets, attentions, up=Upsample(channels) if level else None))
        self.up_blocks = nn.ModuleList(levels)
        self.conv_norm_out = GroupNorm(channels, norm_eps, norm_groups)
        self.conv_out = Conv2d(channels, out_channels, 3, padding=1)

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        pooled: Tensor | None = None,
        hooks: Hooks = NO_HOOKS,
        extras: Mapping[str, Any] = {},
    ) -> Tensor:
        """Map x (b, in_channels, h, w) at timestep (b,) to (b, out_channels, h, w).

        `extras["class_labels"]` (b,), int64, says what to draw where the model has classes. Text (`context`, `pooled`)
        has no part.
        """
        emb = self._embed(timestep, x, extras)
        h = _hooked(self.conv_in(x), Place("input", 0), hooks)
        skips = [h]
        for level in cast(Iterable[Level], self.down_blocks):
            for index in range(level.layers):
                place = Place("input", len(skips))
                h = _hooked(level(h, emb, index, place, hooks), place, hooks)
                skips.append(h)
            if level.goes_down:
                h = _hooked(level.down(h), Place("input", len(skips)), hooks)
                skips.append(h)
        place = Place("middle", 0)
        h = self.mid_block(self.mid_block(h, emb, 0, place, hooks), emb, 1, place, hooks)
        h, count = _hooked(h, place, hooks), len(skips)
        for level in cast(Iterable[Level], self.up_blocks):
            for index in range(level.layers):
                place, skip = Place("output", count - len(skips)), skips.pop()
                for hook in hooks.skip:
                    h, skip = hook(place, h, skip)
                h = level(torch.cat([h, skip], dim=1), emb, index, place, hooks)
                if level.goes_up and index == level.layers - 1:
                    h = level.up(h, skips[-1].shape[-2:])
                h = _hooked(h, place, hooks)
        return self.conv_out(F.silu(self.conv_norm_out(h)))

    def _embed(self, timestep: Tensor, x: Tensor, extras: Mapping[str, Any]) -> Tensor:
        embedding = sinusoidal(timestep, self.first_width, self.time_shift, self.sines_first).to(x.dtype)
        emb = self.time_embedding["linear_2"](F.silu(self.time_embedding["linear_1"](embedding)))
        if self.classes is None:
            return emb
        return emb + F.embedding(extras["class_labels"], self.class_embedding.weight).to(emb.dtype)


def _hooked(h: Tensor, place: Place, hooks: Hooks) -> Tensor:
    for hook in hooks.block:
        h = hook(place, h)
    return h
