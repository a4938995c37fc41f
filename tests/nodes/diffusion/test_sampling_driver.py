"""The driver that every sampling node goes through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from nodegraph.node import Cancelled, NodeError
from nodes.diffusion.denoiser import Step
from nodes.diffusion.guidance import Hook, Moment
from nodes.diffusion.parametrisation import Discrete, Flow
from nodes.diffusion.sampling import add_noise, draw_noise, fit_channels, sample, sampled_levels
from nodes.diffusion.schedules import sigmas
from nodes.values import Guider, Latent, Patch, Sampler, Sigmas
from tests.nodes.diffusion.toy_network import (
    ConstantNetwork,
    ToyNetwork,
    cfg_guider,
    constant,
    model,
    together,
)

X0 = Discrete(prediction="x0")
EULER = Sampler("euler")
EMPTY = Latent(torch.zeros(2, 4, 8, 8))


def guider(scale: float = 2.0, patches: tuple[Patch, ...] = ()) -> Guider:
    return cfg_guider(model(X0, patches=patches), together(constant(2.0)), together(constant(1.0)), scale)


def test_constant_estimate_is_reached_in_link_units() -> None:
    steps: list[Step] = []
    levels = Sigmas(sigmas("normal", 5, X0))
    noise = draw_noise(EMPTY, 1)
    found, x0 = sample(ConstantNetwork(), guider(), noise, 1, EULER, levels, EMPTY, steps.append)
    assert torch.allclose(found.samples, torch.full((2, 4, 8, 8), 3.0 / 0.18215))
    assert torch.allclose(x0.samples, found.samples, atol=1e-4)
    assert [(step.index, step.total) for step in steps] == [(index, 5) for index in range(5)]


def test_first_noise_is_scaled_up_only_at_the_top_of_the_schedule() -> None:
    top, noise = X0.sigma_max, draw_noise(EMPTY, 1)
    for level, scale in (
        (top, (1 + top**2) ** 0.5),
        (top * 0.999, top * 0.999),
        (2 * top, (1 + 4 * top**2) ** 0.5),
    ):
        found, x0 = sample(ConstantNetwork(), guider(), noise, 1, EULER, Sigmas(torch.tensor([level])), EMPTY)
        assert torch.allclose(found.samples, noise * scale / 0.18215, rtol=1e-5)
        assert torch.equal(x0.samples, found.samples), "no step was taken"


def test_empty_schedule_returns_the_latent_and_calls_nothing() -> None:
    network, latent = ConstantNetwork(), Latent(torch.randn(1, 4, 8, 8))
    found, x0 = sample(network, guider(), draw_noise(latent, 1), 1, EULER, Sigmas(torch.empty(0)), latent)
    assert found.samples is latent.samples and x0.samples is latent.samples and not network.calls


def test_part_outside_the_noise_mask_is_kept() -> None:
    mask = torch.zeros(1, 64, 64)
    mask[..., :32] = 1.0
    latent = Latent(torch.randn(2, 4, 8, 8), mask)
    found, _ = sample(
        ConstantNetwork(), guider(), draw_noise(latent, 1), 1, EULER, Sigmas(sigmas("normal", 4, X0)), latent
    )
    assert torch.allclose(found.samples[..., 4:], latent.samples[..., 4:], atol=1e-5)
    assert torch.allclose(found.samples[..., :4], torch.full((2, 4, 8, 4), 3.0 / 0.18215))
    assert found.noise_mask is mask, "what comes after still knows the mask"


def test_one_seed_is_one_picture_and_samples_of_a_batch_can_be_made_again_alone() -> None:
    recipe = model()
    prompts = cfg_guider(recipe, together(constant(0.3)), together(constant(-0.2)), 3.0)
    levels = Sigmas(sigmas("karras", 3, recipe.parametrisation))

    def run(latent: Latent, seed: int) -> torch.Tensor:
        return sample(ToyNetwork(), prompts, draw_noise(latent, seed), seed, EULER, levels, latent)[0].samples

    batch = run(replace(EMPTY, batch_index=(0, 1)), 5)
    assert torch.equal(batch, run(replace(EMPTY, batch_index=(0, 1)), 5))
    assert not torch.allclose(batch, run(replace(EMPTY, batch_index=(0, 1)), 6))
    alone = run(Latent(torch.zeros(1, 4, 8, 8), None, (1,)), 5)
    assert torch.allclose(alone, batch[1:], atol=1e-4)


def test_cancelling_stops_within_a_step() -> None:
    network = ConstantNetwork()

    def cancel(step: Step) -> None:
        if step.index == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        sample(
            network, guider(), draw_noise(EMPTY, 1), 1, EULER, Sigmas(sigmas("normal", 20, X0)), EMPTY, cancel
        )
    assert len(network.calls) == 2


def test_empty_latent_takes_the_channels_of_the_model_and_content_must_match() -> None:
    fitted = fit_channels(Latent(torch.zeros(2, 16, 8, 8)), model())
    assert fitted.samples.shape == (2, 4, 8, 8)
    with pytest.raises(NodeError, match="sd1 works on latents with 4 channels") as caught:
        fit_channels(Latent(torch.ones(2, 16, 8, 8)), model())
    assert caught.value.found == "samples of shape (2, 16, 8, 8)"
    for channels in (4, 16):
        with pytest.raises(NodeError, match="does not fit"):
            fit_channels(Latent(torch.zeros(0, channels, 8, 8)), model())


def test_encodings_of_another_model_are_a_clear_error() -> None:
    wide = cfg_guider(
        model(X0),
        together(constant(1.0)),
        together(replace(constant(1.0), context=torch.zeros(1, 77, 32))),
        2.0,
    )
    with pytest.raises(NodeError, match="reads encodings 16 numbers wide") as caught:
        sample(
            ConstantNetwork(), wide, draw_noise(EMPTY, 1), 1, EULER, Sigmas(sigmas("normal", 4, X0)), EMPTY
        )
    assert caught.value.input == "negative" and "32" in str(caught.value.found)


def test_batch_index_must_name_each_sample() -> None:
    with pytest.raises(NodeError, match="batch index"):
        draw_noise(replace(EMPTY, batch_index=(0, 1, 2)), 1)


def test_noise_is_one_draw_of_the_whole_batch() -> None:
    expected = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(42))
    assert torch.equal(draw_noise(EMPTY, 42), expected)
    assert torch.equal(draw_noise(EMPTY, 2**64 - 1), draw_noise(EMPTY, 2**64 - 1))
    assert not draw_noise(EMPTY, None).any()


def visited(*choices: Any) -> torch.Tensor:
    return sampled_levels(*choices).values


def test_steps_of_a_part_of_the_schedule() -> None:
    recipe = model()
    whole = visited(recipe, "euler", "normal", 6)
    assert len(whole) == 7 and float(whole[-1]) == 0.0
    assert torch.equal(visited(recipe, "euler", "normal", 6, 1.0, 2, 4, True), whole[2:5])
    cut = visited(recipe, "euler", "normal", 6, 1.0, 2, 4)
    assert torch.equal(cut, torch.cat([whole[2:4], torch.zeros(1)]))
    assert torch.equal(visited(recipe, "euler", "normal", 6), whole), "the cut changed a copy"
    assert torch.equal(visited(recipe, "euler", "normal", 6, 1.0, 0, 10000), whole)
    for start, end in ((6, 10000), (4, 4), (0, 0), (5, 3)):
        assert len(visited(recipe, "euler", "normal", 6, 1.0, start, end)) == 0
    assert torch.equal(
        visited(recipe, "euler", "normal", 6, 0.5),
        visited(recipe, "euler", "normal", 12)[-7:],
    )
    assert len(visited(recipe, "euler", "normal", 6, 0.0)) == 0


def test_flow_output_is_scaled_back_where_noise_is_left() -> None:
    flow = Flow(shift=3.0)
    prompts = cfg_guider(model(flow), together(constant(0.0)), together(constant(0.0)), 1.0)
    latent = Latent(torch.randn(1, 4, 8, 8))
    found, _ = sample(
        ToyNetwork(), prompts, draw_noise(latent, None), 1, EULER, Sigmas(torch.tensor([0.5])), latent
    )
    assert torch.allclose(found.samples, latent.samples, atol=1e-5)


def test_added_noise_reaches_from_the_first_level_to_the_last() -> None:
    latent = Latent(torch.randn(1, 4, 8, 8))
    noise = draw_noise(latent, 3)
    made = add_noise(model(), noise, torch.tensor([5.0, 3.0, 2.0]), latent)
    assert torch.allclose(made.samples, latent.samples + noise * 3.0 / 0.18215, atol=1e-5)
    alone = add_noise(model(), noise, torch.tensor([5.0]), latent)
    assert torch.allclose(alone.samples, latent.samples + noise * 5.0 / 0.18215, atol=1e-5)
    assert add_noise(model(), noise, torch.empty(0), latent) is latent


class Plus(Hook):
    """Adds the estimate of the patch's own conditioning."""

    def after(self, moment: Moment, guided: torch.Tensor) -> torch.Tensor:
        extra = moment.guide.estimate(moment.x, moment.sigma, ["plus.prompt"])["plus.prompt"]
        return guided + extra


