"""Training of Stage C and Stage B: both predict the noise of a latent under the cosine schedule of Würstchen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nodes.models.embedded.captions import caption
from nodes.models.embedded.shapes import Scene
from nodes.models.embedded.stages import build_decoder, build_prior
from nodes.models.embedded.tokens import CaptionTokens
from nodes.models.embedded.training import Course, Loss, train

M = TypeVar("M", bound=nn.Module)

if TYPE_CHECKING:
    from transformers import CLIPTextModel

    from nodes.models.embedded.wuerstchen_modules import WuerstchenDiffNeXt, WuerstchenPrior

_UNSAID_SHARE: Final = 0.1
_SHORT: Final = 32
"""Tokens that every caption fits into; most steps leave the padding behind them out."""
_FULL_FROM: Final = 0.7
"""Part of the course after which all 77 tokens are shown, as samplers do."""
_SNR_LIMITS: Final = (1.0, 5.0)
_BLIND_SHARE: Final = 0.05
"""Of Stage B's lessons without the semantic latent, besides those without anything."""
_NOTHING_SHARE: Final = 0.1
"""Of Stage B's lessons with neither latent nor caption: what guidance steers away from."""
_SEMANTIC_NOISE: Final = 0.2
_LEAN: Final = 2.0
"""Stage B settles outlines where next to nothing of the latent is left, and learns little from what is nearly clean."""
_PLAIN_SHARE: Final = 0.3
"""Of Stage B's pictures that show one large thing, until the last part of its course."""
_PAIR_SHARE: Final = 0.4
"""Of Stage B's pictures in that last part that show two things, which are small."""
_POINTED_SHARE: Final = 0.25
"""Of them that show a star: no other outline has as many corners, and none is learned as late."""
_EMPHASIS: Final = 0.7
"""How much more an error near a thing counts to Stage B: this by its radius in shares of the picture."""


@dataclass(frozen=True)
class Encoded:
    """Scenes and their latents: `semantic` (count, 16, 3, 3) and `latents` (count, 4, 32, 32), float16."""

    scenes: list[Scene]
    semantic: Tensor
    latents: Tensor


def alpha_bar(ratio: Tensor) -> Tensor:
    """The kept share of the signal's variance at a ratio in 0..1 (https://arxiv.org/abs/2306.00637), clamped as published."""
    s = 0.008
    start = math.cos(s / (1 + s) * math.pi / 2) ** 2
    kept = torch.cos((ratio + s) / (1 + s) * math.pi / 2) ** 2 / start
    return kept.clamp(0.0001, 0.9999)


@dataclass(frozen=True)
class Captions:
    """Encodes captions as samplers will: (batch, tokens, width), padding masked within the encoder."""

    text: CLIPTextModel
    tokens: CaptionTokens

    def __call__(
        self, scenes: list[Scene], rng: np.random.Generator, unsaid: float | NDArray[np.float64], length: int
    ) -> Tensor:
        """One random wording for each scene, empty with the probability `unsaid`; the first `length` tokens."""
        empty = rng.random(len(scenes)) < unsaid
        texts = ["" if none else caption(scene, rng) for scene, none in zip(scenes, empty, strict=True)]
        return self.encode(self.tokens(texts, rng, strangers=0.03), length)

    def encode(self, ids: Tensor, length: int = 77) -> Tensor:
        """The encodings of token ids (batch, 77)."""
        device = next(iter(self.text.parameters())).device
        ids = ids[:, :length].to(device)
        ends = (ids == ids[:, -1:]).int().cumsum(dim=1)
        with torch.no_grad():
            encoded: Tensor = self.text(ids, attention_mask=(ends <= 1).long()).last_hidden_state
        return encoded


def noise_loss(
    predict: Callable[[Tensor, Tensor], Tensor],
    clean: Tensor,
    rng: np.random.Generator,
    lean: float = 1.0,
    emphasis: Tensor | None = None,
) -> Tensor:
    """The squared error of the noise that `predict(noisy, ratio)` finds, weighted by the signal-to-noise ratio (SNR).

    The weight is the SNR limited to 1..5, divided by the SNR: after https://arxiv.org/abs/2303.09556 at its upper end; at the
    lower one an error of the clean latent counts however little of it is left, because colours and shapes are settled there.
    The ratios' density rises towards 1 with their power `lean` - 1. `emphasis`, (batch, 1, height, width), says how much an
    error at each place counts.
    """
    count = len(clean)
    # One ratio from each of `count` equal parts of the range: less variance between batches.
    ratio = torch.from_numpy((np.arange(count) + rng.random(count)) / count).float().to(clean.device)
    ratio = ratio ** (1 / lean)
    kept = alpha_bar(ratio)[:, None, None, None]
    noise = torch.randn_like(clean)
    predicted = predict(kept.sqrt() * clean + (1 - kept).sqrt() * noise, ratio)
    snr = (kept / (1 - kept)).flatten()
    weight = snr.clamp(*_SNR_LIMITS) / snr
    # Beyond 1 the error counts linearly: Stage C's divisor comes near zero now and then, and must not drown the rest.
    error = functional.huber_loss(predicted, noise, reduction="none") * 2
    if emphasis is not None:
        error = error * emphasis
    return (error.mean(dim=(1, 2, 3)) * weight).mean()


