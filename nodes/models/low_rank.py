"""What adapters add to a weight: LoRA and its kin.

By kind, with s = strength * alpha / rank (alpha the rank where a file gives none):

- LoRA (https://arxiv.org/abs/2106.09685), LoCon: W + s B A, with a core between the factors where there is one;
- LoHa (https://arxiv.org/abs/2108.06098): W + s (B1 A1) * (B2 A2);
- LoKr (https://arxiv.org/abs/2309.14859): W + s kron(W1, W2);
- differences: W + strength * D;
- DoRA (https://arxiv.org/abs/2402.09353), over any of these: m (W + D) / |W + D|, D the change at strength 1, by rows or
  by columns as m is laid out; a strength goes that part of the way from W.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from torch import Tensor

Factors = Mapping[str, Tensor]
"""Tensors by role: `up`, `down`, `alpha`, ... as `nodes.models.adapters` names them."""


def fits(kind: str, shapes: Mapping[str, tuple[int, ...]], weight: tuple[int, ...]) -> bool:
    """Whether factors of these shapes make a change of a weight of that shape."""
    return shapes.get("alpha", ()) in ((), (1,)) and _fits(kind, tuple(sorted(shapes.items())), weight)


@lru_cache(4096)
def _fits(kind: str, shapes: tuple[tuple[str, tuple[int, ...]], ...], weight: tuple[int, ...]) -> bool:
    factors = {role: torch.empty(shape, device="meta") for role, shape in shapes if role != "alpha"}
    try:
        rows = _CHANGES[kind](factors).shape[0]
        changed(kind, factors, torch.empty(weight, device="meta"), 1.0)
    except (RuntimeError, ValueError, IndexError):
        return False
    return rows == weight[0]


def changed(kind: str, factors: Factors, weight: Tensor, strength: float) -> Tensor:
    """Return the changed weight, float32, of the same shape; `weight` stays as it is."""
    change = _CHANGES[kind](factors).reshape(weight.shape)
    if "magnitude" in factors:
        return torch.lerp(weight, _of_magnitude(factors["magnitude"], weight + change), strength)
    return torch.add(weight, change, alpha=strength)


def _of_magnitude(magnitude: Tensor, weight: Tensor) -> Tensor:
    """The weight with the norms that `magnitude` says: of its rows where it has one for each, else of its columns."""
    by_row = magnitude.shape[0] == weight.shape[0]
    axes = tuple(axis for axis in range(weight.ndim) if axis != (0 if by_row else 1))
    norm = weight.square().sum(axes, keepdim=True).sqrt()
    return weight * (magnitude.reshape(norm.shape) / norm.clamp_min(torch.finfo(torch.float32).tiny))


def _scale(factors: Factors, rank: int) -> float:
    return float(factors["alpha"]) / rank if "alpha" in factors else 1.0


def _lora(factors: Factors) -> Tensor:
    up, down = factors["up"].flatten(1), factors["down"]
    if "mid" in factors:
        down = torch.einsum("rskl,si->rikl", factors["mid"], down.flatten(1))
    return up @ down.flatten(1) * _scale(factors, factors["down"].shape[0])


def _loha(factors: Factors) -> Tensor:
    one, other = (_hadamard(factors, side) for side in "12")
    return one * other * _scale(factors, factors["hada_w1_b"].shape[0])


def _hadamard(factors: Factors, side: str) -> Tensor:
    first, second = factors[f"hada_w{side}_a"], factors[f"hada_w{side}_b"]
    if f"hada_t{side}" in factors:
        return torch.einsum("abkl,bi,ao->oikl", factors[f"hada_t{side}"], second, first)
    return first @ second


def _lokr(factors: Factors) -> Tensor:
    rank = None
    one, other = factors.get("lokr_w1"), factors.get("lokr_w2")
    if one is None:
        rank = factors["lokr_w1_b"].shape[0]
        one = factors["lokr_w1_a"] @ factors["lokr_w1_b"]
    if other is None:
        rank, left = factors["lokr_w2_b"].shape[0], factors["lokr_w2_a"]
        if "lokr_t2" in factors:
            other = torch.einsum("abkl,bi,ao->oikl", factors["lokr_t2"], factors["lokr_w2_b"], left)
        else:
            right = factors["lokr_w2_b"]
            other = (left @ right.flatten(1)).reshape((-1, *right.shape[1:]))
    one = one.reshape((*one.shape, *(1 for _ in range(other.ndim - 2))))
    return torch.kron(one, other.contiguous()) * (1.0 if rank is None else _scale(factors, rank))


def _difference(factors: Factors) -> Tensor:
    return factors["diff"]


_CHANGES: Mapping[str, Callable[[Factors], Tensor]] = {
    "lora": _lora,
    "loha": _loha,
    "lokr": _lokr,
    "diff": _difference,
}
