"""The values that travel on links: frozen, plain and serialisable.

Tensors never change once they are in one of these. A MODEL, CLIP or VAE is a recipe, not a module:
which weights, which architecture, which patches. `nodes.models.pool.ModelPool` makes modules of recipes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from nodegraph.node import value

if TYPE_CHECKING:
    from nodes.diffusion.parametrisation import Parametrisation

Scalar = str | int | float | bool | None


def tensors_of(item: object) -> Iterable[Tensor]:
    """Every tensor in a value, through dataclasses, tuples and mappings."""
    if isinstance(item, Tensor):
        yield item
    elif is_dataclass(item) and not isinstance(item, type):
        for one in fields(item):
            yield from tensors_of(getattr(item, one.name))
    elif isinstance(item, (tuple, list)):
        for one in item:
            yield from tensors_of(one)
    elif isinstance(item, Mapping):
        for one in item.values():
            yield from tensors_of(one)


def map_tensors(item: Any, change: Any) -> Any:
    """The value with `change(tensor)` in place of each tensor; the same object where nothing changed."""
    if isinstance(item, Tensor):
        return change(item)
    if is_dataclass(item) and not isinstance(item, type):
        new = {one.name: map_tensors(getattr(item, one.name), change) for one in fields(item) if one.init}
        if all(new[name] is getattr(item, name) for name in new):
            return item
        return replace(item, **new)
    if isinstance(item, tuple):
        mapped = tuple(map_tensors(one, change) for one in item)
        return item if all(new is old for new, old in zip(mapped, item, strict=True)) else mapped
    if isinstance(item, Mapping):
        changed = {key: map_tensors(one, change) for key, one in item.items()}
        return item if all(changed[key] is item[key] for key in changed) else changed
    return item


class TensorCodec:
    """Measures and moves any value of this module by its tensors' storages."""

    def storages(self, value: Any) -> Iterable[tuple[object, int, str]]:
        """(storage address, bytes, device) of each tensor."""
        for tensor in tensors_of(value):
            storage = tensor.untyped_storage()
            yield (storage.data_ptr(), str(tensor.device)), storage.nbytes(), str(tensor.device)

    def move(self, value: Any, device: str) -> Any:
        """The value with every tensor on `device`."""
        target = torch.device(device)
        return map_tensors(value, lambda tensor: tensor if tensor.device == target else tensor.to(target))

    def save(self, value: Any) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """The tensors by position; the rest is the value's own structure (written by the disk tier)."""
        found = list(tensors_of(value))
        return {str(index): tensor for index, tensor in enumerate(found)}, {"type": type(value).__name__}

    def load(self, tensors: dict[str, Any], rest: Mapping[str, Any]) -> Any:
        """The inverse of `save` for the values that are one tensor field and plain data."""
        kind = {"Image": Image, "Mask": Mask, "Latent": Latent}[rest["type"]]
        return kind(*(tensors[str(index)] for index in range(len(tensors))))


TENSORS = TensorCodec()


@value("IMAGE", TENSORS)
@dataclass(frozen=True, eq=False)
class Image:
    """Pictures: (batch, height, width, channels), float32, 0..1, channels 3 (RGB) or 4 (RGBA)."""

    pixels: Tensor


@value("MASK", TENSORS)
@dataclass(frozen=True, eq=False)
class Mask:
    """Masks: (batch, height, width), float32, 0..1; 1 is the part that changes."""

    values: Tensor


class ImageAndMask(NamedTuple):
    """Outputs of the nodes that give pictures and a mask for each."""

    IMAGE: Image
    MASK: Mask


@value("LATENT", TENSORS)
@dataclass(frozen=True, eq=False)
class Latent:
    """Latents: samples (batch, channels, height, width), float32, unscaled.

    `noise_mask` (batch or 1, 1, height, width) limits sampling to where it is 1, at any resolution;
    `batch_index` gives the place of each sample in the noise of a larger batch; `downscale` is how many pixels of the
    finished picture there are to one of the latent, in each direction.
    """

    samples: Tensor
    noise_mask: Tensor | None = None
    batch_index: tuple[int, ...] | None = None
    downscale: float = 8


