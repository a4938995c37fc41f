"""Conditionings made ready for one run: where each applies in the latent, when, how strongly, and its inputs.

All of it happens once, before the first step. During sampling only host numbers are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from nodegraph.node import NodeError
from nodes.diffusion.model_denoiser import Inputs
from nodes.diffusion.parametrisation import Parametrisation
from nodes.resize import to_batch
from nodes.values import AREA_UNIT, Area, Cond, Conditioning

# Pixels of the latent over which an area fades in at its borders inside the picture.
_FEATHER = 8
# The smallest side of the box around a mask.
_SMALLEST = 8
# Extras that show the whole picture, at whatever size.
_PICTURES = {"effnet", "pixels"}


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the latent, in its pixels."""

    height: int
    width: int
    y: int
    x: int

    def covers(self, other: Box) -> bool:
        """Whether `other` lies within."""
        return (
            other.y >= self.y
            and other.x >= self.x
            and other.y + other.height <= self.y + self.height
            and other.x + other.width <= self.x + self.width
        )

    def cut(self, height: int, width: int, downscale: float) -> Box:
        """The part within a latent of that size, of `downscale` pixels each. Raises NodeError where there is none."""
        if self.y >= height or self.x >= width:
            raise NodeError(
                "the area of a conditioning lies outside the picture.",
                found=f"an area that starts {round(self.x * downscale)} pixels from the left and "
                f"{round(self.y * downscale)} from the top",
                allowed=f"a start within {round(width * downscale)} by {round(height * downscale)} pixels",
                hint="Move the area, or set it by percentage so that it follows the picture's size.",
            )
        return Box(min(self.height, height - self.y), min(self.width, width - self.x), self.y, self.x)

    def of(self, tensor: Tensor) -> Tensor:
        """This part of a tensor (..., height, width), as a view."""
        return tensor[..., self.y : self.y + self.height, self.x : self.x + self.width]


@dataclass(frozen=True, eq=False)
class Entry:
    """One conditioning, ready: it applies to `box` (None: everywhere) from `start` down to `end`, both included.

    `weight` is a number, or (batch or 1, 1, height, width) over the box.
    """

    inputs: Inputs
    box: Box | None
    weight: float | Tensor
    start: float
    end: float

    def active(self, sigma: float) -> bool:
        """Whether it applies at this noise level."""
        return self.end <= sigma <= self.start


@dataclass(frozen=True, eq=False)
class _Placed:
    cond: Cond
    inputs: Inputs
    box: Box | None
    mask: Tensor | None


Encode = Callable[[Cond], Inputs]
"""Makes the network's inputs of a conditioning, for the whole batch and latent."""


def prepare(
    conditionings: Mapping[str, Conditioning],
    latent: Tensor,
    parametrisation: Parametrisation,
    encode: Encode,
    downscale: float = AREA_UNIT,
) -> dict[str, tuple[Entry, ...]]:
    """Make the conditionings of each role ready for sampling a batch shaped as `latent`, of `downscale` pixels each.

    Each area of one role gets a counterpart of the same area in every other role that covers it, so that
    guidance compares like with like. Raises NodeError for an area outside the picture.
    """
    placed = {
        role: [_place(cond, encode(cond), latent, downscale) for cond in conditioning.entries]
        for role, conditioning in conditionings.items()
    }
    for role, items in placed.items():
        for item in items:
            for other, others in placed.items():
                if other != role:
                    others.extend(_counterpart(item, others))
    return {
        role: tuple(_entry(item, latent, parametrisation, downscale) for item in items)
        for role, items in placed.items()
    }


def encode_inputs(cond: Cond, batch: int, device: torch.device, dtype: torch.dtype) -> Inputs:
    """Bring a conditioning's encodings to the batch size, the device and the dtype of the network."""

    def fit(tensor: Tensor) -> Tensor:
        return to_batch(tensor.to(device, dtype if tensor.is_floating_point() else None), batch)

    return Inputs(
        context=fit(cond.context),
        pooled=None if cond.pooled is None else fit(cond.pooled),
        extras={name: fit(item) if isinstance(item, Tensor) else item for name, item in cond.extras.items()},
    )


