"""Loader nodes: recipes of real files, by name, and what they refuse."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nodegraph.node import NodeError
from nodes.diffusion.parametrisation import Discrete, Distilled
from nodes.models.pool import ModelPool
from nodes.models.tensor_file import read_header
from nodes.stable_diffusion.loaders import (
    checkpoint_loader,
    checkpoint_loader_simple,
    clip_loader,
    diffusers_loader,
    model_sampling_discrete,
    unet_loader,
    vae_loader,
)


@pytest.fixture
def context(make_context: Any, checkpoint: Path) -> Any:
    """A context whose models folder holds the embedded checkpoint, whole and in parts."""
    made = make_context()
    root = made.folders.models[0]
    for kind in ("checkpoints", "vae", "unet", "clip"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    shutil.copy(checkpoint, root / "checkpoints")
    tensors = load_file(checkpoint)
    metadata = dict(read_header(checkpoint).metadata)
    for kind, prefix in (("vae", "first_stage_model."), ("unet", "model.diffusion_model.")):
        part = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        save_file(part, root / kind / "m.safetensors", metadata=metadata)
    prefix = "cond_stage_model.transformer."
    part = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    save_file(part, root / "clip" / "m.safetensors", metadata=metadata)
    return made


def test_a_checkpoint_and_its_parts_alone_are_the_same_networks(context: Any) -> None:
    model, clip, vae = checkpoint_loader_simple(ctx=context, ckpt_name="m.safetensors")
    pool = context.resource(ModelPool)
    alone = unet_loader(ctx=context, unet_name="m.safetensors", weight_dtype="default")
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([7.0])
    with (
        pool.text_encoder(clip) as encoder,
        pool.text_encoder(
            clip_loader(ctx=context, clip_name="m.safetensors", type="stable_diffusion")
        ) as other,
    ):
        prompt, _ = encoder.encode("a red circle")
        assert torch.equal(prompt, other.encode("a red circle")[0])
    with pool.network(model) as whole, pool.network(alone) as part:
        assert torch.equal(whole(x, t, prompt), part(x, t, prompt))
    with pool.vae(vae) as whole_vae, pool.vae(vae_loader(ctx=context, vae_name="m.safetensors")) as part_vae:
        assert torch.equal(whole_vae.decode(x), part_vae.decode(x))


def test_a_vae_is_taken_out_of_a_checkpoint_too(context: Any, checkpoint: Path) -> None:
    shutil.copy(checkpoint, context.folders.models[0] / "vae" / "whole.safetensors")
    assert vae_loader(ctx=context, vae_name="whole.safetensors").weights.prefix == "first_stage_model."


@pytest.mark.parametrize(
    ("config", "prediction", "stop"),
    [
        ("v1-inference.yaml", "eps", None),
        ("v1-inference_clip_skip_2.yaml", "eps", -2),
        ("anything_v3.yaml", "eps", -2),
        ("v2-inference-v.yaml", "v_prediction", None),
    ],
)
def test_a_configuration_decides_prediction_and_layer(
    context: Any, config: str, prediction: str, stop: int | None
) -> None:
    model, clip, _ = checkpoint_loader(ctx=context, config_name=config, ckpt_name="m.safetensors")
    assert model.parametrisation == Discrete(prediction=prediction)  # type: ignore[arg-type]
    assert clip.stop_layer == stop


def test_fp8_weights_are_recorded_in_the_recipe(context: Any) -> None:
    for choice, dtype in (("default", None), ("fp8_e4m3fn_fast", "fp8_e4m3fn"), ("fp8_e5m2", "fp8_e5m2")):
        model = unet_loader(ctx=context, unet_name="m.safetensors", weight_dtype=choice)
        assert model.dtype == dtype


def test_what_is_not_there_or_not_supported_is_refused(context: Any) -> None:
    with pytest.raises(NodeError, match=r"there is no file 'n\.safetensors'") as caught:
        checkpoint_loader_simple(ctx=context, ckpt_name="n.safetensors")
    assert caught.value.allowed == "m.safetensors"
    with pytest.raises(NodeError, match="text encoders for sd3"):
        clip_loader(ctx=context, clip_name="m.safetensors", type="sd3")
    with pytest.raises(NodeError, match="there is no file"):
        diffusers_loader(ctx=context, model_path="none")


def test_the_wrong_kind_of_file_is_named(context: Any) -> None:
    root = context.folders.models[0]
    shutil.copy(root / "vae" / "m.safetensors", root / "checkpoints" / "v.safetensors")
    with pytest.raises(NodeError, match="it is an autoencoder") as caught:
        checkpoint_loader_simple(ctx=context, ckpt_name="v.safetensors")
    assert caught.value.hint is not None
    assert "VAELoader" in caught.value.hint


@pytest.mark.parametrize("sampling", ["eps", "v_prediction", "x0", "img_to_img", "lcm"])
def test_model_sampling_changes_the_parametrisation_alone(context: Any, sampling: str) -> None:
    model = checkpoint_loader_simple(ctx=context, ckpt_name="m.safetensors").MODEL
    model = replace(model, parametrisation=Discrete(clip_range=2.0, timesteps=500))
    changed = model_sampling_discrete(model=model, sampling=sampling, zsnr=True)
    assert isinstance(changed.parametrisation, Distilled if sampling == "lcm" else Discrete)
    assert changed.parametrisation.prediction == sampling
    assert changed.parametrisation.zero_terminal_snr
    assert (changed.parametrisation.clip_range, changed.parametrisation.timesteps) == (2.0, 500)
    assert (changed.weights, changed.architecture) == (model.weights, model.architecture)
