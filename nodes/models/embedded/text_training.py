"""A head start for the embedded model's text encoder: naming what a caption says.

A small reader learns, together with the encoder, to tell every attribute of the scene from the encoder's output. The reader is
then thrown away. The network that draws finds the attributes laid out for it from its first step on, which
saves it most of the time it would otherwise spend on ignoring the prompt.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nodes.models.embedded.architecture import TEXT_WIDTH, build_text_encoder
from nodes.models.embedded.captions import caption, says_background
from nodes.models.embedded.checkpoints_io import save
from nodes.models.embedded.shapes import COLOURS, PLACES, SHAPES, SIZES, Scene, random_scene
from nodes.models.embedded.tokens import CaptionTokens

if TYPE_CHECKING:
    from transformers import CLIPTextModel

_log = logging.getLogger(__name__)
_COLOURS = tuple(COLOURS)
_LAYOUTS = ("empty", "single", "beside", "stacked")
UNSAID: Final = -100
"""The label of what a caption leaves out; cross-entropy passes over it."""
CLASSES: Final = (
    len(_LAYOUTS),
    len(PLACES),
    len(_COLOURS),
    *(len(SHAPES), len(_COLOURS), len(SIZES)) * 2,
)


def labels(scene: Scene, text: str) -> list[int]:
    """The class of each attribute in the order of CLASSES, or the value that cross-entropy ignores."""
    found = [
        _LAYOUTS.index(scene.layout),
        PLACES.index(scene.place) if scene.layout == "single" else UNSAID,
        _COLOURS.index(scene.background) if says_background(scene, text) else UNSAID,
    ]
    for index in range(2):
        if index < len(scene.things):
            thing = scene.things[index]
            found += [SHAPES.index(thing.shape), _COLOURS.index(thing.colour), SIZES.index(thing.size)]
        else:
            found += [UNSAID] * 3
    return found


class AttributeReader(nn.Module):
    """Reads the attributes off encoded tokens: one learned query and one linear layer for each."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(CLASSES), TEXT_WIDTH) * 0.3)
        self.heads = nn.ModuleList(nn.Linear(TEXT_WIDTH, count) for count in CLASSES)

    def forward(self, encoded: Tensor) -> list[Tensor]:
        """Logits (batch, classes) of each attribute from (batch, tokens, TEXT_WIDTH)."""
        weights = (encoded @ self.queries.t() / TEXT_WIDTH**0.5).softmax(dim=1)
        pooled = weights.transpose(1, 2) @ encoded
        return [head(pooled[:, index]) for index, head in enumerate(self.heads)]


def train_text(
    work: Path, steps: int, batch: int, tokens: CaptionTokens, device: torch.device
) -> CLIPTextModel:
    """Train the text encoder on naming attributes; keeps the result in `text.pt` and returns it from there later."""
    torch.manual_seed(2)
    model = build_text_encoder().to(device)
    model.set_attn_implementation("eager")
    file = work / "text.pt"
    if file.exists():
        model.load_state_dict(torch.load(file, map_location=device, weights_only=True))
        return model
    reader = AttributeReader().to(device)
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *reader.parameters()], 1e-3, (0.9, 0.98), weight_decay=0.0
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps + 1, pct_start=0.05)
    rng = np.random.default_rng(2)
    started = time.monotonic()
    for step in range(steps):
        scenes = [random_scene(rng, layouts=(0.04, 0.4, 0.3, 0.26)) for _ in range(batch)]
        texts = [caption(scene, rng) for scene in scenes]
        wanted = torch.tensor([labels(s, t) for s, t in zip(scenes, texts, strict=True)], device=device)
        encoded = model(tokens(texts, rng, strangers=0.1).to(device)).last_hidden_state
        answers = reader(encoded)
        losses = [
            functional.cross_entropy(answer, wanted[:, index], ignore_index=UNSAID, reduction="sum") / batch
            for index, answer in enumerate(answers)
        ]
        total = torch.stack(losses).sum()
        torch.autograd.backward(total)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        if (step + 1) % 100 == 0:
            right = _shares_right(answers, wanted)
            rate = (step + 1) / (time.monotonic() - started)
            shares = " ".join(f"{share:.2f}" for share in right)
            _log.info(
                "text step %d/%d loss %.3f right %s %.1f it/s",
                step + 1,
                steps,
                float(total.detach()),
                shares,
                rate,
            )
    save(file, model.state_dict())
    return model


def _shares_right(answers: list[Tensor], wanted: Tensor) -> list[float]:
    shares = []
    for index, answer in enumerate(answers):
        said = wanted[:, index] != UNSAID
        shares.append(float((answer.argmax(dim=1) == wanted[:, index])[said].float().mean()))
    return shares
