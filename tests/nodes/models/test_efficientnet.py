"""The compressor's network: its published size, its scale, and its mapper's normalisation."""

from __future__ import annotations

import torch

from nodes.models.networks.efficientnet import EfficientNetEncoder, Stage

TINY: tuple[Stage, ...] = (("fused", 1, 1, 8, 8, 1), ("fused", 4, 2, 8, 12, 2), ("mb", 4, 2, 12, 16, 2))


def test_published_size() -> None:
    with torch.device("meta"):
        encoder = EfficientNetEncoder()
    # EfficientNetV2-S without its classifier has 20,177,488 parameters; the mapper adds 1280 x 16.
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 20_177_488 + 1280 * 16


def test_names_are_those_of_the_published_file() -> None:
    with torch.device("meta"):
        names = EfficientNetEncoder().state_dict().keys()
    for name in (
        "backbone.0.0.weight",
        "backbone.2.0.block.1.1.running_var",
        "backbone.4.0.block.2.fc1.bias",
        "backbone.6.14.block.3.1.weight",
        "backbone.7.1.bias",
        "mapper.0.weight",
        "mapper.1.running_mean",
    ):
        assert name in names
    assert "mapper.1.weight" not in names


def test_shrinks_pictures_and_reaches_across_them() -> None:
    torch.manual_seed(0)
    encoder = EfficientNetEncoder(TINY, 24, 16).eval()
    pictures = torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        latent = encoder(pictures)
        other = encoder(1 - pictures)
    assert latent.shape == (2, 16, 4, 6)
    assert not torch.equal(latent, other)


def test_half_precision_weights_compute_in_the_input_dtype() -> None:
    torch.manual_seed(0)
    encoder = EfficientNetEncoder(TINY, 24, 16).eval().half()
    with torch.no_grad():
        assert encoder(torch.rand(1, 3, 32, 32)).dtype == torch.float32
