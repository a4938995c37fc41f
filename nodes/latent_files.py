"""Nodes that save latents to files and load them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError

from nodegraph.node import UNKNOWN, Choice, Context, Forecast, NodeError, Runtime, Shown, Widget, node
from nodes import saving
from nodes.forms import LatentForm
from nodes.image_files import PREFIX_HELP
from nodes.provenance import metadata
from nodes.values import Latent

VERSION_KEY = "latent_format_version_0"
"""An empty tensor of this name says that the latent is stored unscaled."""
OLD_SCALE = 0.18215
"""What files without the version were multiplied by: the scale of Stable Diffusion 1.x."""


@node(
    "SaveLatent",
    category="_for_testing",
    effect=True,
    lane="io",
    reads=("document",),
)
def save_latent(
    samples: Latent,
    ctx: Context,
    filename_prefix: Annotated[str, Widget(tooltip=PREFIX_HELP)] = "latents/ComfyUI",
) -> Shown:
    """Saves latents as `<prefix>_00001_.latent` (safetensors) in the output folder, with the workflow inside.

    Raises NodeError where the prefix leads out of the output folder or the folder cannot be written to.
    """
    tensors = {"latent_tensor": samples.samples.detach().cpu().contiguous(), VERSION_KEY: torch.zeros(0)}
    data = safetensors.torch.save(tensors, metadata=metadata(ctx) or None)
    return Shown({"latents": (saving.series(ctx, filename_prefix).write(data, ".latent"),)})


def _foresee(latent: object, runtime: Runtime) -> Forecast:
    if not isinstance(latent, str):
        return Forecast()
    path = runtime.folders.find("input", latent)
    try:
        with safetensors.safe_open(path, "pt") as file:
            shape = file.get_slice("latent_tensor").get_shape()
    except (SafetensorError, OSError):
        # Read for its message.
        read_latent(path)
        return Forecast()
    return Forecast((LatentForm(*shape) if len(shape) == 4 else UNKNOWN,))


@node("LoadLatent", category="_for_testing", lane="io", foresee=_foresee)
def load_latent(latent: Annotated[str, Choice(files="input")], ctx: Context) -> Latent:
    """Loads latents that Save Latent wrote, from the input folder.

    Raises NodeError where the file holds no latent or is damaged.
    """
    return read_latent(ctx.folders.find("input", latent))


def read_latent(path: Path) -> Latent:
    """The latent in a file, float32. Raises NodeError where there is none."""
    try:
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise NodeError(
            f"the file {path.name} is no latent that can be read: {error}.", input="latent"
        ) from error
    if "latent_tensor" not in tensors:
        raise NodeError(
            f"the file {path.name} holds no latent.",
            input="latent",
            found=", ".join(sorted(tensors)[:5]) or "no tensors",
            allowed="a file that SaveLatent wrote",
        )
    samples = tensors["latent_tensor"].float()
    return Latent(samples if VERSION_KEY in tensors else samples * (1.0 / OLD_SCALE))
