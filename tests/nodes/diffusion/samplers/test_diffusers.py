"""Samplers against diffusers' schedulers where both follow the same convention.

These schedulers do not, and are left out:

- DEISMultistepScheduler interpolates in log sigma, `deis` in the time of the process that its tables are made for.
- PNDMScheduler begins with Runge-Kutta steps or a step taken twice, `ipndm` with lower orders.
- DPMSolverSinglestepScheduler has one `solver_type` for the inner and the last stage of its third order, where
  `dpm_fast`, `dpm_adaptive` and `seeds_3` have the paper's two different ones.
- DPMSolverMultistepScheduler's noisy third order has one term with the sign reversed, so that `dpmpp_3m_sde` is
  compared without noise.
- DPMSolverMultistepScheduler and UniPCMultistepScheduler on a flow step in its own signal-to-noise ratio;
  `dpmpp_2m` steps in log sigma there, and the `uni_pc` samplers in the ratio of the variance-preserving process.
- DDPMScheduler with `fixed_large` adds noise on the last step too.
- TCDScheduler, CMStochasticIterativeScheduler and the like are methods that no sampler here has.

`heunpp2`, `gradient_estimation`, `er_sde` and the CFG++ samplers have no counterpart there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from nodes.diffusion.noise import brownian_noise
from nodes.diffusion.parametrisation import Flow, Parametrisation
from nodes.diffusion.samplers import Option, run
from tests.nodes.diffusion.mixture import EPS, Mixture, largest_difference

# Its schedulers announce their own changes and those of numpy.
pytestmark = pytest.mark.filterwarnings("ignore")

Options = dict[str, Option]
Settings = dict[str, object]

BETAS: Settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
KARRAS: Settings = {**BETAS, "use_karras_sigmas": True}
FLOW = Flow()
SEED = 11


def first(sigma: float) -> Tensor:
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3)) * sigma


def made(scheduler: str, settings: Settings, steps: int) -> Any:
    import diffusers

    instance = getattr(diffusers, scheduler)(**settings)
    instance.set_timesteps(steps)
    return instance


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


def walk(
    scheduler: Any,
    x: Tensor,
    places: Tensor,
    *,
    scheme: Parametrisation = EPS,
    vp_until: float | None = None,
    noises: Iterable[Tensor] = (),
    **options: object,
) -> Tensor:
    """Let a scheduler step from `x` with an exact network, which is called at the noise levels `places`.

    The state is that of the variance-preserving process, down to the level `vp_until`, where that is given.
    """
    denoise = Mixture(parametrisation=scheme)

    def scale(sigma: float) -> float:
        return 1.0 if vp_until is None else float((sigma**2 + 1) ** -0.5)

    draws = iter(noises)
    x = x * scale(float(places[0]))
    for timestep, sigma in zip(scheduler.timesteps, places.tolist(), strict=True):
        place = x / scale(sigma)
        # The noise of a diffusion model, the velocity of a flow.
        output = (place - denoise(place, sigma)) / sigma
        if noises:
            options["variance_noise"] = next(draws)
        x = scheduler.step(output, timestep, x, **options).prev_sample
    return x / scale(vp_until or 0.0)


def with_middles(levels: Tensor, reached: Tensor) -> Tensor:
    """Return where a solver of two stages calls the network: at each level, and half way in log sigma.

    `reached` are the levels that the steps but for the last go down to.
    """
    starts = levels[:-2]
    middles = starts.log().lerp(reached.log(), 0.5).exp()
    return torch.cat([torch.stack([starts, middles], -1).flatten(), levels[-2:-1]])


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        ("euler", "EulerDiscreteScheduler"),
        ("heun", "HeunDiscreteScheduler"),
        ("dpm_2", "KDPM2DiscreteScheduler"),
        ("lms", "LMSDiscreteScheduler"),
    ],
)
def test_solvers_in_sigma(name: str, scheduler: str) -> None:
    theirs = made(scheduler, KARRAS, 10)
    # The tables of two-stage solvers hold the inner levels twice.
    levels = theirs.sigmas.float().unique_consecutive()
    places = theirs.sigmas.float()[: len(theirs.timesteps)]
    if name == "dpm_2":
        places = with_middles(levels, levels[1:-1])
    if name == "lms":
        # To 0 it goes by all its slopes, the sampler to x0.
        levels, places, theirs.timesteps = levels[:-1], places[:-1], theirs.timesteps[:-1]
    x = first(float(levels[0]))
    assert largest_difference(run(name, Mixture(), x, levels, seed=0), walk(theirs, x, places)) < 2e-5


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        ("euler_ancestral", "EulerAncestralDiscreteScheduler"),
        ("dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler"),
    ],
)
def test_ancestral_solvers_in_sigma(name: str, scheduler: str) -> None:
    theirs = made(scheduler, {**BETAS, "timestep_spacing": "trailing"}, 10)
    levels = theirs.sigmas.unique_consecutive()
    places = levels[:-1]
    if name == "dpm_2_ancestral":
        places = with_middles(levels, levels[1:-1] ** 2 / levels[:-2])
    x = first(float(levels[0]))
    ours = run(name, Mixture(), x, levels, seed=SEED)
    assert largest_difference(ours, walk(theirs, x, places, generator=generator())) < 1e-5


@pytest.mark.parametrize("name", ["dpmpp_sde", "dpmpp_sde_gpu"])
def test_two_stages_along_a_brownian_path(name: str) -> None:
    theirs = made("DPMSolverSDEScheduler", {**KARRAS, "noise_sampler_seed": SEED}, 10)
    levels = theirs.sigmas.unique_consecutive()
    x = first(float(levels[0]))
    places = with_middles(levels, levels[1:-1])
    assert largest_difference(run(name, Mixture(), x, levels, seed=SEED), walk(theirs, x, places)) < 1e-5


@pytest.mark.parametrize(
    ("name", "options", "settings"),
    [
        ("euler", {}, {"solver_order": 1}),
        ("dpmpp_2m", {}, {"solver_order": 2}),
        ("dpmpp_2m_sde", {"eta": 0.0}, {"solver_order": 2}),
        ("dpmpp_2m_sde_heun", {"eta": 0.0}, {"solver_order": 2, "solver_type": "heun"}),
        ("res_multistep", {}, {"solver_order": 2, "solver_type": "heun"}),
        ("dpmpp_3m_sde", {"eta": 0.0}, {"solver_order": 3, "solver_type": "heun"}),
    ],
)
def test_multistep_dpm_solver(name: str, options: Options, settings: Settings) -> None:
    theirs = made("DPMSolverMultistepScheduler", {**KARRAS, "lower_order_final": False, **settings}, 10)
    levels = theirs.sigmas
    x = first(float(levels[0]))
    ours = run(name, Mixture(), x, levels, seed=0, options=options)
    assert largest_difference(ours, walk(theirs, x, levels[:-1], vp_until=0.0)) < 1e-5


NOISY_MULTISTEP = [
    ("dpmpp_2m_sde", "midpoint"),
    ("dpmpp_2m_sde_gpu", "midpoint"),
    ("dpmpp_2m_sde_heun", "heun"),
    ("dpmpp_2m_sde_heun_gpu", "heun"),
]


def brownian(x: Tensor, levels: Tensor) -> list[Tensor]:
    """Return the noise of each step along one path; the last step, to 0, takes none."""
    draw = brownian_noise(x, levels.tolist(), SEED)
    pairs = zip(levels[:-2].tolist(), levels[1:-1].tolist(), strict=True)
    return [*(draw(*pair) for pair in pairs), torch.zeros_like(x)]


@pytest.mark.parametrize(("name", "solver_type"), NOISY_MULTISTEP)
def test_noisy_multistep_dpm_solver(name: str, solver_type: str) -> None:
    settings = {**KARRAS, "algorithm_type": "sde-dpmsolver++", "solver_type": solver_type}
    theirs = made("DPMSolverMultistepScheduler", settings, 10)
    levels = theirs.sigmas
    x = first(float(levels[0]))
    ours = run(name, Mixture(), x, levels, seed=SEED)
    noises = brownian(x, levels)
    assert largest_difference(ours, walk(theirs, x, levels[:-1], vp_until=0.0, noises=noises)) < 1e-5


@pytest.mark.parametrize(("name", "solver_type"), NOISY_MULTISTEP)
def test_noisy_multistep_dpm_solver_on_a_flow(name: str, solver_type: str) -> None:
    settings: Settings = {
        "use_flow_sigmas": True,
        "prediction_type": "flow_prediction",
        "algorithm_type": "sde-dpmsolver++",
        "solver_type": solver_type,
    }
    theirs = made("DPMSolverMultistepScheduler", settings, 10)
    levels = theirs.sigmas
    x = first(1.0)
    ours = run(name, Mixture(parametrisation=FLOW), x, levels, seed=SEED)
    noises = brownian(x, levels)
    assert largest_difference(ours, walk(theirs, x, levels[:-1], scheme=FLOW, noises=noises)) < 1e-5


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dpmpp_2s_ancestral", {"eta": 0.0}),
        ("dpmpp_sde", {"eta": 0.0}),
        ("seeds_2", {"eta": 0.0}),
    ],
)
def test_singlestep_dpm_solver(name: str, options: Options) -> None:
    # Its inner stages lie on its levels: half way, where those are evenly spaced in log sigma.
    settings = {**BETAS, "use_exponential_sigmas": True, "lower_order_final": True}
    theirs = made("DPMSolverSinglestepScheduler", settings, 21)
    levels = theirs.sigmas
    x = first(float(levels[0]))
    steps = torch.cat([levels[:-1:2], levels[-1:]])
    ours = run(name, Mixture(), x, steps, seed=0, options=options)
    assert largest_difference(ours, walk(theirs, x, levels[:-1], vp_until=0.0)) < 1e-5


@pytest.mark.parametrize(("name", "solver_type"), [("uni_pc", "bh1"), ("uni_pc_bh2", "bh2")])
def test_uni_pc(name: str, solver_type: str) -> None:
    settings = {**KARRAS, "solver_order": 3, "solver_type": solver_type, "final_sigmas_type": "sigma_min"}
    theirs = made("UniPCMultistepScheduler", settings, 10)
    levels = theirs.sigmas
    x = first(float(levels[0]))
    ended = walk(theirs, x, levels[:-1], vp_until=float(levels[-1]))
    assert largest_difference(run(name, Mixture(), x, levels, seed=0), ended) < 1e-4


@pytest.mark.parametrize(
    ("name", "eta", "predictor", "corrector"),
    [("sa_solver", 0.0, 3, 4), ("sa_solver", 1.0, 2, 2), ("sa_solver", 0.6, 3, 3)],
)
def test_stochastic_adams(name: str, eta: float, predictor: int, corrector: int) -> None:
    settings = {
        **BETAS,
        "predictor_order": predictor,
        "corrector_order": corrector,
        "tau_func": lambda timestep: eta,
        "lower_order_final": False,
    }
    theirs = made("SASolverScheduler", settings, 12)
    levels = theirs.sigmas
    x = first(float(levels[0]))
    walk(theirs, x, levels[:-1], vp_until=float(levels[-1]), generator=generator())
    # Both have corrected up to the last level but one.
    corrected = theirs.last_sample * float((levels[-2] ** 2 + 1) ** 0.5)
    options: Options = {
        "eta": eta,
        "sde_start_percent": 0.0,
        "sde_end_percent": 1.0,
        "predictor_order": predictor,
        "corrector_order": corrector,
        "simple_order_2": True,
    }
    ours = run(name, Mixture(), x, levels, seed=SEED, options=options)
    assert largest_difference(ours, corrected) < 1e-4


def levels_of(scheduler: Any) -> Tensor:
    """Return the levels of a scheduler that has timesteps only, and 0."""
    kept = scheduler.alphas_cumprod[scheduler.timesteps]
    return torch.cat([((1 - kept) / kept).sqrt(), torch.zeros(1)])


@pytest.mark.parametrize(
    ("name", "options", "scheduler", "settings", "steps"),
    [
        ("ddim", {}, "DDIMScheduler", {"timestep_spacing": "trailing"}, 10),
        ("ddim", {"eta": 1.0}, "DDIMScheduler", {"timestep_spacing": "trailing"}, 10),
        ("ddim", {"eta": 0.4}, "DDIMScheduler", {"timestep_spacing": "trailing"}, 10),
        ("ddpm", {}, "DDPMScheduler", {"timestep_spacing": "trailing"}, 10),
        ("lcm", {}, "LCMScheduler", {}, 4),
    ],
)
def test_solvers_by_timesteps(
    name: str, options: Options, scheduler: str, settings: Settings, steps: int
) -> None:
    theirs = made(scheduler, {**BETAS, "clip_sample": False, **settings}, steps)
    levels = levels_of(theirs)
    x = first(float(levels[0]))
    ours = run(name, Mixture(), x, levels, seed=SEED, options=options)
    stepped: dict[str, Any] = {"generator": generator()}
    if scheduler == "DDIMScheduler":
        stepped["eta"] = options.get("eta", 0.0)
    assert largest_difference(ours, walk(theirs, x, levels[:-1], vp_until=0.0, **stepped)) < 1e-5


@pytest.mark.parametrize("name", ["ipndm"])
def test_improved_pndm(name: str) -> None:
    # Its "betas" are the noise levels of the variance-preserving process, its network's output the velocity there.
    levels = torch.logspace(1.0, -1.5, 13)
    shares = levels / (levels**2 + 1).sqrt()
    theirs = made("IPNDMScheduler", {"trained_betas": shares.tolist()}, 12)
    denoise, x = Mixture(), first(10.0)
    state = x / (levels[0] ** 2 + 1).sqrt()
    for timestep, sigma, share in zip(theirs.timesteps, levels[:-1], shares[:-1], strict=True):
        scale = (sigma**2 + 1).sqrt()
        eps = (state * scale - denoise(state * scale, float(sigma))) / sigma
        velocity = (eps - share * state) * scale
        state = theirs.step(velocity, timestep, state).prev_sample
    expected = state * (levels[-1] ** 2 + 1).sqrt()
    assert largest_difference(run(name, denoise, x, levels, seed=0), expected) < 1e-5


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        ("euler", "FlowMatchEulerDiscreteScheduler"),
        ("ddim", "FlowMatchEulerDiscreteScheduler"),
        ("heun", "FlowMatchHeunDiscreteScheduler"),
        ("lcm", "FlowMatchLCMScheduler"),
        ("euler_ancestral", "LTXEulerAncestralRFScheduler"),
    ],
)
def test_solvers_of_flows(name: str, scheduler: str) -> None:
    theirs = made(scheduler, {"shift": 3.0} if scheduler.startswith("Flow") else {}, 8)
    levels = theirs.sigmas.unique_consecutive()
    places = theirs.sigmas[: len(theirs.timesteps)]
    x = first(1.0)
    ours = run(name, Mixture(parametrisation=FLOW), x, levels, seed=SEED)
    assert largest_difference(ours, walk(theirs, x, places, scheme=FLOW, generator=generator())) < 1e-5
