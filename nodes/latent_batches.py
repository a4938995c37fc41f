"""Nodes that join, split and repeat batches of latents."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor

from nodegraph.node import Choice, Many, Range, node
from nodes import latent_forms as forms
from nodes.forms import same
from nodes.latents import fitted
from nodes.resize import resize_mask, to_batch
from nodes.values import Latent


@node("LatentFromBatch", category="latent/batch", display_name="Latent From Batch", foresee=forms.taken)
def latent_from_batch(
    samples: Latent,
    batch_index: Annotated[int, Range(0, 63)] = 0,
    length: Annotated[int, Range(1, 64)] = 1,
) -> Latent:
    """Takes `length` latents out of a batch, from `batch_index` on (0 is the first).

    They keep their places in the noise of the whole batch, so that sampling gives the same pictures again.
    """
    count = samples.samples.shape[0]
    start = min(batch_index, count - 1)
    part = slice(start, min(start + length, count))
    mask = samples.noise_mask
    if mask is not None and mask.shape[0] > 1:
        mask = to_batch(mask, max(count, mask.shape[0]))[part]
    places = tuple(range(count)) if samples.batch_index is None else samples.batch_index
    return replace(samples, samples=samples.samples[part], noise_mask=mask, batch_index=places[part])


@node(
    "RepeatLatentBatch", category="latent/batch", display_name="Repeat Latent Batch", foresee=forms.repeated
)
def repeat_latent_batch(samples: Latent, amount: Annotated[int, Range(1, 64)] = 1) -> Latent:
    """Repeats a whole batch `amount` times; where the samples have places in a batch, each copy gets new ones."""
    count = samples.samples.shape[0]
    mask = samples.noise_mask
    if mask is not None and mask.shape[0] > 1:
        mask = to_batch(mask, max(count, mask.shape[0])).repeat(amount, 1, 1, 1)
    places = samples.batch_index
    if places is not None:
        step = max(places) - min(places) + 1
        places = tuple(place + copy * step for copy in range(amount) for place in places)
    repeated = to_batch(samples.samples, count * amount)
    return replace(samples, samples=repeated, noise_mask=mask, batch_index=places)


@node("LatentBatch", category="latent/batch", foresee=forms.joined)
def latent_batch(samples1: Latent, samples2: Latent) -> Latent:
    """Joins two batches; the second is resized to the first's size, and the first's noise mask stays."""
    first, second = samples1.samples, samples2.samples
    joined = torch.cat((first, fitted(second, first)))
    return replace(samples1, samples=joined, batch_index=_places(samples1) + _places(samples2))


@node("LatentBatchSeedBehavior", category="latent/advanced", foresee=same("samples"))
def latent_batch_seed_behavior(
    samples: Latent, seed_behavior: Annotated[str, Choice(("random", "fixed"))] = "fixed"
) -> Latent:
    """Whether all latents of a batch get the same noise (fixed) or each its own (random)."""
    if seed_behavior == "random":
        return replace(samples, batch_index=None)
    first = samples.batch_index[0] if samples.batch_index else 0
    return replace(samples, batch_index=(first,) * samples.samples.shape[0])


@node("RebatchLatents", category="latent/batch", display_name="Rebatch Latents")
def rebatch_latents(latents: Many[Latent], batch_size: Annotated[int, Range(1, 4096)] = 1) -> Many[Latent]:
    """Puts latents together anew in batches of at most `batch_size`; those of different sizes stay apart.

    Returns a list: what follows runs once for each batch.
    """
    result: list[Latent] = []
    run: list[Latent] = []
    for latent in _numbered(latents):
        if run and latent.samples.shape[1:] != run[0].samples.shape[1:]:
            result += _split(run, batch_size)
            run = []
        run.append(latent)
    return tuple(result + (_split(run, batch_size) if run else []))


def _places(latent: Latent) -> tuple[int, ...]:
    return tuple(range(latent.samples.shape[0])) if latent.batch_index is None else latent.batch_index


def _numbered(latents: Many[Latent]) -> list[Latent]:
    """The latents with their places: counted through all of them where they have none."""
    numbered = []
    before = 0
    for latent in latents:
        count = latent.samples.shape[0]
        places = latent.batch_index or tuple(range(before, before + count))
        before += len(places)
        numbered.append(replace(latent, batch_index=places))
    return numbered


def _split(run: list[Latent], size: int) -> list[Latent]:
    samples = torch.cat([latent.samples for latent in run])
    places = [place for latent in run for place in _places(latent)]
    masks = _joined_masks(run)
    batches = []
    for start in range(0, samples.shape[0], size):
        part = slice(start, start + size)
        mask = None if masks is None else masks[part]
        if mask is not None and bool(mask.mean() == 1.0):
            mask = None
        batches.append(
            replace(run[0], samples=samples[part], noise_mask=mask, batch_index=tuple(places[part]))
        )
    return batches


def _joined_masks(run: list[Latent]) -> Tensor | None:
    """The noise masks of all samples, ones where there is none; None where none has one."""
    if all(latent.noise_mask is None for latent in run):
        return None
    masks = []
    for latent in run:
        count = latent.samples.shape[0]
        mask = latent.noise_mask
        if mask is None:
            mask = torch.ones(count, 1, *_pixels(latent))
        masks.append(to_batch(mask, count))
    if any(mask.shape[1:] != masks[0].shape[1:] for mask in masks):
        height, width = _pixels(run[0])
        masks = [resize_mask(mask, width, height) for mask in masks]
    return torch.cat(masks)


def _pixels(latent: Latent) -> tuple[int, int]:
    """Height and width of the latent's pictures."""
    height, width = (round(side * latent.downscale) for side in latent.samples.shape[-2:])
    return height, width
