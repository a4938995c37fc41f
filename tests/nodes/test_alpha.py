"""Transparency: joining, splitting and Porter-Duff compositing."""

from __future__ import annotations

import pytest
import torch

from nodegraph.node import NodeError
from nodes.alpha import (
    OPERATORS,
    join_image_with_alpha,
    porter_duff_image_composite,
    split_image_with_alpha,
)
from nodes.values import Image, Mask

RED, BLUE = [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]
BLACK = [0.0, 0.0, 0.0]
MAGENTA = [1.0, 0.0, 1.0]
QUADRANTS = {
    # What is left of opaque red over opaque blue: (both, source only, destination only); None: transparent.
    "CLEAR": (None, None, None),
    "SRC": (RED, RED, None),
    "DST": (BLUE, None, BLUE),
    "SRC_OVER": (RED, RED, BLUE),
    "DST_OVER": (BLUE, RED, BLUE),
    "SRC_IN": (RED, None, None),
    "DST_IN": (BLUE, None, None),
    "SRC_OUT": (None, RED, None),
    "DST_OUT": (None, None, BLUE),
    "SRC_ATOP": (RED, None, BLUE),
    "DST_ATOP": (BLUE, RED, None),
    "XOR": (None, RED, BLUE),
    "ADD": (MAGENTA, RED, BLUE),
    "MULTIPLY": (BLACK, None, None),
    "SCREEN": (MAGENTA, RED, BLUE),
    "DARKEN": (BLACK, RED, BLUE),
    "LIGHTEN": (MAGENTA, RED, BLUE),
    "OVERLAY": (BLUE, None, None),
}


def noise(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_every_operator_is_covered() -> None:
    assert set(QUADRANTS) - {"OVERLAY"} == set(OPERATORS) - {"OVERLAY"}
    assert list(OPERATORS) == sorted(OPERATORS)


@pytest.mark.parametrize("mode", sorted(set(QUADRANTS) - {"OVERLAY"}))
def test_operators_on_opaque_and_transparent_parts(mode: str) -> None:
    source = Image(torch.tensor(RED).expand(1, 1, 4, 3))
    target = Image(torch.tensor(BLUE).expand(1, 1, 4, 3))
    no_source = Mask(torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]))
    no_target = Mask(torch.tensor([[[0.0, 1.0, 0.0, 1.0]]]))
    result = porter_duff_image_composite(source, no_source, target, no_target, mode)
    for place, expected in enumerate((*QUADRANTS[mode], None)):
        assert result.MASK.values[0, 0, place].item() == (1.0 if expected is None else 0.0)
        assert result.IMAGE.pixels[0, 0, place].tolist() == (expected or BLACK)


def test_over_of_half_transparent_pictures() -> None:
    source, target = Image(torch.full((1, 1, 1, 3), 0.8)), Image(torch.full((1, 1, 1, 3), 0.2))
    half, quarter = Mask(torch.full((1, 1, 1), 0.5)), Mask(torch.full((1, 1, 1), 0.25))
    result = porter_duff_image_composite(source, half, target, quarter, "SRC_OVER")
    alpha = 0.5 + 0.5 * 0.75
    torch.testing.assert_close(result.MASK.values, torch.full((1, 1, 1), 1 - alpha))
    colour = (0.8 * 0.5 + 0.2 * 0.75 * 0.5) / alpha
    torch.testing.assert_close(result.IMAGE.pixels, torch.full((1, 1, 1, 3), colour))


@pytest.mark.parametrize(
    ("below", "expected"), [(0.25, 2 * 0.6 * 0.25), (0.75, 1 - 2 * (1 - 0.6) * (1 - 0.75))]
)
def test_overlay_of_opaque_pictures(below: float, expected: float) -> None:
    source, target = Image(torch.full((1, 1, 1, 3), 0.6)), Image(torch.full((1, 1, 1, 3), below))
    opaque = Mask(torch.zeros(1, 1, 1))
    result = porter_duff_image_composite(source, opaque, target, opaque, "OVERLAY")
    torch.testing.assert_close(result.IMAGE.pixels, torch.full((1, 1, 1, 3), expected))


def test_everything_comes_to_the_destinations_size() -> None:
    result = porter_duff_image_composite(
        Image(torch.ones(3, 9, 9, 3)),
        Mask(torch.zeros(2, 4, 4)),
        Image(torch.zeros(2, 6, 8, 3)),
        Mask(torch.zeros(2, 2, 2)),
        "SRC_OVER",
    )
    torch.testing.assert_close(result.IMAGE.pixels, torch.ones(2, 6, 8, 3))


def test_other_channels_are_refused() -> None:
    mask = Mask(torch.zeros(1, 2, 2))
    with pytest.raises(NodeError, match="same channels"):
        porter_duff_image_composite(Image(noise(1, 2, 2, 4)), mask, Image(noise(1, 2, 2, 3)), mask)


def test_split_and_join() -> None:
    pixels = noise(2, 4, 5, 4)
    parts = split_image_with_alpha(Image(pixels))
    torch.testing.assert_close(parts.IMAGE.pixels, pixels[..., :3])
    torch.testing.assert_close(parts.MASK.values, 1 - pixels[..., 3])
    torch.testing.assert_close(join_image_with_alpha(parts.IMAGE, parts.MASK).pixels, pixels)


def test_split_without_alpha_gives_an_empty_mask() -> None:
    assert not split_image_with_alpha(Image(noise(2, 4, 5, 3))).MASK.values.any()


def test_join_resizes_the_mask_and_takes_the_smaller_batch() -> None:
    result = join_image_with_alpha(Image(noise(3, 1, 4, 3)), Mask(torch.tensor([[[0.0, 1.0]]]))).pixels
    torch.testing.assert_close(result[..., 3], torch.tensor([[[1.0, 0.75, 0.25, 0.0]]]))
