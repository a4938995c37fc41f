"""Nodes that save latents to files and load them."""

from __future__ import annotations

import math
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

DOWNSCALE_KEY = "downscale"
"""Of the file's metadata: pixels of the picture to one of the latent, where they are not `USUAL`; others do not read it."""
USUAL = Latent.downscale


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

    Where a pixel of the latent stands for other than 8 of the picture, the file says so, which other programs pass over.
    Raises NodeError where the prefix leads out of the output folder or the folder cannot be written to.
    """
    tensors = {"latent_tensor": samples.samples.detach().cpu().contiguous(), VERSION_KEY: torch.zeros(0)}
    notes = metadata(ctx)
    if samples.downscale != USUAL:
        notes[DOWNSCALE_KEY] = repr(samples.downscale)
    data = safetensors.torch.save(tensors, metadata=notes or None)
    return Shown({"latents": (saving.series(ctx, filename_prefix).write(data, ".latent"),)})


def _foresee(latent: object, runtime: Runtime) -> Forecast:
    if not isinstance(latent, str):
        return Forecast()
    path = runtime.folders.find("input", latent)
    try:
        with safetensors.safe_open(path, "pt") as file:
            shape = file.get_slice("latent_tensor").get_shape()
            downscale = _downscale(file, path)
    except (SafetensorError, OSError):
        # Read for its message.
        read_latent(path)
        return Forecast()
    if len(shape) != 4:
        return Forecast((UNKNOWN,))
    batch, channels, height, width = shape
    return Forecast((LatentForm(batch, channels, height, width, downscale=downscale),))


@node("LoadLatent", category="_for_testing", lane="io", foresee=_foresee)
def load_latent(latent: Annotated[str, Choice(files="input")], ctx: Context) -> Latent:
    """Loads latents that Save Latent wrote, from the input folder.

    Raises NodeError where the file holds no latent or is damaged.
    """
    return read_latent(ctx.folders.find("input", latent))


def read_latent(path: Path) -> Latent:
    """The latent in a file, float32. Raises NodeError where there is none."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            downscale = _downscale(file, path)
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
    return Latent(samples if VERSION_KEY in tensors else samples * (1.0 / OLD_SCALE), downscale=downscale)


def _downscale(file: safetensors.safe_open, path: Path) -> float:
    """Pixels of the picture to one of the latent. Raises NodeError for what is no such number."""
    notes: dict[str, str] = file.metadata() or {}  # type: ignore[no-untyped-call]
    noted = notes.get(DOWNSCALE_KEY)
    if noted is None:
        return USUAL
    try:
        found = float(noted)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise NodeError(
            f"the file {path.name} does not say how many pixels its latent stands for.",
            input="latent",
            found=repr(noted[:80]),
            allowed="a number above 0, or none, which is 8",
        )
    return found
