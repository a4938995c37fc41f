"""Filters of pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
import torch

from nodegraph.node import NodeError
from nodes.image_effects import canny, image_blur, image_quantize, image_sharpen
from nodes.values import Image


def noise(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def gaussian(pixels: torch.Tensor, radius: int, sigma: float) -> torch.Tensor:
    """The full two-dimensional window, by scipy."""
    place = np.linspace(-1, 1, 2 * radius + 1)
    window = np.exp(-(place[:, None] ** 2 + place**2) / (2 * sigma**2))
    window /= window.sum()
    return torch.from_numpy(
        scipy.ndimage.correlate(pixels.double().numpy(), window[None, :, :, None], mode="mirror")
    ).float()


@pytest.mark.parametrize(("radius", "sigma"), [(1, 1.0), (3, 0.3), (9, 10.0)])
def test_blur_is_a_gaussian_window(radius: int, sigma: float) -> None:
    pixels = noise(2, 12, 15, 4)
    result = image_blur(Image(pixels), radius, sigma).pixels
    torch.testing.assert_close(result, gaussian(pixels, radius, sigma))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 5.0])
def test_sharpen_is_an_unsharp_mask(alpha: float) -> None:
    pixels = noise(1, 12, 15, 3) * 0.2 + 0.4
    expected = pixels + 10 * alpha * (pixels - gaussian(pixels, 2, 0.7))
    result = image_sharpen(Image(pixels), 2, 0.7, alpha).pixels
    torch.testing.assert_close(result, expected.clamp(0, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("node", [image_blur, image_sharpen])
def test_a_radius_of_the_whole_picture_is_refused(node: object) -> None:
    assert callable(node)
    with pytest.raises(NodeError, match="radius") as caught:
        node(Image(noise(1, 3, 9, 3)), 3)
    assert caught.value.found == "radius 3 for 9x3"


@pytest.mark.parametrize("dither", ["none", "floyd-steinberg", "bayer-2", "bayer-4", "bayer-8", "bayer-16"])
@pytest.mark.parametrize("colors", [1, 2, 7])
def test_quantize_leaves_so_many_colours(dither: str, colors: int) -> None:
    result = image_quantize(Image(noise(2, 16, 20, 4)), colors, dither=dither).pixels
    assert result.shape == (2, 16, 20, 3)
    for picture in result:
        assert len(torch.unique(picture.reshape(-1, 3), dim=0)) <= colors


def test_quantize_without_dither_takes_the_nearest_colour() -> None:
    pixels = noise(1, 16, 20, 3)
    result = image_quantize(Image(pixels), 9, dither="none").pixels.reshape(-1, 3)
    distances = torch.cdist(pixels.reshape(-1, 3), torch.unique(result, dim=0))
    chosen = (pixels.reshape(-1, 3) - result).norm(dim=1)
    assert (chosen - distances.amin(1)).max() < 8 / 255  # Pillow looks colours up coarsely


def test_bayer_dither_keeps_the_mean_of_a_grey() -> None:
    ramp = torch.cat((torch.zeros(1, 16, 1, 3), torch.full((1, 16, 14, 3), 0.4), torch.ones(1, 16, 1, 3)), 2)
    plain = image_quantize(Image(ramp), 2, dither="none").pixels[:, :, 1:-1]
    dithered = image_quantize(Image(ramp), 2, dither="bayer-4").pixels[:, :, 1:-1]
    assert plain.std() < 1e-6 and dithered.std() > 0.1


def test_canny_outlines_a_square() -> None:
    pixels = torch.zeros(1, 32, 32, 3)
    pixels[:, 8:24, 8:24] = 1.0
    edges = canny(Image(pixels), 0.1, 0.3).pixels[0, ..., 0]
    assert set(edges.flatten().tolist()) == {0.0, 1.0}
    rows, columns = edges.nonzero().unbind(1)
    distance = torch.minimum(
        torch.minimum((rows - 7.5).abs(), (rows - 23.5).abs()),
        torch.minimum((columns - 7.5).abs(), (columns - 23.5).abs()),
    )
    assert len(rows) > 40 and distance.max() <= 1.0
    assert not edges[10:22, 10:22].any() and not edges[:5].any()


def test_canny_of_a_disc_is_a_thin_ring() -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    disc = torch.from_numpy((np.hypot(x, y) < 20).astype(np.float32))[None, ..., None].repeat(1, 1, 1, 3)
    rows, columns = canny(Image(disc), 0.2, 0.4).pixels[0, ..., 0].nonzero().unbind(1)
    radius = torch.hypot(rows - 31.5, columns - 31.5)
    assert (radius - 20).abs().max() < 2
    assert 0.7 * 2 * math.pi * 20 < len(rows) < 1.5 * 2 * math.pi * 20


def test_canny_keeps_weak_edges_only_where_strong_ones_join_them() -> None:
    pixels = torch.zeros(1, 40, 60, 3)
    pixels[:, 10:30, 5:20] = 1.0
    pixels[:, 10:30, 40:55] = 0.2
    apart = canny(Image(pixels), 0.1, 0.9).pixels[0, ..., 0]
    assert apart[:, :30].any() and not apart[:, 30:].any()
    assert canny(Image(pixels), 0.1, 0.2).pixels[0, :, 30:].any()
    # A wedge that joins them: its lower edge fades from strong to weak, and all of it stays.
    pixels[:, 20:30, 5:55] = torch.linspace(1.0, 0.2, 50)[None, None, :, None]
    assert canny(Image(pixels), 0.1, 0.9).pixels[0, 27:32, 45:50].any()


def test_canny_needs_thresholds_in_order() -> None:
    with pytest.raises(NodeError, match="low threshold is above"):
        canny(Image(noise(1, 9, 9, 3)), 0.9, 0.1)
