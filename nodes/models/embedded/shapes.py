"""Drawn pictures of coloured shapes and the sentences that describe them.

The embedded models learn from these: a `Scene` is plain data, `draw` turns it into pixels at any size, `caption` words it
in one of many ways, and `random_scene` samples it. Everything follows from the random generator that the caller passes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SHAPES: Final = ("circle", "square", "triangle", "star", "diamond", "heart")
COLOURS: Final[Mapping[str, tuple[int, int, int]]] = MappingProxyType(
    {
        "red": (220, 30, 35),
        "green": (30, 160, 60),
        "blue": (40, 70, 220),
        "yellow": (250, 220, 40),
        "orange": (250, 130, 20),
        "purple": (130, 40, 180),
        "cyan": (50, 205, 225),
        "pink": (250, 145, 195),
        "white": (255, 255, 255),
        "black": (12, 12, 12),
        "gray": (128, 128, 128),
    }
)
SIZES: Final = ("small", "medium", "large")
Layout = Literal["empty", "single", "beside", "stacked"]
PLACES: Final = (
    "centre",
    "left",
    "right",
    "top",
    "bottom",
    "top left",
    "top right",
    "bottom left",
    "bottom right",
)

_SUPERSAMPLE = 4
_HELD_OUT_SHARE = 0.1
_SINGLE_RADIUS = {"small": (0.13, 0.16), "medium": (0.21, 0.26), "large": (0.33, 0.39)}
_PAIR_RADIUS = {"small": (0.11, 0.125), "medium": (0.15, 0.165), "large": (0.185, 0.205)}


@dataclass(frozen=True)
class Thing:
    """One shape. `x`, `y` are its centre in 0..1 of width and height, `radius` a share of the shorter side."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """What a picture shows: a background colour and zero to two things.

    `place` is the name of where a single thing lies; a pair is listed left to right ("beside") or top to bottom
    ("stacked").
    """

    background: str
    things: tuple[Thing, ...]
    layout: Layout
    place: str = "centre"


def outline(shape: str) -> NDArray[np.float64]:
    """The outline of a shape as polygon vertices (n, 2) in -1..1, y downwards.

    Raises KeyError for a shape that is not in SHAPES.
    """
    if shape == "circle":
        t = np.linspace(0, 2 * math.pi, 72, endpoint=False)
        return np.stack([np.cos(t), np.sin(t)], axis=1)
    if shape == "heart":
        t = np.linspace(0, 2 * math.pi, 72, endpoint=False)
        x = 16 * np.sin(t) ** 3
        y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
        return np.stack([x / 16, (y - (y.max() + y.min()) / 2) / 15.5], axis=1)
    if shape == "star":
        t = np.arange(10) * math.pi / 5
        r = np.where(np.arange(10) % 2 == 0, 1.08, 0.46)
        return np.stack([r * np.sin(t), 0.05 - r * np.cos(t)], axis=1)
    polygons = {
        "square": [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)],
        "triangle": [(0.0, -0.92), (1.0, 0.82), (-1.0, 0.82)],
        "diamond": [(0.0, -1.1), (0.8, 0.0), (0.0, 1.1), (-0.8, 0.0)],
    }
    return np.array(polygons[shape], dtype=np.float64)


def coverage(thing: Thing, width: int, height: int) -> NDArray[np.float32]:
    """How much of each pixel a thing covers: (height, width), 0..1, anti-aliased."""
    mask = Image.new("L", (width * _SUPERSAMPLE, height * _SUPERSAMPLE), 0)
    scale = thing.radius * min(width, height)
    points = (outline(thing.shape) * scale + (thing.x * width, thing.y * height)) * _SUPERSAMPLE
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in points], fill=255)
    return np.asarray(mask.reduce(_SUPERSAMPLE), dtype=np.float32) / 255.0


def draw(
    scene: Scene,
    width: int,
    height: int,
    palette: Mapping[str, tuple[int, int, int]] = COLOURS,
) -> NDArray[np.uint8]:
    """The scene's pixels, (height, width, RGB), 0..255; `palette` may paint the named colours otherwise."""
    pixels = np.empty((height, width, 3), dtype=np.float32)
    pixels[:] = palette[scene.background]
    for thing in scene.things:
        cover = coverage(thing, width, height)[..., None]
        pixels += cover * (np.array(palette[thing.colour], dtype=np.float32) - pixels)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def held_out(scene: Scene) -> bool:
    """Whether this combination of attributes is kept from training (a tenth of them, by hash)."""
    if not scene.things:
        return False
    words = [scene.layout, scene.background]
    for thing in scene.things:
        words += [thing.shape, thing.colour, thing.size if scene.layout == "single" else ""]
    digest = hashlib.sha256("|".join(words).encode()).digest()
    return int.from_bytes(digest[:4], "big") < _HELD_OUT_SHARE * 2**32


