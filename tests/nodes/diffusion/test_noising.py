"""The forward process against its definition and diffusers."""

from __future__ import annotations

import pytest
import torch

from nodes.diffusion.cosine_ratio import CosineRatio
from nodes.diffusion.noising import noised
from nodes.diffusion.parametrisation import Discrete, Flow

X0, NOISE = torch.randn(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("timestep", [0, 250, 999])
def test_what_the_network_is_given_is_what_the_published_scheduler_makes(timestep: int) -> None:
    from diffusers import DDPMScheduler

    scheme = Discrete(beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    expected = DDPMScheduler().add_noise(X0, NOISE, torch.tensor([timestep]))
    found = noised(X0, NOISE, scheme, timestep=timestep, as_given=True)
    assert torch.allclose(found, expected, atol=2e-6)


@pytest.mark.filterwarnings("ignore")
def test_ratios_are_those_of_the_published_scheduler() -> None:
    from diffusers import DDPMWuerstchenScheduler

    expected = DDPMWuerstchenScheduler().add_noise(X0, NOISE, torch.tensor([0.4]))
    found = noised(X0, NOISE, CosineRatio(), timestep=0.4, as_given=True)
    assert torch.allclose(found, expected, atol=2e-6)


def test_a_sigma_says_how_much_noise_samplers_find() -> None:
    assert torch.allclose(noised(X0, NOISE, Discrete(), sigma=3.0), X0 + 3 * NOISE)
    assert torch.equal(noised(X0, NOISE, Discrete(), sigma=0.0, as_given=True), X0)
    assert torch.allclose(noised(X0, NOISE, Flow(), sigma=0.25, as_given=True), 0.75 * X0 + 0.25 * NOISE)


def test_either_a_sigma_or_a_timestep_says_where() -> None:
    for place in (None, 1.0):
        with pytest.raises(ValueError, match="either"):
            noised(X0, NOISE, Discrete(), sigma=place, timestep=place)