AREA_UNIT = 8
"""Pixels of the picture in which areas count."""


@dataclass(frozen=True, slots=True)
class Area:
    """Where a conditioning applies: in units of 8 pixels (int), or fractions of the picture where `fraction` is set."""

    height: float
    width: float
    y: float
    x: float
    fraction: bool = False


@dataclass(frozen=True, eq=False)
class Cond:
    """One prompt's encoding and where, when and how strongly it applies."""

    context: Tensor
    """(batch, tokens, width), float32: what cross-attention reads; `no_text` where there is nothing to read."""
    pooled: Tensor | None = None
    """(batch, width): the pooled encoding, for models that use it."""
    strength: float = 1.0
    area: Area | None = None
    mask: Tensor | None = None
    """(batch, height, width), 0..1, at any resolution."""
    mask_strength: float = 1.0
    mask_bounds: bool = False
    """Set the area to the bounds of the mask."""
    start_percent: float = 0.0
    end_percent: float = 1.0
    """The part of the schedule in which it applies, as ConditioningSetTimestepRange gives it."""
    concat_latent: Tensor | None = None
    """(batch, channels, height, width), unscaled: an extra input of inpainting and editing models."""
    concat_mask: Tensor | None = None
    """(batch, 1, height, width) in pixels: 1 where an inpainting model shall paint."""
    extras: Mapping[str, Any] = field(default_factory=dict)
    """What some model families add (sizes, control nets, prior embeddings), by documented name.

    `class_labels` (batch,), int64: which of a model's classes to draw. Of Würstchen's stages: `effnet`
    (batch, 16, height, width), Stage C's result as Stage B reads it; `clip_img` (batch, pictures, width), the encodings
    of pictures that Stage C reads beside the prompt; `pixels` (batch, 3, height, width), a picture that Stage B reads.
    """


def no_text() -> Tensor:
    """Return the context (1, 1, 0) of a conditioning without text, for models that read none."""
    return torch.zeros(1, 1, 0)


@value("CONDITIONING", TENSORS)
@dataclass(frozen=True, eq=False)
class Conditioning:
    """Prompts that apply together."""

    entries: tuple[Cond, ...]


@dataclass(frozen=True, slots=True)
class Weights:
    """Which tensors: a file (or the files of a folder) by content identity, and the part in them."""

    identity: str
    """Content identity of the file or folder; two Weights with equal identity and part are the same."""
    part: str
    """`unet`, `vae`, `text_encoder`, ..."""
    layout: Literal["ldm", "diffusers", "open_clip"]
    """How its keys are named; text encoders in transformers' naming count as the layout they come with."""
    prefix: str = ""
    """What its keys start with inside the file, such as `model.diffusion_model.`."""
    paths: tuple[Path, ...] = field(default=(), compare=False)
    """Where the files lie on this machine."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A record of one change to a model; code under nodes/models/patches gives `name` its meaning.

    `inputs` are frozen values (weights, images, conditionings) that the patch needs, by name.
    """

    kind: Literal["weights", "sampling", "guidance", "attention", "block", "denoise_mask", "wrapper"]
    name: str
    version: int = 1
    parameters: tuple[tuple[str, Scalar | tuple[Scalar, ...]], ...] = ()
    inputs: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class LatentFormat:
    """What a model family's latents are: channels, pixels per latent pixel, and the scale of the network's space."""

    name: str
    channels: int
    scale: float
    """The network sees (samples - shift) * scale."""
    downscale: float = 8
    """Pixels of the finished picture to one of the latent, in each direction."""
    shift: float = 0.0


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network's architecture as plain data: the name of its class and the arguments, hashable."""

    name: str
    """What `nodes.models.networks.build` knows it by: `unet`, `clip_text`, `paella_vq`, ..."""
    arguments: tuple[tuple[str, Any], ...]

    def __getitem__(self, name: str) -> Any:
        return dict(self.arguments)[name]


