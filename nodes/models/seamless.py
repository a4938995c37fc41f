"""Runs a decoder in tiles that give what the whole picture gives, with no seam.

Steps that see a little way around a pixel are exact in tiles that overlap by as much. Normalisations over the whole
picture (GroupNorm) are not, and tiles with statistics of their own differ in colour from their neighbours. So their
statistics are gathered over all tiles first, one normalisation after the other, since each changes those after it.
Between segments of the decoder the whole feature map lies in host memory; the shorter the segments, the less is
computed twice and the more is held there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nodes.models.networks.layers import GroupNorm
from nodes.models.networks.steps import Norm, Step, Steps, of_input
from nodes.models.tiling import OnTile

SMALLEST = 32
"""Pixels that a tile's side has at least, at its own resolution."""


@dataclass(frozen=True)
class Segment:
    """Steps that run in tiles together, from one whole feature map to the next."""

    steps: tuple[Step, ...]
    channels: int
    """Of its input."""

    @property
    def scale(self) -> int:
        """Pixels of the output to one of the input, in each direction."""
        return math.prod(step.scale for step in self.steps)

    @property
    def norms(self) -> int:
        """Normalisations over the whole picture."""
        return sum(step.norms for step in self.steps)

    @property
    def halo(self) -> int:
        """How far an output pixel sees, in pixels of the input."""
        seen = 0
        for step in reversed(self.steps):
            seen = math.ceil(seen / step.scale) + step.radius
        return seen

    @property
    def held(self) -> float:
        """Numbers in its input and output together, to a pixel of the output."""
        return self.steps[-1].channels + self.channels / self.scale**2

    def numbers(self, pixels: float) -> float:
        """Numbers that computing holds at once for so many pixels of the output."""
        return max(step.numbers(pixels / scale**2) for scale, step in self._scaled())

    def pixels(self, numbers: float) -> float:
        """Pixels of the output that so many numbers held at once suffice for."""
        return min(step.pixels(numbers) * scale**2 for scale, step in self._scaled())

    def _scaled(self) -> Iterator[tuple[int, Step]]:
        """Each step with the scale of the segment's output to its own."""
        scale = self.scale
        for step in self.steps:
            scale //= step.scale
            yield scale, step


def segments(steps: Steps) -> list[Segment]:
    """Return the decoder's segments: one for each size of its feature maps, or a single one where that costs nothing."""
    if not any(step.norms for step in steps.steps):
        return [Segment(steps.steps, steps.head_channels)]
    return _split(steps.steps, steps.head_channels, lambda before, step: step.scale > 1)


def shorter(segment: Segment) -> list[Segment]:
    """Return the segment in parts with one residual block each."""
    return _split(segment.steps, segment.channels, lambda before, step: before.norms > 1 and step.norms > 1)


def _split(steps: Sequence[Step], channels: int, parts: Callable[[Step, Step], bool]) -> list[Segment]:
    """Segments of steps, a new one wherever `parts(step before, step)`."""
    found: list[Segment] = []
    group: list[Step] = []
    for step in steps:
        if group and parts(group[-1], step):
            found.append(Segment(tuple(group), channels))
            channels, group = group[-1].channels, []
        group.append(step)
    return [*found, Segment(tuple(group), channels)]


def whole_bytes(steps: Steps, pixels: int, itemsize: int) -> int:
    """Return the bytes that decoding a latent of so many pixels takes at once, beside the parameters."""
    scale, found = 1, steps.head_peak * pixels
    for step in steps.steps:
        scale *= step.scale
        found = max(found, step.numbers(pixels * scale**2))
    return int(found * itemsize)


@dataclass(frozen=True)
class Tiling:
    """How a picture is decoded: in which segments, and the side of each one's tiles in pixels of its output."""

    segments: tuple[Segment, ...]
    tiles: tuple[int, ...]
    held: int
    """Bytes of host memory that feature maps take at most."""
    works: int
    """Bytes of the device that the head or a tile takes at most, feature maps included where they lie there."""


