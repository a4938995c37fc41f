"""Maps a large picture in overlapping tiles, blended by a linear ramp over the overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

OnTile = Callable[[int, int], None]
"""Called with (tiles done, tiles in all)."""


def positions(length: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles begin along a side of `length`."""
    return list(range(0, length - overlap, tile - overlap)) if length > tile else [0]


def tile_count(samples: Tensor, tile: tuple[int, int], overlap: int) -> int:
    """Return how many tiles `map_tiles` takes for samples (batch, channels, height, width)."""
    rows, columns = (
        len(positions(side, size, overlap)) for side, size in zip(samples.shape[-2:], tile, strict=True)
    )
    return samples.shape[0] * rows * columns


def map_tiles(
    samples: Tensor,
    function: Callable[[Tensor], Tensor],
    tile: tuple[int, int],
    overlap: int,
    scale: float,
    channels: int,
) -> Iterator[Tensor | None]:
    """Apply `function` to tiles of samples (batch, c, height, width); yields None after each tile, the result last.

    `function` maps (1, c, h, w) to (1, channels, h * scale, w * scale); `tile` is (height, width) and `overlap` in
    the samples' pixels. The result is (batch, channels, height * scale, width * scale), float32 on the CPU.
    """
    height, width = samples.shape[-2:]
    result = torch.zeros(samples.shape[0], channels, round(height * scale), round(width * scale))
    for index in range(samples.shape[0]):
        one = samples[index : index + 1]
        if height <= tile[0] and width <= tile[1]:
            result[index] = function(one)[0].float().cpu()
            yield None
            continue
        weight = torch.zeros(1, *result.shape[-2:])
        for top in positions(height, tile[0], overlap):
            for left in positions(width, tile[1], overlap):
                # The last tile may begin so late that it would be a sliver: it begins at most an overlap before the end.
                top, left = max(0, min(height - overlap, top)), max(0, min(width - overlap, left))
                part = function(one[..., top : top + tile[0], left : left + tile[1]])[0].float().cpu()
                mask = _ramp(part.shape[-2], round(overlap * scale))[:, None]
                mask = mask * _ramp(part.shape[-1], round(overlap * scale))[None, :]
                y, x = round(top * scale), round(left * scale)
                result[index, :, y : y + part.shape[-2], x : x + part.shape[-1]] += part * mask
                weight[:, y : y + part.shape[-2], x : x + part.shape[-1]] += mask
                yield None
        result[index] /= weight
    yield result


def _ramp(length: int, feather: int) -> Tensor:
    """Ones with a linear rise and fall over `feather` at both ends; all ones where that is longer than `length`."""
    ramp = torch.ones(length)
    if feather < length:
        steps = torch.arange(1, feather + 1) / max(1, feather)
        ramp[:feather] *= steps
        ramp[length - feather :] *= steps.flip(0)
    return ramp


def average_of_tilings(
    samples: Tensor,
    function: Callable[[Tensor], Tensor],
    tile: int,
    overlap: int,
    scale: float,
    channels: int,
    on_tile: OnTile | None = None,
) -> Tensor:
    """Return the mean of three tilings: square tiles of `tile`, and ones half as high or half as wide.

    Seams of one tiling lie where the others have none. Shapes are those of `map_tiles`.
    """
    shapes = ((tile * 2, tile // 2), (tile // 2, tile * 2), (tile, tile))
    total = sum(tile_count(samples, shape, overlap) for shape in shapes)
    done, summed = 0, None
    for shape in shapes:
        for result in map_tiles(samples, function, shape, overlap, scale, channels):
            if result is not None:
                summed = result if summed is None else summed + result
                continue
            done += 1
            if on_tile is not None:
                on_tile(done, total)
    assert summed is not None
    return summed / len(shapes)


def memory_shortage(error: BaseException) -> bool:
    """Whether an exception says that a device, or the machine, is out of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)
