"""Tiny random Würstchen v2 and Stable Cascade: the published pipelines, and the folders that they save."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models import StableCascadeUNet
from diffusers.pipelines.stable_cascade import StableCascadeDecoderPipeline, StableCascadePriorPipeline
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from nodes.models.embedded import wuerstchen_modules as published
from nodes.models.networks.efficientnet import EfficientNetEncoder
from nodes.models.networks.stage_c_coder import StageCPreviewer
from nodes.models.tokenizer import VOCABULARY, byte_letters
from tests.nodes.models.wuerstchen import randomise

TEXT_WIDTH, POOLED_WIDTH, IMAGE_WIDTH = 32, 20, 12
_CASCADE: dict[str, Any] = {
    "timestep_ratio_embedding_dim": 18,
    "conditioning_dim": 40,
    "clip_text_pooled_in_channels": POOLED_WIDTH,
}
COMPRESSOR = (("fused", 1, 1, 8, 8, 1), *(("fused", 2, 2, 8, 8, 1),) * 2, *(("mb", 2, 2, 8, 8, 1),) * 2)
"""Stages of a compressor of factor 32."""
LAYER = {"C": "SDCascadeResBlock", "T": "SDCascadeTimestepBlock", "A": "SDCascadeAttnBlock"}


@dataclass(frozen=True)
class Published:
    """The two pipelines and the folders in which they lie."""

    prior: Any
    decoder: Any
    prior_folder: Path
    decoder_folder: Path


class _Decoder(published.WuerstchenDiffNeXt):  # type: ignore[misc]
    """The published decoder without the start of its training, which goes over all layers once for each."""

    def _init_weights(self, module: torch.nn.Module) -> None:
        return


def clip_tokenizer() -> Any:
    """transformers' tokenizer on the packaged vocabulary, padding with the end token as the published folders do."""
    with gzip.open(VOCABULARY) as file:
        lines = file.read().decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    letters = byte_letters()
    names = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge) for merge in merges)]
    vocabulary = {name: index for index, name in enumerate([*names, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77, pad_token="<|endoftext|>")


def text_encoder(projection: bool = False) -> Any:
    """A text encoder of three layers on the whole vocabulary."""
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=TEXT_WIDTH,
        intermediate_size=64,
        projection_dim=POOLED_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=77,
        hidden_act="gelu",
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
    )
    return randomise(CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config))


def vqgan(scale: float) -> Any:
    """A Stage A of factor 4."""
    return randomise(
        published.PaellaVQModel(
            levels=2, bottleneck_blocks=2, embed_dim=16, num_vq_embeddings=8, scale_factor=scale
        )
    )


def wuerstchen(place: Path, latent_mean: float = 42.0, latent_std: float = 1.0) -> Published:
    """A tiny Würstchen v2 with random weights, saved as its two published folders are."""
    torch.manual_seed(3)
    tokenizer = clip_tokenizer()
    stage_c = published.WuerstchenPrior(c_in=16, c=48, c_cond=TEXT_WIDTH, c_r=16, depth=2, nhead=4)
    stage_b = _Decoder(
        c_r=16,
        c_cond=40,
        c_hidden=[32, 48],
        nhead=[-1, 4],
        blocks=[1, 2],
        level_config=["CT", "CTA"],
        inject_effnet=[False, True],
        clip_embd=TEXT_WIDTH,
    )
    prior = published.WuerstchenPriorPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder(),
        prior=randomise(stage_c, damped="out."),
        scheduler=published.DDPMWuerstchenScheduler(),
        latent_mean=latent_mean,
        latent_std=latent_std,
    )
    decoder = published.WuerstchenDecoderPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder(),
        decoder=randomise(stage_b, damped="clf."),
        scheduler=published.DDPMWuerstchenScheduler(),
        vqgan=vqgan(0.3764),
    )
    return _saved(prior, decoder, place / "wuerstchen")


