"""What nodes take of the device, for `nodegraph plan --memory`: weights by their recipe, activations by a count.

Each function returns what a Forecast's `memory` is; what is not known before the run is None in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from nodegraph.node import Memory, Runtime
from nodes.forms import CondForm, ConditioningForm, ImageForm, LatentForm
from nodes.models.coding import coding
from nodes.models.devices import Placing, host_room
from nodes.models.loading import Placement, empty_module
from nodes.models.memory import (
    encoding_bytes,
    latent_bytes,
    picture_bytes,
    sampling_bytes,
    vision_bytes,
    weight_bytes,
)
from nodes.models.seamless import choose, whole_bytes
from nodes.models.tokenizer import tokenizer
from nodes.values import Architecture, Clip, ClipVision, Model, Vae, Weights

Taken = Callable[[], Memory] | None
CHUNK = 75
"""Tokens of a prompt that are encoded together."""
AT_ONCE = 8
"""Chunks that are."""


def sampling(runtime: Runtime, model: Any, latent: Any, conditionings: Sequence[Any]) -> Taken:
    """A denoising network's calls for a latent, all conditionings in one batch."""
    if not isinstance(model, Model):
        return None

    def memory() -> Memory:
        placing = Placing(runtime)
        placement, dtype = placing.network(model)
        works = None
        if isinstance(latent, LatentForm) and latent.batch and latent.height and latent.width:
            forms: list[CondForm] = []
            for item in conditionings:
                forms += item.entries if isinstance(item, ConditioningForm) else (CondForm(),)
            size = (latent.batch, latent.height, latent.width)
            works = sampling_bytes(model.architecture, size, forms, dtype)
        return _memory(placing, model.weights, model.architecture, placement, works)

    return memory


def text(runtime: Runtime, clip: Any, prompt: Any) -> Taken:
    """A text encoder's run over a prompt."""
    if not isinstance(clip, Clip):
        return None

    def memory() -> Memory:
        placing = Placing(runtime)
        tokens = len(tokenizer().encode(prompt)) if isinstance(prompt, str) else 0
        works = encoding_bytes(clip.architecture, min(AT_ONCE, max(1, math.ceil(tokens / CHUNK))))
        return _memory(placing, clip.weights, clip.architecture, placing.as_stored(clip), works)

    return memory


def decoding(runtime: Runtime, vae: Any, latent: Any) -> Taken:
    """A decoder's run over latents, one after the other; in tiles where the whole has no room beside the weights."""
    if not isinstance(vae, Vae):
        return None

    def memory() -> Memory:
        placing = Placing(runtime)
        placement, dtype = placing.vae(vae)
        weights = weight_bytes(vae.weights, vae.architecture, placement)
        way, works = coding(vae.architecture), None
        sized = isinstance(latent, LatentForm) and latent.height and latent.width
        if sized and way.steps is None and way.decode is not None:
            works = latent_bytes(vae.architecture, latent.height, latent.width, dtype)
        elif sized and way.steps is not None:
            steps = way.steps(empty_module(vae.architecture))
            works = whole_bytes(steps, latent.height * latent.width, dtype.itemsize)
            room = max(0, placing.budget - weights)
            if works > room:
                size, host = (latent.height, latent.width), host_room(placing.device)
                works = choose(steps, size, dtype.itemsize, room, host).works
        return _memory(placing, vae.weights, vae.architecture, placement, works)

    return memory


def encoding(runtime: Runtime, vae: Any, image: Any) -> Taken:
    """An encoder's run over pictures, one after the other."""
    if not isinstance(vae, Vae):
        return None

    def memory() -> Memory:
        placing = Placing(runtime)
        placement, dtype = placing.vae(vae)
        way, works = coding(vae.architecture), None
        if isinstance(image, ImageForm) and image.height and image.width:
            height, width = (side - side % way.encode_step for side in (image.height, image.width))
            works = int(way.encode_peak * height * width * dtype.itemsize)
            if not works and way.encode is not None:
                works = picture_bytes(vae.architecture, height, width, dtype)
        return _memory(placing, vae.weights, vae.architecture, placement, works)

    return memory


def seeing(runtime: Runtime, vision: Any, image: Any) -> Taken:
    """A vision encoder's run over a batch of pictures."""
    if not isinstance(vision, ClipVision):
        return None

    def memory() -> Memory:
        placing = Placing(runtime)
        works = None
        if isinstance(image, ImageForm) and image.batch:
            works = vision_bytes(vision.architecture, image.batch)
        return _memory(placing, vision.weights, vision.architecture, placing.as_stored(vision), works)

    return memory


def _memory(
    placing: Placing, weights: Weights, architecture: Architecture, placement: Placement, works: int | None
) -> Memory:
    key: Hashable = (weights.identity, weights.part, weights.prefix, placement.dtype)
    return Memory(works, {key: weight_bytes(weights, architecture, placement)}, placing.budget)
