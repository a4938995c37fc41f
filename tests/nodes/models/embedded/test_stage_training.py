"""The three stages' training: the course, the schedule, the captions, a few tiny steps, and a folder that diffusers loads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nodes.models.embedded.compressor_training import Pair, names_of, shrunk, train_compressor
from nodes.models.embedded.shapes import COLOURS, PLACES, SHAPES, SIZES, Scene, draw, random_scene, single
from nodes.models.embedded.stage_preview import sample_semantic
from nodes.models.embedded.stage_training import (
    Captions,
    Encoded,
    alpha_bar,
    near_things,
    noise_loss,
    train_decoder,
    train_prior,
)
from nodes.models.embedded.stages import (
    COMPRESSOR_SIZE,
    PICTURE_SIZE,
    build_compressor,
    build_decoder,
    build_prior,
    build_vqgan,
)
from nodes.models.embedded.stages_export import export
from nodes.models.embedded.text import embedded_text_encoder
from nodes.models.embedded.train import caption_tokens
from nodes.models.embedded.train_pixels import (
    ANYTHING,
    CLASSES,
    SIDE,
    build_pixel_unet,
    judged,
    random_class_scene,
)
from nodes.models.embedded.train_pixels import export as export_pixels
from nodes.models.embedded.training import Course, train
from nodes.models.embedded.vqgan_training import cuts, train_vqgan
from nodes.models.embedded.wuerstchen_modules import (
    DDPMWuerstchenScheduler,
    PaellaVQModel,
    WuerstchenDiffNeXt,
    WuerstchenPrior,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def captions() -> Captions:
    return Captions(embedded_text_encoder(), caption_tokens())


def _scenes(count: int) -> list[Scene]:
    rng = np.random.default_rng(0)
    return [random_scene(rng) for _ in range(count)]


def _pictures(count: int) -> np.typing.NDArray[np.uint8]:
    return np.stack([draw(scene, PICTURE_SIZE, PICTURE_SIZE) for scene in _scenes(count)])


def test_the_rate_rises_stays_and_falls() -> None:
    course = Course(1000, rate=2.0, warm_up=10, cool_down=0.5)
    assert course.rate_at(0) == pytest.approx(0.2)
    assert course.rate_at(9) == course.rate_at(400) == 2.0
    assert course.rate_at(750) == pytest.approx(1.0)
    assert course.rate_at(999) == pytest.approx(0.02)


def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    seen: list[int] = []

    def loss(model: nn.Linear, step: int, rng: np.random.Generator) -> Tensor:
        seen.append(step)
        error: Tensor = (model(torch.ones(1, 2)) - 3.0).square().mean()
        return error

    torch.manual_seed(0)
    train(tmp_path / "line.pt", nn.Linear(2, 1), Course(40, 0.1, save_every=20), loss, 1)
    trained = train(tmp_path / "line.pt", nn.Linear(2, 1), Course(400, 0.1, save_every=400), loss, 1)
    assert seen == list(range(400))
    assert float(trained(torch.ones(1, 2))) == pytest.approx(3.0, abs=0.2)
    assert not any(parameter.requires_grad for parameter in trained.parameters())


def test_the_schedule_is_the_published_one() -> None:
    ratios = torch.linspace(0, 1, 101)
    published = DDPMWuerstchenScheduler()._alpha_cumprod(ratios, CPU)
    assert torch.allclose(alpha_bar(ratios), published, rtol=1e-5, atol=1e-7)


def test_the_loss_is_zero_for_the_true_noise_only() -> None:
    clean = torch.randn(8, 4, 2, 2)

    def truth(noisy: Tensor, ratio: Tensor) -> Tensor:
        kept = alpha_bar(ratio)[:, None, None, None]
        return (noisy - kept.sqrt() * clean) / (1 - kept).sqrt()

    rng = np.random.default_rng(0)
    assert float(noise_loss(truth, clean, rng)) < 1e-6
    assert float(noise_loss(lambda noisy, ratio: noisy * 0, clean, rng)) > 0.1


def test_an_error_counts_as_much_as_is_said_of_its_place() -> None:
    clean = torch.randn(8, 4, 2, 2)
    half = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).expand(8, 1, 2, 2)

    def left_only(noisy: Tensor, ratio: Tensor) -> Tensor:
        kept = alpha_bar(ratio)[:, None, None, None]
        return torch.where(half > 0, (noisy - kept.sqrt() * clean) / (1 - kept).sqrt(), 5.0)

    assert float(noise_loss(left_only, clean, np.random.default_rng(0), emphasis=half)) < 1e-6
    assert float(noise_loss(left_only, clean, np.random.default_rng(0), emphasis=1 - half)) > 0.1


def test_what_is_near_small_things_counts_most() -> None:
    rng = np.random.default_rng(0)
    large = single("star", "red", "large", "black", "centre", rng)
    small = single("star", "red", "small", "black", "top left", rng)
    weights = near_things([large, small, Scene("black", (), "empty")], 32)
    assert weights.shape == (3, 1, 32, 32)
    assert bool((weights[2] == 1).all())
    (thing,) = small.things
    assert weights[1, 0, int(thing.y * 32), int(thing.x * 32)] == weights[1].max() > weights[0].max() > 1
    assert weights[1, 0, 31, 31] == 1
    assert float((weights[1] > 1).float().mean()) == pytest.approx((2.5 * thing.radius) ** 2, rel=0.3)


def test_padding_does_not_reach_the_words(captions: Captions) -> None:
    ids = captions.tokens(["a red circle"])
    whole = captions.encode(ids)
    assert whole.shape == (1, 77, 64)
    assert torch.allclose(captions.encode(ids, 40), whole[:, :40], atol=1e-5)
    other = captions.tokens(["a red circle"])
    other[:, 6:] = 320
    other[:, -1] = ids[0, -1]
    assert torch.allclose(captions.encode(other)[:, :5], whole[:, :5], atol=1e-5)


def test_cuts_keep_their_range() -> None:
    found = cuts(_pictures(3), np.random.default_rng(0))
    assert found.shape[1:] == (3, 64, 64)
    assert float(found.min()) >= 0.0 and float(found.max()) <= 1.0
    assert float(found.flatten(1).std(dim=1).max()) > 0.05


def test_a_few_steps_of_every_stage(tmp_path: Path, captions: Captions) -> None:
    pictures = _pictures(12)
    two = Course(2, warm_up=1)
    compressor = train_compressor(tmp_path, pictures, _scenes(12), two, CPU)
    vqgan = train_vqgan(tmp_path, pictures, two, CPU)
    assert 0.05 < vqgan.config.scale_factor < 20
    rng = np.random.default_rng(1)
    data = Encoded(
        [random_scene(rng) for _ in range(4)],
        torch.randn(4, 16, 3, 3, dtype=torch.float16),
        torch.randn(4, 4, 32, 32, dtype=torch.float16),
    )
    shown: list[int] = []
    prior = train_prior(tmp_path, two, 2, data, captions, lambda _, step: shown.append(step))
    decoder = train_decoder(tmp_path, two, 2, data, captions, None)
    assert shown == [2]
    untrained = build_prior()
    assert not torch.equal(prior.projection.weight, untrained.projection.weight)
    assert {file.name for file in tmp_path.iterdir()} == {
        f"{n}.pt" for n in ("compressor", "vqgan", "prior", "decoder")
    }
    with torch.no_grad():
        latent = compressor(shrunk(torch.rand(1, 3, PICTURE_SIZE, PICTURE_SIZE), COMPRESSOR_SIZE))
    assert latent.shape == (1, 16, 3, 3)
    assert sample_semantic(prior, captions, ["a star"], 1, steps=2).shape == (1, 16, 3, 3)
    assert decoder.config.clip_embd == 64


def test_names_are_those_of_the_scene() -> None:
    scene = single("star", "gray", "small", "cyan", "top left", np.random.default_rng(0))
    found = names_of(scene)
    assert [found[index] for index in (1, 2, 3, 4, 5)] == [
        PLACES.index("top left"),
        list(COLOURS).index("cyan"),
        SHAPES.index("star"),
        list(COLOURS).index("gray"),
        SIZES.index("small"),
    ]


def test_the_reader_draws_at_its_size() -> None:
    assert Pair().reader(torch.zeros(2, 16, 3, 3)).shape == (2, 3, 48, 48)


def test_the_folder_loads_in_diffusers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    prior, decoder, vqgan = build_prior(), build_decoder(), build_vqgan()
    size = export(tmp_path, prior, decoder, vqgan, embedded_text_encoder(), build_compressor())
    assert size < 16_000_000
    for kind, name, module in (
        (WuerstchenPrior, "prior", prior),
        (WuerstchenDiffNeXt, "decoder", decoder),
        (PaellaVQModel, "vqgan", vqgan),
    ):
        loaded = kind.from_pretrained(tmp_path / name)
        for key, value in module.state_dict().items():
            assert torch.allclose(loaded.state_dict()[key].float(), value.float(), atol=1e-2), key


def test_pixel_classes_name_what_they_draw(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index in (0, 17, ANYTHING - 1):
        thing = random_class_scene(rng, index).things[0]
        assert CLASSES[index] == f"{thing.colour} {thing.shape}"
    model = build_pixel_unet().eval()
    right, pictures = judged(model, 2, 0, steps=2)
    assert set(right) == {"colour", "shape", "count"}
    assert pictures.shape == (2, 4 * SIDE, 4 * SIDE, 3)
    export_pixels(model, tmp_path)
    from diffusers import UNet2DModel

    assert UNet2DModel.from_pretrained(tmp_path / "unet").config.num_class_embeds == len(CLASSES)
