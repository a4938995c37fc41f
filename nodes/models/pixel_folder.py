"""Folders of pixel-space models (DDPM): a UNet2DModel and its scheduler, in sub-folders or at the folder's top.

Attention's heads and the groups, the epsilon and the padding of its layers differ between these models and do not show in
their weights, so that config.json is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

from nodegraph.node import NodeError
from nodes.diffusion.parametrisation import Discrete, VarianceType
from nodes.models.detection import Found, check_complete, found_at
from nodes.models.diffusers_folder import part_header, read_config, read_parametrisation, unet_config
from nodes.models.identity import files_identity
from nodes.values import Architecture, LatentFormat, Model, Vae, Weights

_STEMS = ("diffusion_pytorch_model",)

_CLIPPING = ("DDPMScheduler", "DDIMScheduler")
_DOWN = {"DownBlock2D": False, "AttnDownBlock2D": True}
_UP = {"UpBlock2D": False, "AttnUpBlock2D": True}
_KNOWN: Mapping[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"),
    "attn_norm_num_groups": (None,),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "downsample_type": ("conv",),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2D",),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "time_embedding_dim": (None,),
    "time_embedding_type": ("positional",),
    "upsample_type": ("conv",),
}
"""What UNet2D knows of the settings that change how the network computes; where one is absent, the first holds."""


def read_pixel_folder(folder: Path) -> Model:
    """Return the recipe of the folder's network, its schedule and its classes' names included.

    Raises NodeError where it is another kind of model, a part is missing, damaged or not supported.
    """
    part, config = unet_config(folder)
    if config.get("_class_name", "UNet2DModel") != "UNet2DModel" or not config:
        raise _not_pixels(folder, config)
    found = found_at(part_header(folder, part, _STEMS), "unet2d", "diffusers")
    architecture = unet2d_architecture(found.shapes, config, folder.name)
    if architecture["out_channels"] != architecture["in_channels"]:
        raise _unsupported(
            folder.name, "a U-Net that also predicts the variance", "as many channels out as in"
        )
    check_complete(found, architecture)
    _check_whole(found, architecture, folder.name)
    return Model(
        found.weights(),
        architecture,
        pixel_parametrisation(folder / "scheduler" if part else folder, folder.name),
        pixel_format(architecture["in_channels"]),
        "pixel",
        class_names=_class_names(folder, config, dict(architecture.arguments).get("classes")),
    )


def unet2d_architecture(
    shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], name: str
) -> Architecture:
    """Return the U-Net of a UNet2DModel's configuration, with the channels and classes that its shapes show.

    `name` is what errors call it. Raises NodeError for what is not supported.
    """
    for key, known in _KNOWN.items():
        if config.get(key, known[0]) not in known:
            raise _unsupported(name, f"a U-Net with {key} {config[key]!r}", ", ".join(map(repr, known)))
    try:
        head_width = config.get("attention_head_dim", 8)
        arguments: dict[str, Any] = {
            "in_channels": shapes["conv_in.weight"][1],
            "out_channels": shapes["conv_out.weight"][0],
            "widths": tuple(int(width) for width in config["block_out_channels"]),
            "layers": int(config.get("layers_per_block", 2)),
            "down_attention": _attention(config["down_block_types"], _DOWN, name),
            "up_attention": _attention(config["up_block_types"], _UP, name),
            "middle_attention": bool(config.get("add_attention", True)),
            "head_width": None if head_width is None else int(head_width),
            "norm_groups": int(config.get("norm_num_groups", 32)),
            "norm_eps": float(config.get("norm_eps", 1e-5)),
            "downsample_padding": int(config.get("downsample_padding", 1)),
            "time_shift": float(config.get("freq_shift", 0)),
            "sines_first": not config.get("flip_sin_to_cos", True),
            "scale_shift": config.get("resnet_time_scale_shift") == "scale_shift",
        }
    except (KeyError, TypeError, ValueError) as error:
        raise NodeError(
            f"config.json of {name} does not describe its U-Net ({error}).",
            code="bad_model_file",
            hint="Is it the one that belongs to these weights?",
        ) from error
    if "class_embedding.weight" in shapes:
        arguments["classes"] = shapes["class_embedding.weight"][0]
    return Architecture("unet2d", tuple(arguments.items()))


def pixel_parametrisation(place: Path, name: str) -> Discrete:
    """Return the schedule, the range of pixels and the step noise that the scheduler's configuration in `place` says.

    What it leaves out is as in DDPM. Raises NodeError for what is not supported.
    """
    base = Discrete(beta_schedule="linear", beta_start=1e-4, beta_end=0.02, clip_range=1.0)
    schedule = read_parametrisation(place, name, base)
    if schedule is None:
        return base
    config = read_config(place, "scheduler_config.json")
    variance = str(config.get("variance_type", "fixed_small")).removesuffix("_log")
    if variance not in get_args(VarianceType):
        raise _unsupported(name, f"the variance {variance!r}", ", ".join(get_args(VarianceType)))
    if config.get("thresholding"):
        raise _unsupported(name, "dynamic thresholding", "clip_sample")
    # Schedulers that do not clip have no such setting.
    clips = config.get("clip_sample", config.get("_class_name", "DDPMScheduler") in _CLIPPING)
    clip_range = float(config.get("clip_sample_range", 1.0)) if clips else None
    return replace(schedule, clip_range=clip_range, variance_type=cast(VarianceType, variance))


def pixel_format(channels: int) -> LatentFormat:
    """Return the format of pictures that are their own latents: -1..1, one latent pixel to a pixel."""
    return LatentFormat("pixels", channels, scale=1.0, downscale=1)


def pixel_vae(channels: int = 3) -> Vae:
    """Return the recipe of the autoencoder of pixel-space models, which changes the range of values alone."""
    nothing = Weights(files_identity(()), "vae", "diffusers")
    # What it is given passes through unchanged, in whatever precision the networks compute.
    return Vae(
        nothing, Architecture("pixels", (("channels", channels),)), pixel_format(channels), dtype="fp32"
    )


def _attention(types: Sequence[str], known: Mapping[str, bool], name: str) -> tuple[bool, ...]:
    found = [str(kind).removeprefix("UNetRes") for kind in types]
    for kind in found:
        if kind not in known:
            raise _unsupported(name, f"a U-Net with blocks of type {kind}", ", ".join(known))
    return tuple(known[kind] for kind in found)


def _check_whole(found: Found, architecture: Architecture, name: str) -> None:
    """Raise NodeError where the file holds more than the configuration says: the picture would be another."""
    from nodes.models.loading import parameter_shapes

    surplus = sorted(found.shapes.keys() - parameter_shapes(architecture).keys())
    if surplus:
        raise NodeError(
            f"config.json of {name} leaves out {len(surplus)} tensors of its weights, such as {surplus[0]}.",
            code="bad_model_file",
            hint="Is it the one that belongs to these weights?",
        )


def _class_names(folder: Path, config: Mapping[str, Any], classes: int | None) -> tuple[str, ...]:
    """The names that the pipeline's or the network's configuration gives the classes, in their order."""
    names = read_config(folder, "model_index.json").get("class_names") or config.get("class_names") or []
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or len(names) > (classes or 0)
    ):
        raise NodeError(
            f"the class names of {folder.name} do not fit its network.",
            code="bad_model_file",
            found=f"{len(names) if isinstance(names, list) else type(names).__name__}",
            allowed=f"a list of up to {classes or 0} strings",
        )
    return tuple(names)


def _not_pixels(folder: Path, config: Mapping[str, Any]) -> NodeError:
    if not config:
        return NodeError(
            f"{folder.name} lacks the config.json of its U-Net.",
            code="bad_model_file",
            hint="Is it complete?",
        )
    return NodeError(
        f"{folder.name} is not a pixel-space model: its U-Net is a {config['_class_name']}.",
        code="wrong_model_file",
        allowed="UNet2DModel",
        hint="Load Stable Diffusion folders with DiffusersLoader.",
    )


def _unsupported(name: str, what: str, allowed: str) -> NodeError:
    return NodeError(f"{name} has {what}, which is not supported.", code="unsupported_model", allowed=allowed)
