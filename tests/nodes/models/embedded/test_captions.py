"""Captions name what the scene holds, in many wordings."""

from __future__ import annotations

import numpy as np
import pytest

from nodes.models.embedded.captions import caption, says_background, words
from nodes.models.embedded.shapes import Scene, Thing, pair, random_scene, single

_SYNONYMS = {
    "gray": ("gray", "grey"),
    "purple": ("purple", "violet"),
    "circle": ("circle", "disc"),
    "diamond": ("diamond", "rhombus"),
}


def test_the_plain_wording_is_what_a_user_types() -> None:
    rng = np.random.default_rng(0)
    scene = single("circle", "red", "large", "blue", "centre", rng)
    assert words(scene) == "a large red circle on a blue background"
    scene = single("star", "orange", "medium", "white", "top left", rng)
    assert words(scene) == "an orange star in the top left corner on a white background"
    scene = pair(("circle", "red", "medium"), ("square", "blue", "small"), "white", "beside", rng)
    assert words(scene) == "a red circle to the left of a small blue square on a white background"
    assert words(Scene("orange", (), "empty")) == "a plain orange background"


@pytest.mark.parametrize("seed", range(5))
def test_captions_name_every_shape_and_colour(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(100):
        scene = random_scene(rng, held=None)
        text = caption(scene, rng)
        for thing in scene.things:
            for word in (thing.shape, thing.colour):
                assert any(form in text for form in _SYNONYMS.get(word, (word,))), text
        assert "  " not in text
        assert "{" not in text


def test_captions_vary() -> None:
    rng = np.random.default_rng(1)
    scene = Scene("blue", (Thing("circle", "red", "large", 0.5, 0.5, 0.35),), "single")
    texts = {caption(scene, rng) for _ in range(500)}
    assert len(texts) > 60
    assert "a large red circle on a blue background" in texts


def test_relations_follow_the_picture() -> None:
    rng = np.random.default_rng(2)
    scene = pair(("circle", "red", "medium"), ("square", "blue", "medium"), "white", "beside", rng)
    for _ in range(200):
        text = caption(scene, rng)
        circle = min(text.find(form) for form in ("circle", "disc") if form in text)
        if "left of" in text:
            assert circle < text.find("square"), text
        elif "right of" in text:
            assert text.find("square") < circle, text


def test_a_place_is_not_taken_for_a_background() -> None:
    scene = Scene("blue", (Thing("circle", "red", "large", 0.2, 0.5, 0.35),), "single", "left")
    assert says_background(scene, "a red circle on the left on a blue background")
    assert says_background(scene, "red circle on blue")
    assert not says_background(scene, "a red circle on the left")
    assert says_background(Scene("blue", (), "empty"), "nothing but blue")
    rng = np.random.default_rng(3)
    said = [says_background(scene, caption(scene, rng)) for _ in range(500)]
    assert 0.75 < sum(said) / len(said) < 0.95
