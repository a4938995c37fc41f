"""The model that ships, as its export lays it out, with random weights: loaded, and equal to what was exported."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nodes.models.embedded.stages import (
    SEMANTIC_CHANNELS,
    build_compressor,
    build_decoder,
    build_prior,
    build_vqgan,
)
from nodes.models.embedded.stages_export import export
from nodes.models.embedded.text import embedded_text_encoder
from nodes.models.pool import ModelPool
from nodes.wuerstchen.loaders import (
    wuerstchen_compressor_loader,
    wuerstchen_decoder_loader,
    wuerstchen_prior_loader,
)
from tests.nodes.models.wuerstchen import randomise, relative

NAME = "shapes-wuerstchen"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, nn.Module]]:
    """The folder, and the modules with their weights rounded as in it."""
    torch.manual_seed(7)
    modules = {
        "prior": randomise(build_prior(), damped="out."),
        "decoder": randomise(build_decoder(), damped="clf."),
        "vqgan": randomise(build_vqgan()),
        "compressor": randomise(build_compressor()),
    }
    folder = tmp_path_factory.mktemp("embedded") / NAME
    export(folder, text=embedded_text_encoder(), **modules)  # type: ignore[arg-type]
    return folder, {name: module.half().float() for name, module in modules.items()}


@pytest.fixture
def place(exported: tuple[Path, dict[str, nn.Module]], diffusers: Path) -> None:
    shutil.copytree(exported[0], diffusers / NAME)


@pytest.mark.usefixtures("place")
def test_the_exported_stages_are_loaded_as_they_were(
    exported: tuple[Path, dict[str, nn.Module]], context: Any
) -> None:
    modules: dict[str, Any] = exported[1]
    prior = wuerstchen_prior_loader(ctx=context, model_path=NAME)
    decoder = wuerstchen_decoder_loader(ctx=context, model_path=NAME)
    compressor = wuerstchen_compressor_loader(ctx=context, model_path=NAME)
    assert prior.CLIP == decoder.CLIP
    assert (prior.MODEL.latent_format.scale, prior.MODEL.latent_format.shift) == (1.0, 0.0)
    assert compressor.latent_format == prior.MODEL.latent_format
    assert decoder.VAE.latent_format == decoder.MODEL.latent_format

    pool = context.resource(ModelPool)
    torch.manual_seed(8)
    ratio = torch.tensor([0.3, 0.9])
    with pool.text_encoder(prior.CLIP) as encoder:
        tokens = encoder.encode("a small yellow star on a black background")[0].expand(2, -1, -1)
    x, semantic = torch.randn(2, SEMANTIC_CHANNELS, 3, 3), torch.randn(2, SEMANTIC_CHANNELS, 3, 3)
    with torch.no_grad():
        with pool.network(prior.MODEL) as network:
            assert relative(network(x, ratio, tokens), modules["prior"](x, ratio, tokens)) < 1e-5
        x = torch.randn(2, 4, 32, 32)
        with pool.network(decoder.MODEL) as network:
            found = network(x, ratio, tokens, extras={"effnet": semantic})
            assert relative(found, modules["decoder"](x, ratio, semantic, tokens)) < 1e-5
        with pool.vae(decoder.VAE) as autoencoder:
            wanted = modules["vqgan"].decode(x).sample.clamp(0, 1).movedim(1, -1)
            assert relative(autoencoder.decode(x), wanted) < 1e-4
        with pool.vae(compressor) as autoencoder:
            pixels = torch.rand(2, 96, 96, 3)
            wanted = modules["compressor"](pixels.movedim(-1, 1))
            assert relative(autoencoder.encode(pixels), wanted) < 1e-4
