"""The KSampler nodes on a small U-Net that goes through the file, the pool and the driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nodegraph.node import Cancelled, Folders, NodeError, Runtime
from nodes.custom_sampling import (
    add_noise,
    basic_guider,
    basic_scheduler,
    cfg_guider_node,
    disable_noise,
    dual_cfg_guider,
    perp_neg_guider,
    random_noise,
    sampler_custom,
    sampler_custom_advanced,
    split_sigmas,
)
from nodes.diffusion.preview import StepPreview
from nodes.models.detection import hints_of, need
from nodes.models.loading import empty_module
from nodes.models.recipes import model_recipe
from nodes.models.tensor_file import read_header
from nodes.sampler_options import ksampler_select
from nodes.sampling import ksampler, ksampler_advanced
from nodes.values import Architecture, Cond, Conditioning, Latent, Model
from tests.nodes.conftest import DirectContext

WIDTH = 16
EMPTY = Latent(torch.zeros(1, 4, 8, 8))


class Recording(DirectContext):
    """Keeps the progress that is reported, and cancels after so many steps."""

    def __init__(self, runtime: Runtime, cancel_after: int | None = None) -> None:
        super().__init__(runtime, {})
        self.steps: list[tuple[float, float, Any]] = []
        self.cancel_after = cancel_after

    def progress(self, value: float, total: float, preview: Any = None) -> None:
        self.steps.append((value, total, preview))
        if len(self.steps) == self.cancel_after:
            raise Cancelled


@pytest.fixture
def ctx(folders: Folders) -> Recording:
    return Recording(Runtime(folders))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A U-Net of two levels with seeded weights, read back from a file."""
    arguments: Mapping[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "channel_mult": (1, 2),
        "num_res_blocks": (1, 1),
        "depth_in": (1, 1),
        "depth_middle": 1,
        "depth_out": (1, 1, 1, 1),
        "cross_attention_dim": WIDTH,
        "linear": False,
        "num_heads": 8,
    }
    shapes = empty_module(Architecture("unet", tuple(arguments.items()))).state_dict()
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"model.diffusion_model.{name}": torch.randn(tensor.shape, generator=generator)
        / max(1, tensor[0].numel()) ** 0.5
        for name, tensor in shapes.items()
    }
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_file(tensors, path)
    header = read_header(path)
    return model_recipe(need(header, "unet"), hints_of(header))


def prompt(seed: int) -> Conditioning:
    return Conditioning((Cond(torch.randn(1, 77, WIDTH, generator=torch.Generator().manual_seed(seed))),))


def run(ctx: Recording, model: Model, latent: Latent = EMPTY, **inputs: Any) -> torch.Tensor:
    given = {
        "seed": 5,
        "steps": 4,
        "cfg": 3.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "positive": prompt(1),
        "negative": prompt(2),
    }
    return ksampler(ctx=ctx, model=model, latent_image=latent, **{**given, **inputs}).samples


def run_part(ctx: Recording, model: Model, latent: Latent, start: int, end: int, **inputs: Any) -> Latent:
    given = {
        "add_noise": "enable",
        "noise_seed": 5,
        "steps": 4,
        "cfg": 3.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "positive": prompt(1),
        "negative": prompt(2),
        "return_with_leftover_noise": "disable",
    }
    return ksampler_advanced(
        ctx=ctx, model=model, latent_image=latent, start_at_step=start, end_at_step=end, **{**given, **inputs}
    )


def test_each_step_is_reported_with_its_estimate(ctx: Recording, model: Model) -> None:
    made = run(ctx, model)
    assert made.shape == (1, 4, 8, 8) and made.isfinite().all() and made.device.type == "cpu"
    assert [step[:2] for step in ctx.steps] == [(index + 1, 4) for index in range(4)]
    preview = ctx.steps[-1][2]
    assert isinstance(preview, StepPreview) and preview.x0.shape == (1, 4, 8, 8)
    assert preview.jpeg(512).startswith(b"\xff\xd8")


def test_same_inputs_give_the_same_latent_and_others_do_not(ctx: Recording, model: Model) -> None:
    made = run(ctx, model)
    assert torch.equal(made, run(ctx, model))
    for change in ({"seed": 2**64 - 1}, {"cfg": 1.0}, {"positive": prompt(3)}, {"scheduler": "karras"}):
        assert not torch.allclose(made, run(ctx, model, **change)), change


def test_no_denoise_returns_the_latent(ctx: Recording, model: Model) -> None:
    latent = Latent(torch.randn(1, 4, 8, 8))
    assert run(ctx, model, latent, denoise=0.0) is latent.samples
    assert ctx.steps == []


def test_little_denoise_stays_near_the_latent(ctx: Recording, model: Model) -> None:
    latent = Latent(torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)) / 0.18215)
    moved = [(run(ctx, model, latent, denoise=d, cfg=1.0) - latent.samples).norm() for d in (0.05, 0.3, 1.0)]
    assert moved[0] < moved[1] < moved[2]


