"""Sampling with networks that are being trained: what do they draw by now?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nodes.diffusion import samplers, schedules
from nodes.diffusion.parametrisation import Discrete
from nodes.models.embedded.architecture import LATENT_SCALE
from nodes.models.embedded.tokens import CaptionTokens

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

    from nodes.models.embedded.unet_training import Networks


@dataclass(frozen=True)
class Guided:
    """A denoiser with classifier-free guidance over a batch of encoded prompts (batch, 77, width)."""

    networks: Networks
    parametrisation: Discrete
    prompts: Tensor
    empty: Tensor
    cfg: float

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """The guided x0."""
        return self.with_uncond(x, sigma)[0]

    def with_uncond(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """The guided and the unconditional x0."""
        scaled = self.parametrisation.scale_input(x, sigma)
        time = torch.tensor(self.parametrisation.timestep(sigma), device=x.device)
        with torch.autocast(x.device.type, torch.bfloat16):
            output = self.networks.unet(
                torch.cat([scaled, scaled]), time, torch.cat([self.prompts, self.empty])
            ).sample
        with_prompt, without = (
            self.parametrisation.to_x0(part, x, sigma) for part in output.float().chunk(2)
        )
        return without + self.cfg * (with_prompt - without), without


def sample_pictures(
    networks: Networks,
    vae: AutoencoderKL,
    tokens: CaptionTokens,
    prompts: Sequence[str],
    seed: int,
    *,
    steps: int = 20,
    cfg: float = 5.0,
    sampler: str = "euler",
    scheduler: str = "normal",
    size: tuple[int, int] = (16, 16),
) -> NDArray[np.uint8]:
    """Draw prompts: (count, height, width, RGB), 0..255; `size` is (width, height) in latent cells."""
    device = next(iter(networks.unet.parameters())).device
    parametrisation = Discrete()
    pictures = []
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for start in range(0, len(prompts), 32):
            part = prompts[start : start + 32]
            encoded = networks.text(tokens([*part, ""]).to(device)).last_hidden_state
            empty = encoded[-1:].expand(len(part), -1, -1)
            denoise = Guided(networks, parametrisation, encoded[:-1], empty, cfg)
            sigmas = schedules.ksampler_sigmas(sampler, scheduler, steps, 1.0, parametrisation).values
            noise = torch.randn(len(part), 4, size[1], size[0], generator=generator).to(device)
            x = parametrisation.noise_scaling(
                float(sigmas[0]), noise, torch.zeros_like(noise), max_denoise=True
            )
            latents = samplers.run(sampler, denoise, x, sigmas, seed=seed)
            decoded = vae.decode(latents / LATENT_SCALE).sample.float().clamp(-1, 1)
            pictures.append(((decoded + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(pictures)


def contact_sheet(pictures: NDArray[np.uint8], file: Path, columns: int = 8) -> None:
    """Save pictures (count, height, width, RGB) side by side as a PNG."""
    rows = -(-len(pictures) // columns)
    height, width = pictures.shape[1:3]
    sheet = Image.new("RGB", (columns * width, rows * height))
    for index, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), (index % columns * width, index // columns * height))
    sheet.save(file)
