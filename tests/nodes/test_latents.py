"""Nodes of single latents."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nodegraph.node import NodeError, spec_of
from nodes import latents
from nodes.values import Latent, Mask


def noise(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def counted(height: int, width: int, batch: int = 1) -> torch.Tensor:
    """Latents of which every number tells its place."""
    return torch.arange(float(batch * 4 * height * width)).reshape(batch, 4, height, width)


MASK = torch.ones(1, 1, 8, 8)


@pytest.mark.parametrize(("width", "height", "shape"), [(512, 768, (2, 4, 96, 64)), (23, 16, (2, 4, 2, 2))])
def test_empty_latents(width: int, height: int, shape: tuple[int, ...]) -> None:
    latent = latents.empty_latent_image(width, height, 2)
    assert latent.samples.shape == shape and latent.samples.dtype == torch.float32
    assert not latent.samples.any()


def test_sizes_between_two_multiples_of_eight_are_taken_as_the_lower_as_the_input_says() -> None:
    spec = spec_of(latents.empty_latent_image)
    assert spec is not None
    assert [item.name for item in spec.inputs.values() if item.range and item.range.floor] == [
        "width",
        "height",
    ]
    assert (
        latents.empty_latent_image(130, 135).samples.shape
        == latents.empty_latent_image(128, 128).samples.shape
    )


@pytest.mark.parametrize(
    ("width", "height", "shape"),
    [(256, 192, (24, 32)), (128, 0, (10, 16)), (0, 256, (32, 48)), (8, 8, (8, 8)), (0, 0, (6, 9))],
)
def test_upscale_sizes(width: int, height: int, shape: tuple[int, int]) -> None:
    latent = Latent(noise(1, 4, 6, 9), MASK, (3,))
    result = latents.latent_upscale(
        samples=latent, upscale_method="bilinear", width=width, height=height, crop="disabled"
    )
    assert result.samples.shape[-2:] == shape
    assert result.noise_mask is MASK and result.batch_index == (3,)


def test_upscale_by_is_interpolation() -> None:
    samples = noise(2, 4, 6, 9)
    result = latents.latent_upscale_by(Latent(samples), "bicubic", 1.5).samples
    torch.testing.assert_close(result, F.interpolate(samples, (9, 14), mode="bicubic"))


def test_upscale_by_to_nothing_is_refused() -> None:
    with pytest.raises(NodeError, match="no pixels"):
        latents.latent_upscale_by(Latent(noise(1, 4, 6, 9)), "area", 0.01)


def test_composite_lays_one_over_the_other() -> None:
    result = latents.latent_composite(Latent(torch.zeros(2, 4, 6, 6)), Latent(torch.ones(1, 4, 4, 4)), 32, 8)
    expected = torch.zeros(2, 4, 6, 6)
    expected[:, :, 1:5, 4:] = 1
    torch.testing.assert_close(result.samples, expected)


def test_composite_feathers_inner_edges_only() -> None:
    result = latents.latent_composite(
        Latent(torch.zeros(1, 4, 1, 8)), Latent(torch.ones(1, 4, 1, 6)), 16, 0, feather=24
    )
    torch.testing.assert_close(result.samples[0, 0, 0], torch.tensor([0, 0, 1 / 3, 2 / 3, 1, 1, 1, 1]))


def test_composite_far_outside_changes_nothing() -> None:
    samples = noise(1, 4, 4, 4)
    result = latents.latent_composite(Latent(samples), Latent(torch.ones(1, 4, 4, 4)), 800, 800, 16)
    torch.testing.assert_close(result.samples, samples)


def test_composite_of_other_channels_is_refused() -> None:
    with pytest.raises(NodeError, match="same channels"):
        latents.latent_composite(Latent(noise(1, 4, 4, 4)), Latent(noise(1, 16, 4, 4)))


def test_composite_masked_weighs_by_the_mask() -> None:
    mask = Mask(torch.tensor([[[0.0, 1.0], [0.5, 0.25]]]))
    target, source = noise(2, 4, 4, 4), noise(1, 4, 2, 2, seed=4)
    result = latents.latent_composite_masked(Latent(target), Latent(source), 8, 16, False, mask).samples
    expected = target.clone()
    expected[:, :, 2:, 1:3] = source * mask.values + expected[:, :, 2:, 1:3] * (1 - mask.values)
    torch.testing.assert_close(result, expected)


def test_composite_masked_stretches_the_source() -> None:
    target = Latent(torch.zeros(1, 4, 4, 6))
    source = Latent(torch.full((1, 4, 2, 2), 3.0))
    assert latents.latent_composite_masked(target, source, resize_source=True).samples.eq(3).all()


def test_blend() -> None:
    first, second = noise(1, 4, 4, 4), noise(2, 4, 4, 4, seed=4)
    result = latents.latent_blend(Latent(first, MASK), Latent(second), 0.25)
    torch.testing.assert_close(result.samples, first * 0.25 + second * 0.75)
    assert result.noise_mask is MASK


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((64, 64, 0, 0), (0, 8), (0, 8)),
        ((80, 64, 16, 8), (1, 9), (2, 12)),
        ((512, 512, 999, 999), (4, 12), (8, 16)),
    ],
)
def test_crop(box: tuple[int, int, int, int], rows: tuple[int, int], columns: tuple[int, int]) -> None:
    samples = counted(12, 16)
    result = latents.latent_crop(Latent(samples), *box).samples
    torch.testing.assert_close(result, samples[:, :, slice(*rows), slice(*columns)])


def test_crop_of_a_latent_smaller_than_the_least_keeps_it() -> None:
    samples = counted(3, 6)
    torch.testing.assert_close(latents.latent_crop(Latent(samples), 64, 64, 8, 8).samples, samples)


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
    assert latents.latent_rotate(Latent(counted(2, 2)), rotation).samples[0, 0].tolist() == expected


@pytest.mark.parametrize(
    ("method", "expected"),
    [("x-axis: vertically", [[2, 3], [0, 1]]), ("y-axis: horizontally", [[1, 0], [3, 2]])],
)
def test_flip(method: str, expected: list[list[int]]) -> None:
    assert latents.latent_flip(Latent(counted(2, 2)), method).samples[0, 0].tolist() == expected


def test_set_noise_mask() -> None:
    mask = torch.rand(3, 9, 7)
    latent = latents.set_latent_noise_mask(Latent(noise(1, 4, 4, 4)), Mask(mask))
    assert latent.noise_mask is not None and latent.noise_mask.shape == (3, 1, 9, 7)
    torch.testing.assert_close(latent.noise_mask[:, 0], mask)


def test_arithmetic() -> None:
    first, second = noise(3, 4, 2, 2), noise(2, 4, 2, 2, seed=4)
    repeated = second[[0, 1, 0]]
    torch.testing.assert_close(latents.latent_add(Latent(first), Latent(second)).samples, first + repeated)
    torch.testing.assert_close(
        latents.latent_subtract(Latent(first), Latent(second)).samples, first - repeated
    )
    torch.testing.assert_close(latents.latent_multiply(Latent(first), -2.5).samples, first * -2.5)


def test_arithmetic_resizes_the_second() -> None:
    result = latents.latent_add(Latent(torch.zeros(1, 4, 4, 6)), Latent(torch.ones(1, 4, 9, 9)))
    torch.testing.assert_close(result.samples, torch.ones(1, 4, 4, 6))


def test_arithmetic_of_other_channels_is_refused() -> None:
    with pytest.raises(NodeError, match="different kinds of models"):
        latents.latent_add(Latent(noise(1, 4, 2, 2)), Latent(noise(1, 16, 2, 2)))


def test_interpolate_keeps_lengths() -> None:
    east, north = torch.zeros(2, 2, 1, 1), torch.zeros(2, 2, 1, 1)
    east[:, 0], north[:, 1] = 2.0, 4.0
    result = latents.latent_interpolate(Latent(east), Latent(north), 0.5).samples
    torch.testing.assert_close(result, torch.full((2, 2, 1, 1), 3 / 2**0.5))


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_interpolate_ends_at_its_parts(ratio: float) -> None:
    first, second = noise(3, 4, 5, 5), noise(3, 4, 5, 5, seed=4)
    result = latents.latent_interpolate(Latent(first), Latent(second), ratio).samples
    torch.testing.assert_close(result, first if ratio else second)


def test_interpolate_of_zeros_is_zero() -> None:
    zeros = Latent(torch.zeros(1, 4, 2, 2))
    assert latents.latent_interpolate(zeros, zeros, 0.5).samples.eq(0).all()


@pytest.mark.parametrize(
    ("index", "amount", "expected"),
    [
        (0, 1, [0]),
        (1, 2, [1, 2]),
        (3, 9, [3, 4]),
        (99, 9, [4]),
        (-1, 1, [4]),
        (-3, 2, [2, 3]),
        (-99, 2, [0, 1]),
    ],
)
def test_cut(index: int, amount: int, expected: list[int]) -> None:
    line = torch.arange(5.0).expand(1, 4, 3, 5)
    assert latents.latent_cut(Latent(line), "x", index, amount).samples[0, 0, 0].tolist() == expected
    turned = line.transpose(2, 3)
    assert latents.latent_cut(Latent(turned), "y", index, amount).samples[0, 0, :, 0].tolist() == expected


def test_cut_by_channels() -> None:
    samples = noise(1, 4, 2, 2)
    torch.testing.assert_close(latents.latent_cut(Latent(samples), "t", 1, 2).samples, samples[:, 1:3])


@pytest.mark.parametrize(
    ("dim", "axis", "swapped"),
    [("x", 3, False), ("-x", 3, True), ("y", 2, False), ("-y", 2, True), ("t", 1, False), ("-t", 1, True)],
)
def test_concat(dim: str, axis: int, swapped: bool) -> None:
    first, second = noise(2, 4, 3, 3), noise(1, 4, 3, 3, seed=4)
    pair = [second.repeat(2, 1, 1, 1), first] if swapped else [first, second.repeat(2, 1, 1, 1)]
    result = latents.latent_concat(Latent(first), Latent(second), dim).samples
    torch.testing.assert_close(result, torch.cat(pair, axis))


def test_concat_of_unequal_sizes_is_refused() -> None:
    with pytest.raises(NodeError, match="cannot be joined along x"):
        latents.latent_concat(Latent(noise(1, 4, 3, 3)), Latent(noise(1, 4, 4, 3)), "x")
