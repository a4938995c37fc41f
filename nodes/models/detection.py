"""What a model file is, from names and shapes alone: which networks are in it, and under which names.

A file's own metadata may carry a `nodegraph` entry, JSON with what shapes do not show:
`{"prediction_type": "eps", "unet": {"num_heads": 8, "norm_groups": 8}, "vae": {"norm_groups": 8},
"text_encoder": {"heads": 4, "activation": "quick_gelu"}}`, every part of it optional.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from nodegraph.node import NodeError
from nodes.diffusion.parametrisation import Parametrisation, Prediction
from nodes.models.identity import files_identity
from nodes.models.ldm_keys import Source, sources
from nodes.models.signs import ALONE, PIXEL_UNET, PLACES, REMEDIES, SIGNS, WHAT, Layout, Part
from nodes.models.tensor_file import TensorHeader
from nodes.values import Architecture, Weights


@dataclass(frozen=True)
class Found:
    """One network in a file: where its keys are, and their shapes in this project's naming."""

    part: Part
    layout: Layout
    prefix: str
    header: TensorHeader
    sources: Mapping[str, Source]
    shapes: Mapping[str, tuple[int, ...]]

    def weights(self) -> Weights:
        """Return these tensors' place as the recipes carry it."""
        return Weights(
            identity=files_identity(self.header.paths),
            part=self.part,
            layout=self.layout,
            prefix=self.prefix,
            paths=self.header.paths,
        )


@dataclass(frozen=True)
class Hints:
    """What a configuration or a file's metadata adds to the shapes."""

    unet: Mapping[str, Any] = field(default_factory=dict)
    vae: Mapping[str, Any] = field(default_factory=dict)
    text_encoder: Mapping[str, Any] = field(default_factory=dict)
    clip_vision: Mapping[str, Any] = field(default_factory=dict)
    prediction: Prediction | None = None
    parametrisation: Parametrisation | None = None
    latent_scale: float | None = None


def find(header: TensorHeader, part: Part) -> Found | None:
    """Return the network `part` in the file, or None where it holds none."""
    for prefix, sign, layout in PLACES[part]:
        if prefix + sign in header.tensors:
            return found_at(header, part, layout, prefix)
    return None


def found_at(header: TensorHeader, part: Part, layout: Layout, prefix: str = "") -> Found:
    """Return the network `part` whose keys begin with `prefix`, whatever they are."""
    keys = [key[len(prefix) :] for key in header.tensors if key.startswith(prefix)]
    named = sources(part, layout, keys)
    return Found(part, layout, prefix, header, named, _shapes(header, prefix, named))


def need(header: TensorHeader, part: Part) -> Found:
    """Return the network `part` in the file. Raises NodeError, saying what the file is, where it holds none."""
    found = find(header, part)
    if found is None:
        raise wrong_file(header, part)
    return found


def hints_of(header: TensorHeader) -> Hints:
    """Return what the file's metadata says. Raises NodeError where its `nodegraph` entry is malformed."""
    known: Any = {}
    if "nodegraph" in header.metadata:
        try:
            known = json.loads(header.metadata["nodegraph"])
        except ValueError as error:
            raise _unusable(header, "its `nodegraph` metadata is not JSON") from error
        if not isinstance(known, dict):
            raise _unusable(header, "its `nodegraph` metadata is not a JSON object")
    prediction = _PREDICTIONS.get(
        str(known.get("prediction_type", header.metadata.get("modelspec.prediction_type", "")))
    )
    if prediction is None and "v_pred" in header.tensors:
        prediction = "v_prediction"
    return Hints(
        unet=known.get("unet", {}),
        vae=known.get("vae", {}),
        text_encoder=known.get("text_encoder", {}),
        clip_vision=known.get("clip_vision", {}),
        prediction=prediction,
    )


_PREDICTIONS: Mapping[str, Prediction] = {
    "eps": "eps",
    "epsilon": "eps",
    "v": "v_prediction",
    "v_prediction": "v_prediction",
    "sample": "x0",
    "x0": "x0",
}


