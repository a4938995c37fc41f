"""Whole runs against the latents that ComfyUI gives for the same toy network, conditionings and seeds."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from nodes.diffusion.sampling import draw_noise, sample, sampled_levels
from nodes.values import Guider, Sampler
from tests.nodes.diffusion.scenarios import Scenario, scenarios
from tests.nodes.diffusion.toy_network import ToyNetwork, model

REFERENCE = load_file(Path(__file__).parents[2] / "data" / "guidance_reference.safetensors")
SCENARIOS = scenarios()


def test_every_scenario_has_a_reference() -> None:
    assert set(REFERENCE) == set(SCENARIOS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_run_agrees_with_the_reference(name: str) -> None:
    run: Scenario = SCENARIOS[name]
    recipe = model(run.parametrisation, run.extra_channels)
    roles = {"dual_cfg": ("positive", "middle", "negative"), "perp_neg": ("positive", "empty", "negative")}
    wanted = roles.get(run.kind, tuple(run.conditionings))
    guider = Guider(
        run.kind,
        recipe,
        tuple((role, run.conditionings[role]) for role in wanted),
        tuple(run.options.items()),
    )
    levels = sampled_levels(
        recipe, run.sampler, run.scheduler, run.steps, run.denoise, run.start, run.end, run.leave_noise
    )
    noise = draw_noise(run.latent, run.seed if run.add_noise else None)
    network = ToyNetwork(run.extra_channels)
    found, _ = sample(network, guider, noise, run.seed, Sampler(run.sampler), levels, run.latent)
    reference = REFERENCE[name]
    assert found.samples.shape == reference.shape
    error = float((found.samples - reference).abs().max() / reference.abs().max())
    assert error <= 1e-5, f"{error:.1e} of the largest magnitude"
