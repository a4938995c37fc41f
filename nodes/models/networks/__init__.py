"""The networks themselves, with parameters named as in single-file (LDM) checkpoints, Würstchen's as in diffusers folders.

They are written here rather than taken from diffusers so that a file loads without renaming, a patch can reach any
block or attention of one call without touching the shared module, and starting costs seconds and 200 MB less
(docs/decisions/001-own-networks.md).
Tests hold them to the diffusers and transformers modules.
"""

from __future__ import annotations

from torch import nn

from nodes.values import Architecture


def build(architecture: Architecture) -> nn.Module:
    """Return the module of `architecture` with whatever default device is set; use under `torch.device("meta")`.

    Raises KeyError for an architecture without a builder.
    """
    arguments = dict(architecture.arguments)
    match architecture.name:
        case "unet":
            from nodes.models.networks.unet import UNet

            return UNet(**arguments)
        case "unet2d":
            from nodes.models.networks.unet2d import UNet2D

            return UNet2D(**arguments)
        case "pixels":
            from nodes.models.networks.pixels import PixelCodec

            return PixelCodec(**arguments)
        case "autoencoder_kl":
            from nodes.models.networks.autoencoder_kl import AutoencoderKL

            return AutoencoderKL(**arguments)
        case "clip_text":
            from nodes.models.networks.clip_text import ClipText

            return ClipText(**arguments)
        case "clip_vision":
            from nodes.models.networks.clip_vision import ClipVision

            return ClipVision(**arguments)
        case "wuerstchen_prior":
            from nodes.models.networks.wuerstchen_prior import WuerstchenPrior

            return WuerstchenPrior(**arguments)
        case "wuerstchen_decoder":
            from nodes.models.networks.wuerstchen_decoder import WuerstchenDiffNeXt

            return WuerstchenDiffNeXt(**arguments)
        case "paella_vq":
            from nodes.models.networks.paella_vq import PaellaVQ

            return PaellaVQ(**arguments)
        case "stable_cascade":
            from nodes.models.networks.stable_cascade import StableCascade

            return StableCascade(**arguments)
        case "efficientnet":
            from nodes.models.networks.efficientnet import EfficientNetEncoder

            return EfficientNetEncoder(**arguments)
        case "stage_c_previewer":
            from nodes.models.networks.stage_c_coder import StageCPreviewer

            return StageCPreviewer(**arguments)
        case "stage_c_coder":
            from nodes.models.networks.stage_c_coder import StageCCoder

            return StageCCoder(**arguments)
    raise KeyError(f"no network is called {architecture.name!r}")
