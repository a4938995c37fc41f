"""Guidance: several conditionings, joined per role, and the roles joined into one estimate of the clean latent.

Classifier-free guidance (https://arxiv.org/abs/2207.12598), its form for two prompts
(https://arxiv.org/abs/2211.09800) and perpendicular negative prompts (https://arxiv.org/abs/2304.04968).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from nodegraph.node import NodeError
from nodes.diffusion.conditioning import Entry
from nodes.diffusion.model_denoiser import Inputs, ModelDenoiser, stack
from nodes.diffusion.parametrisation import Parametrisation
from nodes.values import Patch, Scalar

MakeRoom = Callable[[int], int]
"""Asks for so many bytes of the device; returns how many were given back."""

_ROOM = 1 << 30

Estimates = Mapping[str, Tensor]
"""x0 by role. A role without a conditioning, or whose evaluation can be saved, is all zeros."""


@dataclass(frozen=True, eq=False)
class Moment:
    """What a guidance patch sees of one call: the noisy latent, its noise level, the estimates, the scale.

    `positive` and `negative` name the roles that are being joined; `guide` evaluates further roles.
    """

    x: Tensor
    sigma: float
    estimates: Estimates
    scale: float
    positive: str
    negative: str
    guide: Guide

    @property
    def cond(self) -> Tensor:
        """The estimate with the prompt."""
        return self.estimates[self.positive]

    @property
    def uncond(self) -> Tensor:
        """The estimate without it."""
        return self.estimates[self.negative]


class GuidanceHook(Protocol):
    """What a guidance patch does at each call; a hook that has no part in a phase returns what it was given."""

    @property
    def needs_uncond(self) -> bool:
        """Whether the unconditional estimate is wanted even where the scale is 1."""

    def before(self, moment: Moment) -> Estimates:
        """Return the estimates to guide with."""

    def instead(self, moment: Moment) -> Tensor | None:
        """Return the guided x0 in place of the usual formula, or None to leave it."""

    def after(self, moment: Moment, guided: Tensor) -> Tensor:
        """Return the guided x0 to use."""


MakeHook = Callable[[Patch], GuidanceHook]
"""Gives a guidance patch its meaning."""

GUIDANCE_PATCHES: Mapping[str, MakeHook] = MappingProxyType({})
"""The built-in guidance patches by name."""


class Hook:
    """A guidance hook that changes nothing: the base of those that do."""

    needs_uncond: bool = False

    def before(self, moment: Moment) -> Estimates:
        """Return the estimates as they are."""
        return moment.estimates

    def instead(self, moment: Moment) -> Tensor | None:
        """Leave the usual formula."""
        return None

    def after(self, moment: Moment, guided: Tensor) -> Tensor:
        """Return the guided x0 as it is."""
        return guided


def cfg(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: move from the unconditional estimate towards the conditional one by `scale`."""
    return negative + (positive - negative) * scale


def perpendicular(
    positive: Tensor, negative: Tensor, empty: Tensor, negative_scale: float, scale: float
) -> Tensor:
    """Perp-Neg: the part of the negative direction along the positive one is left out before it is subtracted."""
    towards, away = positive - empty, negative - empty
    squared = torch.linalg.vector_norm(towards) ** 2
    along = (away * towards).sum() / squared.where(squared > 0, torch.ones_like(squared))
    guided: Tensor = empty + scale * (towards - (away - along * towards) * negative_scale)
    return guided


@dataclass(frozen=True, eq=False)
class _Batch:
    """Conditionings that the network is given at once, and the share of each per pixel (None: all of its role)."""

    members: tuple[tuple[str, Entry], ...]
    shares: tuple[Tensor | None, ...]
    inputs: Inputs


@dataclass(frozen=True, eq=False)
class _Plan:
    """The batches of one set of active conditionings."""

    batches: tuple[_Batch, ...]


def _no_room(wanted: int) -> int:
    return 0


