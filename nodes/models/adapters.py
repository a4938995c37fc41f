"""Files of small changes to a network's weights: LoRA (https://arxiv.org/abs/2106.09685) and its kin, however they name things.

A file holds factors by module and role. Modules are named after single-file checkpoints, diffusers or transformers, with
dots or with underscores, under the prefixes of several trainers; all of them are computed from the network itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nodegraph.node import NodeError
from nodes.models.ldm_keys import unet_to_diffusers
from nodes.models.low_rank import fits
from nodes.models.tensor_file import TensorHeader
from nodes.values import Architecture

Shape = tuple[int, ...]

_ROLES: Mapping[str, str] = {
    ".lora_up.weight": "up",
    ".lora_down.weight": "down",
    ".lora_mid.weight": "mid",
    ".lora_B.weight": "up",
    ".lora_A.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora.up.weight": "up",
    ".lora.down.weight": "down",
    "_lora.up.weight": "up",
    "_lora.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".alpha": "alpha",
    ".dora_scale": "magnitude",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
    **{f".hada_{part}": f"hada_{part}" for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f".lokr_{part}": f"lokr_{part}" for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    ".diff": "diff",
    ".diff_b": "diff_b",
    ".w_norm": "diff",
    ".b_norm": "diff_b",
}
"""What a key is to its module, by how it ends."""
_LONGEST_FIRST = sorted(_ROLES, key=len, reverse=True)
_WHOLE: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "lora": (("up", "down"),),
    "loha": (("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),),
    "lokr": tuple(
        (*one, *other)
        for one in (("lokr_w1",), ("lokr_w1_a", "lokr_w1_b"))
        for other in (("lokr_w2",), ("lokr_w2_a", "lokr_w2_b"))
    ),
    "diff": (("diff",), ("diff_b",)),
}
"""Roles that make an adapter of a kind whole: all of one of these sets."""
_OTHER_MODELS = (
    ("lora_te2_", "Stable Diffusion XL"),
    ("_double_blocks_", "Flux"),
    ("double_blocks.", "Flux"),
    ("single_transformer_blocks", "Flux"),
    ("joint_blocks", "Stable Diffusion 3"),
)


@dataclass(frozen=True)
class Adapter:
    """The factors of one module: keys of the file by role, of the kind `lora`, `loha`, `lokr` or `diff`."""

    name: str
    """What the file calls the module."""
    kind: str
    keys: Mapping[str, str]


@dataclass(frozen=True)
class AdapterFile:
    """What an adapter file holds: adapters, and the keys that are none's."""

    header: TensorHeader
    adapters: tuple[Adapter, ...]
    others: tuple[str, ...]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.header.paths[0].name

    def made_for(self) -> str | None:
        """What it was trained for, where its names tell that it is no model that is supported here."""
        return next(
            (what for sign, what in _OTHER_MODELS if any(sign in key for key in self.header.tensors)), None
        )


def read_adapters(header: TensorHeader) -> AdapterFile:
    """Sort the keys of a file into adapters. Raises NodeError where it holds none, or part of one."""
    roles: dict[str, dict[str, str]] = {}
    others = []
    for key in header.tensors:
        suffix = next((suffix for suffix in _LONGEST_FIRST if key.endswith(suffix)), None)
        if suffix is None:
            others.append(key)
        else:
            roles.setdefault(key.removesuffix(suffix), {})[_ROLES[suffix]] = key
    name = header.paths[0].name
    adapters = tuple(Adapter(module, _kind(name, module, keys), keys) for module, keys in roles.items())
    if not adapters:
        raise NodeError(
            f"{name} is not a LoRA.",
            code="wrong_model_file",
            found=f"keys such as {others[0]!r}" if others else "no tensors",
            allowed="LoRA, LoCon, LoHa, LoKr, DoRA or differences of weights",
        )
    return AdapterFile(header, adapters, tuple(others))


def _kind(name: str, module: str, keys: Mapping[str, str]) -> str:
    for kind, sets in _WHOLE.items():
        if any(all(role in keys for role in roles) for roles in sets):
            return kind
    raise NodeError(
        f"{name} cannot be used: the factors of {module!r} are not complete.",
        code="bad_model_file",
        found=", ".join(sorted(keys.values())),
        hint="The file is damaged, or of a kind that is not supported: LoRA, LoCon, LoHa, LoKr and DoRA are.",
    )


def matched(file: AdapterFile, architecture: Architecture, shapes: Mapping[str, Shape]) -> dict[str, Adapter]:
    """Return the file's adapters of a network by its module.

    `shapes` are the network's by parameter name. Raises NodeError where factors do not fit the weight that they are for.
    """
    named = _named(architecture, shapes)
    found: dict[str, Adapter] = {}
    for adapter in file.adapters:
        module = named.get(adapter.name)
        if module is not None:
            _check(file, adapter, shapes[f"{module}.weight"], shapes.get(f"{module}.bias"))
            found[module] = adapter
    return found


def _named(architecture: Architecture, names: Iterable[str]) -> dict[str, str]:
    """The modules of a network that have weights, by all that files call them."""
    weights = [name for name in names if name.endswith(".weight")]
    published = unet_to_diffusers(architecture, weights) if architecture.name == "unet" else {}
    found: dict[str, str] = {}
    for weight in weights:
        module = weight.removesuffix(".weight")
        if architecture.name == "clip_text":
            aliases = _of_text(module)
        else:
            aliases = _of_network(module, published.get(weight, "").removesuffix(".weight"))
        found.update(dict.fromkeys(aliases, module))
    return found


def _of_text(module: str) -> list[str]:
    flat = module.replace(".", "_")
    dotted = [module, f"text_encoder.{module}", f"text_encoders.{module}", f"transformer.{module}"]
    return [
        *dotted,
        *(f"{prefix}_{flat}" for prefix in ("lora_te", "lora_te1", "lora_prior_te", "lycoris_text_encoder")),
    ]


def _of_network(module: str, published: str) -> list[str]:
    """`published` is the module's name in diffusers, empty where it has none of its own."""
    flat = module.replace(".", "_")
    found = [module, f"diffusion_model.{module}", f"model.diffusion_model.{module}"]
    found += [f"{prefix}_{flat}" for prefix in ("lora_unet", "lora_prior_unet", "lycoris_unet")]
    if published:
        flat = published.replace(".", "_")
        # Attention's projections were once those of a processor.
        block, _, layer = published.replace("to_out.0", "to_out").rpartition(".")
        found += [
            published,
            f"unet.{published}",
            f"{block}.processor.{layer}",
            f"unet.{block}.processor.{layer}",
        ]
        found += [f"unet.{block}.{layer}", f"lora_unet_{flat}", f"lycoris_unet_{flat}"]
    return found


def _check(file: AdapterFile, adapter: Adapter, weight: Shape, bias: Shape | None) -> None:
    shapes = {role: file.header.tensors[key].shape for role, key in adapter.keys.items()}
    of_bias = shapes.pop("diff_b", bias)
    if of_bias == bias and (not shapes or fits(adapter.kind, shapes, weight)):
        return
    told = " and ".join(
        f"{role} {shapes[role]}" for role in sorted(shapes) if role not in ("alpha", "magnitude")
    )
    raise NodeError(
        f"{file.name} does not fit the model: what it has for {adapter.name!r} is of another shape.",
        code="wrong_lora",
        found=told or f"a bias {of_bias}",
        allowed=f"factors of a weight {weight}" if told else f"a bias {bias}",
        hint="It was trained for another model family: Stable Diffusion 1.x, 2.x and XL take LoRAs of their own.",
    )
