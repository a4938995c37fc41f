"""The compressor and the previewer of Stable Cascade: their published layouts, read off shapes and loaded from files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nodes.models.compressor_architecture import (
    efficientnet_architecture,
    stage_c_coder_architecture,
    stage_c_previewer_architecture,
)
from nodes.models.networks.efficientnet import EfficientNetEncoder, Stage
from nodes.models.networks.stage_c_coder import StageCCoder, StageCPreviewer
from nodes.values import Architecture
from tests.nodes.models.wuerstchen import built_shapes, load, randomise, relative

Shape = tuple[int, ...]
TINY: tuple[Stage, ...] = (
    ("fused", 1, 1, 8, 8, 1),
    ("fused", 4, 2, 8, 12, 2),
    ("mb", 4, 2, 12, 16, 2),
    ("mb", 1, 2, 16, 16, 1),
)
# https://arxiv.org/abs/2104.00298, table 4: operator, kernel, stride, channels and layers of EfficientNetV2-S.
TABLE = """
Conv3x3                  2    24   1
Fused-MBConv1,k3x3       1    24   2
Fused-MBConv4,k3x3       2    48   4
Fused-MBConv4,k3x3       2    64   4
MBConv4,k3x3,SE0.25      2   128   6
MBConv6,k3x3,SE0.25      1   160   9
MBConv6,k3x3,SE0.25      2   256  15
Conv1x1                  -  1280   1
"""


def norm(name: str, channels: int) -> Iterator[tuple[str, Shape]]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (channels,)


def convolution(name: str, inner: int, outer: int, side: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.0.weight", (outer, inner, side, side)
    yield from norm(f"{name}.1", outer)


def squeeze(name: str, channels: int, squeezed: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.fc1.weight", (squeezed, channels, 1, 1)
    yield f"{name}.fc1.bias", (squeezed,)
    yield f"{name}.fc2.weight", (channels, squeezed, 1, 1)
    yield f"{name}.fc2.bias", (channels,)


def layer(name: str, operator: str, inner: int, outer: int) -> Iterator[tuple[str, Shape]]:
    """The parameters of one operator of the table, as torchvision names them."""
    kind = operator.partition(",")[0]
    wide = inner * int(kind[-1])
    if kind == "Fused-MBConv1":
        yield from convolution(f"{name}.block.0", inner, outer, 3)
    elif kind.startswith("Fused"):
        yield from convolution(f"{name}.block.0", inner, wide, 3)
        yield from convolution(f"{name}.block.1", wide, outer, 1)
    else:
        yield from convolution(f"{name}.block.0", inner, wide, 1)
        yield from convolution(f"{name}.block.1", 1, wide, 3)
        yield from squeeze(f"{name}.block.2", wide, inner // 4)
        yield from convolution(f"{name}.block.3", wide, outer, 1)


def published_compressor() -> dict[str, Shape]:
    """Every parameter and statistic of `effnet_encoder.safetensors`, computed from the paper's table."""
    found: dict[str, Shape] = {}
    inner = 3
    for index, row in enumerate(TABLE.strip().splitlines()):
        operator, _, channels, layers = row.split()
        outer = int(channels)
        if operator.startswith("Conv"):
            found.update(convolution(f"backbone.{index}", inner, outer, int(operator[4])))
        else:
            for number in range(int(layers)):
                found.update(
                    layer(f"backbone.{index}.{number}", operator, inner if not number else outer, outer)
                )
        inner = outer
    found["mapper.0.weight"] = (16, inner, 1, 1)
    found["mapper.1.running_mean"] = found["mapper.1.running_var"] = (16,)
    return found


def published_previewer(latent: int = 16, width: int = 512) -> nn.Sequential:
    """The previewer as published: pointwise and 3x3 convolutions, doubled three times, each with GELU and a norm."""
    half, quarter = width // 2, width // 4
    parts: list[nn.Module] = []
    for convolution in (
        nn.Conv2d(latent, width, 1),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ConvTranspose2d(width, half, 2, 2),
        nn.Conv2d(half, half, 3, padding=1),
        nn.ConvTranspose2d(half, quarter, 2, 2),
        nn.Conv2d(quarter, quarter, 3, padding=1),
        nn.ConvTranspose2d(quarter, quarter, 2, 2),
        nn.Conv2d(quarter, quarter, 3, padding=1),
    ):
        parts += [convolution, nn.GELU(), nn.BatchNorm2d(convolution.out_channels)]
    return nn.Sequential(*parts, nn.Conv2d(quarter, 3, 1))


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in tensors.items()}


