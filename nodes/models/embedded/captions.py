"""Sentences for scenes: many wordings of one picture, as people type prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nodes.models.embedded.shapes import Scene, Thing

_SIZE_WORDS = {
    "small": ("small", "small", "small", "little", "tiny"),
    "medium": ("", "", "", "medium", "medium-sized"),
    "large": ("large", "large", "large", "big", "huge"),
}
_COLOUR_WORDS = {"gray": ("gray", "grey"), "purple": ("purple", "purple", "violet")}
_SHAPE_WORDS = {
    "circle": ("circle", "circle", "circle", "disc"),
    "diamond": ("diamond", "diamond", "rhombus"),
}
_CENTRE_PLACES = ("", "", "", "", "in the middle", "in the center", "in the centre", "centered")
_OPENINGS = ("", "", "", "", "", "", "a picture of ", "a drawing of ", "an image of ", "a photo of ")
_BESIDE: tuple[tuple[str, ...], ...] = (
    ("to the left of", "left of", "on the left of"),
    ("to the right of", "right of", "on the right of"),
    (
        "{first} on the left and {second} on the right",
        "{second} on the right and {first} on the left",
        "{first} next to {second}",
        "{first} and {second}",
        "{first} beside {second}",
    ),
)
_STACKED: tuple[tuple[str, ...], ...] = (
    ("above", "over"),
    ("below", "under", "beneath"),
    (
        "{first} at the top and {second} at the bottom",
        "{second} at the bottom and {first} at the top",
        "{first} on top of {second}",
    ),
)


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One wording of a scene, in lower case; what it leaves out is rarely more than the background."""
    background = _pick(_COLOUR_WORDS.get(scene.background, (scene.background,)), rng)
    if scene.layout == "empty":
        return _empty(background, rng)
    subject = _single(scene, rng) if scene.layout == "single" else _pair(scene, rng)
    if rng.random() < 0.14:
        return _pick(_OPENINGS, rng) + subject
    style = rng.random()
    if style < 0.68:
        article = _article(background) if rng.random() < 0.9 else ""
        return _pick(_OPENINGS, rng) + _joined([subject, "on", article, background, "background"])
    if style < 0.84:
        return f"{subject}, {background} background"
    if style < 0.93:
        return f"{background} background, {subject}"
    return _joined([subject, "on", background])


def says_background(scene: Scene, text: str) -> bool:
    """Whether a caption of the scene names its background."""
    names = _COLOUR_WORDS.get(scene.background, (scene.background,))
    return scene.layout == "empty" or any(
        f"{name} background" in text or text.endswith(f" on {name}") for name in names
    )


def words(scene: Scene) -> str:
    """The plain wording of a scene, for evaluation: every attribute named, one fixed phrasing."""
    background = f"on {_article(scene.background)} {scene.background} background"
    if scene.layout == "empty":
        return f"a plain {scene.background} background"
    named = []
    for thing in scene.things:
        size = "" if thing.size == "medium" else thing.size
        named.append(_with_article(_joined([size, thing.colour, thing.shape])))
    if scene.layout == "single":
        return _joined([named[0], _place_words(scene.place), background])
    relation = "to the left of" if scene.layout == "beside" else "above"
    return f"{named[0]} {relation} {named[1]} {background}"


def _empty(background: str, rng: np.random.Generator) -> str:
    forms = (
        f"a plain {background} background",
        f"{_article(background)} {background} background",
        f"plain {background}",
        f"{background} background",
        f"an empty {background} picture",
        f"nothing but {background}",
        background,
    )
    return _pick(forms, rng)


def _single(scene: Scene, rng: np.random.Generator) -> str:
    named = _thing(scene.things[0], rng)
    if scene.place == "centre":
        place = _pick(_CENTRE_PLACES, rng)
    elif " " in scene.place:
        place = _pick((f"in the {scene.place} corner", f"in the {scene.place}", f"at the {scene.place}"), rng)
    elif scene.place in ("left", "right"):
        side = f"{scene.place} side" if rng.random() < 0.3 else scene.place
        place = f"on the {side}"
    else:
        place = f"at the {scene.place}"
    if place and rng.random() < 0.12:
        return f"{named}, {place}"
    return _joined([named, place])


def _pair(scene: Scene, rng: np.random.Generator) -> str:
    first, second = (_thing(thing, rng) for thing in scene.things)
    forward, backward, others = _BESIDE if scene.layout == "beside" else _STACKED
    style = rng.random()
    if style < 0.4:
        return f"{first} {_pick(forward, rng)} {second}"
    if style < 0.75:
        return f"{second} {_pick(backward, rng)} {first}"
    return _pick(others, rng).format(first=first, second=second)


def _thing(thing: Thing, rng: np.random.Generator) -> str:
    size = _pick(_SIZE_WORDS[thing.size], rng)
    colour = _pick(_COLOUR_WORDS.get(thing.colour, (thing.colour,)), rng)
    shape = _pick(_SHAPE_WORDS.get(thing.shape, (thing.shape,)), rng)
    parts = [colour, size, shape] if size and rng.random() < 0.06 else [size, colour, shape]
    named = _joined(parts)
    return named if rng.random() < 0.25 else _with_article(named)


def _place_words(place: str) -> str:
    if place == "centre":
        return ""
    if " " in place:
        return f"in the {place} corner"
    return f"on the {place}" if place in ("left", "right") else f"at the {place}"


def _article(word: str) -> str:
    return "an" if word[:1] in "aeio" else "a"


def _with_article(text: str) -> str:
    return f"{_article(text)} {text}"


def _joined(parts: Sequence[str]) -> str:
    return " ".join(part for part in parts if part)


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]
