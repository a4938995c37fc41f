"""Stochastic Adams solver with predictor and corrector (https://arxiv.org/abs/2309.05019)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nodes.diffusion.denoiser import Denoiser, OnStep
from nodes.diffusion.levels import is_clean
from nodes.diffusion.noise import StepNoise
from nodes.diffusion.samplers.steps import evaluate, half_log_snr, root, signal_scale, within_snr_range


def sa_solver(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    eta: float = 1.0,
    sde_start_percent: float = 0.2,
    sde_end_percent: float = 0.8,
    s_noise: float = 1.0,
    predictor_order: int = 3,
    corrector_order: int = 4,
    use_pece: bool = False,
    simple_order_2: bool = False,
) -> Tensor:
    """Predict each level by a stochastic Adams method and correct it by the evaluation there.

    Noise of strength `eta` is added between `sde_start_percent` and `sde_end_percent` of the run and scaled by
    `s_noise`. Orders are 1 to 6, for the corrector also 0 (none). `use_pece` evaluates again after correcting;
    `simple_order_2` takes the paper's shorter second-order weights. A run that ends above 0 returns the state
    at its last level but one, the last that was corrected: shared pictures have it so.
    """
    scheme = denoise.parametrisation
    sigmas = within_snr_range(sigmas, scheme)
    times = [half_log_snr(sigma, scheme) for sigma in sigmas]
    latest, earliest = scheme.percent_to_sigma(sde_start_percent), scheme.percent_to_sigma(sde_end_percent)
    total = len(sigmas) - 1
    known: list[Tensor] = []
    predicted = x
    tau = 0.0
    added: Tensor | None = None
    for index in range(total):
        sigma, sigma_next = sigmas[index], sigmas[index + 1]
        x0 = evaluate(denoise, predicted, sigmas, index, on_step)
        known = [*known, x0][-max(predictor_order, corrector_order) :]
        up_to, correct_up_to = predictor_order, corrector_order
        if index == 0 or (sigma_next == 0.0 and not use_pece):
            correct_up_to = 0
        if sigmas[-1] == 0.0:
            # Lower orders towards the end, for stability.
            up_to, correct_up_to = min(up_to, total - 1 - index), min(correct_up_to, total - index)

        if correct_up_to == 0:
            x = predicted
        else:
            terms = known[-correct_up_to:]
            nodes = times[index - len(terms) + 1 : index + 1]
            weights = _weights(nodes, times[index - 1], times[index], tau, simple_order_2, corrects=True)
            x = _advanced(x, terms, weights, sigmas[index - 1], sigma, times, index - 1, tau, denoise)
            if added is not None:
                x = x + added
            if use_pece:
                x0 = denoise(x, sigma)
                known[-1] = x0

        if sigma_next == 0.0:
            x = x0
            continue
        tau = eta if eta > 0 and latest >= sigma_next >= earliest else 0.0
        terms = known[-up_to:]
        nodes = times[index - len(terms) + 1 : index + 1]
        weights = _weights(nodes, times[index], times[index + 1], tau, simple_order_2, corrects=False)
        predicted = _advanced(x, terms, weights, sigma, sigma_next, times, index, tau, denoise)
        added = None
        if tau > 0 and s_noise > 0:
            width = times[index + 1] - times[index]
            up = sigma_next * root(-math.expm1(-2.0 * tau**2 * width)) * s_noise
            added = noise(sigma, sigma_next) * up
            predicted = predicted + added
    # A last level above 0 has no evaluation to correct by; where noise ends there, the prediction is the outcome.
    return predicted if is_clean(sigmas[-1]) else x


def sa_solver_pece(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep,
    *,
    eta: float = 1.0,
    sde_start_percent: float = 0.2,
    sde_end_percent: float = 0.8,
    s_noise: float = 1.0,
    predictor_order: int = 3,
    corrector_order: int = 4,
    simple_order_2: bool = False,
) -> Tensor:
    """Take the steps of `sa_solver` with a second evaluation after correcting."""
    return sa_solver(
        denoise,
        x,
        sigmas,
        noise,
        on_step,
        eta=eta,
        sde_start_percent=sde_start_percent,
        sde_end_percent=sde_end_percent,
        s_noise=s_noise,
        predictor_order=predictor_order,
        corrector_order=corrector_order,
        use_pece=True,
        simple_order_2=simple_order_2,
    )


def _advanced(
    x: Tensor,
    terms: Sequence[Tensor],
    weights: Sequence[float],
    sigma: float,
    sigma_next: float,
    times: Sequence[float],
    index: int,
    tau: float,
    denoise: Denoiser,
) -> Tensor:
    scale = signal_scale(sigma_next, denoise.parametrisation)
    total = x * (sigma_next / sigma * math.exp(-(tau**2) * (times[index + 1] - times[index])))
    for weight, term in zip(weights, terms, strict=True):
        total = total + term * (scale * weight)
    return total


def _weights(
    nodes: Sequence[float], start: float, end: float, tau: float, simple_order_2: bool, *, corrects: bool
) -> list[float]:
    """Return the weights of x0 at `nodes`, oldest first, for the step from `start` to `end`."""
    strength = 1.0 + tau**2
    width = end - start
    if simple_order_2 and len(nodes) == 2:
        first = -math.expm1(-width * strength)
        share = 0.5 * strength * width
        if corrects:
            return [first - share, share]
        older = share * width / (nodes[0] - start)
        return [older, first - older]
    # The weights integrate each Lagrange polynomial: they solve the system that makes monomials exact.
    powers = torch.tensor(
        [[node**power for node in nodes] for power in range(len(nodes))], dtype=torch.float64
    )
    exact = torch.tensor(_monomial_integrals(start, end, len(nodes), strength), dtype=torch.float64)
    return [float(weight) for weight in torch.linalg.solve(powers, exact)]


def _monomial_integrals(start: float, end: float, count: int, strength: float) -> list[float]:
    """Integrate `strength * exp(strength * (u - end)) * u^p` from `start` to `end` for p below `count`."""
    decay = math.exp(-strength * (end - start))
    integrals: list[float] = []
    for power in range(count):
        # By parts: the integral of u^p is what the ends leave, less p / strength times that of u^(p - 1).
        rest = power / strength * integrals[-1] if integrals else 0.0
        integrals.append(end**power - start**power * decay - rest)
    return integrals