def wrong_file(header: TensorHeader, part: Part) -> NodeError:
    """Return the error for a file that does not hold `part`."""
    what = describe(header)
    return NodeError(
        f"{_name(header)} does not hold {WHAT[part]}: it is {what}.",
        code="wrong_model_file",
        hint=REMEDIES.get(what, "Choose a Stable Diffusion 1.x or 2.x checkpoint (.safetensors)."),
    )


def describe(header: TensorHeader) -> str:
    """Return in words what the file seems to be."""
    parts = [part for part in PLACES if find(header, part) is not None]
    names = list(header.tensors)
    for what, signs in SIGNS:
        if any(sign in name for name in names for sign in signs):
            return what
    if "time_embedding.linear_1.weight" in header.tensors and not any("attn2." in name for name in names):
        return PIXEL_UNET
    if len(parts) > 1:
        return "a Stable Diffusion checkpoint without it"
    if parts:
        return ALONE[parts[0]]
    sizes = [info.shape for info in header.tensors.values()]
    if len(sizes) == 1 and len(sizes[0]) <= 2:
        return "a textual inversion embedding"
    first = ", ".join(names[:3])
    return f"of an unknown kind ({len(names)} tensors: {first}...)" if names else "a file without tensors"


def _shapes(header: TensorHeader, prefix: str, named: Mapping[str, Source]) -> dict[str, tuple[int, ...]]:
    found = {}
    for key, source in named.items():
        shape = header.tensors[prefix + source.key].shape
        if source.third is not None:
            shape = (shape[0] // 3, *shape[1:])
        found[key] = shape[::-1] if source.transpose else shape
    return found


def read_architecture(found: Found, read: Callable[[], Architecture]) -> Architecture:
    """Return what `read` makes of the shapes. Raises NodeError, saying what the file is, where it cannot."""
    try:
        architecture = read()
    except (KeyError, StopIteration, IndexError, ValueError, ZeroDivisionError) as error:
        what = describe(found.header)
        known = {name for name, _ in SIGNS} | {PIXEL_UNET}
        if what in known:
            raise wrong_file(found.header, found.part) from error
        raise _unusable(found.header, f"{WHAT[found.part]} in it is of an unknown make ({error})") from error
    return architecture


def check_complete(found: Found, architecture: Architecture) -> None:
    """Raise NodeError unless the file has every tensor of the architecture in its shape."""
    from nodes.models.networks import build

    try:
        with torch.device("meta"):
            wanted = {key: tuple(tensor.shape) for key, tensor in build(architecture).state_dict().items()}
    except (ValueError, TypeError, AssertionError) as error:
        raise _unusable(found.header, f"{WHAT[found.part]} in it is of an unknown make ({error})") from error
    missing = sorted(wanted.keys() - found.shapes.keys())
    if missing:
        raise _unusable(
            found.header,
            f"{len(missing)} of the {len(wanted)} tensors of {WHAT[found.part]} are missing, such as {missing[0]}",
        )
    for key, shape in wanted.items():
        if not _same(found.shapes[key], shape):
            raise _unusable(found.header, f"{key} has the shape {found.shapes[key]} and should have {shape}")


def _same(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Shapes that hold the same matrix: 1x1 convolutions are stored with and without their last two sides."""
    return _bare(one) == _bare(other)


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:2] if shape[2:] == (1, 1) else shape


def _name(header: TensorHeader) -> str:
    names: Iterable[str] = (path.name for path in header.paths)
    return ", ".join(names)


def _unusable(header: TensorHeader, why: str) -> NodeError:
    return NodeError(f"{_name(header)} cannot be used: {why}.", code="bad_model_file")


def unsupported(header: TensorHeader, what: str) -> NodeError:
    """Return the error for a file whose kind is known and not supported."""
    return NodeError(
        f"{_name(header)} is {what}, which is not supported yet.",
        code="unsupported_model",
        allowed="Stable Diffusion 1.x and 2.x, their inpainting and editing models included, Würstchen v2, Stable Cascade",
    )
