"""What networks read beside the latent: checked before sampling, and brought into one batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nodegraph.node import NodeError
from nodes.diffusion.parametrisation import Discrete
from nodes.diffusion.reads import check_reads, reads
from nodes.diffusion.sampling import draw_noise, sample
from nodes.diffusion.schedules import sigmas
from nodes.values import Architecture, Area, Cond, Conditioning, Guider, Latent, Sampler, Sigmas
from tests.nodes.diffusion.toy_network import WIDTH, ConstantNetwork, cfg_guider, constant, model, together

X0 = Discrete(prediction="x0")
STAGE_B = Architecture(
    "wuerstchen_decoder", (("in_channels", 4), ("cross_attention_dim", WIDTH), ("effnet_channels", 16))
)
CASCADE = Architecture(
    "stable_cascade",
    (("in_channels", 4), ("cross_attention_dim", None), ("pooled_width", 8), ("effnet_channels", 16)),
)
EFFNET = torch.arange(12.0).reshape(1, 1, 3, 4).expand(1, 16, 3, 4)


@dataclass
class Recording(ConstantNetwork):
    """Notes the tokens and the extras of each call."""

    given: list[tuple[int, dict[str, Tensor]]] = field(default_factory=list)

    def __call__(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        extras: Mapping[str, Any] | None = None,
        **rest: Any,
    ) -> Tensor:
        self.given.append((context.shape[1], dict(extras or {})))
        return super().__call__(x, timestep, context, extras=extras, **rest)


def guider(architecture: Architecture, positive: Conditioning, negative: Conditioning) -> Guider:
    return cfg_guider(replace(model(X0), architecture=architecture), positive, negative, 2.0)


def run(given: Guider, size: int = 12) -> Recording:
    network, latent = Recording(), Latent(torch.zeros(2, 4, size, size))
    levels = Sigmas(sigmas("normal", 1, X0))
    sample(network, given, draw_noise(latent, 1), 1, Sampler("euler"), levels, latent)
    return network


def test_what_is_read_follows_from_the_architecture() -> None:
    assert (reads(STAGE_B).context, reads(STAGE_B).pooled) == (WIDTH, None)
    assert (reads(CASCADE).context, reads(CASCADE).pooled) == (None, 8)
    assert reads(STAGE_B).extras == {"effnet": 16}
    assert reads(model().architecture).cross and not reads(CASCADE).cross


def test_an_extra_that_only_some_carry_is_zeros_in_the_others_and_batched_with_them() -> None:
    network = run(
        guider(STAGE_B, together(constant(1.0, extras={"effnet": EFFNET})), together(constant(0.5)))
    )
    ((_, extras),) = network.given
    assert extras["effnet"].shape == (4, 16, 3, 4)
    torch.testing.assert_close(extras["effnet"][:2], EFFNET.expand(2, -1, -1, -1))
    assert not extras["effnet"][2:].any()


def test_contexts_are_repeated_only_where_attention_is_to_them_alone() -> None:
    positive = together(constant(1.0, tokens=154, extras={"effnet": EFFNET}))
    negative = together(constant(0.5))
    assert [tokens for tokens, _ in run(guider(STAGE_B, positive, negative)).given] == [154, 77]
    plain = together(constant(1.0, tokens=154))
    assert [tokens for tokens, _ in run(cfg_guider(model(X0), plain, negative, 2.0)).given] == [154]


def test_an_area_is_shown_its_part_of_the_semantic_latent() -> None:
    area = constant(1.0, area=Area(6, 4, 0, 8), extras={"effnet": EFFNET})
    everywhere = constant(1.0, extras={"effnet": EFFNET})
    network = run(guider(STAGE_B, together(area, everywhere), together(constant(0.5))))
    parts = [extras["effnet"] for _, extras in network.given if extras["effnet"].shape[-2:] == (6, 4)]
    assert parts
    # Of 12 cells of the latent, between the centres of 3 and 4: the top right corner keeps its own value.
    assert float(parts[0][0, 0, 0, -1]) == 3.0
    assert float(parts[0][0, 0, 0, 0]) == pytest.approx(8 * 3 / 11)


@pytest.mark.parametrize(
    ("architecture", "positive", "said"),
    [
        (STAGE_B, constant(1.0), "is given no result of Stage C"),
        (
            model().architecture,
            constant(1.0, extras={"effnet": EFFNET}),
            "is for a Stage B, and the model is",
        ),
        (STAGE_B, constant(1.0, extras={"effnet": EFFNET[:, :4]}), "reads effnet with 16 channels"),
        (STAGE_B, Cond(torch.zeros(1, 77, 8), extras={"effnet": EFFNET}), "reads encodings 16 numbers wide"),
        (
            CASCADE,
            constant(1.0, pooled=torch.zeros(1, 9), extras={"effnet": EFFNET}),
            "reads pooled encodings 8 numbers wide",
        ),
    ],
)
def test_what_does_not_fit_is_refused(architecture: Architecture, positive: Cond, said: str) -> None:
    given = guider(architecture, together(positive), together(constant(0.5)))
    with pytest.raises(NodeError, match=said) as caught:
        check_reads(given)
    assert caught.value.input == "positive"
    assert caught.value.hint is not None
