"""The forward process: a clean latent at a noise level."""

from __future__ import annotations

from torch import Tensor

from nodes.diffusion.parametrisation import Parametrisation


def noised(
    latent: Tensor,
    noise: Tensor,
    parametrisation: Parametrisation,
    *,
    sigma: float | None = None,
    timestep: float | None = None,
    as_given: bool = False,
) -> Tensor:
    """Return `latent` with `noise` (both scaled for the network, of one shape) at `sigma` or at the model's `timestep`.

    The outcome is scaled as samplers take it, `latent + sigma * noise` for all but flow models; with `as_given` as the
    network is given it, `sqrt(alpha_bar) * latent + sqrt(1 - alpha_bar) * noise`
    (https://arxiv.org/abs/2006.11239, equation 4). Raises ValueError unless one of `sigma` and `timestep` is given.
    """
    if (sigma is None) == (timestep is None):
        raise ValueError("noised takes either a sigma or a timestep.")
    level = sigma if sigma is not None else parametrisation.sigma(timestep or 0.0)
    x = parametrisation.noise_scaling(level, noise, latent)
    return parametrisation.scale_input(x, level) if as_given else x
