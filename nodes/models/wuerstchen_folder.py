"""Folders of Würstchen v2 and Stable Cascade in diffusers' layout.

The prior and the decoder are published as a folder each: `prior` and `text_encoder`; `decoder`, `text_encoder` and
`vqgan`. Combined folders call the prior's parts `prior_prior` and `prior_text_encoder`; in others both stages share one
`text_encoder`. The compressor, where there is one, lies in `image_encoder`. Stable Cascade's smaller networks are
`prior_lite` and `decoder_lite`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nodegraph.node import NodeError
from nodes.diffusion.cosine_ratio import CosineRatio
from nodes.models.detection import Hints, found_at
from nodes.models.diffusers_folder import part_header, read_config, text_hints
from nodes.models.recipes import clip_recipe, model_recipe, vae_recipe
from nodes.models.tokenizer import tokenizer
from nodes.models.wuerstchen_recipes import WUERSTCHEN_C
from nodes.values import Clip, LatentFormat, Model, Vae

_NETWORK = ("diffusion_pytorch_model",)
_TEXT = ("model", "pytorch_model")
_COMPRESSOR = ("model", "diffusion_pytorch_model")


def read_prior_folder(folder: Path, lite: bool = False) -> tuple[Model, Clip]:
    """Return the recipes of the folder's Stage C and its text encoder.

    Raises NodeError where the folder holds none, and for a part that is missing, a pickle, damaged or not supported.
    """
    head = "prior_" if (folder / "prior_prior").is_dir() else ""
    model = _stage(folder, _part(folder, f"{head}prior", lite), head)
    _check_stage(folder, model, "c")
    if model.family == "wuerstchen_c":
        model = replace(model, latent_format=_semantic_format(folder))
    return model, _clip(folder, head, model)


def read_decoder_folder(folder: Path, lite: bool = False) -> tuple[Model, Clip, Vae]:
    """Return the recipes of the folder's Stage B, its text encoder and Stage A. Raises NodeError as `read_prior_folder`."""
    model = _stage(folder, _part(folder, "decoder", lite), "")
    _check_stage(folder, model, "b")
    config = read_config(folder / "vqgan")
    found = found_at(part_header(folder, "vqgan", _NETWORK), "vae", "diffusers")
    vae = vae_recipe(found, Hints(vae=config))
    if "scale_factor" in config or model.family == "wuerstchen_b":
        # Stage B sees the VQGAN's latents divided by this factor, which goes with the VQGAN.
        scale = 1 / float(config.get("scale_factor", 0.3764))
        model = replace(model, latent_format=replace(model.latent_format, scale=scale))
    return model, _clip(folder, "", model), replace(vae, latent_format=model.latent_format)


def read_compressor_folder(folder: Path) -> Vae:
    """Return the recipe of the folder's semantic compressor. Raises NodeError as `read_prior_folder`."""
    header = part_header(folder, "image_encoder", _COMPRESSOR)
    vae = vae_recipe(found_at(header, "vae", "diffusers"), Hints())
    return replace(vae, latent_format=_semantic_format(folder))


def _part(folder: Path, name: str, lite: bool) -> str:
    wanted = f"{name}_lite" if lite else name
    if (folder / wanted).is_dir():
        return wanted
    raise NodeError(
        f"the diffusers folder {folder.name} lacks {wanted}.",
        code="wrong_model_file",
        found=", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())),
        hint=_elsewhere(folder, name, lite),
    )


def _elsewhere(folder: Path, name: str, lite: bool) -> str | None:
    """What to do with a folder that lacks what was asked for."""
    if lite and (folder / name).is_dir():
        return "Choose the full variant."
    for other, node in (
        ("decoder", "WuerstchenDecoderLoader"),
        ("prior", "WuerstchenPriorLoader"),
        ("unet", "DiffusersLoader"),
    ):
        if (folder / other).is_dir():
            return f"Load it with {node}."
    return None


def _stage(folder: Path, part: str, head: str) -> Model:
    found = found_at(part_header(folder, part, _NETWORK), "unet", "diffusers")
    model = model_recipe(found, Hints(unet=read_config(folder / part)))
    schedule = read_config(folder / f"{head}scheduler", "scheduler_config.json")
    # The pipelines that such folders are for know no shift of Stable Cascade's noise levels.
    time = CosineRatio(
        scaler=float(schedule.get("scaler", 1.0)), s=float(schedule.get("s", 0.008)), published_ratios=True
    )
    return replace(model, parametrisation=time)


def _check_stage(folder: Path, model: Model, stage: str) -> None:
    if model.family in (f"wuerstchen_{stage}", f"cascade_{stage}"):
        return
    raise NodeError(
        f"{folder.name} holds another network where its Stage {stage.upper()} should be.",
        code="wrong_model_file",
        found=model.family,
        allowed=f"wuerstchen_{stage} or cascade_{stage}",
    )


def _semantic_format(folder: Path) -> LatentFormat:
    """The prior gives latents that become those of the compressor by `* latent_mean - latent_std`."""
    index = read_config(folder, "model_index.json")
    mean, std = float(index.get("latent_mean", 42.0)), float(index.get("latent_std", 1.0))
    return replace(WUERSTCHEN_C, scale=1 / mean, shift=-std)


def _clip(folder: Path, head: str, model: Model) -> Clip:
    part = f"{head}text_encoder"
    hints = Hints(text_encoder=text_hints(read_config(folder / part)))
    found = found_at(part_header(folder, part, _TEXT), "text_encoder", "diffusers")
    clip = clip_recipe(found, hints, model.family.partition("_")[0])
    return replace(clip, pad_token=_pad_token(folder / f"{head}tokenizer"))


def _pad_token(place: Path) -> int | None:
    """The id of the token that the folder's tokenizer fills prompts up with; None where it does not say."""
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        token = read_config(place, name).get("pad_token")
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            found = tokenizer().id_of(token)
            if found is None:
                raise NodeError(
                    f"the tokenizer of {place.parent.name} pads with {token!r}, which CLIP's vocabulary lacks.",
                    code="unsupported_model",
                )
            return found
    return None