def choose(steps: Steps, size: tuple[int, int], itemsize: int, room: int, host: int | None) -> Tiling:
    """Return the tiling of a latent of (height, width) for `room` bytes of the device and `host` bytes beside it.

    `host` None: the device's memory is the host's, so that feature maps and tiles share `room`. Where the room is too
    small for anything, the tiling is the one that takes least.
    """
    parts: list[Segment] = []
    tiles: list[int] = []
    scale, held, works = 1, 0, int(steps.head_peak * size[0] * size[1] * itemsize)
    for segment in segments(steps):
        whole = (size[0] * scale * segment.scale, size[1] * scale * segment.scale)
        made = [_made(part, whole, itemsize, room, host) for part in (segment, *shorter(segment))]
        # In short parts the least is computed twice, but the feature maps between them are held.
        short = all(item.maps <= host if host is not None else item.works <= room for item in made[1:])
        for item in made[1:] if short and made[0].tile < max(whole) else made[:1]:
            parts.append(item.part)
            tiles.append(item.tile)
            held, works = max(held, item.maps), max(works, item.works)
        scale *= segment.scale
    return Tiling(tuple(parts), tuple(tiles), held, works)


@dataclass(frozen=True)
class _Made:
    """A segment with its tile, and the bytes of its feature maps and of computing."""

    part: Segment
    tile: int
    maps: int
    works: int


def _made(part: Segment, size: tuple[int, int], itemsize: int, room: int, host: int | None) -> _Made:
    """The largest tiles for a segment that ends at (height, width)."""
    maps = int(part.held * size[0] * size[1] * itemsize)
    shared = maps if host is None else 0
    tile = min(_side(part, max(0, room - shared) / itemsize), max(size))
    margin = 0 if tile == max(size) else 2 * part.halo * part.scale
    pixels = min(size[0], tile + margin) * min(size[1], tile + margin)
    return _Made(part, tile, maps, int(part.numbers(pixels) * itemsize) + shared)


def _side(part: Segment, numbers: float) -> int:
    """The side of the largest tile, in pixels of the output, that computing holds so many numbers for."""
    side = int(math.sqrt(max(0.0, part.pixels(numbers)))) - 2 * part.halo * part.scale
    side -= side % part.scale
    return max(SMALLEST * part.scale, side)


def decode(
    steps: Steps, latent: Tensor, tiling: Tiling, device: torch.device, on_tile: OnTile | None = None
) -> Tensor:
    """Return the picture (1, channels, H, W), float32 on the CPU, of a latent (1, channels, h, w) on the device."""
    rows = [(part, _tiles(latent.shape[-2:], scale, part, tile)) for scale, part, tile in _placed(tiling)]
    total = sum(len(tiles) * (1 + part.norms * (len(tiles) > 1)) for part, tiles in rows)
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if on_tile is not None:
            on_tile(done, total)

    maps = steps.head(latent).cpu()
    for part, tiles in rows:
        maps = _run(part, maps, tiles, device, count)
    return maps.float()


def _placed(tiling: Tiling) -> Iterator[tuple[int, Segment, int]]:
    """(scale of its input to the latent, segment, tile) of each segment."""
    scale = 1
    for part, tile in zip(tiling.segments, tiling.tiles, strict=True):
        yield scale, part, tile
        scale *= part.scale


@dataclass(frozen=True)
class _Tile:
    """A rectangle of a segment's input: what is kept of it, and with the margin that it sees."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    outer_rows: tuple[int, int]
    outer_columns: tuple[int, int]

    def cut(self, maps: Tensor) -> Tensor:
        """The tile with its margin out of the whole input."""
        return maps[..., slice(*self.outer_rows), slice(*self.outer_columns)]

    def kept(self, part: Tensor) -> Tensor:
        """What is kept of the tile's own feature map (..., height, width) at any scale."""
        scale = part.shape[-2] // (self.outer_rows[1] - self.outer_rows[0])
        top, left = (
            (self.rows[0] - self.outer_rows[0]) * scale,
            (self.columns[0] - self.outer_columns[0]) * scale,
        )
        height, width = (self.rows[1] - self.rows[0]) * scale, (self.columns[1] - self.columns[0]) * scale
        return part[..., top : top + height, left : left + width]