class Guide:
    """Evaluates roles on a model: batched where shapes match, weighted and normalised per pixel.

    Where a batch does not fit into memory, `make_room` is asked for some; where it has none to give, smaller
    batches are tried from then on.
    """

    def __init__(
        self,
        model: ModelDenoiser,
        entries: Mapping[str, Sequence[Entry]],
        make_room: MakeRoom = _no_room,
    ) -> None:
        self.model = model
        self.entries = entries
        self._make_room = make_room
        self._together: int | None = None
        self._plans: dict[tuple[int, ...], _Plan] = {}

    def estimate(self, x: Tensor, sigma: float, roles: Sequence[str]) -> dict[str, Tensor]:
        """Return x0 for each role, shaped as `x`; zeros where nothing of the role applies.

        Raises NodeError where not even one conditioning at a time fits into memory.
        """
        active = [
            (role, entry) for role in roles for entry in self.entries.get(role, ()) if entry.active(sigma)
        ]
        while True:
            plan = self._plan(active, x)
            try:
                found = self._run(plan, x, sigma)
            except torch.OutOfMemoryError as error:
                if self._make_room(_ROOM) <= 0:
                    self._shrink(plan, x, error)
            else:
                return {role: found[role] if role in found else torch.zeros_like(x) for role in roles}

    def _shrink(self, plan: _Plan, x: Tensor, error: Exception) -> None:
        largest = max(len(batch.members) for batch in plan.batches)
        if largest == 1:
            raise NodeError(
                f"there is not enough memory on {x.device} to sample latents of this size.",
                code="out_of_memory",
                found=f"{x.shape[0]} of {x.shape[-1]} by {x.shape[-2]}",
                hint="Make fewer pictures at once or smaller ones, or choose a smaller dtype.",
            ) from error
        self._together = largest // 2
        self._plans.clear()

    def _run(self, plan: _Plan, x: Tensor, sigma: float) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for batch in plan.batches:
            regions = [x if entry.box is None else entry.box.of(x) for _, entry in batch.members]
            joined = regions[0] if len(regions) == 1 else torch.cat(regions)
            estimates = self.model(joined, sigma, batch.inputs).chunk(len(regions))
            for (role, entry), share, x0 in zip(batch.members, batch.shares, estimates, strict=True):
                if share is None:
                    found[role] = x0
                    continue
                if role not in found:
                    found[role] = torch.zeros_like(x)
                part = found[role] if entry.box is None else entry.box.of(found[role])
                part += x0 * share
        return found

    def _plan(self, active: Sequence[tuple[str, Entry]], x: Tensor) -> _Plan:
        key = tuple(id(entry) for _, entry in active)
        if key not in self._plans:
            self._plans[key] = _Plan(tuple(_batches(active, _shares(active, x), self._together)))
        return self._plans[key]


def _batches(
    active: Sequence[tuple[str, Entry]], shares: Sequence[Tensor | None], together: int | None
) -> list[_Batch]:
    waiting = list(range(len(active)))
    batches = []
    while waiting:
        first = active[waiting[0]][1]
        fitting = [place for place in waiting if _fit(active[place][1], first)][:together]
        waiting = [place for place in waiting if place not in fitting]
        members = tuple(active[place] for place in fitting)
        inputs = stack([entry.inputs for _, entry in members])
        batches.append(_Batch(members, tuple(shares[place] for place in fitting), inputs))
    return batches


def _fit(one: Entry, other: Entry) -> bool:
    same_size = (one.box is None) == (other.box is None)
    if one.box is not None and other.box is not None:
        same_size = (one.box.height, one.box.width) == (other.box.height, other.box.width)
    return same_size and one.inputs.fits(other.inputs)


def _shares(active: Sequence[tuple[str, Entry]], x: Tensor) -> list[Tensor | None]:
    """What part of its role's estimate each conditioning makes, per pixel; None where it is all of it."""
    totals: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for role, entry in active:
        total = totals.setdefault(role, torch.full_like(x[:, :1], 1e-37))
        part = total if entry.box is None else entry.box.of(total)
        part += entry.weight
        counts[role] = counts.get(role, 0) + 1
    shares: list[Tensor | None] = []
    for role, entry in active:
        if (
            counts[role] == 1
            and entry.box is None
            and not isinstance(entry.weight, Tensor)
            and entry.weight > 0
        ):
            shares.append(None)
            continue
        total = totals[role] if entry.box is None else entry.box.of(totals[role])
        shares.append(entry.weight / total)
    return shares


