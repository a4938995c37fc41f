"""Loaders: files to recipes. They read headers only; tensors are read when a node first uses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

from nodegraph.node import Choice, Context, NodeError, Widget, node
from nodes.diffusion.parametrisation import Discrete, Distilled, Prediction
from nodes.models.detection import hints_of, need
from nodes.models.diffusers_folder import read_folder
from nodes.models.pixel_folder import pixel_vae
from nodes.models.recipes import clip_recipe, model_recipe, vae_recipe
from nodes.models.tensor_file import read_header
from nodes.values import Clip, Model, Vae

CONFIGS = (
    "anything_v3.yaml",
    "v1-inference.yaml",
    "v1-inference_clip_skip_2.yaml",
    "v1-inference_clip_skip_2_fp16.yaml",
    "v1-inference_fp16.yaml",
    "v1-inpainting-inference.yaml",
    "v2-inference-v.yaml",
    "v2-inference-v_fp32.yaml",
    "v2-inference.yaml",
    "v2-inference_fp32.yaml",
    "v2-inpainting-inference.yaml",
)
CLIP_TYPES = (
    "stable_diffusion",
    "stable_cascade",
    "sd3",
    "stable_audio",
    "mochi",
    "ltxv",
    "pixart",
    "cosmos",
    "lumina2",
    "wan",
    "hidream",
    "chroma",
    "ace",
    "omnigen2",
    "qwen_image",
    "hunyuan_image",
)


_CLIP_FAMILIES: Mapping[str, str | None] = {"stable_diffusion": None, "stable_cascade": "cascade"}
"""By type, the family that reads the text encoder; None: the file tells."""


class Checkpoint(NamedTuple):
    """The three networks of a checkpoint."""

    MODEL: Model
    CLIP: Clip
    VAE: Vae


def load_checkpoint(path: Path) -> Checkpoint:
    """Return the recipes of a single-file checkpoint. Raises NodeError where it is not one that is supported."""
    header = read_header(path)
    hints = hints_of(header)
    unet, clip, vae = (need(header, part) for part in ("unet", "text_encoder", "vae"))
    model = model_recipe(unet, hints)
    reader = "cascade" if model.family.startswith("cascade") else None
    return Checkpoint(model, clip_recipe(clip, hints, reader), vae_recipe(vae, hints))


@node("CheckpointLoaderSimple", category="loaders", display_name="Load Checkpoint", lane="io", ahead=True)
def checkpoint_loader_simple(
    *, ctx: Context, ckpt_name: Annotated[str, Choice(files="checkpoints")]
) -> Checkpoint:
    """Loads a checkpoint: one .safetensors file with denoising network, text encoder and VAE.

    Stable Diffusion 1.x and 2.x, and either stage of Stable Cascade: Stage C comes with compressor and previewer for
    a VAE, Stage B with Stage A. What it is, is read off the file itself. Raises NodeError, saying what the file is,
    where it is something else.
    """
    return load_checkpoint(ctx.folders.find("checkpoints", ckpt_name))


@node(
    "CheckpointLoader",
    category="advanced/loaders",
    display_name="Load Checkpoint With Config",
    lane="io",
    ahead=True,
)
def checkpoint_loader(
    *,
    ctx: Context,
    config_name: Annotated[str, Choice(CONFIGS)],
    ckpt_name: Annotated[str, Choice(files="checkpoints")],
) -> Checkpoint:
    """Loads a checkpoint; the configuration decides the prediction type and the text encoder's last layer.

    The architecture is read off the file all the same.
    """
    found = load_checkpoint(ctx.folders.find("checkpoints", ckpt_name))
    prediction: Prediction = "v_prediction" if config_name.startswith("v2-inference-v") else "eps"
    model = replace(found.MODEL, parametrisation=Discrete(prediction=prediction))
    skips = "clip_skip_2" in config_name or config_name.startswith("anything")
    return found._replace(MODEL=model, CLIP=replace(found.CLIP, stop_layer=-2) if skips else found.CLIP)


@node(
    "DiffusersLoader",
    category="advanced/loaders/deprecated",
    display_name="DiffusersLoader",
    lane="io",
    ahead=True,
)
def diffusers_loader(*, ctx: Context, model_path: Annotated[str, Choice(files="diffusers")]) -> Checkpoint:
    """Loads a folder in diffusers' layout: unet, vae and text_encoder, each with .safetensors and config.json.

    The prediction type and noise schedule are those of the folder's scheduler. Raises NodeError where a part is missing.
    """
    return Checkpoint(*read_folder(ctx.folders.find("diffusers", model_path)))


@node("UNETLoader", category="advanced/loaders", display_name="Load Diffusion Model", lane="io", ahead=True)
def unet_loader(
    *,
    ctx: Context,
    unet_name: Annotated[str, Choice(files="diffusion_models")],
    weight_dtype: Annotated[str, Choice(("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"))],
) -> Model:
    """Loads a U-Net alone, or a stage of Stable Cascade.

    The fp8 types halve its memory: weights are stored so, and computing stays as it is.
    """
    header = read_header(ctx.folders.find("diffusion_models", unet_name))
    model = model_recipe(need(header, "unet"), hints_of(header))
    if weight_dtype == "default":
        return model
    return replace(model, dtype="fp8_e5m2" if weight_dtype == "fp8_e5m2" else "fp8_e4m3fn")


@node("CLIPLoader", category="advanced/loaders", display_name="Load CLIP", lane="io", ahead=True)
def clip_loader(
    *,
    ctx: Context,
    clip_name: Annotated[str, Choice(files="text_encoders")],
    type: Annotated[str, Choice(CLIP_TYPES)],
    device: Annotated[str | None, Choice(("default", "cpu")), Widget(optional=True)] = None,
) -> Clip:
    """Loads a CLIP text encoder alone; `type` says for which models: stable_diffusion or stable_cascade here."""
    if type not in _CLIP_FAMILIES:
        raise NodeError(
            f"text encoders for {type} are not supported yet.",
            input="type",
            allowed=", ".join(_CLIP_FAMILIES),
            code="unsupported_model",
        )
    header = read_header(ctx.folders.find("text_encoders", clip_name))
    return clip_recipe(need(header, "text_encoder"), hints_of(header), _CLIP_FAMILIES[type])


@node("VAELoader", category="loaders", display_name="Load VAE", lane="io", ahead=True)
def vae_loader(*, ctx: Context, vae_name: Annotated[str, Choice(("pixel_space",), files="vae")]) -> Vae:
    """Loads an autoencoder alone, from a file of its own or from a checkpoint in the vae folder.

    `pixel_space` is the one of models that work on pixels: it changes the range of values alone. Stage A of Würstchen and
    Stable Cascade, the compressor (effnet_encoder) and the previewer of Stage C count as autoencoders too.
    """
    if vae_name == "pixel_space":
        return pixel_vae()
    header = read_header(ctx.folders.find("vae", vae_name))
    return vae_recipe(need(header, "vae"), hints_of(header))


@node("ModelSamplingDiscrete", category="advanced/model", ahead=True)
def model_sampling_discrete(
    *,
    model: Model,
    sampling: Annotated[str, Choice(("eps", "v_prediction", "lcm", "x0", "img_to_img"))],
    zsnr: bool = False,
) -> Model:
    """Says what the model predicts, where the file does not tell; `zsnr` stretches the schedule to pure noise."""
    base = model.parametrisation if isinstance(model.parametrisation, Discrete) else Discrete()
    schedule = {
        "clip_range": base.clip_range,
        "variance_type": base.variance_type,
        "beta_schedule": base.beta_schedule,
        "beta_start": base.beta_start,
        "beta_end": base.beta_end,
        "timesteps": base.timesteps,
        "alphas_cumprod": base.alphas_cumprod,
        "zero_terminal_snr": zsnr,
    }
    kind = Distilled if sampling == "lcm" else Discrete
    return replace(model, parametrisation=kind(prediction=sampling, **schedule))  # type: ignore[arg-type]
