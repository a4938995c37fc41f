"""Training of the semantic compressor: a picture's content in 3x3 cells of 16 numbers.

A small reader draws the picture again, at a lower resolution, from the latent with noise added, and names what it shows;
it is then thrown away. The noise makes neighbouring latents mean similar pictures, which is what Stage C needs in order to
sample them; the names keep in the latent what few pixels show, such as the shape of a small thing. A pointer, thrown away
too, tells at points of a thing what thing it is and where in it the point lies: what Stage B has to know to draw an outline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nodes.models.embedded.captions import words
from nodes.models.embedded.shapes import SHAPES, Scene
from nodes.models.embedded.stages import COMPRESSOR_SIZE, SEMANTIC_CHANNELS, SEMANTIC_SIDE, build_compressor
from nodes.models.embedded.text_training import CLASSES, UNSAID, labels
from nodes.models.embedded.training import Course, train
from nodes.models.embedded.vae_training import edge_weighted_error, to_tensor
from nodes.models.networks.efficientnet import EfficientNetEncoder

_BATCH = 32
_NOISE = 0.35
_NAMER = 256
_NAMING = 0.7
_POINTS = 24
_SEEN = 48
"""Pixels a side of the picture that the reader draws."""
_CELLS = 16
"""Cells a side that Stage B's upper level, and so the reader, spreads the latent over."""


