"""Training of the embedded model's noise predictor, its text encoder with it."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn

from nodes.models.embedded.architecture import build_unet
from nodes.models.embedded.captions import caption
from nodes.models.embedded.checkpoints_io import average, save
from nodes.models.embedded.latents import Encoded
from nodes.models.embedded.tokens import CaptionTokens

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

_log = logging.getLogger(__name__)
_UNSAID_SHARE: Final = 0.1
_DECAY: Final = 0.999
_SNR_LIMIT: Final = 5.0
_NOISY_LIMIT: Final = 5.0
_WARM_UP: Final = 200
_COOL_DOWN: Final = 0.3
_OTHER_SIZES_FROM: Final = 0.5


@dataclass(frozen=True)
class Plan:
    """How long to train: `steps` in all of `batch` 16x16 latents, learning rates at their height."""

    steps: int
    batch: int = 64
    rate: float = 1e-3
    text_rate: float = 2e-4
    save_every: int = 250


@dataclass(frozen=True)
class Networks:
    """The noise predictor and the text encoder."""

    unet: UNet2DConditionModel
    text: CLIPTextModel


def alphas_cumprod() -> Tensor:
    """The products of 1 - beta of Stable Diffusion 1.x, (1000,) float32."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1.0 - betas, dim=0).float()


def training_networks(text: CLIPTextModel, device: torch.device) -> Networks:
    """A new noise predictor beside a text encoder, laid out for quick training on `device`."""
    from diffusers.models.attention_processor import AttnProcessor

    unet = build_unet().to(device, memory_format=torch.channels_last)
    if device.type == "cpu":
        # The fused kernel's backward pass is several times slower on CPUs than the plain products.
        unet.set_attn_processor(AttnProcessor())
        text.set_attn_implementation("eager")
    return Networks(unet, text)


def rate_at(step: int, plan: Plan) -> float:
    """The learning rate's factor in 0..1: a linear rise, a plateau, and a linear fall over the last third."""
    fall = (plan.steps - step) / (_COOL_DOWN * plan.steps)
    return max(0.01, min(1.0, (step + 1) / _WARM_UP, fall))


def train_unet(
    work: Path,
    plan: Plan,
    networks: Networks,
    main: Encoded,
    others: list[Encoded],
    tokens: CaptionTokens,
    device: torch.device,
    preview: Callable[[Networks, int], None],
) -> Networks:
    """Train, or go on training; returns the averaged networks.

    Loss: squared error of the noise, weighted by min(SNR, 5) / SNR (https://arxiv.org/abs/2303.09556), and up to 5 times
    more where noise prevails: colours are settled there, and a tiny error of the noise's mean is a large one of the colour.
    Writes `unet.pt` every `plan.save_every` steps, resumes from it, and calls `preview` with the averaged networks then.
    """
    torch.manual_seed(3)
    averaged = copy.deepcopy(networks)
    groups = [
        {"params": list(networks.unet.parameters()), "lr": plan.rate, "weight_decay": 0.01},
        {"params": list(networks.text.parameters()), "lr": plan.text_rate, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=True)
    done, file = 0, work / "unet.pt"
    pairs = ((networks.unet, averaged.unet), (networks.text, averaged.text))
    if file.exists():
        state = torch.load(file, map_location=device, weights_only=True)
        done = int(state["step"])
        for (model, mean), name in zip(pairs, ("unet", "text"), strict=True):
            model.load_state_dict(state[name])
            mean.load_state_dict(state[f"averaged_{name}"])
        optimizer.load_state_dict(state["optimizer"])
    rng = np.random.default_rng(3000 + done)
    alphas = alphas_cumprod().to(device)
    started, total = time.monotonic(), 0.0
    for step in range(done, plan.steps):
        factor = rate_at(step, plan)
        for group, rate in zip(optimizer.param_groups, (plan.rate, plan.text_rate), strict=True):
            group["lr"] = rate * factor
        late = others and step > _OTHER_SIZES_FROM * plan.steps and rng.random() < 0.18
        source = others[int(rng.integers(len(others)))] if late else main
        loss = _loss(networks, source, plan.batch, tokens, alphas, rng)
        torch.autograd.backward(loss)
        for model, _ in pairs:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        for model, mean in pairs:
            average(mean, model, min(_DECAY, (step + 1) / (step + 10)))
        total += float(loss.detach())
        if (step + 1) % 50 == 0:
            speed = (step + 1 - done) / (time.monotonic() - started)
            left = (plan.steps - step - 1) / speed
            _log.info(
                "unet step %d/%d loss %.4f %.2f it/s %.0f s left",
                step + 1,
                plan.steps,
                total / 50,
                speed,
                left,
            )
            total = 0.0
        if (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
            state = {"step": step + 1, "optimizer": optimizer.state_dict()}
            for (model, mean), name in zip(pairs, ("unet", "text"), strict=True):
                state |= {name: model.state_dict(), f"averaged_{name}": mean.state_dict()}
            save(file, state)
            preview(averaged, step + 1)
    return averaged


def _loss(
    networks: Networks,
    source: Encoded,
    batch: int,
    tokens: CaptionTokens,
    alphas: Tensor,
    rng: np.random.Generator,
) -> Tensor:
    device = alphas.device
    cells = source.latents.shape[-1] * source.latents.shape[-2]
    count = max(8, min(len(source.scenes), batch * 256 // cells, batch * 2))
    chosen = rng.integers(0, len(source.scenes), count)
    clean = source.latents[torch.from_numpy(chosen)].to(device, torch.float32)
    texts = ["" if rng.random() < _UNSAID_SHARE else caption(source.scenes[i], rng) for i in chosen]
    ids = tokens(texts, rng, strangers=0.03).to(device)
    # One timestep from each of `count` equal parts of the range: less variance between batches.
    times = (
        torch.from_numpy((np.arange(count) + rng.random(count)) * (1000 / count))
        .long()
        .clamp_(max=999)
        .to(device)
    )
    noise = torch.randn(clean.shape, device=device)
    kept = alphas[times].view(-1, 1, 1, 1)
    noisy = (kept.sqrt() * clean + (1 - kept).sqrt() * noise).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16):
        context = networks.text(ids).last_hidden_state
        predicted = networks.unet(noisy, times, context).sample
    snr = alphas[times] / (1 - alphas[times])
    weight = torch.where(snr > 1, snr.clamp(max=_SNR_LIMIT) / snr, snr.rsqrt().clamp(max=_NOISY_LIMIT))
    error: Tensor = (predicted.float() - noise).square().mean(dim=(1, 2, 3))
    return (error * weight).mean()
