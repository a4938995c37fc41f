"""Noise against reference values and the laws of Brownian motion."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nodes.diffusion.noise import brownian_noise, initial_noise, step_noise

DATA = Path(__file__).parents[2] / "data"


def test_seed_42_gives_the_reference_noise() -> None:
    expected = load_file(DATA / "sigmas_and_noise.safetensors")["noise_seed42"]
    assert torch.equal(initial_noise(torch.zeros(1, 4, 8, 8), 42), expected)


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    initial_noise(torch.zeros(1, 4, 8, 8), 42)
    step_noise(torch.zeros(1, 4, 8, 8), 42)(1.0, 0.5)
    assert torch.equal(torch.get_rng_state(), before)


def test_batch_indices_pick_samples_of_a_sequence() -> None:
    latent = torch.zeros(3, 4, 8, 8)
    all_of_it = initial_noise(latent, 7, [0, 1, 2])
    assert torch.equal(initial_noise(latent[:2], 7, [2, 2]), all_of_it[[2, 2]])


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_every_seed_gives_its_own_noise(seed: int) -> None:
    latent = torch.zeros(1, 4, 8, 8)
    assert torch.equal(initial_noise(latent, seed), initial_noise(latent, seed))
    assert not torch.equal(initial_noise(latent, seed), initial_noise(latent, (seed + 1) % 2**64))
    noise = brownian_noise(latent, [4.0, 1.0, 0.0], seed)(4.0, 1.0)
    assert noise.shape == latent.shape and bool(noise.isfinite().all())


def test_the_first_step_noise_is_the_first_noise_again() -> None:
    latent = torch.zeros(1, 4, 8, 8)
    first = initial_noise(latent, 3)
    draw = step_noise(latent, 3)
    assert torch.equal(draw(2.0, 1.0), first)
    second = draw(1.0, 0.5)
    assert not torch.equal(second, first)
    assert torch.equal(step_noise(latent, 3, continued=True)(2.0, 1.0), second)


def test_step_noise_without_a_seed_is_left_to_chance() -> None:
    latent = torch.zeros(1, 4, 8, 8)
    assert not torch.equal(step_noise(latent, None)(2.0, 1.0), step_noise(latent, None)(2.0, 1.0))


def test_step_noise_takes_another_shape() -> None:
    latent = torch.zeros(1, 4, 8, 8)
    assert step_noise(latent, 3)(2.0, 1.0, like=torch.zeros(1, 4, 12, 16)).shape == (1, 4, 12, 16)


def test_brownian_increments_add_up_along_the_path() -> None:
    latent = torch.zeros(1, 4, 16, 16)
    noise = brownian_noise(latent, [8.0, 4.0, 1.0, 0.0], 5)
    whole = noise(8.0, 1.0) * math.sqrt(7.0)
    parts = noise(8.0, 4.0) * math.sqrt(4.0) + noise(4.0, 1.0) * math.sqrt(3.0)
    assert torch.allclose(whole, parts, atol=1e-4)


def test_brownian_noise_has_unit_variance_and_independent_increments() -> None:
    latent = torch.zeros(1, 4, 64, 64)
    noise = brownian_noise(latent, [8.0, 3.0, 1.0, 0.0], 5)
    first, second = noise(8.0, 3.0), noise(3.0, 1.0)
    for draw in (first, second):
        assert float(draw.std()) == pytest.approx(1.0, abs=0.03)
        assert float(draw.mean()) == pytest.approx(0.0, abs=0.03)
    assert float((first * second).mean()) == pytest.approx(0.0, abs=0.03)


def test_brownian_path_does_not_depend_on_the_levels_between() -> None:
    latent = torch.zeros(1, 4, 8, 8)
    few, many = [8.0, 1.0, 0.0], [8.0, 6.0, 3.0, 1.0, 0.0]
    assert torch.equal(brownian_noise(latent, few, 5)(8.0, 3.0), brownian_noise(latent, many, 5)(8.0, 3.0))
