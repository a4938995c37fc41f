"""Guidance against closed forms: a network whose estimate is a constant that the context gives."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nodegraph.node import NodeError
from nodes.diffusion.conditioning import encode_inputs, prepare
from nodes.diffusion.guidance import Estimates, Guidance, GuidanceHook, Guide, Hook, Moment, perpendicular
from nodes.diffusion.model_denoiser import Inputs, ModelDenoiser
from nodes.diffusion.parametrisation import Discrete
from nodes.values import Area, Cond, Conditioning, Scalar
from tests.nodes.diffusion.toy_network import ConstantNetwork, constant, together

X0 = Discrete(prediction="x0")
SIGMA = 3.0


def guidance(
    network: ConstantNetwork,
    conditionings: dict[str, Conditioning],
    x: Tensor,
    kind: str = "cfg",
    options: dict[str, Scalar] | None = None,
    hooks: tuple[GuidanceHook, ...] = (),
) -> Guidance:
    def encode(cond: Cond) -> Inputs:
        return encode_inputs(cond, x.shape[0], network.device, network.dtype)

    entries = prepare(conditionings, x, X0, encode)
    return Guidance(Guide(ModelDenoiser(network, X0), entries), kind, options or {"cfg": 5.0}, hooks)


def estimate(*entries: Cond, size: tuple[int, int] = (24, 32), sigma: float = SIGMA) -> Tensor:
    """The positive estimate of these conditionings: (height, width), alike in all channels."""
    x = torch.randn(2, 4, *size)
    made = guidance(ConstantNetwork(), {"positive": together(*entries)}, x, "basic")(x, sigma)
    assert torch.equal(made, made[:1, :1].expand_as(made))
    return made[0, 0]


def test_cfg_moves_from_negative_to_positive_by_the_scale() -> None:
    x, network = torch.zeros(3, 4, 8, 8), ConstantNetwork()
    both = {"positive": together(constant(2.0)), "negative": together(constant(0.5))}
    made = guidance(network, both, x, options={"cfg": 5.0})
    assert torch.allclose(made(x, SIGMA), torch.full_like(x, 0.5 + 5.0 * 1.5))
    assert network.calls == [(6, 8, 8)], "both in one call"


def test_scale_one_leaves_out_the_negative_unless_a_sampler_asks_for_it() -> None:
    x, network = torch.zeros(1, 4, 8, 8), ConstantNetwork()
    both = {"positive": together(constant(2.0)), "negative": together(constant(0.5))}
    made = guidance(network, both, x, options={"cfg": 1.0})
    assert torch.equal(made(x, SIGMA), torch.full_like(x, 2.0))
    assert network.calls == [(1, 8, 8)]
    guided, uncond = made.with_uncond(x, SIGMA)
    assert torch.allclose(guided, torch.full_like(x, 2.0)) and torch.equal(uncond, torch.full_like(x, 0.5))
    assert network.calls[1:] == [(2, 8, 8)]


def test_basic_guider_has_a_zero_unconditional_estimate() -> None:
    x = torch.zeros(1, 4, 8, 8)
    made = guidance(ConstantNetwork(), {"positive": together(constant(2.0))}, x, "basic")
    guided, uncond = made.with_uncond(x, SIGMA)
    assert torch.equal(guided, torch.full_like(x, 2.0)) and not uncond.any()


def test_strengths_weigh_conditionings_that_overlap() -> None:
    found = estimate(constant(1.0), constant(3.0, strength=0.25))
    assert torch.allclose(found, torch.full_like(found, (1.0 + 0.25 * 3.0) / 1.25))


def test_no_strength_and_no_conditioning_give_zero() -> None:
    assert not estimate(constant(1.0, strength=0.0)).any()
    assert not estimate(constant(1.0, start_percent=0.5), sigma=14.0).any()


def test_area_fades_in_over_eight_pixels_at_borders_within_the_picture() -> None:
    """A quarter of a short side at most; the outer borders do not fade."""
    found = estimate(constant(1.0), constant(3.0, area=Area(24, 16, 0, 16)))
    ramp = torch.tensor([1 / 4, 2 / 4, 3 / 4, 1.0]).tolist() + [1.0] * 12
    expected = [1.0] * 16 + [(1.0 + 3.0 * weight) / (1.0 + weight) for weight in ramp]
    assert torch.allclose(found, torch.tensor(expected).expand(24, 32))
    wide = estimate(constant(1.0), constant(3.0, area=Area(64, 40, 0, 24)), size=(64, 64))
    ramp = [(step + 1) / 8 for step in range(8)] + [1.0] * 32
    expected = [1.0] * 24 + [(1.0 + 3.0 * weight) / (1.0 + weight) for weight in ramp]
    assert torch.allclose(wide, torch.tensor(expected).expand(64, 64))


def test_area_by_fraction_and_overhang_are_cut_to_the_picture() -> None:
    found = estimate(constant(3.0, area=Area(0.5, 0.5, 0.5, 0.25, fraction=True)))
    expected = torch.zeros(24, 32)
    expected[12:24, 8:24] = 3.0
    assert torch.allclose(found, expected)
    found = estimate(constant(3.0, area=Area(100, 100, 20, 30)))
    expected = torch.zeros(24, 32)
    expected[20:, 30:] = 3.0
    assert torch.allclose(found, expected)


def test_area_outside_the_picture_is_a_clear_error() -> None:
    with pytest.raises(NodeError, match="outside the picture") as caught:
        estimate(constant(1.0, area=Area(8, 8, 40, 0)))
    assert caught.value.found is not None and "320 from the top" in caught.value.found


def test_mask_is_resized_bilinearly_and_weighs_per_pixel() -> None:
    mask = torch.rand(1, 48, 64)
    found = estimate(constant(1.0), constant(3.0, mask=mask, mask_strength=0.5))
    small = torch.nn.functional.interpolate(mask[None], size=(24, 32), mode="bilinear")[0, 0]
    assert torch.allclose(found, (1.0 + 3.0 * 0.5 * small) / (1.0 + 0.5 * small), atol=1e-6)


def test_mask_bounds_limit_the_evaluation_to_a_box_of_at_least_eight() -> None:
    mask = torch.zeros(1, 24, 32)
    mask[:, 2:14, 20:23] = 1.0
    x, network = torch.zeros(1, 4, 24, 32), ConstantNetwork()
    entries = together(constant(3.0, mask=mask, mask_bounds=True))
    found = guidance(network, {"positive": entries}, x, "basic")(x, SIGMA)
    assert network.calls == [(1, 12, 8)]
    assert torch.allclose(found[0, 0], 3.0 * mask[0])


def test_timestep_range_limits_when_a_conditioning_applies() -> None:
    first, second = constant(1.0, end_percent=0.4), constant(3.0, start_percent=0.4)
    border = X0.percent_to_sigma(0.4)
    assert torch.equal(estimate(first, second, sigma=border * 1.01), torch.full((24, 32), 1.0))
    assert torch.equal(estimate(first, second, sigma=border * 0.99), torch.full((24, 32), 3.0))
    assert torch.equal(estimate(first, second, sigma=border), torch.full((24, 32), 2.0))


def test_each_area_is_met_by_the_other_role_on_the_same_area() -> None:
    """Of the negative conditionings that cover it, the smallest; its strength and range are the area's."""
    x, network = torch.zeros(1, 4, 24, 32), ConstantNetwork()
    positive = together(constant(1.0, area=Area(8, 8, 0, 0), strength=0.5))
    negative = together(constant(2.0), constant(4.0, area=Area(16, 16, 0, 0)))
    made = guidance(network, {"positive": positive, "negative": negative}, x)
    found = made.guide.estimate(x, SIGMA, ["positive", "negative"])["negative"]
    assert sorted(network.calls) == [(1, 16, 16), (1, 24, 32), (2, 8, 8)]
    # Full size 2 at weight 1; 4 over the 16x16 area at weight 1; 4 again over the 8x8 at weight 0.5.
    assert math.isclose(float(found[0, 0, 0, 0]), (2.0 + 4.0 + 0.5 * 4.0) / 2.5, rel_tol=1e-6)
    assert math.isclose(float(found[0, 0, 10, 10]), (2.0 + 4.0) / 2.0, rel_tol=1e-6)
    assert float(found[0, 0, 20, 20]) == 2.0


