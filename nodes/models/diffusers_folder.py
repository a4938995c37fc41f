"""Folders in diffusers' layout: a sub-folder each for the U-Net, the autoencoder and the text encoder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from nodegraph.node import NodeError
from nodes.diffusion.parametrisation import BetaSchedule, Discrete, Prediction
from nodes.models.detection import Hints, need
from nodes.models.recipes import clip_recipe, model_recipe, vae_recipe
from nodes.models.tensor_file import CONVERT_HINT, TensorHeader, read_headers
from nodes.values import Clip, Model, Vae

_STEMS: Mapping[str, tuple[str, ...]] = {
    "unet": ("diffusion_pytorch_model",),
    "vae": ("diffusion_pytorch_model",),
    "text_encoder": ("model", "pytorch_model"),
}
_PREDICTIONS: Mapping[str, Prediction] = {
    "epsilon": "eps",
    "v_prediction": "v_prediction",
    "sample": "x0",
}

_STABLE_DIFFUSION = Discrete()


def read_folder(folder: Path) -> tuple[Model, Clip, Vae]:
    """Return the recipes of the folder's networks.

    Raises NodeError where a part is missing, a pickle, damaged or not supported.
    """
    if unet_config(folder)[1].get("_class_name") == "UNet2DModel":
        raise NodeError(
            f"{folder.name} holds a pixel-space model: a U-Net without text encoder and autoencoder.",
            code="wrong_model_file",
            hint="Load it with PixelModelLoader.",
        )
    for part, node in (("prior", "WuerstchenPriorLoader"), ("decoder", "WuerstchenDecoderLoader")):
        if (folder / part).is_dir() and not (folder / "unet").is_dir():
            raise NodeError(
                f"{folder.name} has no unet: it is a {part} of Würstchen or Stable Cascade.",
                code="wrong_model_file",
                hint=f"Load it with {node}.",
            )
    unet, vae, text = (read_config(folder / part) for part in ("unet", "vae", "text_encoder"))
    hints = Hints(
        unet=_unet_hints(unet),
        vae=_groups(vae),
        text_encoder=text_hints(text),
        parametrisation=read_parametrisation(folder / "scheduler", folder.name),
        latent_scale=vae.get("scaling_factor"),
    )
    return (
        model_recipe(need(part_header(folder, "unet", _STEMS["unet"]), "unet"), hints),
        clip_recipe(need(part_header(folder, "text_encoder", _STEMS["text_encoder"]), "text_encoder"), hints),
        vae_recipe(need(part_header(folder, "vae", _STEMS["vae"]), "vae"), hints),
    )


def part_header(folder: Path, part: str, stems: Sequence[str]) -> TensorHeader:
    """Return the header of the weights in `folder / part` (`part` may be empty), whose files are called by one of `stems`.

    Raises NodeError where there are none, or only a pickle.
    """
    place = folder / part
    for stem in stems:
        # Half precision first: it is what most folders are shared in, and half the reading.
        for variant in (f"{stem}.fp16", stem):
            whole = place / f"{variant}.safetensors"
            pieces = sorted(place.glob(f"{variant}-*-of-*.safetensors"))
            if whole.is_file() or pieces:
                return read_headers([whole] if whole.is_file() else pieces)
    pickles = [path.name for path in (*place.glob("*.bin"), *place.glob("*.ckpt"))]
    if pickles:
        raise NodeError(
            f"{place.relative_to(folder.parent).as_posix()} holds a pickle ({pickles[0]}), not safetensors.",
            code="bad_model_file",
            hint=CONVERT_HINT,
        )
    raise NodeError(
        f"the diffusers folder {folder.name} lacks {(Path(part) / stems[0]).as_posix()}.safetensors.",
        code="bad_model_file",
        hint="Is it complete?",
    )


def read_config(place: Path, name: str = "config.json") -> dict[str, Any]:
    """Return the JSON object in `place / name`; empty where there is no such file.

    Raises NodeError where it is not JSON.
    """
    path = place / name
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise NodeError(
            f"{place.name}/{name} is not readable JSON.", code="bad_model_file", hint="Download it again."
        ) from error
    return config if isinstance(config, dict) else {}


def unet_config(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return where in the folder the U-Net lies, `unet` or at its top (""), and its configuration."""
    part = "unet" if (folder / "unet").is_dir() else ""
    return part, read_config(folder / part)


def text_hints(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a text encoder's configuration adds to its shapes."""
    return _renamed(config, {"num_attention_heads": "heads", "hidden_act": "activation"})


def _unet_hints(config: Mapping[str, Any]) -> dict[str, Any]:
    """Heads: diffusers' `attention_head_dim` of these U-Nets is, despite its name, their number."""
    found = _groups(config)
    heads = config.get("num_attention_heads") or config.get("attention_head_dim")
    if isinstance(heads, int):
        found["num_heads"] = heads
    elif isinstance(heads, list) and heads:
        widths = {width // count for width, count in zip(config["block_out_channels"], heads, strict=True)}
        if len(widths) != 1:
            raise NodeError("U-Nets whose heads differ in width are not supported.", code="unsupported_model")
        found["head_width"] = widths.pop()
    return found


def _groups(config: Mapping[str, Any]) -> dict[str, Any]:
    return _renamed(config, {"norm_num_groups": "norm_groups"})


def _renamed(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {ours: config[theirs] for theirs, ours in names.items() if config.get(theirs) is not None}


def read_parametrisation(place: Path, name: str, base: Discrete = _STABLE_DIFFUSION) -> Discrete | None:
    """Return what the scheduler of the folder called `name`, whose configuration lies in `place`, says of the model.

    `base` holds where it says nothing. None where there is no configuration. Raises NodeError for an unknown schedule.
    """
    config = read_config(place, "scheduler_config.json")
    if not config:
        return None
    schedule = config.get("beta_schedule", base.beta_schedule)
    betas = config.get("trained_betas")
    if schedule not in get_args(BetaSchedule) or betas:
        raise NodeError(
            f"the scheduler of {name} has the beta schedule {schedule!r}.",
            code="unsupported_model",
            allowed=", ".join(get_args(BetaSchedule)),
        )
    return Discrete(
        prediction=_PREDICTIONS.get(config.get("prediction_type", "epsilon"), "eps"),
        beta_schedule=schedule,
        beta_start=config.get("beta_start", base.beta_start),
        beta_end=config.get("beta_end", base.beta_end),
        timesteps=config.get("num_train_timesteps", base.timesteps),
        zero_terminal_snr=bool(config.get("rescale_betas_zero_snr", False)),
    )
