"""Loaders of the stages: the layouts of folders, single files, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nodegraph.node import NodeError
from nodes.diffusion.cosine_ratio import CosineRatio
from nodes.models.networks.efficientnet import EfficientNetEncoder
from nodes.models.networks.stage_c_coder import StageCPreviewer
from nodes.models.pool import ModelPool
from nodes.stable_diffusion.loaders import (
    checkpoint_loader_simple,
    clip_loader,
    diffusers_loader,
    load_checkpoint,
    unet_loader,
    vae_loader,
)
from nodes.values import Architecture, LatentFormat
from nodes.wuerstchen.loaders import (
    wuerstchen_compressor_loader,
    wuerstchen_decoder_loader,
    wuerstchen_prior_loader,
)
from tests.nodes.models.test_detection import hollow
from tests.nodes.models.wuerstchen import built_shapes
from tests.nodes.wuerstchen.tiny import COMPRESSOR, Published


def test_folders_say_what_the_latents_and_the_time_are(
    tiny_wuerstchen: Published, context: Any, diffusers: Path
) -> None:
    shutil.copytree(tiny_wuerstchen.prior_folder, diffusers / "p")
    index = json.loads((diffusers / "p" / "model_index.json").read_text())
    (diffusers / "p" / "model_index.json").write_text(
        json.dumps({**index, "latent_mean": 2.0, "latent_std": 4.0})
    )
    schedule = diffusers / "p" / "scheduler" / "scheduler_config.json"
    schedule.write_text(json.dumps({**json.loads(schedule.read_text()), "scaler": 0.5, "s": 0.01}))
    (diffusers / "d").symlink_to(tiny_wuerstchen.decoder_folder)
    model, clip = wuerstchen_prior_loader(ctx=context, model_path="p")
    assert (model.family, clip.family, clip.pad_token) == ("wuerstchen_c", "wuerstchen", 49407)
    assert model.latent_format == LatentFormat("wuerstchen_c", 16, 0.5, 42.67, -4.0)
    assert model.parametrisation == CosineRatio(scaler=0.5, s=0.01, published_ratios=True)
    decoder = wuerstchen_decoder_loader(ctx=context, model_path="d")
    assert decoder.MODEL.latent_format == decoder.VAE.latent_format
    assert decoder.VAE.latent_format == LatentFormat("wuerstchen_b", 4, 1 / 0.3764, 4)


def test_another_padding_token_is_honoured(tiny_wuerstchen: Published, context: Any, diffusers: Path) -> None:
    shutil.copytree(tiny_wuerstchen.prior_folder, diffusers / "p")
    path = diffusers / "p" / "tokenizer" / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "pad_token": {"content": "!"}}))
    assert wuerstchen_prior_loader(ctx=context, model_path="p").CLIP.pad_token == 0
    path.write_text(json.dumps({**settings, "pad_token": "<pad>"}))
    with pytest.raises(NodeError, match="pads with '<pad>'"):
        wuerstchen_prior_loader(ctx=context, model_path="p")


def test_layouts_with_both_stages_in_one_folder(
    tiny_wuerstchen: Published, context: Any, diffusers: Path
) -> None:
    shutil.copytree(tiny_wuerstchen.decoder_folder, diffusers / "combined")
    for name in ("prior", "text_encoder", "tokenizer", "scheduler"):
        (diffusers / "combined" / f"prior_{name}").symlink_to(tiny_wuerstchen.prior_folder / name)
    shutil.copytree(tiny_wuerstchen.decoder_folder, diffusers / "shared")
    (diffusers / "shared" / "prior").symlink_to(tiny_wuerstchen.prior_folder / "prior")
    (diffusers / "alone").symlink_to(tiny_wuerstchen.prior_folder)
    combined, shared, alone = (
        wuerstchen_prior_loader(ctx=context, model_path=name) for name in ("combined", "shared", "alone")
    )
    assert combined == alone
    assert shared.MODEL == alone.MODEL
    assert shared.CLIP == wuerstchen_decoder_loader(ctx=context, model_path="combined").CLIP != alone.CLIP
    # A folder with both says nothing of the prior's latents: the published ones hold.
    assert combined.MODEL.latent_format.scale == 1 / 42


def test_lite_variants_lie_beside_the_full_ones(
    tiny_cascade: Published, context: Any, diffusers: Path
) -> None:
    for name, folder in (("prior", tiny_cascade.prior_folder), ("decoder", tiny_cascade.decoder_folder)):
        shutil.copytree(folder, diffusers / name)
        shutil.copytree(folder / name, diffusers / name / f"{name}_lite")
        config = json.loads((folder / name / "config.json").read_text())
        (diffusers / name / f"{name}_lite" / "config.json").write_text(
            json.dumps({**config, "num_attention_heads": [1, 1]})
        )
    for load, name in ((wuerstchen_prior_loader, "prior"), (wuerstchen_decoder_loader, "decoder")):
        full, lite = (
            load(ctx=context, model_path=name, variant=variant).MODEL for variant in ("full", "lite")
        )
        assert full.architecture["num_heads"] != lite.architecture["num_heads"] == (1, 1)
        assert lite.family == full.family == ("cascade_c" if name == "prior" else "cascade_b")
    assert lite.latent_format.scale == 1 / 0.43


@pytest.mark.parametrize(
    ("loader", "folder", "said", "hint"),
    [
        (wuerstchen_prior_loader, "decoder", "lacks prior", "Load it with WuerstchenDecoderLoader."),
        (wuerstchen_decoder_loader, "prior", "lacks decoder", "Load it with WuerstchenPriorLoader."),
        (wuerstchen_compressor_loader, "prior", r"lacks image_encoder/model\.safetensors", "Is it complete?"),
        (diffusers_loader, "prior", "has no unet", "Load it with WuerstchenPriorLoader."),
        (diffusers_loader, "decoder", "has no unet", "Load it with WuerstchenDecoderLoader."),
    ],
)
def test_the_wrong_folder_is_refused_with_the_node_that_loads_it(
    tiny_wuerstchen: Published, context: Any, diffusers: Path, loader: Any, folder: str, said: str, hint: str
) -> None:
    (diffusers / "prior").symlink_to(tiny_wuerstchen.prior_folder)
    (diffusers / "decoder").symlink_to(tiny_wuerstchen.decoder_folder)
    with pytest.raises(NodeError, match=said) as caught:
        loader(ctx=context, model_path=folder)
    assert caught.value.hint == hint


def test_stage_b_in_the_place_of_stage_c_is_refused(
    tiny_wuerstchen: Published, context: Any, diffusers: Path
) -> None:
    shutil.copytree(tiny_wuerstchen.prior_folder, diffusers / "mixed")
    shutil.rmtree(diffusers / "mixed" / "prior")
    shutil.copytree(tiny_wuerstchen.decoder_folder / "decoder", diffusers / "mixed" / "prior")
    with pytest.raises(NodeError, match="another network where its Stage C should be") as caught:
        wuerstchen_prior_loader(ctx=context, model_path="mixed")
    assert caught.value.found == "wuerstchen_b"


def test_lite_is_refused_where_there_is_none(
    tiny_wuerstchen: Published, context: Any, diffusers: Path
) -> None:
    (diffusers / "prior").symlink_to(tiny_wuerstchen.prior_folder)
    with pytest.raises(NodeError, match="lacks prior_lite") as caught:
        wuerstchen_prior_loader(ctx=context, model_path="prior", variant="lite")
    assert caught.value.hint == "Choose the full variant."


def original(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A stage under the names of the original files: q, k and v of an attention are one matrix."""
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if ".attention.to_q." in key:
            parts = [tensors[key.replace("to_q", part)] for part in ("to_q", "to_k", "to_v")]
            found[key.replace("attention.to_q.", "attention.attn.in_proj_")] = torch.cat(parts)
        elif ".attention.to_out.0." in key:
            found[key.replace("attention.to_out.0", "attention.attn.out_proj")] = tensor
        elif ".attention." not in key:
            found[key] = tensor
    return found


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor.contiguous() for key, tensor in tensors.items()}