def _tiles(latent: Sequence[int], scale: int, part: Segment, tile: int) -> list[_Tile]:
    """The tiles of a segment whose input is `scale` times the latent's (height, width)."""
    height, width = latent[0] * scale, latent[1] * scale
    step = tile // part.scale
    found = []
    for rows in _spans(height, step):
        for columns in _spans(width, step):
            outer = (
                (max(0, a - part.halo), min(end, b + part.halo))
                for end, (a, b) in ((height, rows), (width, columns))
            )
            found.append(_Tile(rows, columns, *outer))
    return found


def _spans(length: int, step: int) -> list[tuple[int, int]]:
    """Equal parts of a side, none longer than `step`."""
    count = math.ceil(length / step)
    edges = [length * index // count for index in range(count + 1)]
    return list(itertools.pairwise(edges))


class _Measured(Exception):
    """The normalisation whose statistics are wanted was reached: the rest of the tile need not be computed."""


class _Statistics:
    """Mean and variance of each group, gathered over tiles (https://doi.org/10.2307/2683386), float64 on the CPU."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(1, dtype=torch.float64)
        self.spread = torch.zeros(1, dtype=torch.float64)

    def add(self, layer: GroupNorm, part: Tensor) -> None:
        """Take in a part (1, channels, height, width) of the layer's input."""
        grouped = part.reshape(layer.num_groups, -1)
        variance, mean = torch.var_mean(grouped.float(), dim=1, correction=0)
        count = grouped.shape[1]
        total = self.count + count
        off = mean.cpu().double() - self.mean
        self.mean = self.mean + off * (count / total)
        self.spread = self.spread + variance.cpu().double() * count + off**2 * (self.count * count / total)
        self.count = total

    def apply(self, layer: GroupNorm, x: Tensor) -> Tensor:
        """Normalise a tile by the statistics of the whole."""
        each = layer.num_channels // layer.num_groups
        mean, variance = (
            item.float().repeat_interleave(each).to(x.device)
            for item in (self.mean, self.spread / self.count)
        )
        weight, bias = layer.weight.float(), layer.bias.float()
        return F.batch_norm(x, mean, variance, weight, bias, eps=layer.eps)


def _run(
    part: Segment, maps: Tensor, tiles: Sequence[_Tile], device: torch.device, count: Callable[[], None]
) -> Tensor:
    """Run a segment on a whole feature map (1, channels, h, w) of the host; returns the next."""
    known: list[_Statistics] = []
    if len(tiles) > 1:
        for _ in range(part.norms):
            known.append(_measure(part, maps, tiles, device, known, count))
    out: Tensor | None = None
    for tile in tiles:
        made = tile.kept(_through(part, tile.cut(maps).to(device), _norm(known)))
        if out is None:
            out = torch.empty(
                *made.shape[:2], *(side * part.scale for side in maps.shape[-2:]), dtype=made.dtype
            )
        (top, bottom), (left, right) = (
            [edge * part.scale for edge in span] for span in (tile.rows, tile.columns)
        )
        out[..., top:bottom, left:right] = made.cpu()
        count()
    assert out is not None
    return out


def _measure(
    part: Segment,
    maps: Tensor,
    tiles: Sequence[_Tile],
    device: torch.device,
    known: Sequence[_Statistics],
    count: Callable[[], None],
) -> _Statistics:
    """Statistics of the first normalisation that is not known, over all tiles."""
    found = _Statistics()
    for tile in tiles:

        def gather(layer: GroupNorm, x: Tensor, tile: _Tile = tile) -> Tensor:
            found.add(layer, tile.kept(x))
            raise _Measured

        try:
            _through(part, tile.cut(maps).to(device), _norm(known, gather))
        except _Measured:
            count()
    return found


def _through(part: Segment, x: Tensor, norm: Norm) -> Tensor:
    for step in part.steps:
        x = step.run(x, norm)
    return x


def _norm(known: Sequence[_Statistics], then: Norm = of_input) -> Norm:
    """Normalise by what is known, in order; what comes after that goes to `then`."""
    waiting = iter(known)

    def norm(layer: GroupNorm, x: Tensor) -> Tensor:
        statistics = next(waiting, None)
        return then(layer, x) if statistics is None else statistics.apply(layer, x)

    return norm
