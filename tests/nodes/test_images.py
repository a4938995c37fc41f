"""Nodes that make, resize, cut, turn and join pictures."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nodegraph.node import NodeError
from nodes import images
from nodes.values import Image


def noise(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def flat(value: float, *shape: int) -> Image:
    return Image(torch.full(shape, value))


def test_empty() -> None:
    pixels = images.empty_image(5, 3, 2, 0x0080FF).pixels
    assert pixels.shape == (2, 3, 5, 3)
    torch.testing.assert_close(pixels[1, 2, 4], torch.tensor([0.0, 128 / 255, 1.0]))


@pytest.mark.parametrize(
    ("width", "height", "shape"), [(9, 4, (4, 9)), (9, 0, (6, 9)), (0, 3, (3, 4)), (0, 0, (8, 12))]
)
@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"])
def test_scale_sizes(method: str, width: int, height: int, shape: tuple[int, int]) -> None:
    result = images.image_scale(
        image=flat(0.2, 2, 8, 12, 3), upscale_method=method, width=width, height=height, crop="disabled"
    )
    torch.testing.assert_close(result.pixels, torch.full((2, *shape, 3), 0.2))


def test_scale_crops_the_middle() -> None:
    pixels = torch.arange(8.0)[None, None, :, None].expand(1, 4, 8, 3) / 8
    result = images.image_scale(
        image=Image(pixels), upscale_method="nearest-exact", width=4, height=4, crop="center"
    )
    assert (result.pixels[0, 0, :, 0] * 8).tolist() == [2, 3, 4, 5]


def test_scale_by_is_interpolation() -> None:
    pixels = noise(2, 6, 9, 4)
    result = images.image_scale_by(Image(pixels), "bilinear", 1.5).pixels
    expected = F.interpolate(pixels.movedim(-1, 1), (9, 14), mode="bilinear").movedim(1, -1)
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize(("megapixels", "shape"), [(0.01, (72, 145)), (0.02, (102, 205))])
def test_scale_to_total_pixels(megapixels: float, shape: tuple[int, int]) -> None:
    result = images.image_scale_to_total_pixels(Image(noise(1, 50, 100, 3)), "area", megapixels)
    assert result.pixels.shape == (1, *shape, 3)
    assert abs(shape[0] * shape[1] / (megapixels * 1024**2) - 1) < 0.01


def test_invert() -> None:
    pixels = noise(1, 2, 2, 4)
    torch.testing.assert_close(images.image_invert(Image(pixels)).pixels, 1 - pixels)


def test_batch_fits_the_second_to_the_first() -> None:
    first, second = noise(2, 4, 6, 3), flat(0.5, 1, 9, 9, 4)
    result = images.image_batch(Image(first), second).pixels
    torch.testing.assert_close(result, torch.cat((first, torch.full((1, 4, 6, 3), 0.5))))


def test_repeat_and_from_batch() -> None:
    pixels = noise(3, 2, 2, 3)
    repeated = images.repeat_image_batch(Image(pixels), 2)
    torch.testing.assert_close(repeated.pixels, torch.cat((pixels, pixels)))
    torch.testing.assert_close(images.image_from_batch(Image(pixels), 1, 9).pixels, pixels[1:])
    torch.testing.assert_close(images.image_from_batch(Image(pixels), 99, 1).pixels, pixels[2:])


@pytest.mark.parametrize(("size", "counts"), [(1, [1] * 6), (4, [4, 2]), (9, [6])])
def test_rebatch(size: int, counts: list[int]) -> None:
    parts = [noise(count, 2, 3, 3, seed=count) for count in (1, 3, 2)]
    result = images.rebatch_images([Image(part) for part in parts], size)
    assert [item.pixels.shape[0] for item in result] == counts
    torch.testing.assert_close(torch.cat([item.pixels for item in result]), torch.cat(parts))


def test_rebatch_of_unequal_sizes_is_refused() -> None:
    mixed = [flat(0, 1, 2, 2, 3), flat(0, 1, 3, 2, 3)]
    assert len(images.rebatch_images(mixed, 1)) == 2
    with pytest.raises(NodeError, match="different sizes"):
        images.rebatch_images(mixed, 2)


def test_size() -> None:
    assert images.get_image_size(flat(0, 4, 2, 3, 3)) == (3, 2, 4)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [((2, 3, 1, 0), (0, 3), (1, 3)), ((99, 99, 2, 1), (1, 4), (2, 5)), ((1, 1, 99, 99), (3, 4), (4, 5))],
)
def test_crop(box: tuple[int, int, int, int], rows: tuple[int, int], columns: tuple[int, int]) -> None:
    pixels = noise(2, 4, 5, 3)
    torch.testing.assert_close(
        images.image_crop(Image(pixels), *box).pixels, pixels[:, slice(*rows), slice(*columns)]
    )


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [
        ("none", [[0, 1], [2, 3]]),
        ("90 degrees", [[2, 0], [3, 1]]),
        ("180 degrees", [[3, 2], [1, 0]]),
        ("270 degrees", [[1, 3], [0, 2]]),
    ],
)
def test_rotate_is_clockwise(rotation: str, expected: list[list[int]]) -> None:
    square = Image(torch.arange(4.0).reshape(1, 2, 2, 1))
    assert images.image_rotate(square, rotation).pixels[0, ..., 0].tolist() == expected


@pytest.mark.parametrize(
    ("method", "expected"),
    [("x-axis: vertically", [[2, 3], [0, 1]]), ("y-axis: horizontally", [[1, 0], [3, 2]])],
)
def test_flip(method: str, expected: list[list[int]]) -> None:
    square = Image(torch.arange(4.0).reshape(1, 2, 2, 1))
    assert images.image_flip(square, method).pixels[0, ..., 0].tolist() == expected


def test_pad_feathers_towards_padded_sides() -> None:
    result = images.image_pad_for_outpaint(flat(1.0, 1, 6, 6, 3), left=8, bottom=0, feathering=2)
    assert result.IMAGE.pixels.shape == (1, 6, 14, 3)
    assert result.IMAGE.pixels[0, 0, :, 0].tolist() == [0.5] * 8 + [1.0] * 6
    assert result.MASK.values.shape == (1, 6, 14)
    assert result.MASK.values[0, 3].tolist() == [1.0] * 8 + [1.0, 0.25, 0, 0, 0, 0]


def test_pad_on_all_sides() -> None:
    mask = images.image_pad_for_outpaint(flat(1.0, 1, 9, 9, 3), 8, 16, 24, 32, 3).MASK.values[0]
    assert mask.shape == (57, 41)
    inside = mask[16:25, 8:17]
    # The far sides are one pixel further off than the near ones.
    assert inside[4].tolist() == pytest.approx([1, 4 / 9, 1 / 9, 0, 0, 0, 0, 1 / 9, 4 / 9])
    inside.fill_(1.0)
    assert mask.eq(1.0).all()


@pytest.mark.parametrize("feathering", [0, 3, 99])
def test_pad_without_room_to_feather_has_a_hard_edge(feathering: int) -> None:
    mask = images.image_pad_for_outpaint(flat(1.0, 1, 6, 6, 3), 8, feathering=feathering).MASK.values
    assert mask[0, 0].tolist() == [1.0] * 8 + [0.0] * 6


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ("right", [[0, 0.5, 1]]),
        ("left", [[1, 0.5, 0]]),
        ("down", [[0], [0.5], [1]]),
        ("up", [[1], [0.5], [0]]),
    ],
)
def test_stitch_directions(direction: str, expected: list[list[float]]) -> None:
    grey = flat(0.5, 1, 1, 1, 3)
    first = images.image_stitch(flat(0, 1, 1, 1, 3), direction, image2=grey)
    both = images.image_stitch(first, direction, False, image2=flat(1, 1, 1, 1, 3))
    assert (both.pixels[0, ..., 0] * 2).round().div(2).tolist() == expected


def test_stitch_matches_sizes_and_spaces() -> None:
    result = images.image_stitch(flat(0, 1, 4, 4, 3), "right", True, 3, "red", flat(1, 2, 8, 16, 4)).pixels
    assert result.shape == (2, 4, 4 + 4 + 8, 4)  # an odd spacing gets one pixel more
    assert result[1, 0, 4].tolist() == [1, 0, 0, 1]
    assert result[1, 0, 0].tolist() == [0, 0, 0, 1]
    assert result[1, 0, -1].tolist() == [1, 1, 1, 1]


def test_stitch_centres_what_is_smaller() -> None:
    result = images.image_stitch(flat(0, 1, 5, 1, 3), "right", False, 0, "white", flat(0, 1, 2, 1, 3)).pixels
    assert result[0, :, :, 0].tolist() == [[0, 1], [0, 0], [0, 0], [0, 1], [0, 1]]


def test_stitch_of_one_picture_is_that_picture() -> None:
    image = flat(0, 1, 2, 2, 3)
    assert images.image_stitch(image) is image


def test_grid() -> None:
    cells = Image(torch.arange(5.0)[:, None, None, None].expand(5, 2, 3, 3) / 10)
    sheet = images.image_grid([cells], 0, 1, 0xFF0000).pixels
    assert sheet.shape == (1, 2 * 2 + 1, 3 * 3 + 2, 3)
    assert (sheet[0, 0, ::4, 0] * 10).round().tolist() == [0, 1, 2]
    assert (sheet[0, 3, ::4, 1] * 10).round().tolist() == [3, 4, 0]
    assert sheet[0, 2, 0].tolist() == [1, 0, 0] and sheet[0, 4, 10].tolist() == [1, 0, 0]


def test_grid_of_a_list_fits_sizes_and_drops_alpha() -> None:
    sheet = images.image_grid([flat(0.5, 1, 2, 2, 3), flat(0.25, 2, 8, 8, 4)], 1, 0).pixels
    assert sheet.shape == (1, 6, 2, 3)
    assert sheet[0, :, 0, 0].tolist() == [0.5, 0.5, 0.25, 0.25, 0.25, 0.25]