def _place(cond: Cond, inputs: Inputs, latent: Tensor, downscale: float) -> _Placed:
    height, width = latent.shape[-2:]
    box = None if cond.area is None else _box(cond.area, height, width, AREA_UNIT / downscale)
    if cond.mask is None:
        return _Placed(cond, inputs, box, None)
    mask = cond.mask.reshape(-1, 1, *cond.mask.shape[-2:]).to(latent.device, torch.float32)
    if mask.shape[-2:] != latent.shape[-2:]:
        mask = functional.interpolate(mask, size=(height, width), mode="bilinear")
    if cond.mask_bounds:
        box = _bounds(mask)
    return _Placed(cond, inputs, box, mask)


def _box(area: Area, height: int, width: int, scale: float) -> Box:
    if area.fraction:
        return Box(
            max(1, round(area.height * height)),
            max(1, round(area.width * width)),
            round(area.y * height),
            round(area.x * width),
        )
    return Box(
        max(1, round(area.height * scale)),
        max(1, round(area.width * scale)),
        round(area.y * scale),
        round(area.x * scale),
    )


def _bounds(mask: Tensor) -> Box:
    rows = mask.ne(0).any(dim=-1).flatten(0, 1).any(dim=0).nonzero().flatten().tolist()
    columns = mask.ne(0).any(dim=-2).flatten(0, 1).any(dim=0).nonzero().flatten().tolist()
    if not rows:
        return Box(_SMALLEST, _SMALLEST, 0, 0)
    return Box(
        max(_SMALLEST, rows[-1] - rows[0] + 1),
        max(_SMALLEST, columns[-1] - columns[0] + 1),
        rows[0],
        columns[0],
    )


def _counterpart(item: _Placed, others: Sequence[_Placed]) -> list[_Placed]:
    box = item.box
    if box is None:
        return []
    covering = [other for other in others if other.box is None or other.box.covers(box)]
    if not covering:
        return []
    smallest = min(covering, key=lambda o: float("inf") if o.box is None else o.box.height * o.box.width)
    if smallest.box == box:
        return []
    return [replace(item, inputs=smallest.inputs)]


def _entry(item: _Placed, latent: Tensor, parametrisation: Parametrisation, downscale: float) -> Entry:
    height, width = latent.shape[-2:]
    box = None if item.box is None else item.box.cut(height, width, downscale)
    weight: float | Tensor = item.cond.strength
    if item.mask is not None:
        mask = item.mask if box is None else box.of(item.mask)
        if mask.shape[0] > 1:
            mask = to_batch(mask, latent.shape[0])
        weight = mask * item.cond.mask_strength * item.cond.strength
    elif box is not None:
        weight = _feathered(box, height, width).to(latent.device) * item.cond.strength
    inputs = item.inputs
    if box is not None:
        inputs = _cut(inputs, box, height, width)
    return Entry(
        inputs=inputs,
        box=box,
        weight=weight,
        start=parametrisation.percent_to_sigma(item.cond.start_percent)
        if item.cond.start_percent > 0
        else float("inf"),
        end=parametrisation.percent_to_sigma(item.cond.end_percent),
    )


def _cut(inputs: Inputs, box: Box, height: int, width: int) -> Inputs:
    """The part of pictures and latents among the inputs that lies in the box."""
    concat = None if inputs.concat is None else box.of(inputs.concat)
    extras = dict(inputs.extras)
    for name in _PICTURES & extras.keys():
        sized = functional.interpolate(
            extras[name].float(), (height, width), mode="bilinear", align_corners=True
        )
        extras[name] = box.of(sized).to(extras[name].dtype)
    return replace(inputs, concat=concat, extras=extras)


def _feathered(box: Box, height: int, width: int) -> Tensor:
    rows = _ramp(box.height, box.y > 0, box.y + box.height < height)
    columns = _ramp(box.width, box.x > 0, box.x + box.width < width)
    return (rows[:, None] * columns[None, :])[None, None]


def _ramp(length: int, at_start: bool, at_end: bool) -> Tensor:
    ramp = torch.ones(length)
    steps = min(_FEATHER, length // 4)
    rise = torch.arange(1, steps + 1) / max(steps, 1)
    if at_start:
        ramp[:steps] *= rise
    if at_end:
        ramp[length - steps :] *= rise.flip(0)
    return ramp
