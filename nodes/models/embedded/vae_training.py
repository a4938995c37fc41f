"""Training of the embedded model's autoencoder."""

from __future__ import annotations

import copy
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nodes.models.embedded.architecture import LATENT_SCALE, PICTURE_SIZE, build_vae
from nodes.models.embedded.checkpoints_io import average, save
from nodes.models.embedded.shapes import COLOURS, draw, random_scene

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

_log = logging.getLogger(__name__)
_KL_WEIGHT = 2e-4
_DECAY = 0.995
_RATE = 1.5e-3
_SMALL_SHARE = 0.75
_LAYOUTS = (0.0, 0.55, 0.25, 0.2)


def to_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """Pictures (batch, height, width, RGB) 0..255 as (batch, 3, height, width) in -1..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def picture_batch(rng: np.random.Generator, count: int, size: int) -> Tensor:
    """Random pictures for the autoencoder, (count, 3, size, size) in -1..1.

    Some palettes are shifted or wholly random, so that the autoencoder serves colours that no caption names. Sizes below
    PICTURE_SIZE are cut out of a picture near one of its things.
    """
    pictures = np.empty((count, size, size, 3), dtype=np.uint8)
    for index in range(count):
        kind = rng.random()
        palette = dict(COLOURS)
        if kind < 0.1:
            palette = {name: _rgb(rng.integers(0, 256, 3)) for name in COLOURS}
        elif kind < 0.4:
            palette = {name: _rgb(np.array(c) + rng.integers(-20, 21, 3)) for name, c in COLOURS.items()}
        scene = random_scene(rng, held=None, layouts=_LAYOUTS)
        if size == PICTURE_SIZE:
            pictures[index] = draw(scene, size, size, palette)
            continue
        full = int(rng.integers(PICTURE_SIZE * 7 // 8, PICTURE_SIZE * 5 // 4))
        thing = scene.things[int(rng.integers(len(scene.things)))]
        centre = np.array([thing.y, thing.x]) * full + rng.integers(-size // 3, size // 3 + 1, 2)
        top, left = (int(v) for v in np.clip(centre - size // 2, 0, full - size))
        pictures[index] = draw(scene, full, full, palette)[top : top + size, left : left + size]
    return to_tensor(pictures)


def train_vae(work: Path, steps: int, batch: int, device: torch.device) -> AutoencoderKL:
    """Train, or go on training, the autoencoder; returns its averaged weights, scaled to LATENT_SCALE.

    Most steps see quarter-size cuts: the network is convolutional, a cut is four times quicker and holds little empty
    background. Writes `vae.pt` every 100 steps and resumes from it.
    """
    torch.manual_seed(1)
    model = build_vae().to(device)
    averaged = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, betas=(0.9, 0.98), weight_decay=1e-4)
    done, file = 0, work / "vae.pt"
    if file.exists():
        state = torch.load(file, map_location=device, weights_only=True)
        done = int(state["step"])
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
    rng = np.random.default_rng(1000 + done)
    started, recent = time.monotonic(), np.zeros(2)
    for step in range(done, steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * max(
                0.01, min((step + 1) / 100, 0.5 + 0.5 * math.cos(math.pi * step / steps))
            )
        small = step < _SMALL_SHARE * steps
        x = picture_batch(rng, 4 * batch if small else batch, PICTURE_SIZE // 2 if small else PICTURE_SIZE)
        loss, parts = _loss(model, x.to(device))
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average(averaged, model, min(_DECAY, (step + 1) / (step + 10)))
        recent += parts
        if (step + 1) % 50 == 0:
            rate = (step + 1 - done) / (time.monotonic() - started)
            left = (steps - step - 1) / rate
            l1, kl = recent / 50
            _log.info(
                "vae step %d/%d l1 %.4f kl %.2f %.2f it/s %.0f s left", step + 1, steps, l1, kl, rate, left
            )
            recent[:] = 0
        if (step + 1) % 100 == 0 or step + 1 == steps:
            state = {"step": step + 1, "model": model.state_dict(), "averaged": averaged.state_dict()}
            save(file, state | {"optimizer": optimizer.state_dict()})
    rescale(averaged, device)
    return averaged.eval().requires_grad_(False)


def _loss(model: AutoencoderKL, x: Tensor) -> tuple[Tensor, NDArray[np.float64]]:
    """The loss of pictures, and its mean absolute error and divergence for the log."""
    with torch.autocast(x.device.type, torch.bfloat16):
        posterior = model.encode(x).latent_dist
        decoded = model.decode(posterior.sample()).sample
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
    loss = edge_weighted_error(decoded.float(), x) + _KL_WEIGHT * kl
    l1 = (decoded.detach().float() - x).abs().mean()
    return loss, np.array([float(l1), float(kl.detach())])


def edge_weighted_error(decoded: Tensor, x: Tensor) -> Tensor:
    """Absolute plus squared error of pictures, the surroundings of edges counted four times.

    Most of a picture is flat; what is hard, and what tells one shape from another, are the edges.
    """
    contrast = (_highest(x) + _highest(-x)).amax(dim=1, keepdim=True)
    difference = decoded - x
    return ((difference.abs() + difference.square()) * (1.0 + 3.0 * (contrast > 0.1))).mean()


def _highest(x: Tensor) -> Tensor:
    """The highest value within four pixels: rows, then columns, which is several times quicker than squares."""
    return functional.max_pool2d(functional.max_pool2d(x, (1, 9), 1, (0, 4)), (9, 1), 1, (4, 0))


def rescale(model: AutoencoderKL, device: torch.device, count: int = 256) -> None:
    """Fold a scale into the two 1x1 convolutions around the latent so that LATENT_SCALE gives it unit variance.

    The variance is measured on `count` random pictures.
    """
    x = picture_batch(np.random.default_rng(7), count, PICTURE_SIZE)
    with torch.no_grad():
        latents = torch.cat([model.encode(part.to(device)).latent_dist.mean for part in torch.split(x, 32)])
        factor = 1.0 / (LATENT_SCALE * float(latents.std()))
        channels = latents.shape[1]
        model.quant_conv.weight[:channels] *= factor
        model.quant_conv.bias[:channels] *= factor
        # The other half is the logarithm of the variance, which grows by the factor's square.
        model.quant_conv.bias[channels:] += 2 * np.log(factor)
        model.post_quant_conv.weight /= factor


def _rgb(values: NDArray[np.integer]) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in np.clip(values, 0, 255))
    return red, green, blue
