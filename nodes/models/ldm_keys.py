"""How parameters are named: diffusers, transformers and OpenCLIP against this project's (LDM) names.

The networks here use the names of single-file checkpoints without their prefix. Everything is computed from the
architecture or from the keys themselves, so that it holds for networks of any depth.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nodes.values import Architecture

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
CLIP_PREFIX = "cond_stage_model.transformer."
OPEN_CLIP_PREFIX = "cond_stage_model.model."
CLIP_G_PREFIX = "text_encoder.clip_g."
"""Of the text encoder in Stable Cascade's checkpoints."""
CLIP_L_VISION_PREFIX = "clip_l_vision."
"""Of the vision encoder in Stable Cascade's Stage C."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a parameter comes from: a key of the file, all of it or one third of its rows, transposed where set."""

    key: str
    third: int | None = None
    transpose: bool = False


_RESNET = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
)
_UNET_OUTER = (
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
)


def unet_modules(num_res_blocks: Iterable[int], attention_out: Iterable[bool]) -> dict[str, str]:
    """Return the LDM module name -> diffusers module name of a U-Net, for modules that hold parameters.

    `num_res_blocks` has one entry a level, from the first; `attention_out` says for each output block whether it
    has a transformer. Names that a network lacks (a skip convolution, for one) are in it all the same.
    """
    counts, with_attention = list(num_res_blocks), list(attention_out)
    names = dict(_UNET_OUTER)

    def resnet(ldm: str, diffusers: str) -> None:
        names.update({f"{ldm}.{one}": f"{diffusers}.{other}" for one, other in _RESNET})

    block = 1
    for level, count in enumerate(counts):
        for index in range(count):
            resnet(f"input_blocks.{block}.0", f"down_blocks.{level}.resnets.{index}")
            names[f"input_blocks.{block}.1"] = f"down_blocks.{level}.attentions.{index}"
            block += 1
        names[f"input_blocks.{block}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
        block += 1
    for index in (0, 1):
        resnet(f"middle_block.{2 * index}", f"mid_block.resnets.{index}")
    names["middle_block.1"] = "mid_block.attentions.0"
    block = 0
    for up, count in enumerate(reversed(counts)):
        for index in range(count + 1):
            resnet(f"output_blocks.{block}.0", f"up_blocks.{up}.resnets.{index}")
            if with_attention[block]:
                names[f"output_blocks.{block}.1"] = f"up_blocks.{up}.attentions.{index}"
            if index == count:
                place = 2 if with_attention[block] else 1
                names[f"output_blocks.{block}.{place}.conv"] = f"up_blocks.{up}.upsamplers.0.conv"
            block += 1
    return names


def vae_modules(levels: int, num_res_blocks: int) -> dict[str, str]:
    """Return the LDM module name -> diffusers module name of an autoencoder."""
    names: dict[str, str] = {}

    def resnet(ldm: str, diffusers: str) -> None:
        names.update(
            {f"{ldm}.{part}": f"{diffusers}.{part}" for part in ("norm1", "conv1", "norm2", "conv2")}
        )
        names[f"{ldm}.nin_shortcut"] = f"{diffusers}.conv_shortcut"

    for side in ("encoder", "decoder"):
        for part, other in (("conv_in", "conv_in"), ("norm_out", "conv_norm_out"), ("conv_out", "conv_out")):
            names[f"{side}.{part}"] = f"{side}.{other}"
        resnet(f"{side}.mid.block_1", f"{side}.mid_block.resnets.0")
        resnet(f"{side}.mid.block_2", f"{side}.mid_block.resnets.1")
        for part, other in (("norm", "group_norm"), ("q", "to_q"), ("k", "to_k"), ("v", "to_v")):
            names[f"{side}.mid.attn_1.{part}"] = f"{side}.mid_block.attentions.0.{other}"
        names[f"{side}.mid.attn_1.proj_out"] = f"{side}.mid_block.attentions.0.to_out.0"
    for level in range(levels):
        for index in range(num_res_blocks):
            resnet(f"encoder.down.{level}.block.{index}", f"encoder.down_blocks.{level}.resnets.{index}")
        names[f"encoder.down.{level}.downsample.conv"] = f"encoder.down_blocks.{level}.downsamplers.0.conv"
        up = levels - 1 - level
        for index in range(num_res_blocks + 1):
            resnet(f"decoder.up.{level}.block.{index}", f"decoder.up_blocks.{up}.resnets.{index}")
        names[f"decoder.up.{level}.upsample.conv"] = f"decoder.up_blocks.{up}.upsamplers.0.conv"
    names["quant_conv"] = "quant_conv"
    names["post_quant_conv"] = "post_quant_conv"
    return names


def rename(keys: Iterable[str], modules: Mapping[str, str]) -> dict[str, str]:
    """Return key -> renamed key, each by the longest module name of `modules` that it starts with.

    Keys under no such module are left out.
    """
    found: dict[str, str] = {}
    for key in keys:
        module = key
        while module:
            module = module.rpartition(".")[0]
            if module in modules:
                found[key] = modules[module] + key[len(module) :]
                break
    return found


def count_keys(keys: Iterable[str], pattern: str) -> int:
    """One more than the largest number that `pattern` captures in a key; 0 where none does."""
    compiled = re.compile(pattern)
    return max((int(match[1]) + 1 for match in map(compiled.match, keys) if match), default=0)


def unet_from_diffusers(keys: Iterable[str]) -> dict[str, Source]:
    """Return LDM key -> source for the keys of a diffusers `unet` folder."""
    names = list(keys)
    levels = count_keys(names, r"down_blocks\.(\d+)\.")
    counts = [count_keys(names, rf"down_blocks\.{level}\.resnets\.(\d+)\.") for level in range(levels)]
    attention = [
        any(name.startswith(f"up_blocks.{up}.attentions.{index}.") for name in names)
        for up, count in enumerate(reversed(counts))
        for index in range(count + 1)
    ]
    modules = {other: ldm for ldm, other in unet_modules(counts, attention).items()}
    return {ldm: Source(key) for key, ldm in rename(names, modules).items()}


def unet_to_diffusers(architecture: Architecture, keys: Iterable[str]) -> dict[str, str]:
    """Return LDM key -> diffusers key of a U-Net's parameters."""
    attention = [bool(depth) for depth in architecture["depth_out"]]
    return rename(keys, unet_modules(architecture["num_res_blocks"], attention))


_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def vae_from_diffusers(keys: Iterable[str]) -> dict[str, Source]:
    """Return LDM key -> source for the keys of a diffusers `vae` folder, those of old releases too."""
    names = _modern_names(keys)
    levels = count_keys(names, r"(?:encoder\.down|decoder\.up)_blocks\.(\d+)\.")
    blocks = count_keys(names, r"encoder\.down_blocks\.0\.resnets\.(\d+)\.")
    blocks = blocks or count_keys(names, r"decoder\.up_blocks\.0\.resnets\.(\d+)\.") - 1
    modules = {other: ldm for ldm, other in vae_modules(levels, blocks).items()}
    return {ldm: Source(names[key]) for key, ldm in rename(names, modules).items()}


def unet2d_from_diffusers(keys: Iterable[str]) -> dict[str, Source]:
    """Return our key -> source for the keys of a UNet2DModel, whose names ours are, those of old releases too."""
    return {ours: Source(key) for ours, key in _modern_names(keys).items()}


def _modern_names(keys: Iterable[str]) -> dict[str, str]:
    """Today's key -> key as it is, for keys that may name attention's layers as old releases did."""
    return {re.sub(r"\.(query|key|value|proj_attn)\.", _modern, key): key for key in keys}


def _modern(match: re.Match[str]) -> str:
    return f".{_OLD_ATTENTION[match[1]]}."


def vae_to_diffusers(architecture: Architecture, keys: Iterable[str]) -> dict[str, str]:
    """Return LDM key -> diffusers key of an autoencoder's parameters."""
    return rename(keys, vae_modules(len(architecture["channel_mult"]), architecture["num_res_blocks"]))


def clip_from_transformers(keys: Iterable[str]) -> dict[str, Source]:
    """Return our key -> source for a transformers CLIP text model, with or without `text_model.` before its keys.

    Checkpoints that put `transformer.` before them hold the projection apart, as OpenCLIP lays it out.
    """
    found: dict[str, Source] = {}
    for key in keys:
        name = key.removeprefix("transformer.")
        if name.endswith("position_ids") or name in ("logit_scale", "logit_bias"):
            continue
        if name == "text_projection":
            found["text_projection.weight"] = Source(key, transpose=True)
        elif name.startswith(("text_model.", "text_projection.")):
            found[name] = Source(key)
        elif name.startswith(("embeddings.", "encoder.layers.", "final_layer_norm.")):
            found[f"text_model.{name}"] = Source(key)
    return found


_OPEN_CLIP_LAYER = (
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("self_attn.out_proj", "attn.out_proj"),
)


def clip_from_open_clip(keys: Iterable[str]) -> dict[str, Source]:
    """Return our key -> source for OpenCLIP's text tower, whose q, k and v are the rows of one matrix."""
    names = set(keys)
    found = {
        "text_model.embeddings.token_embedding.weight": Source("token_embedding.weight"),
        "text_model.embeddings.position_embedding.weight": Source("positional_embedding"),
        "text_model.final_layer_norm.weight": Source("ln_final.weight"),
        "text_model.final_layer_norm.bias": Source("ln_final.bias"),
        "text_projection.weight": Source("text_projection", transpose=True),
    }
    for layer in range(count_keys(names, r"transformer\.resblocks\.(\d+)\.")):
        ours, theirs = f"text_model.encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        for kind in ("weight", "bias"):
            for one, other in _OPEN_CLIP_LAYER:
                found[f"{ours}.{one}.{kind}"] = Source(f"{theirs}.{other}.{kind}")
            for index, part in enumerate(("q_proj", "k_proj", "v_proj")):
                found[f"{ours}.self_attn.{part}.{kind}"] = Source(
                    f"{theirs}.attn.in_proj_{kind}", third=index
                )
    return {key: source for key, source in found.items() if source.key in names}


_WUERSTCHEN_SIGNS = (".channelwise.0.weight", "mapper.1.running_mean", "blocks.11.running_mean")
"""Of stages A, B and C, of the compressor, of the previewer."""


def is_wuerstchen(keys: Iterable[str]) -> bool:
    """Whether the keys are of a network of Würstchen or Stable Cascade: a stage, the compressor or the previewer."""
    return any(key.endswith(_WUERSTCHEN_SIGNS) for key in keys)


_WUERSTCHEN_NAMES = (
    (".attention.attn.out_proj.", ".attention.to_out.0."),
    (".attention.attn.to_", ".attention.to_"),
    ("clip_mapper.", "clip_txt_pooled_mapper."),
    ("vquantizer.codebook.", "vquantizer.embedding."),
)
_PACKED = re.compile(r"(.*\.attention\.)attn\.in_proj_(weight|bias)")


def wuerstchen_sources(keys: Iterable[str]) -> dict[str, Source]:
    """Return our key -> source for a network of Würstchen or Stable Cascade: diffusers' names, which are ours, or others.

    The original files pack the projections of an attention into one matrix; files saved by ComfyUI hold them apart
    under the original's prefix. Würstchen v2's Stage B calls its text projection `clip_mapper` in every layout, Stable
    Cascade's in the original files only.
    """
    found: dict[str, Source] = {}
    names = list(keys)
    cascade = any(name.startswith("effnet_mapper.") for name in names)
    for name in names:
        packed = _PACKED.fullmatch(name)
        if packed is not None:
            found.update(
                {f"{packed[1]}to_{part}.{packed[2]}": Source(name, third=i) for i, part in enumerate("qkv")}
            )
        elif not name.endswith(".num_batches_tracked"):
            ours = name
            for theirs, own in _WUERSTCHEN_NAMES:
                if cascade or theirs != "clip_mapper.":
                    ours = ours.replace(theirs, own)
            found[ours] = Source(name)
    return found


def sources(part: str, layout: str, keys: Iterable[str]) -> dict[str, Source]:
    """Return our key -> source for the keys of one part (`unet`, `unet2d`, `vae`, `text_encoder`) without its prefix.

    Würstchen's and Stable Cascade's networks are told by their keys, whatever the part is called.
    """
    keys = list(keys)
    if is_wuerstchen(keys):
        return wuerstchen_sources(keys)
    match part, layout:
        case "unet", "diffusers":
            return unet_from_diffusers(keys)
        case "unet2d", _:
            return unet2d_from_diffusers(keys)
        case "vae", "diffusers":
            return vae_from_diffusers(keys)
        case "text_encoder", "open_clip":
            return clip_from_open_clip(keys)
        case "text_encoder", _:
            return clip_from_transformers(keys)
    return {key: Source(key) for key in keys}