def single(
    shape: str,
    colour: str,
    size: str,
    background: str,
    place: str,
    rng: np.random.Generator,
    aspect: float = 1.0,
) -> Scene:
    """A scene of one thing at a named place; `aspect` is width / height, so that the thing stays inside."""
    radius = float(rng.uniform(*_SINGLE_RADIUS[size]))
    half_x = radius * min(1.0, 1.0 / aspect)
    half_y = radius * min(1.0, aspect)
    x = _along(place, "left", "right", half_x, rng)
    y = _along(place, "top", "bottom", half_y, rng)
    return Scene(background, (Thing(shape, colour, size, x, y, radius),), "single", place)


def pair(
    first: tuple[str, str, str],
    second: tuple[str, str, str],
    background: str,
    layout: Literal["beside", "stacked"],
    rng: np.random.Generator,
) -> Scene:
    """A scene of two things, each (shape, colour, size): left and right, or top and bottom."""
    shift = float(rng.uniform(-0.04, 0.04))
    things = []
    for (shape, colour, size), at in ((first, 0.25), (second, 0.75)):
        along = at + float(rng.uniform(-0.015, 0.015))
        across = 0.5 + shift + float(rng.uniform(-0.02, 0.02))
        x, y = (along, across) if layout == "beside" else (across, along)
        things.append(Thing(shape, colour, size, x, y, float(rng.uniform(*_PAIR_RADIUS[size]))))
    return Scene(background, tuple(things), layout)


def random_scene(
    rng: np.random.Generator,
    *,
    held: bool | None = False,
    layouts: Sequence[float] = (0.03, 0.62, 0.20, 0.15),
    aspect: float = 1.0,
) -> Scene:
    """A random scene; `layouts` are the shares of empty, single, beside and stacked.

    `held` False gives only combinations for training, True only those held out, None either.
    """
    while True:
        scene = _any_scene(rng, layouts, aspect)
        if held is None or held_out(scene) == held:
            return scene


def _any_scene(rng: np.random.Generator, layouts: Sequence[float], aspect: float) -> Scene:
    layout = int(rng.choice(4, p=np.asarray(layouts) / sum(layouts)))
    names = list(COLOURS)
    background = str(rng.choice(names))
    others = [name for name in names if name != background]

    def attributes() -> tuple[str, str, str]:
        return str(rng.choice(SHAPES)), str(rng.choice(others)), str(rng.choice(SIZES, p=(0.3, 0.35, 0.35)))

    if layout == 0:
        return Scene(background, (), "empty")
    if layout == 1:
        place = "centre" if rng.random() < 0.5 else str(rng.choice(PLACES[1:]))
        shape, colour, size = attributes()
        return single(shape, colour, size, background, place, rng, aspect)
    first, second = attributes(), attributes()
    while second[:2] == first[:2]:
        second = attributes()
    return pair(first, second, background, "beside" if layout == 2 else "stacked", rng)


def _along(place: str, low: str, high: str, half: float, rng: np.random.Generator) -> float:
    """A coordinate in 0..1 for a place on one axis, with the thing's half extent kept inside."""
    margin = half * 1.08 + 0.02
    if low in place:
        value = rng.uniform(0.18, 0.24)
    elif high in place:
        value = rng.uniform(0.76, 0.82)
    else:
        value = rng.uniform(0.47, 0.53)
    return float(np.clip(value, min(margin, 0.5), max(1 - margin, 0.5)))