class _Block(nn.Module):
    """Cells, and the latent beside them, through a depthwise convolution and a layer for each cell, as in Stage B."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.cells = nn.Sequential(
            nn.Linear(width + SEMANTIC_CHANNELS, 3 * width), nn.GELU(), nn.Linear(3 * width, width)
        )

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        inner = torch.cat(
            [self.norm(self.depthwise(x).permute(0, 2, 3, 1)), latent.permute(0, 2, 3, 1)], dim=-1
        )
        out: Tensor = x + self.cells(inner).permute(0, 3, 1, 2)
        return out


class Reader(nn.Module):
    """Draws a picture (batch, 3, 48, 48) in -1..1 from the latent (batch, 16, 3, 3).

    It sees the latent as Stage B does, spread over 16x16 cells by bicubic interpolation. So the compressor learns a code in
    which each cell can tell from the numbers there what belongs there, and Stage B need not decipher the whole of it.
    """

    def __init__(self, width: int = 64, blocks: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(SEMANTIC_CHANNELS, width, 1)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        times = _SEEN // _CELLS
        self.last = nn.Sequential(nn.Conv2d(width, times**2 * 3, 1), nn.PixelShuffle(times))

    def forward(self, latent: Tensor) -> Tensor:
        """Return the picture."""
        spread = functional.interpolate(
            latent, size=(_CELLS, _CELLS), mode="bicubic", antialias=True, align_corners=True
        )
        x = self.first(spread)
        for block in self.blocks:
            x = block(x, spread)
        picture: Tensor = self.last(x)
        return picture


class Pointer(nn.Module):
    """Tells, from the numbers that the latent has at one point, which thing covers it and where within that thing it lies."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(SEMANTIC_CHANNELS, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, len(SHAPES) + 3),
        )

    def forward(self, latent: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the shape (batch, points, shapes), and (x, y, radius) from the thing's centre, of `points` in 0..1."""
        # Where Stage B's 16x16 cells have their centres: its interpolation puts the outermost cells on the border.
        grid = (points * _CELLS - 0.5) / (_CELLS - 1) * 2 - 1
        found = functional.grid_sample(
            latent, grid[:, None], mode="bicubic", padding_mode="border", align_corners=True
        )
        answers = self.layers(found[:, :, 0].transpose(1, 2))
        return answers[..., : len(SHAPES)], answers[..., len(SHAPES) :]


@dataclass(frozen=True)
class Pointed:
    """Points on the things of a batch: `points` (batch, count, 2), `shapes` (batch, count) and `places` (batch, count, 3)."""

    points: Tensor
    shapes: Tensor
    places: Tensor


def point_at(scenes: Sequence[Scene], count: int, rng: np.random.Generator) -> Pointed:
    """Random points within a little more than the things' circles, thing by thing; a picture without things has no answers."""
    turns = [
        scene.things[i % len(scene.things)] if scene.things else None
        for scene in scenes
        for i in range(count)
    ]
    centres = np.array([(t.x, t.y, t.radius) if t else (0.5, 0.5, 0.2) for t in turns])
    angle = rng.random(len(turns)) * 2 * np.pi
    away = np.sqrt(rng.random(len(turns))) * 1.2
    offsets = np.stack([np.cos(angle) * away, np.sin(angle) * away], axis=1)
    points = centres[:, :2] + offsets * centres[:, 2:]
    shapes = np.array([SHAPES.index(t.shape) if t else UNSAID for t in turns])
    places = np.column_stack([offsets, np.log(centres[:, 2] / 0.2) * 2])
    return Pointed(
        torch.from_numpy(points).float().view(-1, count, 2),
        torch.from_numpy(shapes).view(-1, count),
        torch.from_numpy(places).float().view(-1, count, 3),
    )


class Pair(nn.Module):
    """The compressor and what reads its latents."""

    def __init__(self) -> None:
        super().__init__()
        self.compressor = build_compressor()
        self.reader = Reader()
        cells = SEMANTIC_CHANNELS * SEMANTIC_SIDE**2
        self.namer = nn.Sequential(
            nn.Flatten(), nn.Linear(cells, _NAMER), nn.SiLU(), nn.Linear(_NAMER, sum(CLASSES))
        )
        self.pointer = Pointer()


def names_of(scene: Scene) -> list[int]:
    """The class of each attribute of what a picture shows, in the order of CLASSES."""
    return labels(scene, words(scene))


def shrunk(pictures: Tensor, side: int) -> Tensor:
    """Pictures (batch, 3, height, width) resized to `side` pixels a side, anti-aliased and kept within their range."""
    low, high = float(pictures.min()), float(pictures.max())
    sized = functional.interpolate(pictures, size=(side, side), mode="bicubic", antialias=True)
    return sized.clamp(low, high)


def train_compressor(
    work: Path, pictures: NDArray[np.uint8], scenes: Sequence[Scene], course: Course, device: torch.device
) -> EfficientNetEncoder:
    """Train, or go on training, on pictures (count, 128, 128, RGB) of scenes; keeps the state in `compressor.pt`."""
    wanted = torch.tensor([names_of(scene) for scene in scenes], device=device)

    def loss(pair: Pair, step: int, rng: np.random.Generator) -> Tensor:
        chosen = np.sort(rng.integers(0, len(pictures), _BATCH))
        full = to_tensor(pictures[chosen]).to(device)
        shown = (shrunk(full, COMPRESSOR_SIZE) + 1) / 2
        latent = pair.compressor(shown.contiguous(memory_format=torch.channels_last))
        noisy = latent + torch.randn_like(latent) * (_NOISE * torch.rand(len(latent), 1, 1, 1, device=device))
        answers = pair.namer(noisy).split(CLASSES, dim=1)
        right = wanted[torch.from_numpy(chosen).to(device)]
        named = torch.stack(
            [
                functional.cross_entropy(answer, right[:, index], ignore_index=UNSAID, reduction="sum")
                for index, answer in enumerate(answers)
            ]
        )
        drawn = edge_weighted_error(pair.reader(noisy), shrunk(full, _SEEN))
        asked = point_at([scenes[index] for index in chosen], _POINTS, rng)
        shapes, places = pair.pointer(noisy, asked.points.to(device))
        wrong = functional.cross_entropy(
            shapes.flatten(0, 1), asked.shapes.to(device).flatten(), ignore_index=UNSAID
        )
        off = (places - asked.places.to(device)).abs().mean(dim=2)
        off = (off * (asked.shapes.to(device) != UNSAID)).mean()
        total: Tensor = drawn + named.sum() * (_NAMING / _BATCH) + wrong * _NAMING + off
        return total

    pair = Pair().to(device)
    pair.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return train(work / "compressor.pt", pair, course, loss, 21).compressor
