"""Tiles: coverage, blending, and what an exact map gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from nodes.models.tiling import average_of_tilings, map_tiles, memory_shortage, positions, tile_count


def _enlarge(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=4, mode="nearest")


def _shrink(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 8)


@given(st.integers(1, 200), st.integers(2, 64), st.integers(0, 15))
def test_positions_cover_the_side(length: int, tile: int, overlap: int) -> None:
    overlap = min(overlap, tile // 2)
    begins = positions(length, tile, overlap)
    covered = [False] * length
    for begin in begins:
        begin = max(0, min(length - overlap, begin)) if length > tile else 0
        covered[begin : min(length, begin + tile)] = [True] * (min(length, begin + tile) - begin)
    assert all(covered)


@pytest.mark.parametrize("size", [(20, 33), (64, 8), (7, 7), (16, 16)])
@pytest.mark.parametrize("overlap", [0, 3, 4])
def test_a_local_map_is_the_same_in_tiles(size: tuple[int, int], overlap: int) -> None:
    x = torch.rand(2, 3, *size)
    found = average_of_tilings(x, _enlarge, 16, overlap, 4, 3)
    torch.testing.assert_close(found, _enlarge(x))


def test_a_map_that_shrinks_is_the_same_in_tiles() -> None:
    x = torch.rand(1, 3, 256, 192)
    torch.testing.assert_close(average_of_tilings(x, _shrink, 128, 32, 1 / 8, 3), _shrink(x))


def test_progress_counts_every_tile() -> None:
    seen: list[tuple[int, int]] = []
    x = torch.rand(2, 1, 40, 24)
    average_of_tilings(x, _enlarge, 16, 4, 4, 1, lambda done, total: seen.append((done, total)))
    total = sum(tile_count(x, shape, 4) for shape in ((32, 8), (8, 32), (16, 16)))
    assert seen == [(done, total) for done in range(1, total + 1)]


def test_no_tile_is_larger_than_asked() -> None:
    sizes: set[tuple[int, ...]] = set()

    def watch(x: Tensor) -> Tensor:
        sizes.add(tuple(x.shape[-2:]))
        return x

    list(map_tiles(torch.rand(1, 1, 50, 70), watch, (16, 24), 4, 1, 1))
    assert max(height for height, _ in sizes) == 16
    assert max(width for _, width in sizes) == 24


def test_seams_are_ramps() -> None:
    """Two tiles that map to 0 and 1: between them the result rises over the overlap and nowhere else."""
    tiles = iter([0.0, 1.0])
    *_, found = map_tiles(torch.zeros(1, 1, 8, 28), lambda x: x + next(tiles), (8, 16), 4, 1, 1)
    assert found is not None
    row = found[0, 0, 4]
    assert row[:12].tolist() == [0.0] * 12
    assert row[16:].tolist() == [1.0] * 12
    assert row[12:16].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_memory_shortage_is_told_from_other_errors() -> None:
    assert memory_shortage(MemoryError())
    assert memory_shortage(torch.OutOfMemoryError("CUDA out of memory."))
    assert memory_shortage(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"))
    assert not memory_shortage(RuntimeError("shapes do not match"))
    assert not memory_shortage(ValueError("out of memory"))
