"""The networks of the embedded Würstchen, small enough that all of them in float16 fit into 16 MB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from torch import nn

from nodes.models.embedded.architecture import TEXT_WIDTH
from nodes.models.networks.efficientnet import EfficientNetEncoder, Stage

if TYPE_CHECKING:
    from nodes.models.embedded.wuerstchen_modules import PaellaVQModel, WuerstchenDiffNeXt, WuerstchenPrior

PICTURE_SIZE: Final = 128
SEMANTIC_CHANNELS: Final = 16
SEMANTIC_SIDE: Final = 3
"""Cells a side of the latent that Stage C samples: 128 pixels at 1/42.67."""
COMPRESSOR_SIZE: Final = 32 * SEMANTIC_SIDE
"""Pixels a side of the picture that the compressor, which shrinks 32 times, is shown."""
LATENT_SIDE: Final = 32
"""Cells a side of the latent that Stage B samples: 128 pixels at 1/4."""
COMPRESSOR_STAGES: Final[tuple[Stage, ...]] = (
    ("fused", 1, 1, 16, 16, 1),
    ("fused", 4, 2, 16, 24, 1),
    ("fused", 4, 2, 24, 32, 1),
    ("mb", 4, 2, 32, 64, 2),
    ("mb", 4, 2, 64, 96, 2),
)
COMPRESSOR_LAST: Final = 192


def build_compressor() -> EfficientNetEncoder:
    """The semantic compressor: EfficientNetV2 with five short stages, about 0.3 M parameters."""
    return EfficientNetEncoder(COMPRESSOR_STAGES, COMPRESSOR_LAST, SEMANTIC_CHANNELS)


def build_vqgan() -> PaellaVQModel:
    """Stage A: factor 4, 4 channels, 512 codes, about 0.2 M parameters."""
    from nodes.models.embedded.wuerstchen_modules import PaellaVQModel

    return PaellaVQModel(
        levels=2,
        bottleneck_blocks=3,
        embed_dim=64,
        latent_channels=4,
        num_vq_embeddings=512,
        scale_factor=1.0,
    )


def build_decoder() -> WuerstchenDiffNeXt:
    """Stage B: 16x16 and 8x8 cells of 2x2 latent pixels, text at the lower level, about 1.8 M parameters."""
    from nodes.models.embedded.wuerstchen_modules import WuerstchenDiffNeXt

    decoder = WuerstchenDiffNeXt(
        c_r=32,
        c_cond=64,
        c_hidden=[48, 96],
        nhead=[-1, 3],
        blocks=[4, 5],
        level_config=["CT", "CTA"],
        inject_effnet=[True, True],
        effnet_embd=SEMANTIC_CHANNELS,
        clip_embd=TEXT_WIDTH,
        dropout=0.0,
    )
    # They start at 0.02, which suits the published widths: with 16 channels next to nothing of the latent comes through.
    for mapper in decoder.effnet_mappers:
        nn.init.normal_(cast("nn.Conv2d", mapper).weight, std=SEMANTIC_CHANNELS**-0.5)
    return decoder


def build_prior() -> WuerstchenPrior:
    """Stage C: six blocks on 3x3 cells, text in each, about 1.4 M parameters."""
    from nodes.models.embedded.wuerstchen_modules import WuerstchenPrior

    prior = WuerstchenPrior(
        c_in=SEMANTIC_CHANNELS, c=128, c_cond=TEXT_WIDTH, c_r=32, depth=6, nhead=4, dropout=0.0
    )
    # It divides by |1 - b|: where b starts out at random, training meets divisors near zero and learns nothing else.
    last = cast("nn.Conv2d", prior.out[1])
    nn.init.normal_(last.weight, std=0.002)
    nn.init.zeros_(cast("nn.Parameter", last.bias))
    return prior
