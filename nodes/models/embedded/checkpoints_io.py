"""Training checkpoints that survive an interruption, and averaged weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn


def save(file: Path, state: Mapping[str, object]) -> None:
    """Write a checkpoint in one step, so that an interruption leaves the one before."""
    partial = file.with_suffix(".partial")
    torch.save(dict(state), partial)
    partial.replace(file)


def average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the model's, keeping the share `decay` of what they were."""
    with torch.no_grad():
        torch._foreach_lerp_(list(averaged.parameters()), list(model.parameters()), 1.0 - decay)
