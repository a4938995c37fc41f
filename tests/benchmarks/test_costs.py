"""What the comparison of pipelines counts: FLOPs and bytes against closed forms, the allocator and published counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.costs import published
from benchmarks.costs.calls import make_call, random_module
from benchmarks.costs.counting import META, Cost, cost_of, count
from benchmarks.costs.published import Case, architecture, decoder_side, semantic_side
from nodes.models.loading import Placement, empty_module
from nodes.models.networks.layers import attend
from nodes.values import Architecture

CPU = Placement(torch.device("cpu"), torch.float32)
UNET = architecture(
    "unet",
    in_channels=4,
    out_channels=4,
    model_channels=64,
    channel_mult=(1, 2),
    num_res_blocks=(1, 1),
    depth_in=(1, 1),
    depth_middle=1,
    depth_out=(1, 1, 1, 1),
    cross_attention_dim=32,
    linear=True,
    num_heads=2,
    vector_width=24,
)
STAGE_B = architecture(
    "wuerstchen_decoder",
    ratio_width=16,
    cond_width=32,
    channels=(32, 64),
    num_heads=(-1, 2),
    blocks=(2, 2),
    level_config=("CT", "CTA"),
    inject_effnet=(False, True),
    cross_attention_dim=24,
)
STAGE_A = architecture("paella_vq", channels=64, bottleneck_blocks=2, codebook_size=16)
CASES = {
    "U-Net": Case("sampling", UNET, (("x", (4, 24, 24)), ("context", (7, 32)), ("pooled", (24,))), 2),
    "Stage B": Case(
        "sampling", STAGE_B, (("x", (4, 48, 48)), ("context", (7, 24)), ("effnet", (16, 5, 5))), 2
    ),
    "Stage A": Case("decoding", STAGE_A, (("latents", (4, 24, 24)),), 1),
}


class Decoder(nn.Module):
    """A layer, or several, called as decoders are."""

    def __init__(self, decode: Callable[[Tensor], Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.decode = decode


def cost(
    decode: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    *layers: nn.Module,
    dtype: torch.dtype = torch.float32,
) -> Cost:
    case = Case("decoding", STAGE_A, (("latents", shape[1:]),), shape[0])
    return count(case, Decoder(decode, *layers).to(META, dtype), dtype)


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        # Two for each weight that is read for each number that comes out, or, transposed, that goes in.
        (nn.Conv2d(3, 8, 3, padding=1), (2, 3, 16, 12), 2 * (3 * 9) * (2 * 8 * 16 * 12)),
        (nn.Conv2d(6, 6, 3, groups=6), (1, 6, 10, 10), 2 * 9 * (6 * 8 * 8)),
        (nn.ConvTranspose2d(4, 5, 2, stride=2), (1, 4, 6, 6), 2 * (5 * 4) * (4 * 6 * 6)),
        (nn.Linear(7, 11), (3, 5, 7), 2 * 7 * (3 * 5 * 11)),
        (nn.GroupNorm(2, 8), (1, 8, 4, 4), 0),
    ],
    ids=["convolution", "depthwise", "transposed", "linear", "normalisation"],
)
def test_flops_of_a_layer(layer: nn.Module, shape: tuple[int, ...], expected: int) -> None:
    assert cost(layer, shape, layer).flops == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_attention_is_counted_and_does_not_hold_its_matrix(dtype: torch.dtype) -> None:
    batch, heads, width, tokens = 2, 4, 16, 4096
    found = cost(lambda x: attend(x, x, x, heads), (batch, tokens, heads * width), dtype=dtype)
    # Once for the weights and once for what they weigh.
    assert found.flops == 2 * 2 * batch * heads * tokens * tokens * width
    # The input, the result, and the two numbers that the kernel draws dropout from.
    assert found.activations == 2 * batch * tokens * heads * width * dtype.itemsize + 2 * 8


def test_flops_of_a_whole_text_encoder() -> None:
    tokens, width, inner, layers, projection = 11, 32, 64, 3, 16
    built = architecture(
        "clip_text",
        vocabulary=50,
        positions=tokens,
        width=width,
        layers=layers,
        heads=2,
        inner=inner,
        activation="gelu",
        projection=projection,
    )
    case = Case("text", built, (("embedded", (tokens, width)),), 2)
    layer = 2 * tokens * (4 * width * width + 2 * width * inner) + 2 * 2 * tokens * tokens * width
    assert cost_of(case, torch.float32).flops == 2 * (layers * layer + 2 * width * projection)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_flops_are_those_of_the_library(case: Case) -> None:
    module = empty_module(case.architecture)
    call = make_call(case, module, Placement(META, torch.float32))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call.run()
    assert cost_of(case, torch.float32).flops == counter.get_total_flops() > 0


def test_bytes_are_followed_from_making_to_forgetting() -> None:
    first, last = nn.Linear(10, 40), nn.Linear(40, 10)

    def decode(x: Tensor) -> Tensor:
        h = first(x)
        h = F.gelu(h)
        view = h.view(-1)[:10]
        assert view.shape == (10,)
        out: Tensor = last(h)
        return out

    found = cost(decode, (5, 20, 10), first, last)
    # The input; before and after the activation at once; the view of it is no more.
    assert found.activations == 4 * (100 * 10 + 2 * 100 * 40)
    assert found.weights == 4 * (2 * 400 + 40 + 10)
    assert found.peak == found.activations + found.weights


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bytes_are_those_that_the_allocator_hands_out(case: Case) -> None:
    torch.manual_seed(0)
    call = make_call(case, random_module(case.architecture, CPU), CPU)
    with torch.no_grad():
        call.run()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            call.run()
    assert seen.profiler is not None and seen.profiler.kineto_results is not None
    held = peak = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    peak += sum(tensor.untyped_storage().nbytes() for tensor in call.inputs)
    # Inputs that nothing refers to by a view of them are not told from none; kernels of a CPU take a little too.
    assert peak * 0.9 <= cost_of(case, torch.float32).activations <= peak


@pytest.mark.parametrize(
    ("built", "parameters"),
    [
        (published.UNET_SD15, 859_520_964),
        (published.UNET_SDXL, 2_567_463_684),
        (published.VAE, 83_653_863),
        (published.WUERSTCHEN_C, 993_636_896),
        (published.WUERSTCHEN_B, 1_055_365_280),
        (published.STAGE_A, 18_406_894),
        (published.CASCADE_C, 3_589_103_632),
        (published.CASCADE_C_LITE, 1_030_785_040),
        (published.CASCADE_B, 1_562_941_136),
        (published.CASCADE_B_LITE, 699_471_248),
        (published.CLIP_L.architecture, 123_060_480),
        (published.CLIP_H.architecture, 352_984_064),
        (published.CLIP_BIGG_POOLED.architecture, 694_659_840),
    ],
    ids=lambda value: value.name if isinstance(value, Architecture) else "",
)
def test_architectures_have_the_published_size(built: Architecture, parameters: int) -> None:
    module = empty_module(built)
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters


@pytest.mark.parametrize(
    ("side", "semantic", "decoder"), [(1024, 24, 256), (2048, 48, 512), (4096, 96, 1024)]
)
def test_stages_take_the_published_sizes(side: int, semantic: int, decoder: int) -> None:
    assert (semantic_side(side), decoder_side(side)) == (semantic, decoder)
    assert dict(published.WUERSTCHEN.stages[-1].inputs(side)) == {"latents": (4, side // 4, side // 4)}