def test_contexts_of_other_lengths_are_repeated_to_fit_one_call() -> None:
    x = torch.zeros(1, 4, 8, 8)
    for tokens, calls in ((154, 1), (231, 1), (308, 1), (385, 2)):
        network = ConstantNetwork()
        both = {"positive": together(constant(2.0, tokens)), "negative": together(constant(0.5))}
        found = guidance(network, both, x, options={"cfg": 2.0})(x, SIGMA)
        assert torch.allclose(found, torch.full_like(x, 3.5))
        assert len(network.calls) == calls, f"{tokens} tokens"


def test_contexts_are_repeated_over_the_batch_in_order() -> None:
    x = torch.zeros(5, 4, 8, 8)
    two = Cond(torch.stack([torch.full((77, 16), 1.0), torch.full((77, 16), 2.0)]))
    found = guidance(ConstantNetwork(), {"positive": together(two)}, x, "basic")(x, SIGMA)
    assert found[:, 0, 0, 0].tolist() == [1.0, 2.0, 1.0, 2.0, 1.0]


def test_batches_shrink_where_memory_runs_out() -> None:
    x = torch.zeros(2, 4, 8, 8)
    network = ConstantNetwork(memory=4)
    many = {
        "positive": together(*(constant(float(i)) for i in range(4))),
        "negative": together(constant(0.0)),
    }
    made = guidance(network, many, x, options={"cfg": 1.0})
    assert torch.allclose(made(x, SIGMA), torch.full_like(x, 1.5))
    assert network.calls == [(4, 8, 8), (4, 8, 8)]
    network.memory = 1
    with pytest.raises(NodeError, match="not enough memory") as caught:
        made(x, SIGMA)
    assert caught.value.code == "out_of_memory" and caught.value.found == "2 of 8 by 8"


