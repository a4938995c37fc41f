"""The judge itself: it must be right about drawn pictures, and must see what is wrong with altered ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nodes.models.embedded.evaluate import Verdict, held_out_scenes, judge, look, shares
from nodes.models.embedded.shapes import COLOURS, SHAPES, Scene, draw, held_out, single


def test_drawn_pictures_are_judged_right_in_every_respect() -> None:
    scenes = held_out_scenes(120, 0, layouts=(0.05, 0.65, 0.15, 0.15))
    verdicts = [judge(draw(scene, 128, 128), scene) for scene in scenes]
    assert set(shares(verdicts).values()) == {1.0}


def test_noise_and_blur_do_not_mislead() -> None:
    rng = np.random.default_rng(1)
    scenes = held_out_scenes(60, 1)
    verdicts = []
    for scene in scenes:
        values = draw(scene, 128, 128).astype(np.float64)
        values = (values + np.roll(values, 1, axis=0) + np.roll(values, 1, axis=1)) / 3 + rng.normal(
            0, 6, values.shape
        )
        verdicts.append(judge(np.clip(values, 0, 255).astype(np.uint8), scene))
    assert min(shares(verdicts).values()) >= 0.98


@pytest.mark.parametrize("shape", SHAPES)
def test_another_shape_colour_or_background_is_seen(shape: str) -> None:
    rng = np.random.default_rng(2)
    scene = single(shape, "red", "medium", "blue", "centre", rng)
    picture = draw(scene, 128, 128)
    thing = scene.things[0]
    other = SHAPES[(SHAPES.index(shape) + 1) % len(SHAPES)]
    assert not judge(picture, replace(scene, things=(replace(thing, shape=other),))).shape
    assert not judge(picture, replace(scene, things=(replace(thing, colour="green"),))).colour
    assert not judge(picture, replace(scene, background="white")).background
    assert not judge(picture, replace(scene, things=(replace(thing, size="large"),))).size
    assert not judge(picture, replace(scene, things=(replace(thing, x=0.2),))).place


def test_a_missing_thing_is_wrong_and_a_smear_is_no_shape() -> None:
    scene = single("circle", "red", "large", "blue", "centre", np.random.default_rng(3))
    plain = draw(Scene("blue", (), "empty"), 128, 128)
    assert judge(plain, scene) == Verdict(
        background=True, colour=False, shape=False, count=False, size=False, place=False
    )
    smear = plain.copy()
    smear[60:66, 10:118] = COLOURS["red"]
    assert not judge(smear, scene).shape


def test_swapped_things_are_wrong() -> None:
    scene = next(s for s in held_out_scenes(50, 4) if s.layout == "beside")
    swapped = replace(scene, things=(scene.things[1], scene.things[0]))
    first, second = scene.things
    verdict = judge(draw(scene, 128, 128), swapped)
    assert verdict.colour == (first.colour == second.colour)
    assert verdict.shape == (first.shape == second.shape)


def test_look_finds_the_things_and_their_places() -> None:
    scene = single("star", "yellow", "small", "black", "top left", np.random.default_rng(5))
    seen = look(draw(scene, 128, 128))
    assert seen.background == "black"
    (thing,) = seen.things
    assert (thing.shape, thing.colour) == ("star", "yellow")
    assert thing.x == pytest.approx(scene.things[0].x, abs=0.02)
    assert thing.radius == pytest.approx(scene.things[0].radius, rel=0.1)


def test_held_out_scenes_are_held_out_and_repeatable() -> None:
    scenes = held_out_scenes(20, 6)
    assert all(map(held_out, scenes))
    assert scenes == held_out_scenes(20, 6)
