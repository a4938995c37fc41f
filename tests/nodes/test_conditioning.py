"""Nodes of conditionings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nodegraph.node import NodeError
from nodes import conditioning as nodes_
from nodes.values import Area, Cond, Conditioning, Mask


def noise(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prompt(tokens: int = 7, pooled: bool = True, seed: int = 3, width: int = 6) -> Cond:
    return Cond(noise(1, tokens, width, seed=seed), noise(1, 5, seed=seed + 1) if pooled else None)


def one(*entries: Cond) -> Conditioning:
    return Conditioning(entries)


def test_combine_keeps_both() -> None:
    a, b = prompt(), prompt(seed=9)
    assert nodes_.conditioning_combine(one(a), one(b, a)).entries == (a, b, a)


@pytest.mark.parametrize("tokens", [3, 7, 14])
def test_average_mixes_encodings(tokens: int) -> None:
    to, source = prompt(), prompt(tokens, seed=9)
    padded = torch.zeros(1, 7, 6)
    padded[:, : min(tokens, 7)] = source.context[:, :7]
    (result,) = nodes_.conditioning_average(one(to), one(source, to), 0.3).entries
    torch.testing.assert_close(result.context, to.context * 0.3 + padded * 0.7)
    assert to.pooled is not None and source.pooled is not None and result.pooled is not None
    torch.testing.assert_close(result.pooled, to.pooled * 0.3 + source.pooled * 0.7)


def test_average_takes_whichever_pooled_encoding_there_is() -> None:
    full, bare = prompt(), prompt(pooled=False)
    assert nodes_.conditioning_average(one(bare), one(full), 0.3).entries[0].pooled is full.pooled
    assert nodes_.conditioning_average(one(full), one(bare), 0.3).entries[0].pooled is full.pooled


def test_concat_puts_the_first_prompt_behind() -> None:
    a, b, source = prompt(), prompt(14, seed=8), prompt(7, seed=9)
    result = nodes_.conditioning_concat(one(a, b), one(source, a)).entries
    torch.testing.assert_close(result[0].context, torch.cat((a.context, source.context), 1))
    torch.testing.assert_close(result[1].context, torch.cat((b.context, source.context), 1))
    assert result[0].pooled is a.pooled


@pytest.mark.parametrize("node", [nodes_.conditioning_average, nodes_.conditioning_concat])
def test_what_cannot_be_mixed_is_refused(node: object) -> None:
    assert callable(node)
    with pytest.raises(NodeError, match="different kinds of text encoders"):
        node(one(prompt()), one(prompt(width=8)))
    with pytest.raises(NodeError, match="is empty") as caught:
        node(one(prompt()), one())
    assert caught.value.input == "conditioning_from"


def test_set_area_counts_in_latent_pixels() -> None:
    bounded = Cond(noise(1, 7, 6), mask_bounds=True)
    (result,) = nodes_.conditioning_set_area(one(bounded), 72, 135, 16, 8, 0.5).entries
    assert result.area == Area(height=16, width=9, y=1, x=2)
    assert result.strength == 0.5 and not result.mask_bounds
    assert bounded.area is None


def test_set_area_percentage() -> None:
    (result,) = nodes_.conditioning_set_area_percentage(one(prompt()), 0.5, 0.25, 0.1, 0.2, 2.0).entries
    assert result.area == Area(height=0.25, width=0.5, y=0.2, x=0.1, fraction=True)
    assert result.strength == 2.0


def test_set_strength_leaves_the_area() -> None:
    area = Area(1, 2, 3, 4)
    (result,) = nodes_.conditioning_set_area_strength(one(Cond(noise(1, 7, 6), area=area)), 3.0).entries
    assert (result.area, result.strength) == (area, 3.0)


@pytest.mark.parametrize("area", ["default", "mask bounds"])
def test_set_mask(area: str) -> None:
    mask = torch.rand(1, 4, 4)
    (result,) = nodes_.conditioning_set_mask(one(prompt()), Mask(mask), 0.5, set_cond_area=area).entries
    assert result.mask is mask and result.mask_strength == 0.5 and result.strength == 1.0
    assert result.mask_bounds == (area == "mask bounds")


def test_zero_out() -> None:
    entries = nodes_.conditioning_zero_out(one(prompt(), prompt(pooled=False))).entries
    assert entries[0].context.shape == (1, 7, 6) and not entries[0].context.any()
    assert entries[0].pooled is not None and not entries[0].pooled.any()
    assert entries[1].pooled is None


def test_timestep_range() -> None:
    (result,) = nodes_.conditioning_set_timestep_range(one(prompt()), 0.2, 0.7).entries
    assert (result.start_percent, result.end_percent) == (0.2, 0.7)


def test_the_module_needs_no_model_code_to_be_imported() -> None:
    assert "from nodes.models" not in Path(nodes_.__file__).read_text().partition("def _encoded")[0]
