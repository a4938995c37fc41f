"""A denoising network on its device, as samplers use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nodegraph.node import NodeError
from nodes.models.loading import Placement
from nodes.models.networks.denoising import DenoisingModule
from nodes.models.patches import PatchRegistry
from nodes.values import Model, Patch


class Network:
    """Calls the shared module; patches reach into the one call and leave nothing behind."""

    def __init__(
        self,
        module: DenoisingModule,
        model: Model,
        device: torch.device,
        dtype: torch.dtype,
        registry: PatchRegistry,
    ) -> None:
        self.module = module
        self.model = model
        self._device = device
        self._dtype = dtype
        self._registry = registry
        self._channels_last = Placement(device, dtype).channels_last

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self._dtype

    @torch.no_grad()
    def __call__(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        pooled: Tensor | None = None,
        concat: Tensor | None = None,
        patches: tuple[Patch, ...] = (),
        extras: Mapping[str, Any] = {},
    ) -> Tensor:
        """Return the raw output (batch, 4, height, width), in x's dtype.

        x (batch, 4, height, width), timestep (batch,), context (batch, tokens, width); `concat` (batch, channels,
        height, width) joins x for models that take more channels. Raises NodeError where channels do not fit.
        """
        joined = x if concat is None else torch.cat([x, concat.to(x)], dim=1)
        if joined.shape[1] != self.module.in_channels:
            raise self._misfit(joined.shape[1], x.shape[1])
        given = joined.to(self._dtype)
        if self._channels_last:
            given = given.contiguous(memory_format=torch.channels_last)
        hooks = self._registry.hooks(patches)
        raw: Tensor = self.module(given, timestep, context.to(self._dtype), pooled, hooks, extras)
        return raw.to(x.dtype)

    def _misfit(self, found: int, own: int) -> NodeError:
        wanted = self.module.in_channels
        hint = None
        if wanted > found and own == 4:
            hint = "Use InpaintModelConditioning (inpainting models) or InstructPixToPixConditioning (editing models)."
        return NodeError(
            f"the model takes {wanted} channels and was given {found}.", code="channels_misfit", hint=hint
        )
