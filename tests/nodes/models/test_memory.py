"""What networks take, counted without data: for every kind of denoising network and for text encoders."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nodes.diffusion.reads import CondForm
from nodes.models.memory import encoding_bytes, peak_of, sampling_bytes
from nodes.models.networks import build
from nodes.values import Architecture

KINDS: dict[str, dict[str, Any]] = {
    "unet": {
        "in_channels": 9,
        "out_channels": 4,
        "model_channels": 32,
        "channel_mult": (1, 2),
        "num_res_blocks": (1, 1),
        "depth_in": (1, 0),
        "depth_middle": 1,
        "depth_out": (0, 0, 1, 1),
        "cross_attention_dim": 16,
        "linear": False,
        "num_heads": 4,
    },
    "wuerstchen_prior": {"channels": 32, "cross_attention_dim": 24, "num_heads": 4, "depth": 2},
    "wuerstchen_decoder": {
        "channels": (16, 32),
        "num_heads": (1, 4),
        "blocks": (1, 1),
        "level_config": ("CT", "CTA"),
        "inject_effnet": (False, True),
        "effnet_channels": 16,
        "cross_attention_dim": 24,
        "cond_width": 32,
    },
    "stable_cascade": {
        "in_channels": 4,
        "out_channels": 4,
        "patch_size": 2,
        "cond_width": 32,
        "channels": (16, 32),
        "num_heads": (2, 4),
        "layers_down": (1, 1),
        "layers_up": (1, 1),
        "repeats_down": (1, 1),
        "repeats_up": (1, 1),
        "level_config": ("CT", "CTA"),
        "self_attn": (False, True),
        "cross_attention_dim": None,
        "clip_image_width": None,
        "pooled_width": 24,
        "effnet_channels": 16,
        "pixel_channels": 3,
    },
}


def architecture(kind: str) -> Architecture:
    """A small network of a kind."""
    return Architecture(kind, tuple(KINDS[kind].items()))


@pytest.mark.parametrize("kind", KINDS)
def test_every_network_is_counted_as_it_runs(kind: str) -> None:
    made = architecture(kind)
    module: Any = build(made).eval().requires_grad_(False)
    forms = [CondForm(extras={"effnet": (1, 16, 3, 3)}, tokens=154), CondForm(tokens=77)]
    said = sampling_bytes(made, (2, 16, 24), forms, torch.float32)

    def call() -> None:
        arguments = dict(made.arguments)
        x, width = torch.randn(4, module.in_channels, 16, 24), arguments.get("cross_attention_dim") or 0
        extras = {"effnet": torch.randn(4, 16, 3, 3), "pixels": torch.randn(4, 3, 8, 8)}
        module(x, torch.rand(4), torch.randn(4, 154, width), torch.randn(4, 24), extras=extras)

    assert said == pytest.approx(peak_of(call, module), rel=0.05)


def test_twice_the_pixels_or_pictures_take_about_twice_as_much() -> None:
    made = architecture("unet")
    one, wide, two = (
        sampling_bytes(made, size, [CondForm()], torch.float32)
        for size in ((1, 32, 32), (1, 32, 64), (2, 32, 32))
    )
    assert wide == pytest.approx(2 * one, rel=0.1)
    assert two == pytest.approx(2 * one, rel=0.1)
    half = sampling_bytes(made, (1, 32, 32), [CondForm()], torch.bfloat16)
    assert half == pytest.approx(one / 2, rel=0.1)


def test_a_prompt_takes_its_chunks() -> None:
    arguments = {"vocabulary": 100, "positions": 77, "width": 32, "layers": 2, "heads": 4, "inner": 128}
    made = Architecture("clip_text", (*arguments.items(), ("activation", "gelu")))
    one, two = encoding_bytes(made, 1), encoding_bytes(made, 2)
    # The two inner states of a layer are the widest, beside its input and the embeddings.
    assert 77 * 4 * 2 * 128 < one < 77 * 4 * 4 * 128
    assert two == pytest.approx(2 * one, rel=0.05)
