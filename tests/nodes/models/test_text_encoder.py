"""Prompt encoding: weights, chunks, textual inversions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nodegraph.node import Folders, NodeError
from nodes.models.pool import ModelPool
from nodes.models.text_encoder import TextEncoder
from nodes.models.tokenizer import END, START, tokenizer
from nodes.stable_diffusion.loaders import load_checkpoint


@pytest.fixture
def encoder(first: Any, pool: ModelPool) -> Iterator[TextEncoder]:
    with pool.text_encoder(load_checkpoint(first.file).CLIP) as found:
        yield found


@pytest.fixture
def embeddings(folders: Folders) -> Path:
    place = folders.models[0] / "embeddings" / "styles"
    place.mkdir(parents=True)
    torch.manual_seed(7)
    save_file({"emb_params": torch.randn(3, 32)}, place / "ink.safetensors")
    save_file({"wide": torch.randn(2, 768)}, place / "wide.safetensors")
    (place / "old.pt").write_bytes(b"PK\x03\x04" + bytes(40))
    return place


def test_an_unweighted_prompt_is_the_plain_encoding(encoder: TextEncoder) -> None:
    context, pooled = encoder.encode("a red circle")
    assert context.shape == (1, 77, 32)
    assert pooled.shape == (1, 32)
    assert context.dtype == pooled.dtype == torch.float32
    assert torch.equal(context, encoder.encode("a red circle")[0])


def test_an_encoder_that_rested_encodes_as_before(first: Any, pool: ModelPool) -> None:
    clip = load_checkpoint(first.file).CLIP
    found = []
    for _ in range(2):
        with pool.text_encoder(clip) as encoder:
            found.append(encoder.encode("a red circle")[0])
    assert torch.equal(*found)


def test_a_weight_moves_a_token_away_from_the_empty_prompt(encoder: TextEncoder) -> None:
    plain, pooled = encoder.encode("a red circle")
    empty, _ = encoder.encode("")
    weighted, pooled_weighted = encoder.encode("a (red:1.5) circle")
    wanted = plain.clone()
    # Position 0 is the start, 1 "a", 2 "red".
    wanted[:, 2] = empty[:, 2] + 1.5 * (plain[:, 2] - empty[:, 2])
    torch.testing.assert_close(weighted, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pooled_weighted, pooled, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(weighted, plain, atol=1e-3)


def test_weight_zero_is_the_empty_prompt_there(encoder: TextEncoder) -> None:
    empty, _ = encoder.encode("")
    found, _ = encoder.encode("(a red circle:0)")
    torch.testing.assert_close(found[:, 1:4], empty[:, 1:4], rtol=1e-5, atol=1e-5)


def test_long_prompts_are_encoded_in_chunks_side_by_side(encoder: TextEncoder) -> None:
    words = " ".join(["circle"] * 100)
    context, pooled = encoder.encode(words)
    first_chunk, first_pooled = encoder.encode(" ".join(["circle"] * 75))
    second_chunk, _ = encoder.encode(" ".join(["circle"] * 25))
    assert context.shape == (1, 154, 32)
    torch.testing.assert_close(context, torch.cat([first_chunk, second_chunk], 1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pooled, first_pooled, rtol=1e-5, atol=1e-5)


def test_a_prompt_of_100_kb_is_refused_in_one_sentence(encoder: TextEncoder) -> None:
    with pytest.raises(NodeError, match="the prompt is too long: 20000 tokens") as caught:
        encoder.encode("a b, " * 6_666 + "a b")
    assert caught.value.input == "text"


def test_padding_is_the_end_token_for_1_and_zero_for_2(first: Any, second: Any, pool: ModelPool) -> None:
    for tiny, pad in ((first, END), (second, 0)):
        with pool.text_encoder(load_checkpoint(tiny.file).CLIP) as encoder:
            (found,) = encoder.tokenize("circle")
            assert found.tokens == (START, 7117, END, *[pad] * 74)


@pytest.mark.parametrize("pad_token", [None, 0])
@pytest.mark.parametrize("family", ["wuerstchen", "cascade"])
def test_families_that_mask_their_padding_read_as_their_pipelines_do(
    first: Any, encoder: TextEncoder, pool: ModelPool, family: str, pad_token: int | None
) -> None:
    prompts = ("a red circle", "")
    (_, red, circle), start, end = tokenizer().encode(prompts[0]), START, END
    pad = END if pad_token is None else pad_token
    ids = torch.tensor([[start, 320, red, circle, end, *[pad] * 72], [start, end, *[pad] * 75]])
    mask = torch.tensor([[1] * 5 + [0] * 72, [1] * 2 + [0] * 75])
    wanted = first.text(ids, attention_mask=mask, output_hidden_states=True)
    hidden = wanted.last_hidden_state if family == "wuerstchen" else wanted.hidden_states[-1]
    with pool.text_encoder(replace(encoder.clip, family=family, pad_token=pad_token)) as masking:
        for row, prompt in enumerate(prompts):
            context, pooled = masking.encode(prompt)
            torch.testing.assert_close(context[0], hidden[row], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(pooled[0], wanted.pooler_output[row], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(context, encoder.encode("")[0], atol=1e-3)


def test_a_stop_layer_beyond_the_first_is_the_last(encoder: TextEncoder, pool: ModelPool) -> None:
    clip = encoder.clip
    with pool.text_encoder(replace(clip, stop_layer=-24)) as deep:
        assert torch.equal(deep.encode("circle")[0], encoder.encode("circle")[0])
    with pool.text_encoder(replace(clip, stop_layer=-2)) as skipped:
        assert not torch.allclose(skipped.encode("circle")[0], encoder.encode("circle")[0])


@pytest.mark.parametrize(
    "name", ["ink", "ink.safetensors", "styles/ink", "ink,", "styles\\ink", "styles/ink.safetensors"]
)
def test_an_embedding_stands_for_its_vectors(encoder: TextEncoder, embeddings: Path, name: str) -> None:
    (found,) = encoder.tokenize(f"a embedding:{name} circle")
    kinds = ["vector" if isinstance(token, torch.Tensor) else token for token in found.tokens[:9]]
    comma = tokenizer().encode(",") if name.endswith(",") else []
    wanted = [START, 320, "vector", "vector", "vector", *comma, 7117, END, END, END]
    assert kinds == wanted[:9]
    assert found.tokens[76] == END


def test_an_embedding_is_read_as_if_its_vectors_were_words(
    encoder: TextEncoder, folders: Folders, embeddings: Path
) -> None:
    table = encoder.module.text_model["embeddings"]["token_embedding"].weight  # type: ignore[index]
    save_file({"emb_params": table[[736, 7117]].clone()}, embeddings / "words.safetensors")
    found, pooled = encoder.encode("a embedding:words")
    wanted, wanted_pooled = encoder.encode("a red circle")
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(pooled, wanted_pooled)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "there is no embedding called 'nothing'"),
        ("", "there is no embedding called ''"),
        ("../../x", "there is no embedding called"),
        ("wide", "the embedding 'wide' was made for another model"),
        ("old", "pickle"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(
    encoder: TextEncoder, embeddings: Path, name: str, said: str
) -> None:
    with pytest.raises(NodeError, match=said):
        encoder.encode(f"a embedding:{name}")


def test_half_precision_weights_compute_in_float32(first: Any, encoder: TextEncoder, pool: ModelPool) -> None:
    with pool.text_encoder(replace(encoder.clip, dtype="fp16")) as half:
        assert half.module.text_model["final_layer_norm"].weight.dtype == torch.float16
        found, _ = half.encode("a red circle")
    whole, _ = encoder.encode("a red circle")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, whole, rtol=2e-2, atol=2e-2)
    assert not torch.equal(found, whole)
