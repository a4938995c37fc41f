"""LoRA loaders: recipes with a patch, strengths, what they refuse, and a whole run from the command line's side."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import nodegraph
from nodegraph.node import NodeError
from nodes.models.ldm_keys import unet_to_diffusers
from nodes.models.pool import ModelPool
from nodes.stable_diffusion.loaders import Checkpoint, load_checkpoint
from nodes.stable_diffusion.lora import lora_loader, lora_loader_model_only

QUERY = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"


@pytest.fixture
def context(make_context: Any) -> Any:
    made = make_context()
    (made.folders.models[0] / "loras").mkdir(parents=True)
    return made


@pytest.fixture
def recipes(checkpoint: Path) -> Checkpoint:
    return load_checkpoint(checkpoint)


def write(context: Any, tensors: dict[str, torch.Tensor], name: str = "x.safetensors") -> Path:
    file: Path = context.folders.models[0] / "loras" / name
    save_file(tensors, file)
    return file


def of_both(recipes: Checkpoint, size: float = 0.2) -> dict[str, torch.Tensor]:
    """Factors for the first projection of the U-Net and of the text encoder."""
    torch.manual_seed(3)
    from nodes.models.loading import empty_module

    found = {}
    unet = empty_module(recipes.MODEL.architecture).state_dict()
    names = unet_to_diffusers(recipes.MODEL.architecture, unet)
    ours = next(name for name in names if name.endswith("attn2.to_q.weight"))
    stem = "lora_unet_" + names[ours].removesuffix(".weight").replace(".", "_")
    width = recipes.CLIP.architecture["width"]
    for called, (rows, columns) in ((stem, unet[ours].shape), (QUERY, (width, width))):
        found[f"{called}.lora_up.weight"] = torch.randn(rows, 2) * size
        found[f"{called}.lora_down.weight"] = torch.randn(2, columns) * size
        found[f"{called}.alpha"] = torch.tensor(2.0)
    return found


def test_both_networks_change_by_their_strengths(context: Any, recipes: Checkpoint) -> None:
    write(context, of_both(recipes))
    model, clip = lora_loader(
        ctx=context, model=recipes.MODEL, clip=recipes.CLIP, lora_name="x.safetensors", strength_clip=-0.5
    )
    assert [dict(patch.parameters)["strength"] for patch in (*model.patches, *clip.patches)] == [1.0, -0.5]
    pool = context.resource(ModelPool)
    x, t = torch.randn(1, 4, 16, 16), torch.tensor([300.0])
    with pool.text_encoder(recipes.CLIP) as plain, pool.text_encoder(clip) as changed:
        before, after = (encoder.encode("a red circle")[0] for encoder in (plain, changed))
    assert not torch.allclose(before, after)
    with pool.network(recipes.MODEL) as plain_network, pool.network(model) as changed_network:
        assert not torch.allclose(plain_network(x, t, before), changed_network(x, t, before))


def test_a_strength_of_0_leaves_a_network_as_it_is(context: Any, recipes: Checkpoint) -> None:
    write(context, of_both(recipes))
    given = {"ctx": context, "lora_name": "x.safetensors", "strength_model": 0.0}
    model, clip = lora_loader(**given, model=recipes.MODEL, clip=recipes.CLIP)
    assert model is recipes.MODEL
    assert clip != recipes.CLIP
    assert lora_loader_model_only(**given, model=recipes.MODEL) is recipes.MODEL


def test_one_and_the_other_way_cancel_out(context: Any, recipes: Checkpoint) -> None:
    write(context, of_both(recipes))
    model = recipes.MODEL
    for strength in (0.75, -0.75):
        model = lora_loader_model_only(
            ctx=context, model=model, lora_name="x.safetensors", strength_model=strength
        )
    pool = context.resource(ModelPool)
    with pool.network(recipes.MODEL) as plain, pool.network(model) as changed:
        one, other = plain.module.state_dict(), changed.module.state_dict()
    for name in one:
        torch.testing.assert_close(one[name], other[name])


def test_what_has_no_place_is_told_and_the_rest_is_used(
    context: Any, recipes: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    write(context, {**of_both(recipes), "lora_unet_nowhere.diff": torch.zeros(3), "odd": torch.zeros(1)})
    with caplog.at_level(logging.WARNING):
        model, _ = lora_loader(ctx=context, model=recipes.MODEL, clip=recipes.CLIP, lora_name="x.safetensors")
    assert model.patches
    assert "x.safetensors: 2 entries are for no part of the sd1 model" in caplog.text
    assert "lora_unet_nowhere, odd" in caplog.text


def test_a_model_alone_leaves_out_what_is_for_the_text_encoder(
    context: Any, recipes: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    write(context, of_both(recipes))
    with caplog.at_level(logging.WARNING):
        assert lora_loader_model_only(ctx=context, model=recipes.MODEL, lora_name="x.safetensors").patches
    assert not caplog.text


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"lora_te2_text_model_x.diff": (2,)}, "a LoRA of Stable Diffusion XL"),
        ({"lora_unet_double_blocks_0_x.diff": (2,)}, "a LoRA of Flux"),
        ({"something.diff": (2,)}, "entries such as 'something'"),
    ],
)
def test_a_lora_of_another_family_is_refused(
    keys: dict[str, tuple[int, ...]], found: str, context: Any, recipes: Checkpoint
) -> None:
    write(context, {key: torch.zeros(shape) for key, shape in keys.items()})
    with pytest.raises(NodeError, match=r"has nothing for the sd1 model or its text encoder") as caught:
        lora_loader(ctx=context, model=recipes.MODEL, clip=recipes.CLIP, lora_name="x.safetensors")
    assert caught.value.found == found
    with pytest.raises(NodeError, match=r"has nothing for the sd1 model\."):
        lora_loader_model_only(ctx=context, model=recipes.MODEL, lora_name="x.safetensors")


def test_factors_of_another_width_are_refused_with_both_shapes(context: Any, recipes: Checkpoint) -> None:
    width = recipes.CLIP.architecture["width"]
    write(
        context,
        {f"{QUERY}.lora_up.weight": torch.zeros(width, 2), f"{QUERY}.lora_down.weight": torch.zeros(2, 7)},
    )
    with pytest.raises(NodeError, match="is of another shape") as caught:
        lora_loader(ctx=context, model=recipes.MODEL, clip=recipes.CLIP, lora_name="x.safetensors")
    assert caught.value.found == f"down (2, 7) and up ({width}, 2)"
    assert caught.value.allowed == f"factors of a weight ({width}, {width})"


def test_a_checkpoint_is_no_lora(context: Any, recipes: Checkpoint, checkpoint: Path) -> None:
    shutil.copy(checkpoint, context.folders.models[0] / "loras" / "m.safetensors")
    with pytest.raises(NodeError, match=r"m\.safetensors is not a LoRA"):
        lora_loader_model_only(ctx=context, model=recipes.MODEL, lora_name="m.safetensors")


def test_a_run_takes_the_lora_and_runs_anew_with_another_strength(context: Any, recipes: Checkpoint) -> None:
    write(context, of_both(recipes, 1.0))
    workflow = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "shapes-sd.safetensors"}},
        "2": {
            "class_type": "LoraLoader",
            "inputs": {
                "model": ["1", 0],
                "clip": ["1", 1],
                "lora_name": "x.safetensors",
                "strength_model": 0.0,
                "strength_clip": 0.0,
            },
        },
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["2", 1], "text": "a red circle"}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "5": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["2", 0],
                "positive": ["3", 0],
                "negative": ["3", 0],
                "latent_image": ["4", 0],
                "seed": 1,
                "steps": 1,
                "cfg": 1.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": {"class_type": "PreviewImage", "inputs": {"images": ["6", 0]}},
    }
    pictures = []
    for strength in (0.0, 1.0, 0.0):
        workflow["2"]["inputs"] |= {"strength_model": strength, "strength_clip": strength}  # type: ignore[operator]
        result = nodegraph.load(workflow, models_dir=context.folders.models[0]).run()
        pictures.append(result.images[0].tobytes())
    assert pictures[0] == pictures[2] != pictures[1]
