"""Inpainting: noise masks around a denoiser, and the extra input channels of inpainting models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from nodes.diffusion.denoiser import Denoiser
from nodes.diffusion.model_denoiser import into_network
from nodes.diffusion.parametrisation import Parametrisation
from nodes.resize import resize, to_batch
from nodes.values import LatentFormat

MaskAt = Callable[[float, Tensor], Tensor]
"""The mask to use at a noise level, from the mask that was given."""

# What black is in the scaled latents of Stable Diffusion 1.x: the masked picture where none was given.
_BLACK = (0.8223, -0.6876, 0.6364, 0.1380)


def spread_batch(tensor: Tensor, batch: int) -> Tensor:
    """Pick or repeat along the first dimension so that `batch` items span it evenly.

    Fewer items keep the first and the last; more repeat each in place.
    """
    have = tensor.shape[0]
    if batch == have:
        return tensor
    if batch <= 1:
        return tensor[:batch]
    if batch < have:
        places = [min(round(item * (have - 1) / (batch - 1)), have - 1) for item in range(batch)]
    else:
        places = [min(int((item + 0.5) * have / batch), have - 1) for item in range(batch)]
    return tensor[places]


def fit_mask(mask: Tensor, latent: Tensor) -> Tensor:
    """Resize a noise mask (any leading dimensions, height, width) to (batch, 1, height, width) of `latent`."""
    flat = mask.reshape(-1, 1, *mask.shape[-2:]).to(latent.device, torch.float32)
    return to_batch(functional.interpolate(flat, size=latent.shape[-2:], mode="bilinear"), latent.shape[0])


@dataclass(frozen=True, eq=False)
class Masked:
    """A denoiser that repaints only where `mask` is 1 and keeps `latent` elsewhere.

    Before each call the part to keep is replaced by the latent noised to the call's level, after it by the
    latent. `latent` and `noise` are shaped as x and scaled for the network; `mask` is (batch, 1, height, width).
    `mask_at` may change the mask by noise level.
    """

    denoise: Denoiser
    latent: Tensor
    noise: Tensor
    mask: Tensor
    mask_at: MaskAt | None = None

    @property
    def parametrisation(self) -> Parametrisation:
        """The parametrisation of the denoiser within."""
        return self.denoise.parametrisation

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the guided x0 within the mask and the latent outside it."""
        mask = self._mask(sigma)
        return self._keep(self.denoise(self._noised(x, sigma, mask), sigma), mask)

    def with_uncond(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Return the same and the unconditional x0, which is not masked."""
        mask = self._mask(sigma)
        guided, uncond = self.denoise.with_uncond(self._noised(x, sigma, mask), sigma)
        return self._keep(guided, mask), uncond

    def _mask(self, sigma: float) -> Tensor:
        return self.mask if self.mask_at is None else self.mask_at(sigma, self.mask)

    def _noised(self, x: Tensor, sigma: float, mask: Tensor) -> Tensor:
        kept = self.parametrisation.noise_scaling(sigma, self.noise, self.latent)
        return x * mask + kept * (1.0 - mask)

    def _keep(self, x0: Tensor, mask: Tensor) -> Tensor:
        return x0 * mask + self.latent * (1.0 - mask)


def concat_channels(
    channels: int,
    latent: Tensor,
    latent_format: LatentFormat,
    concat_latent: Tensor | None,
    concat_mask: Tensor | None,
    noise_mask: Tensor | None,
) -> Tensor | None:
    """Return the network's `channels` extra input channels (batch, channels, height, width), or None for 0.

    One more than the latent's channels: an inpainting model, given the mask and the scaled latent of the masked
    picture. As many as the latent: an editing model, given the unscaled latent of the picture to edit.
    `latent` is the scaled starting latent, used where no `concat_latent` is given, as `noise_mask`
    (batch, 1, height, width) is where no `concat_mask` is. Raises ValueError for other numbers of channels.
    """
    height, width = latent.shape[-2:]
    if channels == 0:
        return None
    if channels == latent.shape[1]:
        picture = torch.zeros_like(latent) if concat_latent is None else concat_latent.to(latent)
        return _fitted(picture, latent)
    if channels != latent.shape[1] + 1:
        raise ValueError(
            f"networks with {channels} extra input channels for {latent.shape[1]}-channel latents are not known"
        )
    if concat_mask is None and noise_mask is None:
        black = torch.tensor(_BLACK, device=latent.device).view(1, -1, 1, 1)
        return torch.cat([torch.ones_like(latent[:, :1]), black.expand_as(latent)], dim=1)
    mask = noise_mask if concat_mask is None else concat_mask
    assert mask is not None
    mask = mask.reshape(-1, 1, *mask.shape[-2:]).to(latent)
    if mask.shape[-2:] != latent.shape[-2:]:
        mask = resize(mask, width, height, "bilinear", crop="center")
    picture = latent
    if concat_latent is not None:
        picture = into_network(concat_latent.to(latent), latent_format)
    return torch.cat([spread_batch(mask.round(), latent.shape[0]), _fitted(picture, latent)], dim=1)


def _fitted(picture: Tensor, latent: Tensor) -> Tensor:
    if picture.shape[1:] != latent.shape[1:]:
        height, width = latent.shape[-2:]
        picture = resize(picture, width, height, "bilinear", crop="center")
    return spread_batch(picture, latent.shape[0])
