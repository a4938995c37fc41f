"""The table of samplers and what all of them have in common."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nodes.diffusion.denoiser import Step
from nodes.diffusion.noise import initial_noise
from nodes.diffusion.parametrisation import Discrete, Flow, Parametrisation
from nodes.diffusion.samplers import SAMPLERS, Option, find, run
from nodes.diffusion.schedules import ksampler_sigmas, sigmas
from tests.nodes.diffusion.mixture import Mixture, Point

DATA = Path(__file__).parents[3] / "data"
DECLARED = json.loads((DATA / "comfyui_nodes.json").read_text())
SCHEMES: tuple[Parametrisation, ...] = (Discrete(), Flow(shift=3.0))


def noised(scheme: Parametrisation, sigma: float, seed: int = 1) -> Tensor:
    latent = torch.zeros(2, 4, 4, 4)
    return scheme.noise_scaling(sigma, initial_noise(latent, seed), latent)


def test_names_are_the_choices_of_ksampler_in_order() -> None:
    assert list(SAMPLERS) == DECLARED["KSampler"]["inputs"]["sampler_name"]["options"]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_a_known_answer_is_reached(name: str, scheme: Parametrisation) -> None:
    levels = ksampler_sigmas(name, "normal", 8, 1.0, scheme).values
    ended = run(name, Point(0.7, scheme), noised(scheme, float(levels[0])), levels, seed=3)
    # The DPM-Solver samplers stop at the last level above 0, UniPC all but there.
    left = float(levels[-2]) if name in ("dpm_fast", "dpm_adaptive") else 0.002
    assert ended.shape == (2, 4, 4, 4)
    assert float((ended - 0.7).abs().max()) < max(5 * left, 1e-5)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_same_seed_same_latent_and_inputs_unchanged(name: str, scheme: Parametrisation) -> None:
    levels = sigmas("sgm_uniform", 5, scheme)
    x = noised(scheme, float(levels[0]))
    x_before, levels_before = x.clone(), levels.clone()
    first, second = (run(name, Mixture(parametrisation=scheme), x, levels, seed=4) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(x, x_before) and torch.equal(levels, levels_before)
    assert bool(first.isfinite().all())


@pytest.mark.parametrize("name", [name for name, spec in SAMPLERS.items() if spec.noise == "none"])
def test_samplers_without_noise_ignore_the_seed(name: str) -> None:
    levels = sigmas("karras", 5, Discrete())
    x = noised(Discrete(), float(levels[0]))
    assert torch.equal(run(name, Mixture(), x, levels, seed=1), run(name, Mixture(), x, levels, seed=2))


@pytest.mark.parametrize("name", [name for name, spec in SAMPLERS.items() if spec.noise != "none"])
def test_samplers_with_noise_use_the_seed(name: str) -> None:
    levels = sigmas("karras", 5, Discrete())
    x = noised(Discrete(), float(levels[0]))
    options: dict[str, Option] = {"eta": 1.0} if name in ("dpm_adaptive", "ddim") else {}
    ended = [run(name, Mixture(), x, levels, seed=seed, options=options) for seed in (1, 2)]
    assert not torch.equal(*ended)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in ("dpm_fast", "dpm_adaptive")])
def test_each_step_is_reported_once_with_its_level(name: str) -> None:
    steps: list[Step] = []
    levels = sigmas("karras", 6, Discrete())
    run(name, Mixture(), noised(Discrete(), float(levels[0])), levels, seed=1, on_step=steps.append)
    assert [step.index for step in steps] == list(range(6))
    assert {step.total for step in steps} == {6}
    assert [step.sigma for step in steps] == levels[:-1].tolist()
    assert all(step.x.shape == step.x0.shape == (2, 4, 4, 4) for step in steps)


@pytest.mark.parametrize("name", [name for name, spec in SAMPLERS.items() if spec.noise == "none"])
def test_a_step_reports_the_latent_at_its_level(name: str) -> None:
    steps: list[Step] = []
    levels = sigmas("exponential", 6, Discrete())
    x = noised(Discrete(), float(levels[0]))
    run(name, Point(0.7), x, levels, seed=1, on_step=steps.append)
    noise = (x - 0.7) / float(levels[0])
    for step in steps:
        assert torch.allclose((step.x - 0.7) / step.sigma, noise, atol=1e-3)


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_exception_in_on_step_ends_the_run(name: str) -> None:
    class StopError(Exception):
        pass

    seen = []

    def stop(step: Step) -> None:
        seen.append(step.index)
        raise StopError

    levels = sigmas("karras", 6, Discrete())
    with pytest.raises(StopError):
        run(name, Mixture(), noised(Discrete(), float(levels[0])), levels, seed=1, on_step=stop)
    assert seen == [0]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps_are_enough(name: str, scheme: Parametrisation, steps: int) -> None:
    levels = ksampler_sigmas(name, "simple", steps, 1.0, scheme).values
    ended = run(name, Mixture(parametrisation=scheme), noised(scheme, float(levels[0])), levels, seed=1)
    assert bool(ended.isfinite().all())


@pytest.mark.parametrize("name", SAMPLERS)
def test_fewer_than_two_levels_change_nothing(name: str) -> None:
    x = noised(Discrete(), 3.0)
    assert torch.equal(run(name, Mixture(), x, torch.tensor([3.0]), seed=1), x)
    assert torch.equal(run(name, Mixture(), x, torch.empty(0), seed=1), x)


def test_unknown_names_and_options_are_refused_with_the_known() -> None:
    x, levels = noised(Discrete(), 3.0), torch.tensor([3.0, 0.0])
    with pytest.raises(ValueError, match=r"'eulr'.*euler, "):
        run("eulr", Mixture(), x, levels, seed=1)
    with pytest.raises(ValueError, match=r"no option gamma; it has eta, s_noise"):
        run("euler_ancestral", Mixture(), x, levels, seed=1, options={"gamma": 1.0})
    with pytest.raises(ValueError, match="order of 2 or 3"):
        run("dpm_adaptive", Mixture(), x, levels, seed=1, options={"order": 4})
    with pytest.raises(ValueError, match="midpoint or heun"):
        run("dpmpp_2m_sde", Mixture(), x, levels, seed=1, options={"solver_type": "other"})
    with pytest.raises(ValueError, match="ER-SDE"):
        run("er_sde", Mixture(), x, levels, seed=1, options={"solver_type": "other"})


@pytest.mark.parametrize(
    ("node", "sampler"),
    [
        ("SamplerEulerAncestral", "euler_ancestral"),
        ("SamplerDPMPP_2M_SDE", "dpmpp_2m_sde"),
        ("SamplerDPMPP_SDE", "dpmpp_sde_gpu"),
        ("SamplerDPMPP_3M_SDE", "dpmpp_3m_sde"),
        ("SamplerDPMPP_2S_Ancestral", "dpmpp_2s_ancestral"),
        ("SamplerLMS", "lms"),
        ("SamplerDPMAdaptative", "dpm_adaptive"),
        ("SamplerER_SDE", "er_sde"),
        ("SamplerSASolver", "sa_solver"),
        ("SamplerLCMUpscale", "lcm_upscale"),
    ],
)
def test_options_of_the_sampler_nodes_are_known(node: str, sampler: str) -> None:
    declared = set(DECLARED[node]["inputs"]) - {"noise_device", "model"}
    assert declared <= find(sampler).options


def test_lcm_upscale_grows_over_the_first_steps() -> None:
    sizes: list[int] = []

    def on_step(step: Step) -> None:
        sizes.append(step.x.shape[-1])

    levels = sigmas("sgm_uniform", 4, Discrete())
    options: dict[str, Option] = {"scale_ratio": 2.0, "scale_steps": 2, "upscale_method": "bilinear"}
    x = noised(Discrete(), float(levels[0]))
    ended = run("lcm_upscale", Point(0.7), x, levels, seed=1, on_step=on_step, options=options)
    assert sizes == [4, 6, 8, 8]
    assert ended.shape == (2, 4, 8, 8)
    assert torch.allclose(ended, torch.full_like(ended, 0.7))


def test_fast_solver_spends_the_evaluations_it_is_given() -> None:
    class Counted(Mixture):
        def __call__(self, x: Tensor, sigma: float) -> Tensor:
            calls.append(sigma)
            return super().__call__(x, sigma)

    for steps in range(1, 9):
        calls: list[float] = []
        levels = sigmas("karras", steps, Discrete())
        run("dpm_fast", Counted(), noised(Discrete(), float(levels[0])), levels, seed=1)
        assert len(calls) == steps
        assert math.isclose(calls[0], float(levels[0]), rel_tol=1e-6)