def weights(folder: Path, part: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_file(next((folder / part).glob("*.safetensors")))
    return found


def text_tensors(folder: Path) -> dict[str, Tensor]:
    """The text encoder as Stable Cascade's checkpoints hold it."""
    tensors = weights(folder, "text_encoder")
    projection = tensors.pop("text_projection.weight")
    return {
        **under("text_encoder.clip_g.transformer.", tensors),
        "text_encoder.clip_g.text_projection": projection.t().contiguous(),
    }


@pytest.fixture
def checkpoints(tiny_cascade: Published, context: Any, diffusers: Path) -> dict[str, Any]:
    """Both stages of the tiny Stable Cascade as checkpoints, and their parts as files of their own."""
    root = context.folders.models[0]
    for kind in ("checkpoints", "vae", "unet", "clip"):
        (root / kind).mkdir(parents=True)
    torch.manual_seed(6)
    encoder, previewer = EfficientNetEncoder(COMPRESSOR, 24, 16), StageCPreviewer(channels=32)
    vqgan = weights(tiny_cascade.decoder_folder, "vqgan")
    vqgan["vquantizer.codebook.weight"] = vqgan.pop("vquantizer.embedding.weight")
    semantic = {**under("encoder.", encoder.state_dict()), **under("previewer.", previewer.state_dict())}
    text = {"heads": 4, "activation": "gelu"}
    for name, folder, part, vae in (
        ("c", tiny_cascade.prior_folder, "prior", semantic),
        ("b", tiny_cascade.decoder_folder, "decoder", vqgan),
    ):
        config = json.loads((folder / part / "config.json").read_text())
        hints = json.dumps({"unet": config, "text_encoder": text, "vae": {"stages": COMPRESSOR}})
        stage = original(weights(folder, part))
        tensors = {**under("model.diffusion_model.", stage), **text_tensors(folder), **under("vae.", vae)}
        save_file(tensors, root / "checkpoints" / f"{name}.safetensors", metadata={"nodegraph": hints})
        save_file(stage, root / "unet" / f"{name}.safetensors", metadata={"nodegraph": hints})
        save_file(
            weights(folder, "text_encoder"),
            root / "clip" / f"{name}.safetensors",
            metadata={"nodegraph": hints},
        )
        (diffusers / name).symlink_to(folder)
    hints = json.dumps({"vae": {"stages": COMPRESSOR}})
    for name, found in (
        ("a", vqgan),
        ("effnet", encoder.state_dict()),
        ("previewer", previewer.state_dict()),
    ):
        save_file(under("", found), root / "vae" / f"{name}.safetensors", metadata={"nodegraph": hints})
    return {"encoder": encoder.eval(), "previewer": previewer.eval()}


@pytest.mark.parametrize("name", ["c", "b"])
def test_a_checkpoint_its_parts_and_the_folder_are_the_same_networks(
    context: Any, checkpoints: Any, name: str
) -> None:
    pool = context.resource(ModelPool)
    load = wuerstchen_prior_loader if name == "c" else wuerstchen_decoder_loader
    folder = load(ctx=context, model_path=name)
    checkpoint = checkpoint_loader_simple(ctx=context, ckpt_name=f"{name}.safetensors")
    alone = unet_loader(ctx=context, unet_name=f"{name}.safetensors", weight_dtype="default")
    clip = clip_loader(ctx=context, clip_name=f"{name}.safetensors", type="stable_cascade")
    encoded = []
    for recipe in (folder.CLIP, checkpoint.CLIP, clip):
        assert recipe.family == "cascade"
        with pool.text_encoder(recipe) as encoder:
            encoded.append(encoder.encode("a red circle"))
    for found in encoded[1:]:
        torch.testing.assert_close(found, encoded[0], rtol=1e-5, atol=1e-6)
    tokens, pooled = encoded[0]
    torch.manual_seed(1)
    channels = 16 if name == "c" else 4
    x, ratio = torch.randn(1, channels, 6, 6), torch.tensor([0.4])
    outputs = []
    for model in (folder.MODEL, checkpoint.MODEL, alone):
        assert model.family == f"cascade_{name}"
        with pool.network(model) as network:
            outputs.append(network(x, ratio, tokens, pooled=pooled))
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], rtol=1e-5, atol=1e-6)
    shift = 2.0 if name == "c" else 1.0
    assert checkpoint.MODEL.parametrisation == alone.parametrisation == CosineRatio(shift=shift)


