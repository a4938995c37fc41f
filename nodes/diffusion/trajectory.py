"""The way of a run, kept: the noisy latent and the estimate of the clean one at its steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nodes.diffusion.denoiser import Step
from nodes.diffusion.inpainting import spread_batch
from nodes.diffusion.parametrisation import Parametrisation
from nodes.resize import resize


class Trajectory:
    """Records a run's steps: hand it over as `on_step`. What it keeps lies on the CPU, scaled for the network.

    The noisy latents are kept as the network is given them, so that their spread is about the same throughout.
    """

    def __init__(self, parametrisation: Parametrisation) -> None:
        self._parametrisation = parametrisation
        self._noisy: list[Tensor] = []
        self._denoised: list[Tensor] = []

    def __call__(self, step: Step) -> None:
        """Keep the step's latent and estimate."""
        self._noisy.append(self._parametrisation.scale_input(step.x.float(), step.sigma).cpu())
        self._denoised.append(step.x0.float().cpu())

    def strips(self, ended: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return `count` noisy latents and estimates from the first step to what the run `ended` in, evenly chosen.

        Each (batch * count, channels, height, width), the frames of a sample in a row; where there are fewer steps
        they repeat. Latents of another size than the last, which a sampler that enlarges leaves, are resized to it.
        """
        return _strip([*self._noisy, ended], count), _strip([*self._denoised, ended], count)


def _strip(frames: Sequence[Tensor], count: int) -> Tensor:
    height, width = frames[-1].shape[-2:]
    sized = [
        frame if frame.shape[-2:] == (height, width) else resize(frame, width, height, "bilinear")
        for frame in frames
    ]
    return spread_batch(torch.stack(sized), count).transpose(0, 1).flatten(0, 1)
