"""The published pipelines as data: each network, what it is called with for a picture of a size, and how often.

Steps and guidance are the defaults of the published pipelines. Pictures are square, one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from nodes.values import Architecture

Shapes = Mapping[str, tuple[int, ...]]
"""The tensors of a call by name, without the batch."""
Role = Literal["text", "sampling", "decoding"]
TOKENS: Final = 77
GUIDED: Final = 2
"""Samples in one call of a network under classifier-free guidance: with the prompt and without."""


@dataclass(frozen=True, slots=True)
class Case:
    """One call of a network, whatever pipeline makes it."""

    role: Role
    architecture: Architecture
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    """Of its inputs by name, without the batch."""
    batch: int

    def smaller(self) -> Case:
        """Return the call for a picture of few pixels."""
        return replace(
            self,
            shapes=tuple(
                (name, (shape[0], min(16, shape[1]), min(16, shape[2])) if len(shape) == 3 else shape)
                for name, shape in self.shapes
            ),
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """One network of a pipeline."""

    name: str
    role: Role
    architecture: Architecture
    inputs: Callable[[int], Shapes]
    """By the side of the picture in pixels: `embedded` (text), `latents` (decoding), or x and what is read beside it."""
    calls: int = 1
    batch: int = 1
    """Samples in each call."""

    @property
    def evaluations(self) -> int:
        """How many samples the network is given in all."""
        return self.calls * self.batch

    def case(self, side: int) -> Case:
        """Return its call for a picture of `side` pixels."""
        return Case(self.role, self.architecture, tuple(self.inputs(side).items()), self.batch)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Networks that make one picture, one after the other."""

    name: str
    schedule: str
    stages: tuple[Stage, ...]


def architecture(name: str, **arguments: Any) -> Architecture:
    """Return the architecture as a recipe would hold it."""
    return Architecture(name, tuple(arguments.items()))


def _clip(name: str, width: int, layers: int, projection: int | None = None, calls: int = 2) -> Stage:
    built = architecture(
        "clip_text",
        vocabulary=49408,
        positions=TOKENS,
        width=width,
        layers=layers,
        heads=width // 64,
        inner=width * 4,
        activation="quick_gelu" if width < 1024 else "gelu",
        projection=projection,
    )
    return Stage(name, "text", built, lambda side: {"embedded": (TOKENS, width)}, calls)


CLIP_L: Final = _clip("CLIP ViT-L text encoder", 768, 12)
CLIP_H: Final = _clip("CLIP ViT-H text encoder", 1024, 24, calls=1)
CLIP_BIGG: Final = _clip("CLIP ViT-bigG text encoder", 1280, 32)
CLIP_BIGG_POOLED: Final = _clip("CLIP ViT-bigG text encoder", 1280, 32, projection=1280)

