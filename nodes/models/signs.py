"""The keys that tell what a model file is, what it is called, and what to do with one that is in the wrong place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from nodes.models.ldm_keys import (
    CLIP_G_PREFIX,
    CLIP_L_VISION_PREFIX,
    CLIP_PREFIX,
    OPEN_CLIP_PREFIX,
    UNET_PREFIX,
    VAE_PREFIX,
)

Part = Literal["unet", "unet2d", "vae", "text_encoder", "clip_vision"]
Layout = Literal["ldm", "diffusers", "open_clip"]

_VAE_SIGNS: tuple[tuple[str, Layout], ...] = (
    ("decoder.mid_block.resnets.0.norm1.weight", "diffusers"),
    ("encoder.mid_block.resnets.0.norm1.weight", "diffusers"),
    ("decoder.mid.block_1.norm1.weight", "ldm"),
    ("encoder.mid.block_1.norm1.weight", "ldm"),
)
_STAGE_SIGNS = ("clip_txt_pooled_mapper.weight", "clip_mapper.weight", "cond_mapper.0.weight")
"""Of Stages B and C of Würstchen and Stable Cascade."""
_STAGE_VAE_SIGNS = (
    "vquantizer.codebook.weight",
    "vquantizer.embedding.weight",
    "encoder.mapper.1.running_mean",
    "mapper.1.running_mean",
    "blocks.11.running_mean",
)
"""Of Stage A in its two namings, of compressor and previewer together, and of each of them."""
PLACES: Mapping[Part, tuple[tuple[str, str, Layout], ...]] = {
    "unet": (
        (UNET_PREFIX, "input_blocks.0.0.weight", "ldm"),
        ("", "input_blocks.0.0.weight", "ldm"),
        ("", "conv_in.weight", "diffusers"),
        ("unet.", "conv_in.weight", "diffusers"),
        *((prefix, key, "ldm") for prefix in (UNET_PREFIX, "") for key in _STAGE_SIGNS),
    ),
    "vae": (
        *((prefix, key, layout) for prefix in (VAE_PREFIX, "", "vae.") for key, layout in _VAE_SIGNS),
        *((prefix, key, "ldm") for prefix in ("", "vae.") for key in _STAGE_VAE_SIGNS),
    ),
    "text_encoder": (
        (CLIP_PREFIX, "text_model.embeddings.token_embedding.weight", "ldm"),
        (CLIP_PREFIX, "embeddings.token_embedding.weight", "ldm"),
        (OPEN_CLIP_PREFIX, "token_embedding.weight", "open_clip"),
        ("", "text_model.embeddings.token_embedding.weight", "ldm"),
        ("", "embeddings.token_embedding.weight", "ldm"),
        ("", "token_embedding.weight", "open_clip"),
        ("text_encoder.", "text_model.embeddings.token_embedding.weight", "ldm"),
        (CLIP_G_PREFIX, "transformer.text_model.embeddings.token_embedding.weight", "ldm"),
    ),
    "clip_vision": tuple(
        (prefix, "vision_model.embeddings.class_embedding", "ldm") for prefix in ("", CLIP_L_VISION_PREFIX)
    ),
}
"""Where each part may begin: its prefix, a key that is always there, and how it is named."""

SIGNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a LoRA", (".lora_up.", ".lora_down.", ".lora_A.", ".lora_B.", ".lora.up.", "hada_w1_a", "lokr_w1")),
    ("a ControlNet", ("input_hint_block.", "controlnet_cond_embedding.", "control_model.")),
    (
        "a Stable Diffusion XL model",
        ("conditioner.embedders.", "label_emb.0.0.weight", "add_embedding.linear_1"),
    ),
    ("a Stable Diffusion 3 model", ("joint_blocks.",)),
    ("a Flux model", ("double_blocks.",)),
    ("Stage C of Stable Cascade", ("clip_txt_mapper.",)),
    ("Stage B of Stable Cascade", ("effnet_mapper.", "pixels_mapper.")),
    ("Stage C of Würstchen", ("cond_mapper.",)),
    ("Stage B of Würstchen", ("effnet_mappers.",)),
    ("Stage A of Würstchen or Stable Cascade", ("vquantizer.",)),
    ("the compressor of Würstchen or Stable Cascade", ("mapper.1.running_mean",)),
    ("the previewer of Stable Cascade", ("blocks.11.running_mean",)),
    ("a textual inversion embedding", ("emb_params", "string_to_param", "clip_l", "clip_g")),
    ("a saved latent", ("latent_tensor",)),
    ("a CLIP vision encoder", ("vision_model.", "visual.")),
    ("an upscaling model", ("RRDB_trunk", "body.0.rdb1", "conv_first.weight")),
    ("a T5 text encoder", ("encoder.block.0.layer.0.SelfAttention",)),
)
"""What else a file may be, by what a key of it holds; the first that fits counts."""
PIXEL_UNET = "a pixel-space U-Net (UNet2DModel)"
WHAT: Mapping[Part, str] = {
    "unet": "the denoising network (U-Net)",
    "unet2d": "the denoising network (UNet2DModel)",
    "vae": "the autoencoder (VAE)",
    "text_encoder": "the text encoder (CLIP)",
    "clip_vision": "the vision encoder (CLIP)",
}
"""In words, what a part is to its model."""
ALONE: Mapping[Part, str] = {
    "unet": "a U-Net alone",
    "vae": "an autoencoder (VAE) alone",
    "text_encoder": "a text encoder (CLIP) alone",
    "clip_vision": "a CLIP vision encoder",
}
"""What a file is that holds one part and nothing else."""

_STAGE_REMEDY = "Load it with UNETLoader, the text encoder with CLIPLoader (type stable_cascade) and Stage A with VAELoader."
REMEDIES: Mapping[str, str] = {
    "a LoRA": "Load the checkpoint that it was made for, and this file with LoraLoader.",
    "a ControlNet": "Load it with ControlNetLoader.",
    "a textual inversion embedding": "Put it into the embeddings folder and write embedding:NAME in a prompt.",
    "a saved latent": "Load it with LoadLatent.",
    "an autoencoder (VAE) alone": "Load it with VAELoader; the checkpoint goes elsewhere.",
    "a text encoder (CLIP) alone": "Load it with CLIPLoader.",
    "a CLIP vision encoder": "Load it with CLIPVisionLoader.",
    PIXEL_UNET: "Load the diffusers folder that it comes from, with its config.json, with PixelModelLoader.",
    "Stage C of Stable Cascade": _STAGE_REMEDY,
    "Stage B of Stable Cascade": _STAGE_REMEDY,
    "Stage C of Würstchen": "Load its diffusers folder with WuerstchenPriorLoader.",
    "Stage B of Würstchen": "Load its diffusers folder with WuerstchenDecoderLoader.",
    "Stage A of Würstchen or Stable Cascade": "Load it with VAELoader.",
    "the compressor of Würstchen or Stable Cascade": "Load it with VAELoader.",
    "the previewer of Stable Cascade": "Load it with VAELoader.",
    "a U-Net alone": "Load it with UNETLoader, and the text encoder and VAE with CLIPLoader and VAELoader.",
}
"""By what a file is."""