def counted(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the counts of batches that published files carry beside each norm."""
    norms = [key.removesuffix("running_mean") for key in tensors if key.endswith("running_mean")]
    return {**tensors, **{f"{name}num_batches_tracked": torch.tensor(7) for name in norms}}


def tiny_compressor() -> Any:
    torch.manual_seed(0)
    return randomise(EfficientNetEncoder(TINY, 24, 16))


def test_the_published_compressor_is_read_off_the_papers_table() -> None:
    shapes = published_compressor()
    found = efficientnet_architecture(shapes, {})
    assert found == Architecture("efficientnet", found.arguments)
    assert built_shapes(found) == shapes
    assert built_shapes(Architecture("efficientnet", ())) == shapes
    strides = [stage[2] for stage in found["stages"]]
    assert strides == [int(row.split()[1]) for row in TABLE.strip().splitlines()[1:-1]]


@pytest.mark.parametrize("hints", [{}, {"stages": [list(stage) for stage in TINY]}], ids=["read", "given"])
def test_a_compressor_loads_from_a_file(hints: dict[str, Any], tmp_path: Path) -> None:
    oracle = tiny_compressor()
    network = load(counted(oracle.state_dict()), efficientnet_architecture, tmp_path, hints)
    assert isinstance(network, EfficientNetEncoder)
    pictures = torch.rand(2, 3, 32, 64)
    with torch.no_grad():
        wanted = oracle(pictures)
        assert wanted.shape == (2, 16, 2, 4)
        assert torch.equal(network.encode(pictures), wanted)
        # Its norms go by what was learnt, not by the pictures that come together.
        assert relative(network.encode(pictures[:1]), wanted[:1]) < 1e-5


def test_the_previewer_is_the_published_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    oracle = randomise(published_previewer(16, 24))
    tensors = under("blocks.", oracle.state_dict())
    assert "blocks.11.num_batches_tracked" in tensors
    network = load(tensors, stage_c_previewer_architecture, tmp_path, {})
    assert isinstance(network, StageCPreviewer)
    latents = torch.randn(2, 16, 3, 4)
    with torch.no_grad():
        pictures = network.decode(latents)
        assert pictures.shape == (2, 3, 24, 32)
        assert relative(pictures, oracle(latents)) < 1e-5


def test_the_published_previewer_is_read_off_its_shapes() -> None:
    with torch.device("meta"):
        oracle = published_previewer()
    shapes = {
        f"blocks.{key}": tuple(tensor.shape)
        for key, tensor in oracle.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    found = stage_c_previewer_architecture(shapes, {})
    assert dict(found.arguments) == {"latent_channels": 16, "channels": 512, "picture_channels": 3}
    assert built_shapes(found) == shapes


def test_both_load_from_a_checkpoint_of_stage_c(tmp_path: Path) -> None:
    compressor = tiny_compressor()
    previewer = randomise(published_previewer(16, 24))
    tensors = {
        **under("encoder.", counted(compressor.state_dict())),
        **under("previewer.blocks.", previewer.state_dict()),
    }
    network = load(tensors, stage_c_coder_architecture, tmp_path, {})
    assert isinstance(network, StageCCoder)
    pictures = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        latents = network.encode(pictures)
        assert relative(latents, compressor(pictures)) < 1e-5
        assert relative(network.decode(latents), previewer(latents)) < 1e-5


@pytest.mark.parametrize(
    "read", [efficientnet_architecture, stage_c_previewer_architecture, stage_c_coder_architecture]
)
def test_another_networks_shapes_are_none_of_them(read: Any) -> None:
    with pytest.raises(KeyError):
        read({"conv_in.weight": (4, 4, 3, 3)}, {})
