"""The quick routes of convolutions on a CPU give what the library's convolution gives, and are taken where they should be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nodes.models.networks.convolutions import STRIP, Conv2d


def made(channels: int, out: int, bias: bool = True, dtype: torch.dtype = torch.float32) -> Conv2d:
    torch.manual_seed(out)
    return Conv2d(channels, out, 3, padding=1, bias=bias).to(dtype).requires_grad_(False)


def reference(conv: Conv2d, x: Tensor, scale: float = 1.0) -> Tensor:
    bias = None if conv.bias is None else conv.bias.double()
    sized = x.double() if scale == 1 else F.interpolate(x.double(), scale_factor=scale, mode="nearest")
    return F.conv2d(sized, conv.weight.double(), bias, padding=1)


def apart(found: Tensor, right: Tensor) -> float:
    return float((found - right).abs().max() / right.abs().max())


def operations(conv: Conv2d, x: Tensor, doubled: bool = False) -> dict[str, int]:
    with FlopCounterMode(display=False) as counter:
        conv.of_doubled(x) if doubled else conv(x)
    return {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 5, 3), (2, 8, 8), (3, 1, 7), (2, 1, 1)])
def test_many_weights_over_few_pixels_are_one_product(shape: tuple[int, int, int], bias: bool) -> None:
    conv = made(512, 1024, bias)
    x = torch.randn(shape[0], 512, *shape[1:])
    assert apart(conv(x), reference(conv, x)) < 1e-6
    assert conv(x).is_contiguous()
    assert "aten.convolution" not in operations(conv, x)


@pytest.mark.parametrize(
    ("conv", "x"),
    [
        (made(512, 1024), torch.randn(2, 512, 16, 9)),
        (made(64, 64), torch.randn(2, 64, 4, 4)),
        (Conv2d(512, 1024, 3, stride=2, padding=1).requires_grad_(False), torch.randn(1, 512, 8, 8)),
        (Conv2d(512, 1024, 3).requires_grad_(False), torch.randn(1, 512, 8, 8)),
        (Conv2d(2048, 2048, 1).requires_grad_(False), torch.randn(1, 2048, 8, 8)),
        (made(512, 1024, dtype=torch.bfloat16), torch.randn(1, 512, 8, 8, dtype=torch.bfloat16)),
    ],
    ids=["many pixels", "few weights", "stride", "no padding", "1x1", "bf16"],
)
def test_all_else_is_the_libraries_convolution(conv: Conv2d, x: Tensor) -> None:
    assert set(operations(conv, x)) == {"aten.convolution"}
    assert torch.equal(conv(x), F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding))


def test_weights_of_half_precision_compute_in_the_inputs_dtype() -> None:
    conv = made(512, 1024, dtype=torch.float16)
    x = torch.randn(1, 512, 4, 4)
    assert conv(x).dtype == torch.float32
    assert apart(conv(x), reference(conv, x)) < 1e-6
    wide = torch.randn(1, 512, 16, 32)
    assert apart(conv.of_doubled(wide), reference(conv, wide, 2)) < 1e-5


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 23, 31), (3, 16, 16), (2, 1, 300), (1, 600, 1)])
def test_a_doubled_input_costs_four_products_for_nine(shape: tuple[int, int, int], bias: bool) -> None:
    conv = made(12, 20, bias)
    x = torch.randn(shape[0], 12, *shape[1:])
    right = reference(conv, x, 2)
    assert apart(conv.of_doubled(x), right) < 1e-6
    plain = operations(conv, F.interpolate(x, scale_factor=2.0, mode="nearest"))
    assert 9 * sum(operations(conv, x, doubled=True).values()) == 4 * sum(plain.values())


def test_few_pixels_are_doubled_as_they_are() -> None:
    conv = made(12, 20)
    x = torch.randn(2, 12, 8, 8)
    assert torch.equal(conv.of_doubled(x), conv(F.interpolate(x, scale_factor=2.0, mode="nearest")))


def test_bf16_is_doubled_as_it_is() -> None:
    conv = made(12, 20, dtype=torch.bfloat16)
    x = torch.randn(2, 12, 32, 32, dtype=torch.bfloat16)
    assert torch.equal(conv.of_doubled(x), conv(F.interpolate(x, scale_factor=2.0, mode="nearest")))


def test_a_large_doubled_input_is_taken_in_strips_that_leave_no_seam() -> None:
    conv = made(16, 3)
    x = torch.randn(1, 16, 769, 700)
    assert x.numel() > STRIP
    assert apart(conv.of_doubled(x), reference(conv, x, 2)) < 1e-6


@pytest.mark.parametrize(
    ("doubled", "x"), [(False, torch.randn(2, 512, 4, 4)), (True, torch.randn(2, 512, 16, 32))]
)
def test_both_routes_can_be_trained_through(doubled: bool, x: Tensor) -> None:
    conv = made(512, 1024).requires_grad_(True)
    out = conv.of_doubled(x) if doubled else conv(x)
    weights = torch.randn_like(out)
    found = torch.autograd.grad((out * weights).sum(), list(conv.parameters()))
    right = torch.autograd.grad(
        (reference(conv, x, 2 if doubled else 1) * weights).sum(), list(conv.parameters())
    )
    assert all(apart(one, other) < 1e-5 for one, other in zip(found, right, strict=True))
