"""Runs whose outcome is known: a toy network, conditionings, a latent, and how they are sampled.

`tests/data/guidance_reference.safetensors` holds the latents that ComfyUI 0.3.64 gives for them, by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nodes.diffusion.parametrisation import Discrete, Flow, Parametrisation
from nodes.values import Area, Cond, Conditioning, Latent, Scalar
from tests.nodes.diffusion.toy_network import WIDTH

HEIGHT, WIDE = 16, 24


@dataclass(frozen=True, eq=False)
class Scenario:
    """One run of a KSampler, or of a guider over a whole schedule where `kind` is not `cfg`."""

    conditionings: Mapping[str, Conditioning]
    latent: Latent
    sampler: str = "euler"
    scheduler: str = "normal"
    steps: int = 4
    denoise: float = 1.0
    start: int = 0
    end: int | None = None
    leave_noise: bool = False
    add_noise: bool = True
    seed: int = 3
    extra_channels: int = 0
    parametrisation: Parametrisation = field(default_factory=Discrete)
    kind: str = "cfg"
    options: Mapping[str, Scalar] = field(default_factory=lambda: {"cfg": 3.0})


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _cond(seed: int, tokens: int = 77, batch: int = 1, **facts: Any) -> Cond:
    return Cond(_random(seed, batch, tokens, WIDTH), **facts)


def _of(*entries: Cond) -> Conditioning:
    return Conditioning(entries)


def scenarios() -> dict[str, Scenario]:
    """All runs by name."""
    empty = Latent(torch.zeros(1, 4, HEIGHT, WIDE))
    full = Latent(_random(20, 2, 4, HEIGHT, WIDE) * 4)
    masked = Latent(full.samples, _random(21, 1, 1, 50, 70).sigmoid())
    mask = torch.zeros(1, HEIGHT * 8, WIDE * 8)
    mask[:, 30:90, 50:140] = 1.0
    soft = _random(22, 2, 40, 60).sigmoid()
    area = Area(8, 12, 4, 6)
    plain = {"positive": _of(_cond(1)), "negative": _of(_cond(2))}
    concat: dict[str, Any] = {
        "concat_latent": _random(23, 1, 4, HEIGHT, WIDE),
        "concat_mask": _random(24, 1, 1, 100, 90).sigmoid(),
    }
    three = {**plain, "middle": _of(_cond(3)), "empty": _of(_cond(3))}

    def positive(*entries: Cond) -> dict[str, Conditioning]:
        return {"positive": _of(*entries), "negative": plain["negative"]}

    return {
        "plain": Scenario(plain, empty),
        "v prediction": Scenario(
            plain, full, parametrisation=Discrete(prediction="v_prediction"), denoise=0.6
        ),
        "flow": Scenario(plain, full, parametrisation=Flow(shift=3.0), denoise=0.6),
        "flow from the top": Scenario(
            plain, empty, parametrisation=Flow(shift=3.0), sampler="euler_ancestral"
        ),
        "half denoise": Scenario(plain, full, denoise=0.5),
        "cfg++": Scenario(plain, full, sampler="euler_cfg_pp"),
        "cfg++ at scale 1": Scenario(plain, full, sampler="euler_cfg_pp", options={"cfg": 1.0}),
        "long prompt": Scenario(positive(_cond(4, 231)), empty),
        "two prompts": Scenario(positive(_cond(4), _cond(5, strength=0.4)), full),
        "prompts by batch": Scenario(positive(_cond(4, batch=2)), Latent(_random(25, 3, 4, 8, 8))),
        "area over all": Scenario(positive(_cond(4), _cond(5, area=area, strength=0.8)), full),
        "areas alone": Scenario(positive(_cond(4, area=area), _cond(5, area=Area(16, 10, 0, 0))), full),
        "area over the edge": Scenario(positive(_cond(4), _cond(5, area=Area(20, 20, 6, 10))), full),
        "area by fraction": Scenario(
            positive(_cond(4), _cond(5, area=Area(0.37, 0.41, 0.22, 0.13, fraction=True))), full
        ),
        "areas in both roles": Scenario(
            {
                "positive": _of(_cond(4), _cond(5, area=area)),
                "negative": _of(_cond(6, area=Area(12, 18, 2, 4), strength=1.5), _cond(7)),
            },
            full,
        ),
        "mask": Scenario(positive(_cond(4), _cond(5, mask=mask)), full),
        "soft masks by batch": Scenario(
            positive(_cond(4), _cond(5, mask=soft, mask_strength=0.7, strength=1.3)), full
        ),
        "mask bounds": Scenario(positive(_cond(4), _cond(5, mask=mask, mask_bounds=True)), full),
        "mask within area": Scenario(positive(_cond(4), _cond(5, mask=mask, area=area)), full),
        "ranges": Scenario(
            positive(
                _cond(4, end_percent=0.4), _cond(5, start_percent=0.4), _cond(6, area=area, end_percent=0.7)
            ),
            full,
            steps=6,
        ),
        "batch index": Scenario(
            plain, Latent(_random(25, 3, 4, 8, 8), None, (4, 1, 1)), sampler="euler_ancestral"
        ),
        "noise mask": Scenario(plain, masked, denoise=0.7),
        "noise mask with fresh noise": Scenario(plain, masked, sampler="ddim", denoise=0.7),
        "noise mask, cfg++": Scenario(plain, masked, sampler="euler_cfg_pp", denoise=0.7),
        "noise mask by batch": Scenario(plain, Latent(full.samples, soft), denoise=0.7),
        "noise mask, flow": Scenario(plain, masked, parametrisation=Flow(shift=3.0), denoise=0.7),
        "first steps": Scenario(plain, full, end=2, leave_noise=True),
        "first steps, all noise gone": Scenario(plain, full, end=2),
        "last steps": Scenario(plain, full, start=2, add_noise=False),
        "middle steps of dpm_2": Scenario(plain, full, start=1, end=3, leave_noise=True, sampler="dpm_2"),
        "no steps": Scenario(plain, full, start=3, end=3),
        "inpainting model": Scenario(
            {"positive": _of(_cond(1, **concat)), "negative": _of(_cond(2, **concat))},
            masked,
            extra_channels=5,
        ),
        "inpainting model by area": Scenario(
            {
                "positive": _of(_cond(1, **concat), _cond(4, area=area, **concat)),
                "negative": _of(_cond(2, **concat)),
            },
            masked,
            extra_channels=5,
        ),
        "inpainting model, nothing given": Scenario(plain, empty, extra_channels=5),
        "editing model": Scenario(
            {"positive": _of(_cond(1, concat_latent=concat["concat_latent"])), "negative": plain["negative"]},
            full,
            extra_channels=4,
        ),
        "basic": Scenario({"positive": plain["positive"]}, full, kind="basic", options={}),
        "basic, cfg++": Scenario(
            {"positive": plain["positive"]}, full, kind="basic", options={}, sampler="euler_cfg_pp"
        ),
        "dual": Scenario(
            three,
            full,
            kind="dual_cfg",
            options={"cfg_conds": 3.0, "cfg_cond2_negative": 2.0, "style": "regular"},
        ),
        "dual nested, cfg++": Scenario(
            three,
            full,
            kind="dual_cfg",
            options={"cfg_conds": 2.0, "cfg_cond2_negative": 1.5, "style": "nested"},
            sampler="euler_cfg_pp",
        ),
        "perpendicular": Scenario(three, full, kind="perp_neg", options={"cfg": 5.0, "neg_scale": 0.8}),
    }
