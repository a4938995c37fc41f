"""Quarter turns and mirror images of tensors that hold pictures."""

from __future__ import annotations

from torch import Tensor

ROTATIONS = ("none", "90 degrees", "180 degrees", "270 degrees")
FLIPS = ("x-axis: vertically", "y-axis: horizontally")


def rotated(tensor: Tensor, rotation: str, rows: int, columns: int) -> Tensor:
    """The tensor turned clockwise by one of ROTATIONS; `rows` and `columns` are its axes."""
    return tensor.rot90(ROTATIONS.index(rotation), (columns, rows))


def flipped(tensor: Tensor, method: str, rows: int, columns: int) -> Tensor:
    """The tensor mirrored by one of FLIPS; `rows` and `columns` are its axes."""
    return tensor.flip(rows if method == FLIPS[0] else columns)
