"""What nodes that make and resize pictures give, before they run."""

from __future__ import annotations

from dataclasses import replace

from nodegraph.node import Forecast
from nodes.forms import ImageForm


def empty(width: object, height: object, batch_size: object) -> Forecast:
    """Pictures of one colour."""
    return Forecast((ImageForm(_int(batch_size), _int(height), _int(width), 3),))


def scaled(image: object, width: object, height: object) -> Forecast:
    """The picture at another size; a side of 0 follows from the other."""
    if not isinstance(image, ImageForm) or width == height == 0:
        return Forecast((image,))
    wide, high = _int(width), _int(height)
    if wide is None or high is None:
        return Forecast((replace(image, height=None, width=None),))
    if image.height and image.width:
        wide, high = size(image.height, image.width, wide, high)
    return Forecast((replace(image, height=high or None, width=wide or None),))


def scaled_by(image: object, scale_by: object) -> Forecast:
    """The picture at a multiple of its size."""
    if not isinstance(image, ImageForm):
        return Forecast()
    by = scale_by if isinstance(scale_by, float) else None
    height, width = (
        None if side is None or by is None else round(side * by) for side in (image.height, image.width)
    )
    return Forecast((replace(image, height=height, width=width),))


def size(rows: int, columns: int, width: int, height: int) -> tuple[int, int]:
    """(width, height) that a picture is resized to; a side of 0 follows from the other."""
    return width or max(1, round(columns * height / rows)), height or max(1, round(rows * width / columns))


def _int(number: object) -> int | None:
    return number if isinstance(number, int) else None
