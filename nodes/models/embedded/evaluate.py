"""What a picture shows, judged from its pixels alone: colours, shapes, sizes and places of what stands on a background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from nodes.models.embedded.shapes import COLOURS, SHAPES, Scene, outline, random_scene

_NAMES: Final = tuple(COLOURS)
_PALETTE: Final = np.array(list(COLOURS.values()), dtype=np.float32)
_FRAME: Final = 4
"""Width in pixels of the edge of a picture that is taken for its background."""
_FOREGROUND: Final = 60.0
"""Distance in RGB (0..255) from the background from which a pixel belongs to a thing."""
_SMALLEST: Final = 0.006
"""Share of the picture below which a patch is not counted as a thing."""
_FIT: Final = 0.7
"""Least overlap (intersection over union) with its template for a patch to count as a shape."""
_SIZE_LIMITS: Final = (0.185, 0.295)


@dataclass(frozen=True)
class Seen:
    """One thing found in a picture; `x`, `y`, `radius` as in `shapes.Thing`, `fit` the overlap with the template."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    fit: float


@dataclass(frozen=True)
class Look:
    """What a picture shows: its background's colour and the things on it, largest first."""

    background: str
    things: tuple[Seen, ...]


@dataclass(frozen=True)
class Verdict:
    """Whether a picture shows what was asked; for two things, whether both are right.

    `count`: as many things as asked; `size` and `place` are judged for single things and are True for others.
    """

    background: bool
    colour: bool
    shape: bool
    count: bool
    size: bool
    place: bool


def look(pixels: NDArray[np.uint8]) -> Look:
    """Find the background and the things in a picture (height, width, RGB), 0..255."""
    height, width = pixels.shape[:2]
    values = pixels.astype(np.float32)
    frame = np.ones((height, width), dtype=bool)
    frame[_FRAME:-_FRAME, _FRAME:-_FRAME] = False
    background = _NAMES[int(np.bincount(_nearest(values[frame]), minlength=len(_NAMES)).argmax())]
    at_frame = values[frame][_nearest(values[frame]) == _NAMES.index(background)]
    distance = np.linalg.norm(values - np.median(at_frame, axis=0), axis=-1)
    patches, count = ndimage.label(distance > _FOREGROUND)
    found: list[tuple[int, Seen]] = []
    for index in range(1, count + 1):
        mask = patches == index
        area = int(mask.sum())
        if area >= _SMALLEST * height * width:
            found.append((area, _seen(mask, values)))
    found.sort(key=lambda entry: -entry[0])
    return Look(background, tuple(seen for _, seen in found))


def judge(pixels: NDArray[np.uint8], scene: Scene) -> Verdict:
    """Compare what a picture shows with the scene that was asked for."""
    seen = look(pixels)
    wanted = scene.things
    things = sorted(seen.things[: len(wanted)], key=lambda t: t.y if scene.layout == "stacked" else t.x)
    enough = len(things) == len(wanted)
    pairs = list(zip(things, wanted, strict=False))
    size = place = enough
    if scene.layout == "single" and enough:
        size = _size_name(things[0].radius) == wanted[0].size
        place = abs(things[0].x - wanted[0].x) < 0.12 and abs(things[0].y - wanted[0].y) < 0.12
    return Verdict(
        background=seen.background == scene.background,
        colour=enough and all(one.colour == other.colour for one, other in pairs),
        shape=enough and all(one.shape == other.shape and one.fit >= _FIT for one, other in pairs),
        count=len(seen.things) == len(wanted),
        size=size,
        place=place,
    )


def shares(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """The share of verdicts that are right, by attribute; empty where there are none."""
    if not verdicts:
        return {}
    names = ("background", "colour", "shape", "count", "size", "place")
    return {name: sum(bool(getattr(v, name)) for v in verdicts) / len(verdicts) for name in names}


def held_out_scenes(count: int, seed: int, layouts: Sequence[float] = (0.0, 0.75, 0.13, 0.12)) -> list[Scene]:
    """Scenes whose combination of attributes training never saw; by default three quarters have one thing, the others two."""
    rng = np.random.default_rng(seed)
    return [random_scene(rng, held=True, layouts=layouts) for _ in range(count)]


def _nearest(values: NDArray[np.float32]) -> NDArray[np.intp]:
    """The index of the nearest named colour for each of (count, RGB)."""
    nearest: NDArray[np.intp] = np.linalg.norm(values[:, None] - _PALETTE, axis=-1).argmin(axis=1)
    return nearest


def _seen(mask: NDArray[np.bool_], values: NDArray[np.float32]) -> Seen:
    height, width = mask.shape
    # The rim is a mixture with the background: the colour is read inside it.
    inside = ndimage.binary_erosion(mask, iterations=2)
    colour = np.median(values[inside if inside.any() else mask], axis=0)
    fits = {shape: _fit(mask, shape) for shape in SHAPES}
    shape = max(fits, key=lambda name: fits[name][0])
    overlap, scale, x, y = fits[shape]
    return Seen(
        shape,
        _NAMES[int(_nearest(colour[None])[0])],
        x / width,
        y / height,
        scale / min(height, width),
        overlap,
    )


def _fit(mask: NDArray[np.bool_], shape: str) -> tuple[float, float, float, float]:
    """Overlap of a mask with a shape of the same area and centroid, and the template's scale and centre in pixels."""
    height, width = mask.shape
    points = outline(shape)
    area, centroid = _polygon(points)
    rows, columns = np.nonzero(mask)
    scale = float(np.sqrt(len(rows) / area))
    # A pixel's index is its corner; its centre lies half a pixel further.
    centre = np.array([columns.mean(), rows.mean()]) + 0.5 - scale * centroid
    canvas = Image.new("1", (width * 2, height * 2))
    corners = (points * scale + centre) * 2
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in corners], fill=1)
    drawn = np.asarray(canvas, dtype=bool)[::2, ::2]
    overlap = float((drawn & mask).sum() / max(1, (drawn | mask).sum()))
    return overlap, scale, float(centre[0]), float(centre[1])


def _polygon(points: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Area and centroid of a polygon (shoelace formula)."""
    ahead = np.roll(points, -1, axis=0)
    cross = points[:, 0] * ahead[:, 1] - ahead[:, 0] * points[:, 1]
    doubled = cross.sum()
    return abs(float(doubled)) / 2, ((points + ahead) * cross[:, None]).sum(axis=0) / (3 * doubled)


def _size_name(radius: float) -> str:
    low, high = _SIZE_LIMITS
    return "small" if radius < low else "medium" if radius < high else "large"
