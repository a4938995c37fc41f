"""Resizing and batches."""

from __future__ import annotations

import math

import pytest
import torch

from nodegraph.node import NodeError
from nodes.resize import bislerp, lanczos, resize, resize_mask, to_batch


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def test_bislerp_turns_vectors_at_full_length() -> None:
    samples = torch.tensor([[1.0, 0.0], [0.0, 1.0]])[
        None, :, None, :
    ]  # (1, 2 channels, 1, 2): east, then north
    result = bislerp(samples, 4, 1)[0, :, 0]
    angles = [0.0, 22.5, 67.5, 90.0]
    expected = torch.tensor([[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in angles]).T
    torch.testing.assert_close(result, expected)


def test_bislerp_mixes_lengths_linearly() -> None:
    samples = torch.tensor([[1.0, 0.0], [0.0, 3.0]])[None, :, None, :]
    lengths = torch.linalg.vector_norm(bislerp(samples, 4, 1)[0, :, 0], dim=0)
    torch.testing.assert_close(lengths, torch.tensor([1.0, 1.5, 2.5, 3.0]))


def test_bislerp_of_opposite_vectors_is_linear() -> None:
    samples = torch.tensor([[2.0, -2.0], [0.0, 0.0]])[None, :, None, :]
    torch.testing.assert_close(bislerp(samples, 4, 1)[0, 0, 0], torch.tensor([2.0, 1.0, -1.0, -2.0]))


def test_bislerp_keeps_zeros_and_constants_finite() -> None:
    assert bislerp(torch.zeros(1, 4, 3, 3), 7, 5).eq(0).all()
    torch.testing.assert_close(bislerp(torch.ones(1, 4, 3, 3), 7, 5), torch.ones(1, 4, 5, 7))


def test_bislerp_takes_the_first_of_parallel_vectors() -> None:
    samples = torch.tensor([[1.0, 3.0], [2.0, 6.0]])[None, :, None, :]
    assert bislerp(samples, 4, 1)[0, :, 0].tolist() == [[1, 1, 1, 3], [2, 2, 2, 6]]


def test_bislerp_works_on_both_axes() -> None:
    samples = noise(2, 4, 5, 6)
    across = bislerp(samples, 9, 5)
    torch.testing.assert_close(bislerp(samples, 9, 8), bislerp(across.transpose(2, 3), 8, 9).transpose(2, 3))


def test_lanczos_keeps_flat_colours_of_eight_bits() -> None:
    samples = torch.tensor([0.0, 51 / 255, 1.0])[None, :, None, None].expand(2, 3, 6, 5)
    torch.testing.assert_close(lanczos(samples, 9, 4), samples[..., :1, :1].expand(2, 3, 4, 9))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_lanczos_takes_any_channels(channels: int) -> None:
    assert lanczos(torch.rand(2, channels, 6, 5), 9, 4).shape == (2, channels, 4, 9)


def test_center_crop_takes_the_middle() -> None:
    wide = torch.arange(8.0).repeat(1, 1, 4, 1)
    assert resize(wide, 4, 4, "nearest-exact", "center")[0, 0, 0].tolist() == [2, 3, 4, 5]
    tall = wide.transpose(2, 3)
    assert resize(tall, 4, 4, "nearest-exact", "center")[0, 0, :, 0].tolist() == [2, 3, 4, 5]


def test_center_crop_of_a_sliver_leaves_a_pixel() -> None:
    assert resize(noise(1, 4, 2, 64), 1, 64, "bilinear", "center").shape == (1, 4, 64, 1)


@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic", "lanczos", "bislerp"])
def test_no_pixels_are_refused(method: str) -> None:
    with pytest.raises(NodeError, match="no pixels") as caught:
        resize(noise(1, 3, 4, 4), 0, 5, method)
    assert caught.value.found == "4x4 to 0x5"


def test_masks_of_any_rank_are_stacked() -> None:
    mask = torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(resize_mask(mask, 4, 1), torch.tensor([[[[0.0, 0.25, 0.75, 1.0]]]]))


@pytest.mark.parametrize(("count", "expected"), [(2, [0, 1]), (3, [0, 1, 2]), (7, [0, 1, 2, 0, 1, 2, 0])])
def test_batches_repeat_in_order(count: int, expected: list[int]) -> None:
    assert to_batch(torch.arange(3), count).tolist() == expected