def test_the_vae_of_a_stage_c_checkpoint_encodes_and_previews(context: Any, checkpoints: Any) -> None:
    vae = checkpoint_loader_simple(ctx=context, ckpt_name="c.safetensors").VAE
    pixels, latents = torch.rand(1, 96, 64, 3), torch.randn(1, 16, 3, 2)
    with context.resource(ModelPool).vae(vae) as coder, torch.no_grad():
        found = coder.encode(pixels)
        torch.testing.assert_close(found, checkpoints["encoder"].encode(pixels.movedim(-1, 1)))
        assert found.shape == (1, 16, 3, 2)
        preview = coder.decode(latents)
        wanted = checkpoints["previewer"].decode(latents).clamp(0, 1).movedim(1, -1)
        torch.testing.assert_close(preview, wanted)
        assert preview.shape == (1, 24, 16, 3)


def test_parts_of_the_vae_are_files_of_their_own(context: Any, checkpoints: Any) -> None:
    pool = context.resource(ModelPool)
    stage_a, effnet, previewer = (
        vae_loader(ctx=context, vae_name=f"{name}.safetensors") for name in ("a", "effnet", "previewer")
    )
    whole = wuerstchen_decoder_loader(ctx=context, model_path="b").VAE
    latents = torch.randn(1, 4, 8, 8)
    with pool.vae(stage_a) as one, pool.vae(whole) as other:
        assert torch.equal(one.decode(latents), other.decode(latents))
        assert one.encode(torch.rand(1, 36, 32, 3)).shape == (1, 4, 9, 8)
    assert stage_a.latent_format.name == "cascade_b"
    with pool.vae(effnet) as compressor:
        assert compressor.encode(torch.rand(1, 70, 64, 3)).shape == (1, 16, 2, 2)
        with pytest.raises(NodeError, match="encoder only"):
            compressor.decode(torch.zeros(1, 16, 2, 2))
    with pool.vae(previewer) as decoder:
        assert decoder.decode(torch.randn(1, 16, 2, 2)).shape == (1, 16, 16, 3)
        with pytest.raises(NodeError, match="decoder only"):
            decoder.encode(torch.rand(1, 64, 64, 3))


