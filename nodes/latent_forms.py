"""What nodes that change latents make of a latent's form, and the arithmetic of sizes that they share with it."""

from __future__ import annotations

from dataclasses import replace

from nodegraph.node import Forecast
from nodes.forms import LatentForm, mixed

PIXELS = 8
"""Pixels of the picture to one of the latent, in each direction, where nothing else is said."""
SMALLEST = 64
"""The least width and height, in pixels, that resizing and cropping give."""


def cells(pixels: int, downscale: float) -> int:
    """How many latent pixels, of `downscale` pixels each, lie within so many pixels."""
    # What divides evenly but for rounding does.
    return int(pixels / downscale + 1e-6)


def size(rows: int, columns: int, width: int, height: int, downscale: float) -> tuple[int, int]:
    """(height, width) in latent pixels of a latent that is resized to a size in pixels, of which one may be 0."""
    if width == 0:
        height = max(SMALLEST, height)
        width = round(columns * height / rows)
    elif height == 0:
        width = max(SMALLEST, width)
        height = round(rows * width / columns)
    return cells(max(SMALLEST, height), downscale), cells(max(SMALLEST, width), downscale)


def start(side: int, at: int, downscale: float) -> int:
    """Where a crop of a latent side begins that shall begin at pixel `at`: some of it is left in any case."""
    return max(0, min(cells(at, downscale), side - cells(SMALLEST, downscale)))


def empty(width: object, height: object, batch_size: object) -> Forecast:
    """Zeros of a size in pixels, which suit every model."""
    rows, columns = (None if side is None else side // PIXELS for side in (_int(height), _int(width)))
    return Forecast((LatentForm(_int(batch_size), 4, rows, columns, empty=True),))


def upscaled(samples: object, width: object, height: object) -> Forecast:
    """The latent at a size in pixels."""
    if not isinstance(samples, LatentForm) or width == height == 0:
        return Forecast((samples,))
    wide, high = _int(width), _int(height)
    if wide is None or high is None:
        return _sized(samples, None, None)
    if wide and high:
        return _sized(samples, *size(1, 1, wide, high, samples.downscale))
    if samples.height and samples.width:
        return _sized(samples, *size(samples.height, samples.width, wide, high, samples.downscale))
    return _sized(samples, None, None)


def upscaled_by(samples: object, scale_by: object) -> Forecast:
    """The latent at a multiple of its size."""
    if not isinstance(samples, LatentForm):
        return Forecast()
    by = scale_by if isinstance(scale_by, float) else None
    sides = (samples.height, samples.width)
    return _sized(samples, *(None if side is None or by is None else round(side * by) for side in sides))


def cropped(samples: object, width: object, height: object, x: object, y: object) -> Forecast:
    """A part of the latent."""
    if not isinstance(samples, LatentForm):
        return Forecast()
    scale = samples.downscale
    return _sized(samples, _part(samples.height, height, y, scale), _part(samples.width, width, x, scale))


def turned(samples: object, rotation: object) -> Forecast:
    """The latent turned by a multiple of 90 degrees."""
    if not isinstance(samples, LatentForm):
        return Forecast()
    if rotation in ("none", "180 degrees"):
        return Forecast((samples,))
    if rotation in ("90 degrees", "270 degrees"):
        return _sized(samples, samples.width, samples.height)
    return _sized(samples, None, None)


def taken(samples: object, batch_index: object, length: object) -> Forecast:
    """Some of a batch."""
    if not isinstance(samples, LatentForm):
        return Forecast()
    first, count = _int(batch_index), _int(length)
    if samples.batch is None or first is None or count is None:
        return Forecast((replace(samples, batch=None),))
    return Forecast((replace(samples, batch=min(count, samples.batch - min(first, samples.batch - 1))),))


def repeated(samples: object, amount: object) -> Forecast:
    """A batch over and over."""
    if not isinstance(samples, LatentForm):
        return Forecast()
    times = _int(amount)
    batch = None if samples.batch is None or times is None else samples.batch * times
    return Forecast((replace(samples, batch=batch),))


def joined(samples1: object, samples2: object) -> Forecast:
    """Two batches in one. Raises NodeError where they are known to be of different formats."""
    form = mixed(samples1, samples2, "samples2")
    if not isinstance(form, LatentForm):
        return Forecast()
    more = samples2.batch if isinstance(samples2, LatentForm) else None
    batch = None if form.batch is None or more is None else form.batch + more
    return Forecast((replace(form, batch=batch),))


def _sized(form: LatentForm, height: int | None, width: int | None) -> Forecast:
    return Forecast((replace(form, height=height, width=width),))


def _part(side: int | None, length: object, at: object, downscale: float) -> int | None:
    wanted, first = _int(length), _int(at)
    if side is None or wanted is None or first is None:
        return None
    return min(cells(wanted, downscale), side - start(side, first, downscale))


def _int(number: object) -> int | None:
    return number if isinstance(number, int) else None