@dataclass(frozen=True, eq=False)
class Guidance:
    """A guide, a guidance formula and hooks, as the denoiser that samplers call.

    `kind` is `basic` (the prompt alone), `cfg` (option `cfg`), `dual_cfg` (`cfg_conds`, `cfg_cond2_negative`,
    `style`: regular or nested) or `perp_neg` (`cfg`, `neg_scale`).
    """

    guide: Guide
    kind: str
    options: Mapping[str, Scalar]
    hooks: tuple[GuidanceHook, ...] = ()

    @property
    def parametrisation(self) -> Parametrisation:
        """The model's parametrisation."""
        return self.guide.model.parametrisation

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the guided x0; evaluations that cannot change it are left out."""
        return self._guided(x, sigma, any(hook.needs_uncond for hook in self.hooks))[0]

    def with_uncond(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Return the guided and the unconditional x0; the latter is always evaluated."""
        return self._guided(x, sigma, True)

    def _guided(self, x: Tensor, sigma: float, every: bool) -> tuple[Tensor, Tensor]:
        match self.kind:
            case "basic":
                return self._cfg(x, sigma, 1.0, every)
            case "cfg":
                return self._cfg(x, sigma, self._number("cfg"), every)
            case "dual_cfg":
                return self._dual(x, sigma, every)
            case "perp_neg":
                return self._perp_neg(x, sigma, every)
        raise ValueError(f"unknown kind of guider {self.kind!r}")

    def _cfg(self, x: Tensor, sigma: float, scale: float, every: bool) -> tuple[Tensor, Tensor]:
        estimates = self._estimate(x, sigma, positive=True, negative=every or not math.isclose(scale, 1.0))
        moment = Moment(x, sigma, estimates, scale, "positive", "negative", self.guide)
        for hook in self.hooks:
            moment = replace(moment, estimates=hook.before(moment))
        return self._joined(moment), moment.uncond

    def _dual(self, x: Tensor, sigma: float, every: bool) -> tuple[Tensor, Tensor]:
        outer, inner = self._number("cfg_cond2_negative"), self._number("cfg_conds")
        nested = self.options.get("style") == "nested"
        negative = nested or every or not math.isclose(outer, 1.0)
        middle = nested or negative or not math.isclose(inner, 1.0)
        found = self._estimate(x, sigma, positive=True, middle=middle, negative=negative)
        if nested:
            text = self._joined(Moment(x, sigma, found, inner, "positive", "middle", self.guide))
            return cfg(text, found["negative"], outer), found["middle"]
        joined = self._joined(Moment(x, sigma, found, outer, "middle", "negative", self.guide))
        return joined + (found["positive"] - found["middle"]) * inner, found["negative"]

    def _perp_neg(self, x: Tensor, sigma: float, every: bool) -> tuple[Tensor, Tensor]:
        scale, negative_scale = self._number("cfg"), self._number("neg_scale")
        negative = every or not math.isclose(negative_scale, 0.0)
        found = self._estimate(
            x, sigma, positive=True, negative=negative, empty=negative or not math.isclose(scale, 1.0)
        )
        moment = Moment(x, sigma, found, scale, "positive", "negative", self.guide)
        for hook in self.hooks:
            moment = replace(moment, estimates=hook.before(moment))
        found = dict(moment.estimates)
        guided = perpendicular(found["positive"], found["negative"], found["empty"], negative_scale, scale)
        for hook in self.hooks:
            guided = hook.after(moment, guided)
        return guided, found["negative"]

    def _joined(self, moment: Moment) -> Tensor:
        """The two roles of the moment joined: by the last hook that replaces the formula, or by the formula."""
        found = (hook.instead(moment) for hook in reversed(self.hooks))
        guided = next((tensor for tensor in found if tensor is not None), None)
        if guided is None:
            guided = cfg(moment.cond, moment.uncond, moment.scale)
        for hook in self.hooks:
            guided = hook.after(moment, guided)
        return guided

    def _estimate(self, x: Tensor, sigma: float, **wanted: bool) -> dict[str, Tensor]:
        found = self.guide.estimate(x, sigma, [role for role, needed in wanted.items() if needed])
        return {role: found[role] if needed else torch.zeros_like(x) for role, needed in wanted.items()}

    def _number(self, name: str) -> float:
        return float(self.options[name] or 0.0)
