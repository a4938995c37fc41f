"""The embedded Stable Diffusion's three networks, small enough that all of them in float16 fit into 16 MB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

PICTURE_SIZE: Final = 128
LATENT_SCALE: Final = 0.18215
"""What Stable Diffusion 1.x multiplies latents with; the autoencoder is rescaled so that it fits."""
TEXT_WIDTH: Final = 64
TEXT_HEADS: Final = 4
TEXT_LAYERS: Final = 3
UNET_HEADS: Final = 4
NORM_GROUPS: Final = 8
"""Groups of every group normalisation. With 32, as in the large models, a group of these narrow layers would hold one
or two channels, and normalising a single channel erases the very thing a flat picture consists of: its colour."""


def build_vae() -> AutoencoderKL:
    """The autoencoder: factor 8, 4 latent channels, about 1.0 M parameters."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=NORM_GROUPS,
        sample_size=PICTURE_SIZE,
    )


def build_unet() -> UNet2DConditionModel:
    """The noise predictor: 16x16 and 8x8 with cross-attention at both, about 3.5 M parameters."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=PICTURE_SIZE // 8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 128),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        # By its history this argument of diffusers is the number of heads, not their width.
        attention_head_dim=UNET_HEADS,
        norm_num_groups=NORM_GROUPS,
    )


def build_text_encoder() -> CLIPTextModel:
    """The text encoder: CLIP's vocabulary and 77 positions, 3 narrow layers."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=TEXT_LAYERS,
            num_attention_heads=TEXT_HEADS,
            max_position_embeddings=77,
            hidden_act="quick_gelu",
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=49407,
        )
    )