@pytest.mark.parametrize(
    ("kind", "name", "said", "node"),
    [
        ("unet", "c", "Stage C of Stable Cascade", "UNETLoader"),
        ("unet", "b", "Stage B of Stable Cascade", "UNETLoader"),
        ("vae", "a", "Stage A of Würstchen or Stable Cascade", "VAELoader"),
        ("vae", "effnet", "the compressor of Würstchen or Stable Cascade", "VAELoader"),
        ("vae", "previewer", "the previewer of Stable Cascade", "VAELoader"),
    ],
)
def test_a_part_alone_is_named_with_the_node_that_loads_it(
    context: Any, checkpoints: Any, kind: str, name: str, said: str, node: str
) -> None:
    root = context.folders.models[0]
    shutil.copy(root / kind / f"{name}.safetensors", root / "checkpoints" / "part.safetensors")
    with pytest.raises(NodeError, match=said) as caught:
        checkpoint_loader_simple(ctx=context, ckpt_name="part.safetensors")
    assert caught.value.hint is not None
    assert node in caught.value.hint


def packed(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Shapes of a stage under the names of the original files."""
    found = {}
    for key, shape in shapes.items():
        if ".attention.to_q." in key:
            found[key.replace("attention.to_q.", "attention.attn.in_proj_")] = (shape[0] * 3, *shape[1:])
        elif ".attention.to_out.0." in key:
            found[key.replace("attention.to_out.0", "attention.attn.out_proj")] = shape
        elif ".attention." not in key:
            found[key] = shape
    return found


def test_the_published_checkpoint_of_stage_c_is_told_by_names_and_shapes(tmp_path: Path) -> None:
    text = {
        "vocabulary": 49408,
        "positions": 77,
        "width": 1280,
        "layers": 32,
        "heads": 20,
        "inner": 5120,
        "activation": "gelu",
        "projection": 1280,
    }
    stage = built_shapes(Architecture("stable_cascade", ()))
    clip = built_shapes(Architecture("clip_text", tuple(text.items())))
    clip["text_projection"] = clip.pop("text_projection.weight")
    vae = built_shapes(Architecture("stage_c_coder", (("encoder", ()), ("previewer", ()))))
    shapes = {f"model.diffusion_model.{key}": shape for key, shape in packed(stage).items()}
    for key, shape in clip.items():
        shapes[f"text_encoder.clip_g.{'' if key == 'text_projection' else 'transformer.'}{key}"] = shape
    shapes |= {f"vae.{key}": shape for key, shape in vae.items()}
    model, clip_recipe, vae_recipe = load_checkpoint(hollow(tmp_path / "c.safetensors", shapes))
    assert model.family == "cascade_c"
    assert built_shapes(model.architecture) == stage
    assert (model.architecture["num_heads"], model.architecture["switch_level"]) == ((32, 32), (False,))
    assert clip_recipe.architecture == Architecture("clip_text", tuple(text.items()))
    assert vae_recipe.latent_format.name == "cascade_c"
    assert built_shapes(vae_recipe.architecture) == vae
