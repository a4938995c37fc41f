"""Pictures over one another."""

from __future__ import annotations

import pytest
import torch

from nodegraph.node import NodeError
from nodes.compositing import edge_ramp, image_blend, image_composite_masked, paste
from nodes.values import Image, Mask


def noise(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("left", [-9, -3, 0, 2, 5, 7, 9])
@pytest.mark.parametrize("top", [-9, -1, 0, 4, 6])
def test_paste_anywhere(left: int, top: int) -> None:
    target, source, mask = noise(2, 3, 6, 7), noise(1, 3, 4, 5, seed=4), noise(1, 4, 5, seed=5)
    margin = 20
    canvas = torch.nn.functional.pad(target, (margin,) * 4)
    place = (..., slice(top + margin, top + margin + 4), slice(left + margin, left + margin + 5))
    canvas[place] = source * mask + canvas[place] * (1 - mask)
    expected = canvas[..., margin : margin + 6, margin : margin + 7]
    torch.testing.assert_close(paste(target, source, left, top, mask), expected)


def test_paste_does_not_change_its_target() -> None:
    target = torch.zeros(1, 3, 2, 2)
    paste(target, torch.ones(1, 3, 2, 2), 0, 0)
    assert not target.any()


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 0, [1, 1, 1, 1]),
        (2, 0, [0.5, 1, 1, 1]),
        (0, 4, [1, 0.75, 0.5, 0.25]),
        (8, 2, [0.125, 0.25, 0.375, 0.25]),
    ],
)
def test_edge_ramp(start: int, end: int, expected: list[float]) -> None:
    torch.testing.assert_close(edge_ramp(4, start, end), torch.tensor(expected, dtype=torch.float32))


def test_composite_without_a_mask() -> None:
    below, above = noise(2, 6, 8, 3), noise(3, 2, 3, 3, seed=4)
    expected = below.clone()
    expected[:, 4:6, 5:8] = above[:2]
    result = image_composite_masked(Image(below), Image(above), 5, 4).pixels
    torch.testing.assert_close(result, expected)


def test_composite_stretches_source_and_mask() -> None:
    mask = Mask(torch.tensor([[[0.0, 1.0]]]))
    result = image_composite_masked(
        Image(torch.zeros(1, 2, 4, 3)), Image(torch.ones(1, 5, 5, 3)), 0, 0, True, mask
    ).pixels
    torch.testing.assert_close(result[0, :, :, 0], torch.tensor([0, 0.25, 0.75, 1]).expand(2, 4))


def test_composite_of_pictures_with_and_without_alpha() -> None:
    rgb, rgba = noise(1, 2, 2, 3), noise(1, 2, 2, 4, seed=4)
    torch.testing.assert_close(image_composite_masked(Image(rgb), Image(rgba)).pixels, rgba[..., :3])
    opaque = torch.cat((rgb, torch.ones(1, 2, 2, 1)), -1)
    torch.testing.assert_close(image_composite_masked(Image(rgba), Image(rgb)).pixels, opaque)


@pytest.mark.parametrize(
    ("mode", "lower", "upper", "expected"),
    [
        ("normal", 0.2, 0.6, 0.6),
        ("multiply", 0.2, 0.6, 0.12),
        ("screen", 0.2, 0.6, 0.68),
        ("overlay", 0.2, 0.6, 0.24),
        ("overlay", 0.8, 0.6, 0.84),
        ("soft_light", 0.2, 0.4, 0.168),
        ("soft_light", 0.2, 0.6, 0.2 + 0.2 * (((16 * 0.2 - 12) * 0.2 + 4) * 0.2 - 0.2)),
        ("soft_light", 0.64, 0.75, 0.64 + 0.5 * (0.8 - 0.64)),
        ("difference", 0.6, 0.2, 0.4),
    ],
)
def test_blend_modes(mode: str, lower: float, upper: float, expected: float) -> None:
    first, second = (Image(torch.full((1, 1, 1, 3), value)) for value in (lower, upper))
    full = image_blend(first, second, 1.0, blend_mode=mode).pixels
    torch.testing.assert_close(full, torch.full((1, 1, 1, 3), expected))
    half = image_blend(first, second, 0.5, blend_mode=mode).pixels
    torch.testing.assert_close(half, torch.full((1, 1, 1, 3), (expected + lower) / 2))


def test_blend_stays_within_range() -> None:
    black, white = Image(torch.zeros(1, 1, 1, 3)), Image(torch.ones(1, 1, 1, 3))
    assert image_blend(black, white, 1.0, blend_mode="difference").pixels.tolist() == [[[[0, 0, 0]]]]


def test_blend_fits_sizes_and_batches() -> None:
    result = image_blend(
        Image(torch.zeros(1, 4, 6, 3)), Image(torch.ones(3, 9, 9, 3)), 1.0, blend_mode="normal"
    )
    torch.testing.assert_close(result.pixels, torch.ones(3, 4, 6, 3))


def test_paste_of_other_channels_is_refused() -> None:
    with pytest.raises(NodeError, match="same channels") as caught:
        paste(torch.zeros(1, 4, 2, 2), torch.zeros(1, 16, 2, 2), 0, 0)
    assert caught.value.found == "16 over 4 channels"