UNET_SD15: Final = architecture(
    "unet",
    in_channels=4,
    out_channels=4,
    model_channels=320,
    channel_mult=(1, 2, 4, 4),
    num_res_blocks=(2, 2, 2, 2),
    depth_in=(1, 1, 1, 1, 1, 1, 0, 0),
    depth_middle=1,
    depth_out=(0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    cross_attention_dim=768,
    linear=False,
    num_heads=8,
)
UNET_SDXL: Final = architecture(
    "unet",
    in_channels=4,
    out_channels=4,
    model_channels=320,
    channel_mult=(1, 2, 4),
    num_res_blocks=(2, 2, 2),
    depth_in=(0, 0, 2, 2, 10, 10),
    depth_middle=10,
    depth_out=(10, 10, 10, 2, 2, 2, 0, 0, 0),
    cross_attention_dim=2048,
    linear=True,
    head_width=64,
    vector_width=2816,
)
VAE: Final = architecture(
    "autoencoder_kl",
    channels=128,
    channel_mult=(1, 2, 4, 4),
    num_res_blocks=2,
    z_channels=4,
    latent_channels=4,
)
# The defaults of these two classes are the published networks.
WUERSTCHEN_C: Final = architecture("wuerstchen_prior")
WUERSTCHEN_B: Final = architecture("wuerstchen_decoder")
STAGE_A: Final = architecture("paella_vq")

CASCADE_C: Final = architecture("stable_cascade")
CASCADE_C_LITE: Final = architecture(
    "stable_cascade",
    cond_width=1536,
    channels=(1536, 1536),
    num_heads=(24, 24),
    layers_down=(4, 12),
    layers_up=(12, 4),
)


def _cascade_b(
    channels: tuple[int, ...],
    heads: tuple[int, ...],
    layers: tuple[int, ...],
    repeats_up: tuple[int, ...],
) -> Architecture:
    return architecture(
        "stable_cascade",
        in_channels=4,
        out_channels=4,
        patch_size=2,
        cond_width=1280,
        channels=channels,
        num_heads=heads,
        layers_down=layers,
        layers_up=layers[::-1],
        repeats_down=(1, 1, 1, 1),
        repeats_up=repeats_up,
        level_config=("CT", "CT", "CTA", "CTA"),
        self_attn=(True, True, True, True),
        cross_attention_dim=None,
        clip_image_width=None,
        effnet_channels=16,
        pixel_channels=3,
        conds=("sca",),
        switch_level=None,
    )


CASCADE_B: Final = _cascade_b((320, 640, 1280, 1280), (5, 10, 20, 20), (2, 6, 28, 6), (3, 3, 2, 2))
CASCADE_B_LITE: Final = _cascade_b((320, 576, 1152, 1152), (5, 9, 18, 18), (2, 4, 14, 4), (2, 2, 2, 2))


def semantic_side(side: int) -> int:
    """Return Stage C's side for a picture of `side` pixels, as the published pipelines round it."""
    return math.ceil(side / 42.67)


def decoder_side(side: int) -> int:
    """Return Stage B's side for a picture of `side` pixels, as the published pipelines round it."""
    return int(semantic_side(side) * 10.67)


def _eighth(side: int) -> tuple[int, ...]:
    return (4, side // 8, side // 8)


def _semantic(side: int) -> tuple[int, ...]:
    return (16, semantic_side(side), semantic_side(side))


def _quarter(side: int) -> tuple[int, ...]:
    return (4, decoder_side(side), decoder_side(side))


_VAE_DECODE: Final = Stage("VAE decoder", "decoding", VAE, lambda side: {"latents": _eighth(side)})
_A_DECODE: Final = Stage("Stage A", "decoding", STAGE_A, lambda side: {"latents": _quarter(side)})
_SD15: Final = Stage(
    "U-Net",
    "sampling",
    UNET_SD15,
    lambda side: {"x": _eighth(side), "context": (TOKENS, 768)},
    calls=50,
    batch=GUIDED,
)
_SDXL: Final = Stage(
    "U-Net",
    "sampling",
    UNET_SDXL,
    lambda side: {"x": _eighth(side), "context": (TOKENS, 2048), "pooled": (2816,)},
    calls=50,
    batch=GUIDED,
)
_C: Final = Stage(
    "Stage C",
    "sampling",
    WUERSTCHEN_C,
    lambda side: {"x": _semantic(side), "context": (TOKENS, 1280)},
    calls=60,
    batch=GUIDED,
)
_B: Final = Stage(
    "Stage B",
    "sampling",
    WUERSTCHEN_B,
    lambda side: {"x": _quarter(side), "context": (TOKENS, 1024), "effnet": _semantic(side)},
    calls=12,
)
_CASCADE_C: Final = Stage(
    "Stage C",
    "sampling",
    CASCADE_C,
    lambda side: {"x": _semantic(side), "context": (TOKENS, 1280), "pooled": (1280,)},
    calls=20,
    batch=GUIDED,
)
_CASCADE_B: Final = Stage(
    "Stage B",
    "sampling",
    CASCADE_B,
    # It reads the pooled prompt alone; the context of a call is there for the others' sake.
    lambda side: {
        "x": _quarter(side),
        "context": (TOKENS, 1280),
        "pooled": (1280,),
        "effnet": _semantic(side),
    },
    calls=10,
)

SD15: Final = Pipeline("Stable Diffusion 1.5", "50 steps, guided", (CLIP_L, _SD15, _VAE_DECODE))
SDXL: Final = Pipeline(
    "Stable Diffusion XL", "50 steps, guided", (CLIP_L, CLIP_BIGG_POOLED, _SDXL, _VAE_DECODE)
)
WUERSTCHEN: Final = Pipeline(
    "Würstchen v2", "60 steps, guided, then 12", (CLIP_BIGG, CLIP_H, _C, _B, _A_DECODE)
)
WUERSTCHEN_QUICK: Final = Pipeline(
    "Würstchen v2",
    # The 30 published times of Stage C bound 29 steps.
    "29 steps, guided, then 12",
    (CLIP_BIGG, CLIP_H, replace(_C, calls=29), _B, _A_DECODE),
)
CASCADE: Final = Pipeline(
    "Stable Cascade", "20 steps, guided, then 10", (CLIP_BIGG_POOLED, _CASCADE_C, _CASCADE_B, _A_DECODE)
)
CASCADE_LITE: Final = Pipeline(
    "Stable Cascade lite",
    "20 steps, guided, then 10",
    (
        CLIP_BIGG_POOLED,
        replace(_CASCADE_C, architecture=CASCADE_C_LITE),
        replace(_CASCADE_B, architecture=CASCADE_B_LITE),
        _A_DECODE,
    ),
)
PIPELINES: Final = (SD15, SDXL, WUERSTCHEN, WUERSTCHEN_QUICK, CASCADE, CASCADE_LITE)
