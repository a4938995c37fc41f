"""One training loop for all networks: resumable, with averaged weights and a log line now and then."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from nodes.models.embedded.checkpoints_io import average, save

_log = logging.getLogger(__name__)
M = TypeVar("M", bound=nn.Module)
Loss = Callable[[M, int, np.random.Generator], Tensor]
"""Loss of one step: (module, step, random generator)."""


@dataclass(frozen=True)
class Course:
    """How long and how fast to train: `steps` in all; the rate rises over `warm_up` steps and falls over the last part."""

    steps: int
    rate: float = 1e-3
    warm_up: int = 100
    cool_down: float = 0.4
    decay: float = 0.999
    """Of the averaged weights."""
    weight_decay: float = 0.01
    save_every: int = 250

    def rate_at(self, step: int) -> float:
        """The learning rate at a step: a linear rise, a plateau, and a linear fall to a hundredth."""
        fall = (self.steps - step) / (self.cool_down * self.steps)
        return self.rate * max(0.01, min(1.0, (step + 1) / self.warm_up, fall))


def train(
    file: Path,
    model: M,
    course: Course,
    loss: Loss[M],
    seed: int,
    preview: Callable[[M, int], None] | None = None,
) -> M:
    """Train `model`, or go on from `file`; returns it with averaged weights, in evaluation mode and frozen.

    `file` is written every `course.save_every` steps, and `preview` called with the averaged module then.
    """
    torch.manual_seed(seed)
    device = next(iter(model.parameters())).device
    averaged = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.parameters(), course.rate, (0.9, 0.99), weight_decay=course.weight_decay, fused=True
    )
    done = 0
    if file.exists():
        state = torch.load(file, map_location=device, weights_only=True)
        done = int(state["step"])
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
    rng = np.random.default_rng(1000 * seed + done)
    started, total = time.monotonic(), 0.0
    for step in range(done, course.steps):
        optimizer.param_groups[0]["lr"] = course.rate_at(step)
        model.train()
        value = loss(model, step, rng)
        torch.autograd.backward(value)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average(averaged, model, min(course.decay, (step + 1) / (step + 10)))
        for mine, theirs in zip(averaged.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
        total += float(value.detach())
        if (step + 1) % 50 == 0:
            speed = (step + 1 - done) / (time.monotonic() - started)
            left = (course.steps - step - 1) / speed
            _log.info(
                "%s step %d/%d loss %.4f %.2f it/s %.0f s left",
                file.stem,
                step + 1,
                course.steps,
                total / 50,
                speed,
                left,
            )
            total = 0.0
        if (step + 1) % course.save_every == 0 or step + 1 == course.steps:
            state = {"step": step + 1, "model": model.state_dict(), "averaged": averaged.state_dict()}
            save(file, state | {"optimizer": optimizer.state_dict()})
            if preview is not None:
                preview(averaged, step + 1)
    return averaged.eval().requires_grad_(False)
