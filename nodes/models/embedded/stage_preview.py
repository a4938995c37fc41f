"""Sampling with the three stages while they are being trained: what do they draw by now?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nodes.models.embedded.stage_training import Captions
from nodes.models.embedded.stages import LATENT_SIDE, SEMANTIC_CHANNELS, SEMANTIC_SIDE

if TYPE_CHECKING:
    from nodes.models.embedded.wuerstchen_modules import PaellaVQModel, WuerstchenDiffNeXt, WuerstchenPrior


@dataclass(frozen=True)
class Trained:
    """The stages so far; without a prior, Stage B draws from given semantic latents."""

    vqgan: PaellaVQModel
    decoder: WuerstchenDiffNeXt
    captions: Captions
    prior: WuerstchenPrior | None = None


@torch.no_grad()
def sample_semantic(
    prior: WuerstchenPrior,
    captions: Captions,
    prompts: Sequence[str],
    seed: int,
    steps: int = 30,
    cfg: float = 4.0,
) -> Tensor:
    """Stage C's latents of prompts, (count, 16, 3, 3)."""
    context = captions.encode(captions.tokens([*prompts, *([""] * len(prompts))]))

    def predict(x: Tensor, ratio: Tensor) -> Tensor:
        with_prompt, without = prior(torch.cat([x, x]), torch.cat([ratio, ratio]), context).chunk(2)
        return torch.lerp(without, with_prompt, cfg)

    shape = (len(prompts), SEMANTIC_CHANNELS, SEMANTIC_SIDE, SEMANTIC_SIDE)
    return _sample(predict, shape, steps, seed)


@torch.no_grad()
def draw_latents(
    trained: Trained, semantic: Tensor, prompts: Sequence[str], seed: int, steps: int = 12, cfg: float = 2.0
) -> NDArray[np.uint8]:
    """Stage B's and A's pictures of semantic latents, (count, 128, 128, RGB)."""
    context = trained.captions.encode(trained.captions.tokens([*prompts, *([""] * len(prompts))]))
    shown = torch.cat([semantic, torch.zeros_like(semantic)])

    def predict(x: Tensor, ratio: Tensor) -> Tensor:
        with_both, without = trained.decoder(x.repeat(2, 1, 1, 1), ratio.repeat(2), shown, context).chunk(2)
        return torch.lerp(without, with_both, cfg)

    shape = (len(prompts), 4, LATENT_SIDE, LATENT_SIDE)
    latents = _sample(predict, shape, steps, seed + 1)
    decoded = trained.vqgan.decode(latents * trained.vqgan.config.scale_factor).sample.clamp(0, 1)
    pictures: NDArray[np.uint8] = (decoded * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return pictures


def _sample(
    predict: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...], steps: int, seed: int
) -> Tensor:
    from nodes.models.embedded.wuerstchen_modules import DDPMWuerstchenScheduler

    generator = torch.Generator().manual_seed(seed)
    scheduler = DDPMWuerstchenScheduler()
    scheduler.set_timesteps(steps)
    x = torch.randn(shape, generator=generator)
    for time in scheduler.timesteps[:-1]:
        ratio = time.expand(shape[0])
        x = scheduler.step(predict(x, ratio), ratio, x, generator).prev_sample
    return x
