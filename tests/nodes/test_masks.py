"""Nodes of masks."""

from __future__ import annotations

import pytest
import scipy.ndimage
import torch

from nodegraph.node import Context, Folders, NodeError
from nodes import masks
from nodes.values import Image, Mask


def noise(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_solid_and_invert() -> None:
    solid = masks.solid_mask(0.25, 5, 3)
    torch.testing.assert_close(solid.values, torch.full((1, 3, 5), 0.25))
    torch.testing.assert_close(masks.invert_mask(solid).values, torch.full((1, 3, 5), 0.75))


def test_crop() -> None:
    values = noise(2, 6, 8)
    torch.testing.assert_close(masks.crop_mask(Mask(values), 1, 2, 3, 99).values, values[:, 2:, 1:4])
    with pytest.raises(NodeError, match="outside the mask") as caught:
        masks.crop_mask(Mask(values), 8, 0, 2, 2)
    assert caught.value.found == "(8, 0) in a mask of 8x6"


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("multiply", [0.0, 0.24, 0.24, 1.0]),
        ("add", [0.0, 1.0, 1.0, 1.0]),
        ("subtract", [0.0, 0.2, 0.0, 0.0]),
        ("and", [0.0, 0.0, 0.0, 1.0]),
        ("or", [0.0, 1.0, 1.0, 1.0]),
        ("xor", [0.0, 1.0, 1.0, 0.0]),
    ],
)
def test_composite_operations(operation: str, expected: list[float]) -> None:
    below = Mask(torch.tensor([[[0.0, 0.6, 0.4, 1.0]]]))
    above = Mask(torch.tensor([[[0.0, 0.4, 0.6, 1.0]]]))
    result = masks.mask_composite(below, above, operation=operation).values[0, 0]
    torch.testing.assert_close(result, torch.tensor(expected))


@pytest.mark.parametrize(("x", "y"), [(0, 0), (2, 1), (6, 4), (99, 99)])
def test_composite_changes_only_what_is_covered(x: int, y: int) -> None:
    below, above = noise(3, 5, 7), noise(1, 3, 4, seed=4)
    result = masks.mask_composite(Mask(below), Mask(above), x, y, operation="multiply").values
    full = torch.ones(3, 99 + 5, 99 + 7)
    full[:, y : y + 3, x : x + 4] = above
    torch.testing.assert_close(result, below * full[:, :5, :7])


def test_feather_fades_left_and_top_edges() -> None:
    result = masks.feather_mask(masks.solid_mask(1.0, 6, 4), left=2, top=4).values[0]
    across = torch.tensor([0.5, 1, 1, 1, 1, 1])
    down = torch.tensor([0.25, 0.5, 0.75, 1])
    torch.testing.assert_close(result, down[:, None] * across)


def test_feather_of_right_and_bottom_edges_starts_at_the_other_end() -> None:
    result = masks.feather_mask(masks.solid_mask(1.0, 6, 4), right=3, bottom=2).values[0]
    across = torch.tensor([1 / 3, 1, 1, 1, 1, 2 / 3])  # last column 2/3, last but one 3/3
    across[-1], across[-2] = 2 / 3, 1.0
    down = torch.tensor([0.5, 1, 1, 1])
    torch.testing.assert_close(result, down[:, None] * across)


def test_feather_larger_than_the_mask_is_cut_to_it() -> None:
    result = masks.feather_mask(masks.solid_mask(1.0, 2, 1), left=99).values
    torch.testing.assert_close(result, torch.tensor([[[0.5, 1.0]]]))


@pytest.mark.parametrize("expand", [-40, -3, -1, 0, 1, 2, 40])
@pytest.mark.parametrize("tapered", [True, False])
def test_grow_is_repeated_grey_morphology(expand: int, tapered: bool) -> None:
    values = noise(2, 9, 12)
    footprint = scipy.ndimage.generate_binary_structure(2, 1 if tapered else 2)
    step = scipy.ndimage.grey_erosion if expand < 0 else scipy.ndimage.grey_dilation
    expected = values.numpy()
    for _ in range(abs(expand)):
        expected = step(expected, footprint=footprint[None])
    result = masks.grow_mask(Mask(values), expand, tapered).values
    torch.testing.assert_close(result, torch.from_numpy(expected))


def test_grow_by_far_too_much_is_quick_and_fills_the_mask() -> None:
    values = noise(1, 30, 30)
    assert masks.grow_mask(Mask(values), 16384).values.eq(values.max()).all()
    assert masks.grow_mask(Mask(values), -16384, False).values.eq(values.min()).all()


def test_threshold_is_strict() -> None:
    values = Mask(torch.tensor([[[0.4, 0.5, 0.6]]]))
    assert masks.threshold_mask(values, 0.5).values.tolist() == [[[0, 0, 1]]]


def test_to_image_and_back() -> None:
    values = noise(2, 3, 4)
    image = masks.mask_to_image(Mask(values))
    assert image.pixels.shape == (2, 3, 4, 3)
    for channel in ("red", "green", "blue"):
        torch.testing.assert_close(masks.image_to_mask(image, channel).values, values)


def test_alpha_of_a_picture_without_it_is_refused() -> None:
    assert masks.image_to_mask(Image(noise(1, 2, 2, 4)), "alpha").values.shape == (1, 2, 2)
    with pytest.raises(NodeError, match="no alpha channel") as caught:
        masks.image_to_mask(Image(noise(1, 2, 2, 3)), "alpha")
    assert caught.value.allowed == "red, green, blue"


def test_color_to_mask_wants_the_exact_colour() -> None:
    colors = torch.tensor([[18, 128, 255], [18, 128, 254], [0, 0, 0], [18.4, 127.6, 300]]) / 255
    result = masks.image_color_to_mask(Image(colors.reshape(1, 1, 4, 3)), 0x1280FF)
    assert result.values.tolist() == [[[1, 0, 0, 1]]]


def test_preview_goes_to_the_temporary_folder(context: Context, folders: Folders) -> None:
    (file,) = masks.mask_preview(masks.solid_mask(1.0, 4, 4), context).ui["images"]
    assert file.type == "temp" and file.path.parent == folders.temp and file.path.exists()