def test_two_samplers_in_a_row_equal_one(ctx: Recording, model: Model) -> None:
    whole = run(ctx, model)
    first = run_part(ctx, model, EMPTY, 0, 2, return_with_leftover_noise="enable")
    second = run_part(ctx, model, first, 2, 10000, add_noise="disable")
    assert torch.allclose(second.samples, whole, atol=1e-4)
    denoised = run_part(ctx, model, EMPTY, 0, 2)
    assert not torch.allclose(denoised.samples, first.samples)


def test_cancelling_ends_the_run_at_the_step(folders: Folders, model: Model) -> None:
    ctx = Recording(Runtime(folders), cancel_after=2)
    with pytest.raises(Cancelled):
        run(ctx, model, steps=30)
    assert len(ctx.steps) == 2


def test_latent_of_another_model_is_refused_before_anything_loads(ctx: Recording, model: Model) -> None:
    elsewhere = replace(model, weights=replace(model.weights, identity="gone", paths=()))
    with pytest.raises(NodeError, match="works on latents with 4 channels"):
        run(ctx, elsewhere, Latent(torch.ones(1, 16, 8, 8)))


def test_custom_sampling_in_parts_equals_the_ksampler(ctx: Recording, model: Model) -> None:
    whole = run(ctx, model)
    sigmas = basic_scheduler(model=model, scheduler="normal", steps=4)
    sampler = ksampler_select("euler")
    custom = sampler_custom(
        ctx=ctx,
        model=model,
        add_noise=True,
        noise_seed=5,
        cfg=3.0,
        positive=prompt(1),
        negative=prompt(2),
        sampler=sampler,
        sigmas=sigmas,
        latent_image=EMPTY,
    )
    assert torch.equal(custom.output.samples, whole)
    assert torch.allclose(custom.denoised_output.samples, whole, atol=1e-5), (
        "the last step goes to the estimate"
    )
    guider = cfg_guider_node(model=model, positive=prompt(1), negative=prompt(2), cfg=3.0)
    advanced = sampler_custom_advanced(
        ctx=ctx, noise=random_noise(5), guider=guider, sampler=sampler, sigmas=sigmas, latent_image=EMPTY
    )
    assert torch.equal(advanced.output.samples, whole)


def test_noise_can_be_added_beforehand(ctx: Recording, model: Model) -> None:
    latent = Latent(torch.randn(1, 4, 8, 8) / 0.18215)
    sigmas = split_sigmas(sigmas=basic_scheduler(model=model, scheduler="normal", steps=4), step=1).low_sigmas
    guider = cfg_guider_node(model=model, positive=prompt(1), negative=prompt(2), cfg=3.0)

    def finish(noise_seed: int | None, start: Latent) -> torch.Tensor:
        noise = disable_noise() if noise_seed is None else random_noise(noise_seed)
        sampler = ksampler_select("euler")
        return sampler_custom_advanced(
            ctx=ctx, noise=noise, guider=guider, sampler=sampler, sigmas=sigmas, latent_image=start
        ).output.samples

    noisy = add_noise(model=model, noise=random_noise(9), sigmas=sigmas, latent_image=latent)
    assert torch.allclose(finish(None, noisy), finish(9, latent), rtol=1e-3, atol=1e-3)


def test_guiders_that_come_down_to_another_agree(ctx: Recording, model: Model) -> None:
    """Without a part to play, the second prompt of dual guidance and the negative of Perp-Neg change nothing."""
    sigmas = basic_scheduler(model=model, scheduler="normal", steps=3)
    positive, negative, other = prompt(1), prompt(2), prompt(3)
    runs = {
        "basic": basic_guider(model=model, conditioning=positive),
        "cfg 1": cfg_guider_node(model=model, positive=positive, negative=negative, cfg=1.0),
        "cfg 3": cfg_guider_node(model=model, positive=positive, negative=negative, cfg=3.0),
        "dual 3": dual_cfg_guider(
            model=model,
            cond1=positive,
            cond2=positive,
            negative=negative,
            cfg_conds=7.0,
            cfg_cond2_negative=3.0,
            style="regular",
        ),
        "nested 3": dual_cfg_guider(
            model=model,
            cond1=positive,
            cond2=other,
            negative=negative,
            cfg_conds=1.0,
            cfg_cond2_negative=3.0,
            style="nested",
        ),
        "perp 3": perp_neg_guider(
            model=model,
            positive=positive,
            negative=other,
            empty_conditioning=negative,
            cfg=3.0,
            neg_scale=0.0,
        ),
    }
    made = {
        name: sampler_custom_advanced(
            ctx=ctx,
            noise=random_noise(5),
            guider=guider,
            sampler=ksampler_select("euler"),
            sigmas=sigmas,
            latent_image=EMPTY,
        ).output.samples
        for name, guider in runs.items()
    }
    assert torch.allclose(made["basic"], made["cfg 1"], atol=1e-4)
    for name in ("dual 3", "nested 3", "perp 3"):
        assert torch.allclose(made[name], made["cfg 3"], atol=1e-3), name
    assert not torch.allclose(made["basic"], made["cfg 3"], atol=1e-2)
