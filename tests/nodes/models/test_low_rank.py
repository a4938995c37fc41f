"""What adapters add to a weight, against sums written out."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from nodes.models.low_rank import changed, fits

Shape = tuple[int, ...]
SHAPES: dict[str, tuple[dict[str, Shape], Shape]] = {
    "lora": ({"up": (6, 2), "down": (2, 8)}, (6, 8)),
    "lora of a convolution": ({"up": (6, 2, 1, 1), "down": (2, 4, 3, 3)}, (6, 4, 3, 3)),
    "locon": ({"up": (6, 2, 1, 1), "mid": (2, 3, 3, 3), "down": (3, 4, 1, 1)}, (6, 4, 3, 3)),
    "loha": ({"hada_w1_a": (6, 2), "hada_w1_b": (2, 8), "hada_w2_a": (6, 2), "hada_w2_b": (2, 8)}, (6, 8)),
    "loha with a core": (
        {
            "hada_t1": (2, 2, 3, 3),
            "hada_w1_a": (2, 6),
            "hada_w1_b": (2, 4),
            "hada_t2": (2, 2, 3, 3),
            "hada_w2_a": (2, 6),
            "hada_w2_b": (2, 4),
        },
        (6, 4, 3, 3),
    ),
    "lokr": ({"lokr_w1": (2, 4), "lokr_w2": (3, 2)}, (6, 8)),
    "lokr of factors": (
        {"lokr_w1_a": (2, 1), "lokr_w1_b": (1, 4), "lokr_w2_a": (3, 2), "lokr_w2_b": (2, 2)},
        (6, 8),
    ),
    "lokr of a convolution": ({"lokr_w1": (2, 2), "lokr_w2": (3, 2, 3, 3)}, (6, 4, 3, 3)),
    "lokr with a core": (
        {"lokr_w1": (2, 2), "lokr_t2": (2, 2, 3, 3), "lokr_w2_a": (2, 3), "lokr_w2_b": (2, 2)},
        (6, 4, 3, 3),
    ),
    "diff": ({"diff": (6, 8)}, (6, 8)),
}


def made(case: str) -> tuple[dict[str, Tensor], Tensor]:
    torch.manual_seed(len(case))
    shapes, weight = SHAPES[case]
    return {role: torch.randn(shape) for role, shape in shapes.items()}, torch.randn(weight)


def summed(case: str, f: dict[str, Tensor], shape: torch.Size) -> Tensor:
    """The change, one number after the other."""
    found = torch.zeros(shape)
    for place in itertools.product(*(range(side) for side in shape)):
        o, i, *at = place
        value: Any
        if case.startswith("lora"):
            value = sum(f["up"].flatten(1)[o, r] * f["down"][(r, i, *at)] for r in range(2))
        elif case == "locon":
            value = sum(
                f["up"][o, r, 0, 0] * f["mid"][(r, s, *at)] * f["down"][s, i, 0, 0]
                for r in range(2)
                for s in range(3)
            )
        elif case == "loha":
            value = torch.ones(())
            for side in "12":
                left, right = f[f"hada_w{side}_a"], f[f"hada_w{side}_b"]
                value = value * sum(left[o, r] * right[r, i] for r in range(2))
        elif case == "loha with a core":
            value = torch.ones(())
            for side in "12":
                core, left, right = (f[f"hada_{name}"] for name in (f"t{side}", f"w{side}_a", f"w{side}_b"))
                value = value * sum(
                    core[(a, b, *at)] * left[a, o] * right[b, i] for a in range(2) for b in range(2)
                )
        elif case == "diff":
            value = f["diff"][o, i]
        else:
            one = f["lokr_w1"] if "lokr_w1" in f else f["lokr_w1_a"] @ f["lokr_w1_b"]
            rows, columns = 3, 2
            if "lokr_w2" in f:
                value = f["lokr_w2"][(o % rows, i % columns, *at)]
            elif "lokr_t2" in f:
                value = sum(
                    f["lokr_t2"][(a, b, *at)] * f["lokr_w2_a"][a, o % rows] * f["lokr_w2_b"][b, i % columns]
                    for a in range(2)
                    for b in range(2)
                )
            else:
                value = (f["lokr_w2_a"] @ f["lokr_w2_b"])[o % rows, i % columns]
            value = one[o // rows, i // columns] * value
        found[place] = value
    return found


def kind(case: str) -> str:
    return {"locon": "lora"}.get(case, case.split()[0])


@pytest.mark.parametrize("case", SHAPES)
def test_the_change_is_the_sum_that_the_papers_give(case: str) -> None:
    factors, weight = made(case)
    before = weight.clone()
    right = weight + 0.5 * summed(case, factors, weight.shape)
    torch.testing.assert_close(changed(kind(case), factors, weight, 0.5), right)
    assert torch.equal(weight, before)


@pytest.mark.parametrize(
    ("case", "by"),
    [
        ("lora", 8 / 2),
        ("locon", 8 / 3),
        ("loha", 8 / 2),
        ("lokr of factors", 8 / 2),
        ("lokr", 1),
        ("diff", 1),
    ],
)
def test_alpha_counts_by_the_rank(case: str, by: float) -> None:
    factors, weight = made(case)
    plain = changed(kind(case), factors, weight, 1.0) - weight
    with_alpha = changed(kind(case), {**factors, "alpha": torch.tensor(8.0)}, weight, 1.0) - weight
    torch.testing.assert_close(with_alpha, plain * by, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("shape", "axis"), [((6, 1), 1), ((6,), 1), ((1, 8), 0)])
def test_dora_gives_rows_or_columns_the_norm_that_is_told(shape: tuple[int, ...], axis: int) -> None:
    factors, weight = made("lora")
    magnitude = torch.rand(shape) + 0.5
    whole = changed("lora", {**factors, "magnitude": magnitude}, weight, 1.0)
    torch.testing.assert_close(whole.norm(dim=axis), magnitude.flatten())
    plain = changed("lora", factors, weight, 1.0)
    torch.testing.assert_close(
        whole / whole.norm(dim=axis, keepdim=True), plain / plain.norm(dim=axis, keepdim=True)
    )
    half = changed("lora", {**factors, "magnitude": magnitude}, weight, 0.5)
    torch.testing.assert_close(half, (weight + whole) / 2)


def test_dora_of_a_convolution_counts_all_of_a_filter() -> None:
    factors, weight = made("lora of a convolution")
    whole = changed("lora", {**factors, "magnitude": torch.full((6, 1, 1, 1), 2.0)}, weight, 1.0)
    torch.testing.assert_close(whole.flatten(1).norm(dim=1), torch.full((6,), 2.0))


@pytest.mark.parametrize("case", SHAPES)
def test_shapes_that_go_together_are_told_from_others(case: str) -> None:
    shapes, weight = SHAPES[case]
    assert fits(kind(case), shapes, weight)
    assert fits(kind(case), {**shapes, "alpha": (1,)}, weight)
    assert not fits(kind(case), {**shapes, "alpha": (3,)}, weight)
    assert not fits(kind(case), {**shapes, "magnitude": (7,)}, weight)
    assert not fits(kind(case), shapes, (weight[1], weight[0], *weight[2:]))
    assert not fits(kind(case), shapes, (weight[0] + 1, *weight[1:]))
    for role in shapes:
        for wrong in ((), (5,), (5, 5), (0, 0)):
            assert not fits(kind(case), {**shapes, role: wrong}, weight), (role, wrong)