def test_room_is_asked_for_before_batches_shrink() -> None:
    x, network = torch.zeros(2, 4, 8, 8), ConstantNetwork(memory=2)

    def make_room(wanted: int) -> int:
        freed, network.memory = (0 if network.memory == 4 else wanted), 4
        return freed

    both = {"positive": together(constant(2.0)), "negative": together(constant(0.5))}
    made = guidance(network, both, x)
    made = replace(made, guide=Guide(made.guide.model, made.guide.entries, make_room))
    assert torch.allclose(made(x, SIGMA), torch.full_like(x, 8.0))
    assert network.calls == [(4, 8, 8)], "one call, once there was room"


def test_dual_guidance_regular_and_nested() -> None:
    x = torch.zeros(1, 4, 8, 8)
    three = {
        "positive": together(constant(4.0)),
        "middle": together(constant(2.0)),
        "negative": together(constant(1.0)),
    }
    options: dict[str, Scalar] = {"cfg_conds": 3.0, "cfg_cond2_negative": 1.5, "style": "regular"}
    regular = guidance(ConstantNetwork(), three, x, "dual_cfg", options)
    assert torch.allclose(regular(x, SIGMA), torch.full_like(x, 1.0 + 1.5 * 1.0 + 3.0 * 2.0))
    nested = guidance(ConstantNetwork(), three, x, "dual_cfg", options | {"style": "nested"})
    inner = 2.0 + 3.0 * 2.0
    assert torch.allclose(nested(x, SIGMA), torch.full_like(x, 1.0 + 1.5 * (inner - 1.0)))


@pytest.mark.parametrize(
    ("conds", "negative", "evaluated"), [(1.0, 1.0, 1), (3.0, 1.0, 2), (1.0, 2.0, 3), (3.0, 2.0, 3)]
)
def test_dual_guidance_leaves_out_what_cannot_matter(conds: float, negative: float, evaluated: int) -> None:
    x, network = torch.zeros(1, 4, 8, 8), ConstantNetwork()
    three = {name: together(constant(1.0)) for name in ("positive", "middle", "negative")}
    options: dict[str, Scalar] = {"cfg_conds": conds, "cfg_cond2_negative": negative, "style": "regular"}
    guidance(network, three, x, "dual_cfg", options)(x, SIGMA)
    assert network.calls == [(evaluated, 8, 8)]


def test_perpendicular_leaves_out_what_the_directions_share() -> None:
    positive, negative, empty = torch.tensor([2.0, 0.0]), torch.tensor([3.0, 4.0]), torch.zeros(2)
    found = perpendicular(positive, negative, empty, 0.5, 10.0)
    assert torch.allclose(found, torch.tensor([20.0, -20.0]))
    same = perpendicular(empty, negative, empty, 0.5, 10.0)
    assert same.isfinite().all(), "no direction to project on"


class _Recorder(Hook):
    """Doubles the negative estimate before, replaces the formula by a sum, adds one after."""

    def __init__(self) -> None:
        self.scales: list[float] = []

    def before(self, moment: Moment) -> Estimates:
        self.scales.append(moment.scale)
        return {**moment.estimates, "negative": moment.uncond * 2}

    def instead(self, moment: Moment) -> Tensor:
        return moment.cond + moment.uncond

    def after(self, moment: Moment, guided: Tensor) -> Tensor:
        return guided + 1.0


def test_hooks_change_estimates_formula_and_outcome() -> None:
    x, hook = torch.zeros(1, 4, 8, 8), _Recorder()
    both = {"positive": together(constant(2.0)), "negative": together(constant(0.5))}
    made = guidance(ConstantNetwork(), both, x, options={"cfg": 5.0}, hooks=(Hook(), hook))
    assert torch.allclose(made(x, SIGMA), torch.full_like(x, 2.0 + 1.0 + 1.0))
    assert hook.scales == [5.0]


def test_a_hook_may_need_the_unconditional_estimate_at_scale_one() -> None:
    class Needy(Hook):
        needs_uncond = True

    x, network = torch.zeros(1, 4, 8, 8), ConstantNetwork()
    both = {"positive": together(constant(2.0)), "negative": together(constant(0.5))}
    guidance(network, both, x, options={"cfg": 1.0}, hooks=(Needy(),))(x, SIGMA)
    assert network.calls == [(2, 8, 8)]


def test_low_precision_stays_within_the_network() -> None:
    x, network = torch.full((1, 4, 8, 8), 0.1), ConstantNetwork(dtype=torch.bfloat16)
    made = guidance(network, {"positive": together(constant(2.0))}, x, "basic")
    assert made(x, SIGMA).dtype == torch.float32
