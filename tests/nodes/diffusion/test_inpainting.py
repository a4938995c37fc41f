"""Noise masks and the extra channels of inpainting models."""

from __future__ import annotations

import pytest
import torch

from nodes.diffusion.inpainting import (
    Masked,
    concat_channels,
    fit_mask,
    spread_batch,
)
from nodes.diffusion.parametrisation import Discrete, Parametrisation
from tests.nodes.diffusion.toy_network import LATENT_FORMAT

LATENT = torch.arange(2 * 4 * 6 * 8, dtype=torch.float32).view(2, 4, 6, 8)


class Echo:
    """A denoiser that returns what it is given, and minus that as the unconditional estimate."""

    @property
    def parametrisation(self) -> Parametrisation:
        return Discrete()

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        return x

    def with_uncond(self, x: torch.Tensor, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
        return x, -x


def test_masked_denoiser_noises_before_and_restores_after() -> None:
    noise, x = torch.ones_like(LATENT), torch.full_like(LATENT, 7.0)
    mask = torch.zeros(2, 1, 6, 8)
    mask[..., :4] = 1.0
    mask[..., 4] = 0.25
    masked = Masked(Echo(), LATENT, noise, mask)
    found, uncond = masked.with_uncond(x, 2.0)
    given = torch.where(mask == 1.0, x, LATENT + 2.0)
    given[..., 4] = 0.25 * 7.0 + 0.75 * (LATENT[..., 4] + 2.0)
    assert torch.allclose(uncond, -given), "the unconditional estimate is not masked"
    expected = torch.where(mask == 1.0, x, LATENT)
    expected[..., 4] = 0.25 * given[..., 4] + 0.75 * LATENT[..., 4]
    assert torch.allclose(found, expected)
    assert torch.equal(masked(x, 2.0), found)


def test_mask_may_depend_on_the_noise_level() -> None:
    masked = Masked(
        Echo(),
        LATENT,
        LATENT,
        torch.full((2, 1, 6, 8), 0.5),
        lambda sigma, mask: mask * 2 if sigma > 1 else mask * 0,
    )
    x = torch.full_like(LATENT, 7.0)
    assert torch.equal(masked(x, 2.0), x)
    assert torch.equal(masked(x, 0.5), LATENT)


def test_mask_of_any_shape_fits_the_latent() -> None:
    assert fit_mask(torch.ones(48, 64), LATENT).shape == (2, 1, 6, 8)
    mask = torch.stack([torch.zeros(48, 64), torch.ones(48, 64)])
    assert fit_mask(mask, LATENT).mean(dim=(1, 2, 3)).tolist() == [0.0, 1.0]
    three = torch.stack([torch.zeros(1, 3, 4), torch.ones(1, 3, 4), torch.ones(1, 3, 4)])
    assert fit_mask(three, LATENT).mean(dim=(1, 2, 3)).tolist() == [0.0, 1.0]


def test_batches_are_spread_evenly() -> None:
    items = torch.arange(4.0).view(4, 1)
    assert spread_batch(items, 2).flatten().tolist() == [0, 3]
    assert spread_batch(items, 3).flatten().tolist() == [0, 2, 3]
    assert spread_batch(items[:2], 5).flatten().tolist() == [0, 0, 1, 1, 1]
    assert spread_batch(items, 1).flatten().tolist() == [0]


def test_inpainting_model_is_given_the_mask_and_the_scaled_picture() -> None:
    picture, mask = torch.ones(1, 4, 6, 8), torch.zeros(1, 1, 48, 64)
    mask[..., :32] = 0.9
    made = concat_channels(5, LATENT, LATENT_FORMAT, picture, mask, None)
    assert made is not None and made.shape == (2, 5, 6, 8)
    assert torch.equal(made[:, 0], torch.cat([torch.ones(2, 6, 4), torch.zeros(2, 6, 4)], dim=-1)), "rounded"
    assert torch.allclose(made[:, 1:], torch.tensor(0.18215))


def test_inpainting_model_falls_back_to_the_latent_and_its_mask() -> None:
    mask = torch.ones(2, 1, 6, 8)
    made = concat_channels(5, LATENT, LATENT_FORMAT, None, None, mask)
    assert made is not None and torch.equal(made, torch.cat([mask, LATENT], dim=1))
    bare = concat_channels(5, LATENT, LATENT_FORMAT, None, None, None)
    assert bare is not None and torch.equal(bare[:, 0], torch.ones(2, 6, 8))
    assert bare[1, 1:, 3, 3].tolist() == pytest.approx([0.8223, -0.6876, 0.6364, 0.1380])


def test_editing_model_is_given_the_unscaled_picture() -> None:
    picture = torch.full((1, 4, 6, 8), 3.0)
    made = concat_channels(4, LATENT, LATENT_FORMAT, picture, None, None)
    assert made is not None and torch.equal(made, torch.full_like(LATENT, 3.0))
    nothing = concat_channels(4, LATENT, LATENT_FORMAT, None, None, None)
    assert nothing is not None and not nothing.any()


def test_other_numbers_of_channels_are_refused() -> None:
    assert concat_channels(0, LATENT, LATENT_FORMAT, None, None, None) is None
    with pytest.raises(ValueError, match="3 extra input channels"):
        concat_channels(3, LATENT, LATENT_FORMAT, None, None, None)