def embedded(folder: Path) -> Published:
    """The Würstchen that ships, from its one folder, as the two published pipelines."""
    stages = {
        name: kind.from_pretrained(folder / name, torch_dtype=torch.float32).eval()
        for name, kind in (
            ("prior", published.WuerstchenPrior),
            ("decoder", published.WuerstchenDiffNeXt),
            ("vqgan", published.PaellaVQModel),
        )
    }
    shared: dict[str, Any] = {
        "tokenizer": clip_tokenizer(),
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval(),
        "scheduler": published.DDPMWuerstchenScheduler(),
    }
    prior = published.WuerstchenPriorPipeline(
        prior=stages["prior"], latent_mean=1.0, latent_std=0.0, **shared
    )
    decoder = published.WuerstchenDecoderPipeline(decoder=stages["decoder"], vqgan=stages["vqgan"], **shared)
    for pipeline in (prior, decoder):
        pipeline.set_progress_bar_config(disable=True)
    return Published(prior, decoder, folder, folder)


def cascade(place: Path) -> Published:
    """A tiny Stable Cascade with random weights, saved as its two published folders are."""
    torch.manual_seed(4)
    tokenizer = clip_tokenizer()
    stage_c = StableCascadeUNet(
        **_CASCADE,
        block_out_channels=[32, 48],
        num_attention_heads=[2, 4],
        down_num_layers_per_block=[1, 2],
        up_num_layers_per_block=[2, 1],
        block_types_per_layer=[[LAYER[kind] for kind in "CTA"]] * 2,
        clip_text_in_channels=TEXT_WIDTH,
        clip_image_in_channels=IMAGE_WIDTH,
        switch_level=[False],
    )
    stage_b = StableCascadeUNet(
        **_CASCADE,
        in_channels=4,
        out_channels=4,
        patch_size=2,
        block_out_channels=[16, 32],
        num_attention_heads=[0, 4],
        down_num_layers_per_block=[1, 2],
        up_num_layers_per_block=[2, 1],
        up_blocks_repeat_mappers=[2, 1],
        block_types_per_layer=[[LAYER[kind] for kind in kinds] for kinds in ("CT", "CTA")],
        effnet_in_channels=16,
        pixel_mapper_in_channels=3,
        timestep_conditioning_type=["sca"],
    )
    prior = StableCascadePriorPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder(projection=True),
        prior=randomise(stage_c),
        scheduler=published.DDPMWuerstchenScheduler(),
    )
    decoder = StableCascadeDecoderPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder(projection=True),
        decoder=randomise(stage_b, damped="clf."),
        scheduler=published.DDPMWuerstchenScheduler(),
        vqgan=vqgan(0.43),
    )
    return _saved(prior, decoder, place / "cascade")


def _saved(prior: Any, decoder: Any, place: Path) -> Published:
    for pipeline, name in ((prior, "prior"), (decoder, "decoder")):
        pipeline.set_progress_bar_config(disable=True)
        pipeline.save_pretrained(place / name)
    return Published(prior, decoder, place / "prior", place / "decoder")


def stage_c_coder() -> dict[str, Tensor]:
    """The tensors of a random compressor and previewer, as a checkpoint of Stage C holds them."""
    torch.manual_seed(6)
    parts = {
        "encoder": randomise(EfficientNetEncoder(COMPRESSOR, 24, 16)),
        "previewer": randomise(StageCPreviewer(channels=32)),
    }
    return {
        f"{name}.{key}": tensor
        for name, module in parts.items()
        for key, tensor in module.state_dict().items()
    }


def shared(published_folders: Published, place: Path) -> Path:
    """The two folders in one with one text encoder and a random compressor, as the model that ships is laid out."""
    for source, names in (
        (published_folders.prior_folder, ("prior", "text_encoder", "scheduler")),
        (published_folders.decoder_folder, ("decoder", "vqgan")),
    ):
        for name in names:
            shutil.copytree(source / name, place / name)
    torch.manual_seed(5)
    (place / "image_encoder").mkdir()
    compressor = randomise(EfficientNetEncoder(COMPRESSOR, 24, 16))
    save_file(compressor.state_dict(), place / "image_encoder" / "model.safetensors")
    (place / "image_encoder" / "config.json").write_text(json.dumps({"stages": COMPRESSOR}))
    (place / "model_index.json").write_text(json.dumps({"latent_mean": 1.0, "latent_std": 0.0}))
    return place