@value("MODEL")
@dataclass(frozen=True)
class Model:
    """Recipe of a denoising network."""

    weights: Weights
    architecture: Architecture
    parametrisation: Parametrisation
    latent_format: LatentFormat
    family: str
    """`sd1`, `sd2`, `sdxl`, ...: what errors and detection call it."""
    patches: tuple[Patch, ...] = ()
    dtype: Literal["fp32", "bf16", "fp16", "fp8_e4m3fn", "fp8_e5m2"] | None = None
    """Overrides the session's choice where set; the fp8 ones store weights so and compute in the session's choice."""
    class_names: tuple[str, ...] = ()
    """What a class-conditional model calls its classes, in their order; it may have more."""

    def patched(self, patch: Patch) -> Model:
        """This recipe with one more patch."""
        return replace(self, patches=(*self.patches, patch))


@value("CLIP")
@dataclass(frozen=True)
class Clip:
    """Recipe of the text encoder (or encoders) with the tokenizer."""

    weights: Weights
    architecture: Architecture
    family: str
    stop_layer: int | None = None
    """-1 the last hidden layer, -2 the one before; None: the family's own."""
    pad_token: int | None = None
    """What prompts are filled up with to 77 tokens; None: the family's own."""
    patches: tuple[Patch, ...] = ()
    dtype: Literal["fp32", "bf16", "fp16"] | None = None

    def patched(self, patch: Patch) -> Clip:
        """This recipe with one more patch."""
        return replace(self, patches=(*self.patches, patch))


@value("CLIP_VISION")
@dataclass(frozen=True)
class ClipVision:
    """Recipe of a CLIP vision encoder."""

    weights: Weights
    architecture: Architecture
    dtype: Literal["fp32", "bf16", "fp16"] | None = None


@value("CLIP_VISION_OUTPUT", TENSORS)
@dataclass(frozen=True, eq=False)
class ClipVisionOutput:
    """What a CLIP vision encoder makes of pictures, float32."""

    embeds: Tensor
    """(batch, projection): what stands for a picture as the pooled encoding does for a prompt."""
    last: Tensor
    """(batch, tokens, width): the last layer's states."""
    penultimate: Tensor
    """(batch, tokens, width): those of the layer before."""


@value("VAE")
@dataclass(frozen=True)
class Vae:
    """Recipe of the autoencoder between pictures and latents."""

    weights: Weights
    architecture: Architecture
    latent_format: LatentFormat
    dtype: Literal["fp32", "bf16", "fp16"] | None = None


@value("SAMPLER")
@dataclass(frozen=True)
class Sampler:
    """A sampler's name and options."""

    name: str
    options: tuple[tuple[str, Scalar], ...] = ()


@value("SIGMAS", TENSORS)
@dataclass(frozen=True, eq=False)
class Sigmas:
    """A noise schedule: values (steps + 1,), float32 on the CPU, usually falling to 0."""

    values: Tensor
    times: Tensor | None = None
    """(steps + 1,), float32: what the network is told at each level; NaN, or None for all, where its time follows from
    sigma."""
    from_noise: bool = False
    """The first level counts as pure noise of the total variance, as the largest level of a model always does."""
    to_clean: bool = False
    """The last level, above 0, counts as clean: its step adds no noise, and what arrives is scaled down by
    1 / sqrt(1 + sigma^2)."""


@value("NOISE")
@dataclass(frozen=True)
class Noise:
    """The starting noise: drawn from `seed` (0..2^64 - 1), or none where it is None."""

    seed: int | None


@value("GUIDER")
@dataclass(frozen=True, eq=False)
class Guider:
    """How conditionings steer the model: `kind` is `basic`, `cfg`, `dual_cfg`, `perp_neg`, ..."""

    kind: str
    model: Model
    conditionings: tuple[tuple[str, Conditioning], ...]
    """By role: `positive`, `negative`, `middle`, `empty`."""
    options: tuple[tuple[str, Scalar], ...] = ()
