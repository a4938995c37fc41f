"""Nodes of batches of latents: samples, noise masks and places in the batch."""

from __future__ import annotations

import pytest
import torch

from nodes.latent_batches import (
    latent_batch,
    latent_batch_seed_behavior,
    latent_from_batch,
    rebatch_latents,
    repeat_latent_batch,
)
from nodes.values import Latent


def batch(count: int, first: int = 0, size: int = 2, **rest: object) -> Latent:
    """`count` latents that hold their own number everywhere."""
    numbers = torch.arange(first, first + count).float()
    return Latent(numbers[:, None, None, None].expand(count, 4, size, size), **rest)  # type: ignore[arg-type]


def numbers(tensor: torch.Tensor | None) -> list[float] | None:
    return None if tensor is None else tensor[:, 0, 0, 0].tolist()


def masks(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None, None, None].expand(len(values), 1, 16, 16)


@pytest.mark.parametrize(
    ("index", "length", "expected"), [(0, 1, [0]), (1, 2, [1, 2]), (3, 64, [3, 4]), (63, 5, [4])]
)
def test_from_batch(index: int, length: int, expected: list[int]) -> None:
    result = latent_from_batch(batch(5), index, length)
    assert numbers(result.samples) == expected
    assert result.batch_index == tuple(expected)


def test_from_batch_keeps_places_and_masks() -> None:
    latent = batch(3, batch_index=(7, 3, 5), noise_mask=masks(0.1, 0.2))
    result = latent_from_batch(latent, 1, 2)
    assert result.batch_index == (3, 5)
    assert numbers(result.noise_mask) == pytest.approx([0.2, 0.1])
    shared = latent_from_batch(batch(3, noise_mask=masks(0.5)), 1, 2)
    assert numbers(shared.noise_mask) == [0.5]


def test_repeat() -> None:
    result = repeat_latent_batch(batch(2, batch_index=(4, 6), noise_mask=masks(0.25, 0.5)), 3)
    assert numbers(result.samples) == [0, 1, 0, 1, 0, 1]
    assert result.batch_index == (4, 6, 7, 9, 10, 12)
    assert numbers(result.noise_mask) == [0.25, 0.5] * 3
    plain = repeat_latent_batch(batch(2, noise_mask=masks(0.25)), 2)
    assert plain.batch_index is None and numbers(plain.noise_mask) == [0.25]


def test_join() -> None:
    result = latent_batch(batch(2, batch_index=(8, 9), noise_mask=masks(0.5)), batch(3, first=5, size=4))
    assert numbers(result.samples) == [0, 1, 5, 6, 7] and result.samples.shape == (5, 4, 2, 2)
    assert result.batch_index == (8, 9, 0, 1, 2)
    assert numbers(result.noise_mask) == [0.5]


def test_seed_behaviour() -> None:
    latent = batch(3, batch_index=(7, 8, 9))
    assert latent_batch_seed_behavior(latent, "fixed").batch_index == (7, 7, 7)
    assert latent_batch_seed_behavior(latent, "random").batch_index is None
    assert latent_batch_seed_behavior(batch(2), "fixed").batch_index == (0, 0)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, [[0], [1], [2], [10], [11]]), (2, [[0, 1], [2, 10], [11]]), (9, [[0, 1, 2, 10, 11]])],
)
def test_rebatch(size: int, expected: list[list[int]]) -> None:
    result = rebatch_latents([batch(3), batch(2, first=10)], size)
    assert [numbers(item.samples) for item in result] == expected
    assert [place for item in result for place in item.batch_index or ()] == [0, 1, 2, 3, 4]
    assert all(item.noise_mask is None for item in result)


def test_rebatch_keeps_sizes_apart_and_given_places() -> None:
    result = rebatch_latents([batch(2), batch(2, size=3, batch_index=(9, 4)), batch(1)], 8)
    assert [tuple(item.samples.shape) for item in result] == [(2, 4, 2, 2), (2, 4, 3, 3), (1, 4, 2, 2)]
    assert [item.batch_index for item in result] == [(0, 1), (9, 4), (4,)]


def test_rebatch_joins_masks_and_drops_those_that_say_nothing() -> None:
    result = rebatch_latents([batch(2), batch(1, noise_mask=masks(0.5)), batch(1, noise_mask=masks(1.0))], 1)
    assert [numbers(item.noise_mask) for item in result] == [None, None, [0.5], None]


def test_rebatch_brings_masks_to_one_size() -> None:
    odd = torch.full((1, 1, 5, 3), 0.5)
    (result,) = rebatch_latents([batch(1), batch(1, noise_mask=odd)], 2)
    assert result.noise_mask is not None and result.noise_mask.shape == (2, 1, 16, 16)
    assert numbers(result.noise_mask) == [1.0, 0.5]
