"""Drawn shapes: exact colours, areas against closed forms, places, and what is held out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nodes.models.embedded.shapes import (
    COLOURS,
    PLACES,
    SHAPES,
    Scene,
    Thing,
    coverage,
    draw,
    held_out,
    outline,
    pair,
    random_scene,
    single,
)


def test_a_plain_scene_is_one_colour_at_any_size() -> None:
    picture = draw(Scene("orange", (), "empty"), 24, 8)
    assert picture.shape == (8, 24, 3)
    assert (picture == np.array(COLOURS["orange"])).all()


def test_a_thing_has_its_colour_inside_and_the_background_outside() -> None:
    picture = draw(Scene("blue", (Thing("circle", "red", "large", 0.5, 0.5, 0.3),), "single"), 128, 128)
    assert tuple(picture[64, 64]) == COLOURS["red"]
    assert tuple(picture[2, 2]) == COLOURS["blue"]


@pytest.mark.parametrize("size", [64, 200])
def test_the_area_of_a_circle_is_pi_r_squared(size: int) -> None:
    area = float(coverage(Thing("circle", "red", "large", 0.5, 0.5, 0.3), size, size).sum())
    assert area == pytest.approx(math.pi * (0.3 * size) ** 2, rel=0.02)


def test_edges_are_anti_aliased() -> None:
    cover = coverage(Thing("circle", "red", "large", 0.5, 0.5, 0.3), 64, 64)
    partial = (cover > 0.05) & (cover < 0.95)
    assert 0.2 * math.tau * 0.3 * 64 < partial.sum() < 2 * math.tau * 0.3 * 64


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_stay_near_the_unit_square_and_are_centred(shape: str) -> None:
    points = outline(shape)
    assert np.abs(points).max() <= 1.15
    assert np.abs(points).max() >= 0.85
    assert np.abs(points.max(axis=0) + points.min(axis=0)).max() < 0.2


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(KeyError):
        outline("dodecahedron")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("aspect", [0.5, 1.0, 2.0])
def test_a_single_thing_lies_where_it_is_named_and_inside(place: str, aspect: float) -> None:
    rng = np.random.default_rng(3)
    width, height = int(128 * max(1.0, aspect)), int(128 * max(1.0, 1 / aspect))
    for size in ("small", "medium", "large"):
        scene = single("square", "red", size, "white", place, rng, aspect)
        thing = scene.things[0]
        assert not thing.x > 0.5 + 1e-9 or "left" not in place
        assert not thing.x < 0.5 - 1e-9 or "right" not in place
        assert not thing.y > 0.5 + 1e-9 or "top" not in place
        assert not thing.y < 0.5 - 1e-9 or "bottom" not in place
        picture = draw(scene, width, height)
        rim = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        assert (rim == 255).all()


def test_pairs_never_touch() -> None:
    rng = np.random.default_rng(4)
    for layout in ("beside", "stacked"):
        for _ in range(30):
            first, second = (
                (str(rng.choice(SHAPES)), "red", "large"),
                (str(rng.choice(SHAPES)), "blue", "large"),
            )
            scene = pair(first, second, "white", "beside" if layout == "beside" else "stacked", rng)
            covers = [coverage(thing, 128, 128) for thing in scene.things]
            assert float((covers[0] * covers[1]).max()) == 0.0


def test_the_same_seed_gives_the_same_scenes() -> None:
    one = [random_scene(np.random.default_rng(5)) for _ in range(3)]
    assert one == [random_scene(np.random.default_rng(5)) for _ in range(3)]
    assert len({random_scene(np.random.default_rng(seed)) for seed in range(20)}) > 15


def test_a_tenth_of_the_combinations_is_held_out_and_never_drawn_for_training() -> None:
    rng = np.random.default_rng(6)
    scenes = [random_scene(rng, held=None, layouts=(0, 1, 0, 0)) for _ in range(2000)]
    assert 0.07 < sum(map(held_out, scenes)) / len(scenes) < 0.13
    assert not any(held_out(random_scene(rng)) for _ in range(300))
    assert all(held_out(random_scene(rng, held=True)) for _ in range(30))


def test_being_held_out_depends_on_attributes_and_not_on_where_a_thing_lies() -> None:
    scene = random_scene(np.random.default_rng(7), held=True, layouts=(0, 1, 0, 0))
    moved = replace(scene, things=(replace(scene.things[0], x=0.2, radius=0.1),), place="left")
    assert held_out(moved)


def test_another_palette_repaints_the_same_scene() -> None:
    scene = Scene("blue", (), "empty")
    assert (draw(scene, 4, 4, {**COLOURS, "blue": (1, 2, 3)}) == (1, 2, 3)).all()
