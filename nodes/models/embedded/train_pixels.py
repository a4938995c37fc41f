"""Train the embedded pixel-space model from nothing: `python -m nodes.models.embedded.train_pixels --work-dir DIR`.

A class-conditional DDPM at 32x32 pixels (https://arxiv.org/abs/2006.11239): one class for each shape in each
colour, and one for any of them, which guidance needs. The background is the noise's to choose.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nodes.models.embedded.evaluate import judge, shares
from nodes.models.embedded.preview import contact_sheet
from nodes.models.embedded.shapes import COLOURS, SHAPES, Scene, draw, single
from nodes.models.embedded.training import Course, train
from nodes.models.embedded.vae_training import to_tensor

if TYPE_CHECKING:
    from diffusers import UNet2DModel

_log = logging.getLogger(__name__)
SIDE: Final = 32
CLASSES: Final = (*(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS), "anything")
ANYTHING: Final = len(CLASSES) - 1
SCHEDULER: Final[dict[str, Any]] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    # At a high noise level the noise's mean is the colour, and a small error of the noise a large one of it.
    "prediction_type": "v_prediction",
    "clip_sample": True,
}
_ANYTHING_SHARE: Final = 0.1
_LEAN: Final = 2.0
"""The lessons' density rises with the time to this power less 1: colours are settled where the picture is nearly all noise."""
_NEAR: Final = 4
"""Colours nearest to a thing's, its own among them, that are no background of it: the model leaves the background to the
noise, and where it was taught all but the thing's own it drew that now and then, and nothing could be seen."""


def build_pixel_unet() -> UNet2DModel:
    """The network: 32, 16 and 8 pixels a side, attention at the last, about 0.5 M parameters."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=SIDE,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(16, 32, 64),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=16,
        norm_num_groups=4,
        num_class_embeds=len(CLASSES),
    )


def _by_distance(colour: str) -> list[str]:
    """All colours, from itself to the one that is farthest from it."""

    def distance(other: str) -> float:
        return math.dist(COLOURS[colour], COLOURS[other])

    return sorted(COLOURS, key=distance)


def random_class_scene(rng: np.random.Generator, index: int) -> Scene:
    """A scene of a class: its shape and colour in the middle, medium or large, on a colour that it stands out from."""
    colours = list(COLOURS)
    shape, colour = SHAPES[index // len(colours)], colours[index % len(colours)]
    background = str(rng.choice(_by_distance(colour)[_NEAR:]))
    return single(shape, colour, str(rng.choice(("medium", "large"))), background, "centre", rng)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing in the work directory and write the folder `ddpm-shapes` there."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    work: Path = options.work_dir
    work.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(30)
    labels = rng.integers(0, ANYTHING, options.pictures)
    pictures = np.stack([draw(random_class_scene(rng, int(label)), SIDE, SIDE) for label in labels])
    alphas = _alphas_cumprod()

    def loss(model: UNet2DModel, step: int, rng: np.random.Generator) -> Tensor:
        return _loss(model, pictures, labels, alphas, options.batch, rng)

    def preview(model: nn.Module, step: int) -> None:
        right, sheet = judged(model, 44, step)
        _log.info(
            "pixels step %d right: %s", step, " ".join(f"{n} {share:.2f}" for n, share in right.items())
        )
        contact_sheet(sheet, work / f"pixels-{step:06d}.png", 11)

    course = Course(options.steps, 8e-4, cool_down=0.8, save_every=500, decay=0.998)
    model = train(work / "pixels.pt", build_pixel_unet(), course, loss, 31, preview)
    export(model, work / "ddpm-shapes")


def _loss(
    model: UNet2DModel,
    pictures: NDArray[np.uint8],
    labels: NDArray[np.int64],
    alphas: Tensor,
    batch: int,
    rng: np.random.Generator,
) -> Tensor:
    chosen = rng.integers(0, len(pictures), batch)
    clean = to_tensor(pictures[chosen])
    classes = np.where(rng.random(batch) < _ANYTHING_SHARE, ANYTHING, labels[chosen])
    parts = ((np.arange(batch) + rng.random(batch)) / batch) ** (1 / _LEAN)
    times = torch.from_numpy(parts * 1000).long().clamp_(max=999)
    kept = alphas[times].view(-1, 1, 1, 1)
    noise = torch.randn_like(clean)
    noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
    predicted = model(noisy, times, class_labels=torch.from_numpy(classes)).sample
    error: Tensor = (predicted - (kept.sqrt() * noise - (1 - kept).sqrt() * clean)).square().mean()
    return error


def _alphas_cumprod() -> Tensor:
    from diffusers import DDPMScheduler

    alphas: Tensor = DDPMScheduler(**SCHEDULER).alphas_cumprod
    return alphas


@torch.no_grad()
def judged(
    model: nn.Module, count: int, seed: int, steps: int = 50
) -> tuple[dict[str, float], NDArray[np.uint8]]:
    """Shares of pictures of evenly chosen classes whose shape and colour are right, and the pictures at 4 times their size."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**SCHEDULER)
    scheduler.set_timesteps(steps)
    labels = torch.arange(count) * ANYTHING // count
    x = torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    for time in scheduler.timesteps:
        x = scheduler.step(model(x, time, class_labels=labels).sample, time, x).prev_sample
    pixels = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    large = pixels.repeat(4, axis=1).repeat(4, axis=2)
    rng = np.random.default_rng(seed)
    wanted = [random_class_scene(rng, int(label)) for label in labels]
    right = shares([judge(picture, scene) for picture, scene in zip(large, wanted, strict=True)])
    return {name: right[name] for name in ("colour", "shape", "count")}, large


def export(model: UNet2DModel, folder: Path) -> None:
    """Write the model as a diffusers folder in float16, with the names of its classes."""
    from diffusers import DDPMScheduler
    from safetensors.torch import save_file

    unet = folder / "unet"
    unet.mkdir(parents=True, exist_ok=True)
    model.save_config(unet)
    tensors = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, unet / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    DDPMScheduler(**SCHEDULER).save_config(folder / "scheduler")
    index = {
        "_class_name": "DDPMPipeline",
        "class_names": list(CLASSES),
        "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the embedded pixel-space model.")
    parser.add_argument(
        "--work-dir", type=Path, default=Path("build/pixels"), help="checkpoints and previews"
    )
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=20000)
    return parser


if __name__ == "__main__":
    main()