def near_things(scenes: list[Scene], side: int) -> Tensor:
    """How much an error counts at each of side x side places, (count, 1, side, side): 1 on the background, more near things.

    Small things cover little, and the mean over the picture would hardly hear of their outlines. What is near a thing is said
    by the caption and the semantic latent, so that the best prediction stays the same.
    """
    y, x = np.mgrid[0:side, 0:side]
    weights = np.ones((len(scenes), 1, side, side), np.float32)
    for weight, scene in zip(weights, scenes, strict=True):
        for thing in scene.things:
            reach = thing.radius * 1.25
            near = np.maximum(abs((x + 0.5) / side - thing.x), abs((y + 0.5) / side - thing.y)) <= reach
            weight[0, near] = 1.0 + _EMPHASIS / thing.radius
    return torch.from_numpy(weights)


def train_prior(
    work: Path,
    course: Course,
    batch: int,
    data: Encoded,
    captions: Captions,
    preview: Callable[[nn.Module, int], None] | None,
) -> WuerstchenPrior:
    """Train, or go on training, Stage C; keeps the state in `prior.pt`."""

    def loss(prior: WuerstchenPrior, step: int, rng: np.random.Generator) -> Tensor:
        chosen = rng.integers(0, len(data.scenes), batch)
        scenes = [data.scenes[index] for index in chosen]
        context = captions(scenes, rng, _UNSAID_SHARE, _length(step, course))
        clean = data.semantic[torch.from_numpy(chosen)].float()
        return noise_loss(lambda x, ratio: prior(x, ratio, context), clean, rng)

    return _quickly(work / "prior.pt", build_prior(), course, loss, 23, preview)


def train_decoder(
    work: Path,
    course: Course,
    batch: int,
    data: Encoded,
    captions: Captions,
    preview: Callable[[nn.Module, int], None] | None,
) -> WuerstchenDiffNeXt:
    """Train, or go on training, Stage B; keeps the state in `decoder.pt`.

    The semantic latent gets noise, because Stage C's are never exact. It is at times left out, and so is the caption; both
    together more often, because that is what guidance takes for its other end. Errors near things count for more.
    """

    def where(which: Callable[[Scene], bool]) -> NDArray[np.intp]:
        return np.flatnonzero([which(scene) for scene in data.scenes])

    early_lessons = [(where(_plain), _PLAIN_SHARE)]
    late_lessons = [(where(_paired), _PAIR_SHARE), (where(_pointed), _POINTED_SHARE)]

    def loss(decoder: WuerstchenDiffNeXt, step: int, rng: np.random.Generator) -> Tensor:
        chosen = rng.integers(0, len(data.scenes), batch)
        late = step >= _FULL_FROM * course.steps
        lot = rng.random(batch)
        for favoured, share in late_lessons if late else early_lessons:
            if len(favoured):
                often = (lot >= 0) & (lot < share)
                chosen = np.where(often, favoured[rng.integers(0, len(favoured), batch)], chosen)
            lot = lot - share
        scenes = [data.scenes[index] for index in chosen]
        nothing = rng.random(batch) < _NOTHING_SHARE
        context = captions(scenes, rng, np.where(nothing, 1.0, _UNSAID_SHARE), _length(step, course))
        semantic = data.semantic[torch.from_numpy(chosen)].float()
        semantic = semantic + torch.randn_like(semantic) * (_SEMANTIC_NOISE * torch.rand(batch, 1, 1, 1))
        blind = torch.from_numpy(nothing | (rng.random(batch) < _BLIND_SHARE))
        semantic = semantic * ~blind[:, None, None, None]
        clean = data.latents[torch.from_numpy(chosen)].float()
        emphasis = near_things(scenes, clean.shape[-1])
        return noise_loss(lambda x, ratio: decoder(x, ratio, semantic, context), clean, rng, _LEAN, emphasis)

    return _quickly(work / "decoder.pt", build_decoder(), course, loss, 24, preview)


def _quickly(
    file: Path,
    module: M,
    course: Course,
    loss: Loss[M],
    seed: int,
    preview: Callable[[M, int], None] | None,
) -> M:
    from nodes.models.embedded.wuerstchen_modules import quick_to_train

    quick_to_train(module)
    return train(file, module, course, loss, seed, preview)


def _plain(scene: Scene) -> bool:
    """Whether it shows one thing large enough that its shape is most of what there is to draw."""
    return len(scene.things) == 1 and scene.things[0].size == "large"


def _paired(scene: Scene) -> bool:
    return len(scene.things) > 1


def _pointed(scene: Scene) -> bool:
    return any(thing.shape == "star" for thing in scene.things)


def _length(step: int, course: Course) -> int:
    return 77 if step >= _FULL_FROM * course.steps else _SHORT
