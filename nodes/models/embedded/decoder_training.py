"""The decoder's last lesson: latents as sampling leaves them, not quite as the encoder makes them."""

from __future__ import annotations

import copy
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import nn

from nodes.models.embedded.architecture import LATENT_SCALE, PICTURE_SIZE
from nodes.models.embedded.checkpoints_io import average, save
from nodes.models.embedded.vae_training import edge_weighted_error, picture_batch

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

_log = logging.getLogger(__name__)
_RATE: Final = 6e-4
_DECAY: Final = 0.99
_NOISE: Final = 0.25
"""The largest standard deviation of the noise on latents of unit variance."""


def polish_decoder(
    work: Path, vae: AutoencoderKL, steps: int, batch: int, device: torch.device
) -> AutoencoderKL:
    """Train the decoder alone on noisy latents; the encoder, and so every latent, stays as it is.

    What a sampler returns is a little off the encoder's latents, and an unprepared decoder turns that into mottled areas.
    Keeps the result in `decoder.pt` and reads it from there later; returns `vae`, changed in place.
    """
    file = work / "decoder.pt"
    parts = nn.ModuleList([vae.post_quant_conv, vae.decoder])
    if file.exists():
        parts.load_state_dict(torch.load(file, map_location=device, weights_only=True))
        return vae
    parts.requires_grad_(True)
    averaged = copy.deepcopy(parts)
    optimizer = torch.optim.AdamW(parts.parameters(), lr=_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    rng = np.random.default_rng(4)
    torch.manual_seed(4)
    started, total = time.monotonic(), 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min((step + 1) / 20, 1.0 - step / steps)
        x = picture_batch(rng, batch, PICTURE_SIZE).to(device)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            latents = vae.encode(x).latent_dist.mean.float()
        spread = torch.rand(batch, 1, 1, 1, device=device) * (_NOISE / LATENT_SCALE)
        with torch.autocast(device.type, torch.bfloat16):
            decoded = vae.decode(latents + spread * torch.randn_like(latents)).sample
        loss = edge_weighted_error(decoded.float(), x)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average(averaged, parts, min(_DECAY, (step + 1) / (step + 10)))
        total += float(loss.detach())
        if (step + 1) % 50 == 0:
            rate = (step + 1) / (time.monotonic() - started)
            _log.info("decoder step %d/%d loss %.4f %.2f it/s", step + 1, steps, total / 50, rate)
            total = 0.0
    parts.load_state_dict(averaged.state_dict())
    parts.requires_grad_(False)
    save(file, parts.state_dict())
    return vae
