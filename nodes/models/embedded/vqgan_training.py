"""Training of Stage A, the vector-quantised autoencoder between pictures and the latents of Stage B."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nodes.models.embedded.stages import build_vqgan
from nodes.models.embedded.training import Course, train
from nodes.models.embedded.vae_training import edge_weighted_error

if TYPE_CHECKING:
    from nodes.models.embedded.wuerstchen_modules import PaellaVQModel

_BATCH = 10
_CUT = 64
"""Pixels a side of the cuts that it learns from: the network is convolutional, and a cut is four times quicker."""
_NOISE = 0.25
_QUANTISED_SHARE = 0.3


def cuts(pictures: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
    """Random cuts of random pictures, (batch, 3, 64, 64), 0..1; half of them in colours that no caption names."""
    found = np.empty((_BATCH, _CUT, _CUT, 3), dtype=np.float32)
    for index in range(_BATCH):
        picture = pictures[int(rng.integers(len(pictures)))]
        top, left = rng.integers(0, picture.shape[0] - _CUT + 1, 2)
        found[index] = picture[top : top + _CUT, left : left + _CUT] / 255.0
        if rng.random() < 0.5:
            found[index] = _recoloured(found[index], rng)
    return torch.from_numpy(found).permute(0, 3, 1, 2).contiguous()


def _recoloured(cut: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Channels swapped, then every one of them stretched at random."""
    low, high = np.sort(rng.random((2, 3)), axis=0)
    mixed: NDArray[np.float32] = (low + cut[..., rng.permutation(3)] * (high - low)).astype(np.float32)
    return mixed


def train_vqgan(
    work: Path, pictures: NDArray[np.uint8], course: Course, device: torch.device
) -> PaellaVQModel:
    """Train, or go on training, on pictures (count, 128, 128, RGB); keeps the state in `vqgan.pt`.

    The decoder sees latents as they are with a little noise, because a sampler's are never exact, and at times quantised.
    """

    def loss(model: PaellaVQModel, step: int, rng: np.random.Generator) -> Tensor:
        x = cuts(pictures, rng).to(device)
        latents = model.encode(x).latents
        codes, distance, _ = model.vquantizer(latents)
        quantised = torch.rand(len(x), 1, 1, 1, device=device) < _QUANTISED_SHARE
        noise = torch.randn_like(latents) * (_NOISE * torch.rand(len(x), 1, 1, 1, device=device))
        decoded = model.decode(torch.where(quantised, codes, latents + noise)).sample
        error: Tensor = edge_weighted_error(decoded * 2 - 1, x * 2 - 1) + 0.2 * distance
        return error

    model = train(work / "vqgan.pt", build_vqgan().to(device), course, loss, 22)
    _set_scale(model, pictures, device)
    return model


def _set_scale(model: PaellaVQModel, pictures: NDArray[np.uint8], device: torch.device) -> None:
    """Note in the configuration what whole pictures' latents are divided by to have unit variance."""
    x = torch.from_numpy(np.array(pictures[:256])).permute(0, 3, 1, 2).float().div_(255.0)
    with torch.no_grad():
        latents = torch.cat([model.encode(part.to(device)).latents for part in torch.split(x, 32)])
    model.register_to_config(scale_factor=round(float(latents.std()), 4))


def encoded(model: PaellaVQModel, pictures: Tensor) -> Tensor:
    """Stage B's latents of pictures (batch, 3, height, width), 0..1: (batch, 4, height / 4, width / 4), unit variance."""
    latents: Tensor = model.encode(pictures).latents / model.config.scale_factor
    return latents


def error(model: PaellaVQModel, pictures: Tensor) -> float:
    """The mean absolute error of pictures (batch, 3, height, width), 0..1, after encoding and decoding."""
    with torch.no_grad():
        decoded = model.decode(encoded(model, pictures) * model.config.scale_factor).sample.clamp(0, 1)
    return float(functional.l1_loss(decoded, pictures))
