"""Prompt nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nodegraph.node import spec_of
from nodes.stable_diffusion.loaders import load_checkpoint
from nodes.stable_diffusion.text import clip_set_last_layer, clip_text_encode
from nodes.values import Clip


@pytest.fixture(scope="module")
def clip(checkpoint: Path) -> Clip:
    return load_checkpoint(checkpoint).CLIP


def test_a_prompt_is_one_conditioning(make_context: Any, clip: Clip) -> None:
    (entry,) = clip_text_encode(ctx=make_context(), text="a red circle", clip=clip).entries
    assert entry.context.shape == (1, 77, 64)
    assert entry.pooled is not None
    assert entry.pooled.shape == (1, 64)
    assert not entry.context.requires_grad


def test_the_last_layer_is_part_of_the_recipe(make_context: Any, clip: Clip) -> None:
    context = make_context()
    skipped = clip_set_last_layer(clip=clip, stop_at_clip_layer=-2)
    assert skipped.stop_layer == -2
    one, other = (
        clip_text_encode(ctx=context, text="a red circle", clip=item).entries[0] for item in (clip, skipped)
    )
    assert not torch.allclose(one.context, other.context)
    assert one.pooled is not None
    assert other.pooled is not None
    assert torch.equal(one.pooled, other.pooled)


def test_the_embeddings_that_a_prompt_names_are_in_its_key(make_context: Any) -> None:
    folders = make_context().folders
    place = folders.models[0] / "embeddings"
    place.mkdir(parents=True)
    spec = spec_of(clip_text_encode)
    assert spec is not None
    assert spec.identity is not None
    plain = spec.identity(text="a cat", folders=folders)
    missing = spec.identity(text="a (embedding:ink:1.2) cat", folders=folders)
    save_file({"emb_params": torch.zeros(1, 64)}, place / "ink.safetensors")
    there = spec.identity(text="a (embedding:ink:1.2) cat", folders=folders)
    save_file({"emb_params": torch.ones(1, 64)}, place / "ink.safetensors")
    changed = spec.identity(text="a (embedding:ink:1.2) cat", folders=folders)
    assert len({plain, missing, there, changed}) == 4
    assert spec.identity(text="another cat", folders=folders) == plain