def test_guidance_patches_of_the_model_take_part_with_their_own_conditionings() -> None:
    patch = Patch("guidance", "plus", inputs=(("prompt", together(constant(10.0))),))
    levels, noise = Sigmas(sigmas("normal", 3, X0)), draw_noise(EMPTY, 1)
    found, _ = sample(
        ConstantNetwork(),
        guider(2.0, (patch,)),
        noise,
        1,
        EULER,
        levels,
        EMPTY,
        hooks={"plus": lambda patch: Plus()},
    )
    assert torch.allclose(found.samples, torch.full((2, 4, 8, 8), 13.0 / 0.18215))
    with pytest.raises(NodeError, match="'plus' that this version does not know"):
        sample(ConstantNetwork(), guider(2.0, (patch,)), noise, 1, EULER, levels, EMPTY)


def test_low_precision_network_is_fed_its_dtype_and_sampled_in_float32() -> None:
    recipe = model()
    prompts = cfg_guider(recipe, together(constant(0.3)), together(constant(-0.2)), 3.0)
    levels, noise = Sigmas(sigmas("normal", 4, recipe.parametrisation)), draw_noise(EMPTY, 1)
    exact = sample(ToyNetwork(), prompts, noise, 1, EULER, levels, EMPTY)[0].samples
    rough = sample(ToyNetwork(dtype=torch.bfloat16), prompts, noise, 1, EULER, levels, EMPTY)[0].samples
    assert rough.dtype == torch.float32
    error = float((exact - rough).abs().max() / exact.abs().max())
    assert 0 < error < 0.05
