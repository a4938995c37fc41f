"""Nodes of noise levels, samplers, guiders and noise; the sampling itself is tested in test_sampling.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from nodegraph.node import NodeError
from nodes import custom_sampling as custom
from nodes import sampler_options as options
from nodes.diffusion import schedules
from nodes.diffusion.samplers import SAMPLERS, run
from nodes.diffusion.sampling import draw_noise
from nodes.values import Conditioning, Latent, Model, Noise, Sampler, Sigmas
from tests.nodes.diffusion.toy_network import constant, model

PROMPT = Conditioning((constant(1.0),))
LEVELS = Sigmas(torch.tensor([14.0, 7.0, 3.0, 1.0, 0.0]))


@pytest.mark.parametrize(
    ("made", "first", "last"),
    [
        (lambda: custom.karras_scheduler(5, 10.0, 0.1, 7.0), 10.0, 0.1),
        (lambda: custom.exponential_scheduler(5, 10.0, 0.1), 10.0, 0.1),
        (lambda: custom.polyexponential_scheduler(5, 10.0, 0.1, 2.0), 10.0, 0.1),
        (lambda: custom.vp_scheduler(5, 19.9, 0.1, 1e-3), math.sqrt(math.expm1(19.9 / 2 + 0.1)), None),
        (
            lambda: custom.beta_sampling_scheduler(model=model(), steps=5),
            model().parametrisation.sigma_max,
            None,
        ),
        (lambda: custom.basic_scheduler(model=model(), scheduler="normal", steps=5), 14.614643, 0.029167),
        (lambda: custom.align_your_steps_scheduler(model_type="SDXL", steps=5), 14.6146412293, None),
    ],
)
def test_schedules_fall_from_the_first_level_to_zero(
    made: Callable[[], Sigmas], first: float, last: float | None
) -> None:
    values = made().values
    assert values.shape == (6,) and values.dtype == torch.float32
    assert math.isclose(float(values[0]), first, rel_tol=1e-5)
    assert last is None or math.isclose(float(values[-2]), last, rel_tol=1e-4)
    assert float(values[-1]) == 0.0 and bool((values.diff() < 0).all())


def test_middle_levels_follow_the_definitions() -> None:
    karras = custom.karras_scheduler(3, 16.0, 1.0, 2.0).values
    assert math.isclose(float(karras[1]), 2.5**2, rel_tol=1e-5)
    assert math.isclose(float(custom.exponential_scheduler(3, 16.0, 1.0).values[1]), 4.0, rel_tol=1e-5)
    assert math.isclose(
        float(custom.polyexponential_scheduler(3, 16.0, 1.0, 2.0).values[1]), 2.0, rel_tol=1e-5
    )


def test_laplace_schedule_is_symmetric_about_its_mean() -> None:
    values = custom.laplace_scheduler(5, 5000.0, 0.001, mu=1.0, beta=0.5).values
    assert values.shape == (5,)
    assert torch.allclose(values.log() - 1.0, -(values.log() - 1.0).flip(0), atol=1e-3)


def test_turbo_schedule_takes_every_hundredth_timestep() -> None:
    scale = model().parametrisation
    values = custom.sd_turbo_scheduler(model=model(), steps=2, denoise=0.5).values
    assert values.tolist() == pytest.approx([scale.sigma(499), scale.sigma(399), 0.0])


def test_partial_denoise_takes_the_end_of_a_longer_schedule() -> None:
    whole = custom.basic_scheduler(model=model(), scheduler="karras", steps=12).values
    part = custom.basic_scheduler(model=model(), scheduler="karras", steps=6, denoise=0.5).values
    assert torch.equal(part, whole[-7:])
    assert len(custom.basic_scheduler(model=model(), scheduler="karras", steps=6, denoise=0.0).values) == 0


def test_levels_are_split_flipped_and_replaced() -> None:
    high, low = custom.split_sigmas(sigmas=LEVELS, step=2)
    assert high.values.tolist() == [14.0, 7.0, 3.0] and low.values.tolist() == [3.0, 1.0, 0.0]
    high, low = custom.split_sigmas_denoise(sigmas=LEVELS, denoise=0.25)
    assert high.values.tolist() == [14.0, 7.0, 3.0, 1.0] and low.values.tolist() == [1.0, 0.0]
    assert custom.flip_sigmas(sigmas=LEVELS).values.tolist() == pytest.approx([0.0001, 1.0, 3.0, 7.0, 14.0])
    assert custom.set_first_sigma(sigmas=LEVELS, sigma=5.0).values.tolist() == [5.0, 7.0, 3.0, 1.0, 0.0]
    assert LEVELS.values.tolist() == [14.0, 7.0, 3.0, 1.0, 0.0], "the given levels are as they were"


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: custom.karras_scheduler(5, rho=0.0), "rho"),
        (lambda: custom.exponential_scheduler(5, sigma_min=0.0), "sigma_min"),
        (lambda: custom.polyexponential_scheduler(5, sigma_max=0.0), "sigma_max"),
        (lambda: custom.beta_sampling_scheduler(model=model(), alpha=0.0), "alpha"),
        (lambda: custom.set_first_sigma(sigmas=Sigmas(torch.empty(0))), "sigmas"),
    ],
)
def test_levels_that_cannot_be_are_clear_errors(make: Callable[[], Any], field: str) -> None:
    with pytest.raises(NodeError) as caught:
        make()
    assert caught.value.input == field


def test_every_scheduler_of_the_choice_can_be_used() -> None:
    for name in schedules.SCHEDULES:
        values = custom.basic_scheduler(model=model(), scheduler=name, steps=4).values
        assert float(values[-1]) == 0.0 and values.isfinite().all(), name


def _sampler_nodes() -> dict[str, Sampler]:
    recipe = model()
    made = {name: options.ksampler_select(name) for name in SAMPLERS}
    for device in ("cpu", "gpu"):
        made |= {
            f"2m {device}": options.sampler_dpmpp_2m_sde(solver_type="heun", eta=0.5, noise_device=device),
            f"sde {device}": options.sampler_dpmpp_sde(r=0.4, noise_device=device),
            f"3m {device}": options.sampler_dpmpp_3m_sde(s_noise=0.9, noise_device=device),
        }
    return made | {
        "ddim": options.sampler_ddim(0.5),
        "euler ancestral": options.sampler_euler_ancestral(0.5, 0.9),
        "2s ancestral": options.sampler_dpmpp_2s_ancestral(0.5, 0.9),
        "lms": options.sampler_lms(3),
        "adaptive": options.sampler_dpm_adaptive(order=2, rtol=0.1),
        "er sde": options.sampler_er_sde(solver_type="Reverse-time SDE", max_stage=2),
        "er ode": options.sampler_er_sde(solver_type="ODE"),
        "sa": options.sampler_sa_solver(model=recipe, use_pece=True, simple_order_2=True),
        "lcm": options.sampler_lcm_upscale(scale_ratio=2.0, upscale_method="bilinear"),
    }


class Shrinking:
    """An exact denoiser of one Gaussian of unit variance."""

    parametrisation = model().parametrisation

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        return x / (1 + sigma**2)

    def with_uncond(self, x: torch.Tensor, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
        return self(x, sigma), self(x, sigma)


@pytest.mark.parametrize("name", _sampler_nodes())
def test_every_sampler_node_names_a_sampler_that_takes_its_options(name: str) -> None:
    sampler = _sampler_nodes()[name]
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 14.0
    made = run(
        sampler.name,
        Shrinking(),
        x,
        LEVELS.values,
        seed=1,
        options={k: v for k, v in sampler.options if v is not None},
    )
    assert made.isfinite().all()
    assert made.shape == ((1, 4, 16, 16) if name == "lcm" else x.shape)


def test_noise_device_names_the_sampler() -> None:
    assert options.sampler_dpmpp_sde(noise_device="cpu").name == "dpmpp_sde"
    assert options.sampler_dpmpp_3m_sde(noise_device="gpu").name == "dpmpp_3m_sde_gpu"


def test_guiders_are_plain_records() -> None:
    recipe: Model = model()
    basic = custom.basic_guider(model=recipe, conditioning=PROMPT)
    assert (basic.kind, dict(basic.conditionings)) == ("basic", {"positive": PROMPT})
    other = Conditioning((constant(2.0),))
    dual = custom.dual_cfg_guider(
        model=recipe, cond1=PROMPT, cond2=other, negative=PROMPT, cfg_conds=2.0, style="nested"
    )
    assert dict(dual.conditionings)["middle"] is other
    assert dict(dual.options) == {"cfg_conds": 2.0, "cfg_cond2_negative": 8.0, "style": "nested"}
    perp = custom.perp_neg_guider(model=recipe, positive=PROMPT, negative=PROMPT, empty_conditioning=other)
    assert dict(perp.conditionings)["empty"] is other
    assert dict(perp.options) == {"cfg": 8.0, "neg_scale": 1.0}


def test_noise_is_a_seed_or_nothing() -> None:
    latent = Latent(torch.zeros(1, 4, 8, 8))
    assert custom.random_noise(2**64 - 1) == Noise(2**64 - 1)
    assert custom.disable_noise() == Noise(None)
    noisy = custom.add_noise(model=model(), noise=custom.random_noise(3), sigmas=LEVELS, latent_image=latent)
    assert torch.allclose(noisy.samples, draw_noise(latent, 3) * 14.0 / 0.18215)
    still = custom.add_noise(model=model(), noise=custom.disable_noise(), sigmas=LEVELS, latent_image=latent)
    assert not still.samples.any()
