"""Decoding in tiles: no seam, no more memory than was said, for decoders with and without statistics of the whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nodegraph.node import Folders, Runtime
from nodes.models.loading import empty_module
from nodes.models.memory import peak_of
from nodes.models.networks import build
from nodes.models.networks.steps import Step, Steps, of_input
from nodes.models.pool import ModelPool
from nodes.models.seamless import SMALLEST, Tiling, choose, decode, segments, shorter, whole_bytes
from nodes.stable_diffusion.loaders import load_checkpoint
from nodes.values import Architecture

CPU = torch.device("cpu")
EMBEDDED = Path(__file__).parents[3] / "nodes/models/embedded/checkpoints/shapes-sd.safetensors"
KL: dict[str, Any] = {
    "channels": 16,
    "channel_mult": (1, 2, 2),
    "num_res_blocks": 1,
    "z_channels": 4,
    "latent_channels": 4,
    "norm_groups": 8,
}
VQ: dict[str, Any] = {"channels": 32, "bottleneck_blocks": 3, "codebook_size": 8}
ARCHITECTURES = {
    "autoencoder_kl": Architecture("autoencoder_kl", tuple(KL.items())),
    "paella_vq": Architecture("paella_vq", tuple(VQ.items())),
    "three levels": Architecture("paella_vq", (*VQ.items(), ("levels", 3))),
}


def made(name: str) -> Any:
    """A network whose every part has a size that matters."""
    torch.manual_seed(0)
    module = build(ARCHITECTURES[name]).eval().requires_grad_(False)
    for key, parameter in module.named_parameters():
        scale = 1.0 / max(1.0, parameter[0].numel() ** 0.5) if parameter.ndim > 1 else 0.3
        parameter.copy_(
            torch.randn_like(parameter) * scale + (1.0 if parameter.ndim == 1 and "norm" in key else 0.0)
        )
    return module


def whole_and_tiled(
    module: Any, latent: Tensor, room: int, host: int | None
) -> tuple[Tensor, Tensor, Tiling]:
    """The picture of the whole latent, of tiles, and how those were chosen."""
    steps = module.steps()
    tiling = choose(steps, (latent.shape[-2], latent.shape[-1]), 4, room, host)
    with torch.no_grad():
        return module.decode(latent), decode(steps, latent, tiling, CPU), tiling


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("host", [None, 10**9, 0])
@pytest.mark.parametrize("share", [2, 8, 1000])
def test_tiles_give_what_the_whole_gives(name: str, host: int | None, share: int) -> None:
    module = made(name)
    latent = torch.randn(1, 4, 37, 50)
    wanted = whole_bytes(module.steps(), 37 * 50, 4)
    whole, tiled, tiling = whole_and_tiled(module, latent, wanted // share, host)
    assert float((tiled - whole).abs().max()) < 1e-4 * float(whole.abs().max())
    assert min(tiling.tiles) < whole.shape[-1]


def test_one_tile_for_all_is_the_whole_itself() -> None:
    module = made("autoencoder_kl")
    whole, tiled, tiling = whole_and_tiled(module, torch.randn(1, 4, 9, 6), 10**9, None)
    assert torch.equal(whole, tiled)
    assert [segment.norms for segment in tiling.segments] == [4, 4, 5]


def test_the_embedded_decoder_shows_no_seam(folders: Folders) -> None:
    """On trained weights, where tiles with statistics of their own are off by up to 54 levels of 255."""
    pool = ModelPool(Runtime(folders))
    picture = torch.zeros(1, 256, 256, 3)
    picture[:, :100, :70] = torch.tensor([1.0, 0.2, 0.0])
    picture[:, 150:, 60:200] = torch.tensor([0.1, 0.3, 0.9])
    with pool.vae(load_checkpoint(EMBEDDED).VAE) as autoencoder:
        latent = autoencoder.encode(picture)
        whole = autoencoder.decode(latent)
        pool.budget = pool.held() + whole_bytes(autoencoder.coding.steps(autoencoder.module), 32 * 32, 4) // 3  # type: ignore[misc]
        counts: list[int] = []
        tiled = autoencoder.decode(latent, lambda done, total: counts.append(total))
    assert counts
    assert float((tiled - whole).abs().max()) < 0.01 / 255
    assert float((autoencoder.decode_tiled(latent, 128, 32) - whole).abs().max()) > 2 / 255


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("size", [(16, 16), (40, 24)])
def test_the_whole_takes_what_is_said(name: str, size: tuple[int, int]) -> None:
    module = empty_module(ARCHITECTURES[name])
    steps: Steps = module.steps()  # type: ignore[operator]
    counted = peak_of(lambda: module.decode(torch.empty(1, 4, *size, device="meta")), module)  # type: ignore[operator]
    assert whole_bytes(steps, size[0] * size[1], 4) == pytest.approx(counted, rel=0.01)
    channels, (height, width) = steps.head_channels, size
    for step in steps.steps:
        x = partial(torch.empty, (1, channels, height, width), device="meta")
        height, width, channels = height * step.scale, width * step.scale, step.channels
        counted = peak_of(partial(_run, step, x), module)
        assert step.numbers(height * width) * 4 == pytest.approx(counted, rel=0.01)


def _run(step: Step, make: Callable[[], Tensor]) -> None:
    step.run(make(), of_input)


def test_strips_are_reckoned_with() -> None:
    """Stage A of its published size: from about 500 pixels on its widest states are made in strips."""
    module: Any = empty_module(Architecture("paella_vq", ()))
    for side in (32, 256, 512):
        latent = torch.empty(1, 4, side, side, device="meta")
        counted = peak_of(partial(module.decode, latent), module)
        said = whole_bytes(module.steps(), side * side, 4)
        assert said == pytest.approx(counted, rel=0.05)


@pytest.mark.parametrize("name", ["autoencoder_kl", "paella_vq"])
@pytest.mark.parametrize("host", [None, 10**9])
def test_tiles_take_what_is_said(name: str, host: int | None) -> None:
    module = made(name)
    latent = torch.randn(1, 4, 48, 64)
    wanted = whole_bytes(module.steps(), 48 * 64, 4)
    tiling = choose(module.steps(), (48, 64), 4, wanted // 3, host)
    counted = peak_of(lambda: decode(module.steps(), latent, tiling, CPU), module)
    said = tiling.works + (0 if host is None else tiling.held)
    assert 0.6 * said < counted < 1.1 * said
    assert tiling.works <= wanted // 3 or tiling.tiles == (SMALLEST * 4,)


def test_short_segments_are_the_long_ones_in_parts() -> None:
    module = made("autoencoder_kl")
    for segment in segments(module.steps()):
        parts = shorter(segment)
        assert [step for part in parts for step in part.steps] == list(segment.steps)
        assert all(part.norms <= 3 for part in parts)
        assert parts[0].channels == segment.channels
    assert len(segments(made("paella_vq").steps())) == 1


def test_an_unknown_module_is_not_counted_twice() -> None:
    """Views and tensors that were let go do not count."""
    module = nn.Linear(100, 100, device="meta")

    def call() -> None:
        x = torch.empty(100, 100, device="meta")
        for _ in range(5):
            x = module(x).t()[:50].t().reshape(-1, 50).repeat(1, 2)

    assert 2 * 40_000 <= peak_of(call, module) <= 3 * 40_000 + 20_000
