"""How every denoising network is called, whatever its family."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from nodes.models.networks.hooks import NO_HOOKS, Hooks


class DenoisingModule(nn.Module):
    """A network that a sampler drives through its parametrisation."""

    in_channels: int
    """Of x, what joins it included."""

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        pooled: Tensor | None = None,
        hooks: Hooks = NO_HOOKS,
        extras: Mapping[str, Any] = {},
    ) -> Tensor:
        """Map x (batch, in_channels, h, w) and context (batch, tokens, width) to the raw output, in x's dtype.

        `timestep` (batch,) is what the family counts time in: the index 0..999 of Stable Diffusion, the ratio 0..1 of
        Würstchen. `pooled` (batch, width) is the pooled prompt where the family reads one. `extras` holds what else
        it reads, by documented name (`effnet`, `pixels`, `clip_img`); names that a network does not know are ignored.
        """
