"""Nodes of published schedules; what they give is tested with the samplers in tests/nodes/diffusion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nodegraph.node import UNKNOWN, NodeError
from nodes.custom_sampling import split_sigmas
from nodes.diffusion.cosine_ratio import CosineRatio
from nodes.published_schedules import timestep_scheduler, wuerstchen_scheduler
from tests.nodes.diffusion.toy_network import model
from tests.nodes.test_forms import foreseen


def test_published_schedules_carry_their_times() -> None:
    cascade = model(CosineRatio())
    ratios = wuerstchen_scheduler(model=cascade, steps=10, timesteps="linspace")
    assert ratios.times is not None and ratios.to_clean
    assert ratios.times.tolist() == pytest.approx([1 - step / 10 for step in range(11)])
    assert float(ratios.values[-1]) == pytest.approx(0.01, rel=1e-3)
    stage_c = wuerstchen_scheduler(model=cascade, steps=29, timesteps="stage_c", denoise=0.5)
    assert stage_c.times is not None and len(stage_c.times) == 30
    whole = timestep_scheduler(model=model(), steps=4, spacing="trailing", final_sigma="sigma_min")
    assert whole.times is not None and whole.times.tolist() == [999.0, 749.0, 499.0, 249.0, 0.0]
    _, low = split_sigmas(sigmas=whole, step=2)
    assert low.times is not None and low.times.tolist() == [499.0, 249.0, 0.0] and low.to_clean


@pytest.mark.parametrize(
    "make",
    [
        lambda: wuerstchen_scheduler(model=model(), steps=10, timesteps="linspace"),
        lambda: timestep_scheduler(
            model=model(CosineRatio()), steps=10, spacing="leading", final_sigma="zero"
        ),
    ],
)
def test_published_schedules_are_for_their_own_models(make: Callable[[], Any]) -> None:
    with pytest.raises(NodeError, match="only") as caught:
        make()
    assert caught.value.input == "model"


def test_other_models_are_refused_before_anything_runs() -> None:
    discrete, cascade = model(), model(CosineRatio())
    for function, suits, other in (
        (wuerstchen_scheduler, cascade, discrete),
        (timestep_scheduler, discrete, cascade),
    ):
        assert foreseen(function, model=suits) is UNKNOWN
        assert foreseen(function, model=UNKNOWN) is UNKNOWN
        with pytest.raises(NodeError, match="only"):
            foreseen(function, model=other)
