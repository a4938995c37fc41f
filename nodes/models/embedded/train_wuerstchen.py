"""Train the embedded Würstchen from nothing: `python -m nodes.models.embedded.train_wuerstchen --work-dir DIR`.

Four stages, each of which resumes where an interrupted run stopped: the semantic compressor, Stage A, Stage B and Stage C.
The text encoder is the embedded Stable Diffusion's, as it is. Stage A does not need the compressor, nor Stage C Stage B:
`--only` trains one of them, so that two can run side by side, a core each.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray

from nodes.models.embedded.captions import words
from nodes.models.embedded.checkpoints_io import save
from nodes.models.embedded.compressor_training import shrunk, train_compressor
from nodes.models.embedded.evaluate import held_out_scenes, judge, shares
from nodes.models.embedded.preview import contact_sheet
from nodes.models.embedded.shapes import Scene, draw, random_scene
from nodes.models.embedded.stage_preview import Trained, draw_latents, sample_semantic
from nodes.models.embedded.stage_training import Captions, Encoded, train_decoder, train_prior
from nodes.models.embedded.stages import COMPRESSOR_SIZE, PICTURE_SIZE, build_decoder
from nodes.models.embedded.stages_export import export
from nodes.models.embedded.text import embedded_text_encoder
from nodes.models.embedded.train import caption_tokens
from nodes.models.embedded.training import Course
from nodes.models.embedded.vqgan_training import encoded, error, train_vqgan
from nodes.models.networks.efficientnet import EfficientNetEncoder

if TYPE_CHECKING:
    from nodes.models.embedded.wuerstchen_modules import PaellaVQModel, WuerstchenDiffNeXt, WuerstchenPrior

_log = logging.getLogger(__name__)
STAGES: Final = ("compressor", "vqgan", "decoder", "prior")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages that are missing in the work directory, or the ones named."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    work: Path = options.work_dir
    work.mkdir(parents=True, exist_ok=True)
    device = torch.device("cpu")
    wanted: Sequence[str] = options.only or STAGES
    scenes, pictures = drawn(work, options.pictures)
    courses = {
        "compressor": Course(options.compressor_steps, 2e-3),
        "vqgan": Course(options.vqgan_steps, 2e-3),
        "decoder": Course(options.decoder_steps, 7e-4, cool_down=0.5),
        "prior": Course(options.prior_steps, 1e-3, cool_down=0.7),
    }
    # A finished stage is read from its file, so that naming a later one trains no other.
    if wanted == ["compressor"]:
        train_compressor(work, pictures, scenes, courses["compressor"], device)
        return
    vqgan = train_vqgan(work, pictures, courses["vqgan"], device)
    if wanted == ["vqgan"]:
        return
    compressor = train_compressor(work, pictures, scenes, courses["compressor"], device)
    sample = torch.from_numpy(np.array(pictures[:64])).permute(0, 3, 1, 2).float() / 255
    _log.info("stage A: error %.4f, scale %s", error(vqgan, sample), vqgan.config.scale_factor)
    data = encoded_scenes(work, compressor, vqgan, scenes, pictures)
    captions = Captions(embedded_text_encoder(), caption_tokens())
    trained = Trained(vqgan, build_decoder().eval(), captions)
    if "decoder" in wanted:
        show = partial(_show_decoder, work, trained, compressor)
        decoder = train_decoder(work, courses["decoder"], options.decoder_batch, data, captions, show)
    if "prior" in wanted:
        show = partial(_show_prior, work, trained)
        prior = train_prior(work, courses["prior"], options.prior_batch, data, captions, show)
    if {"decoder", "prior"} <= set(wanted):
        folder = work / "shapes-wuerstchen"
        size = export(folder, prior, decoder, vqgan, captions.text, compressor)
        _log.info("%s: %d bytes of weights", folder, size)


def _show_decoder(
    work: Path, trained: Trained, compressor: EfficientNetEncoder, decoder: WuerstchenDiffNeXt, step: int
) -> None:
    """Held-out pictures through the compressor and back."""
    scenes = held_out_scenes(40, 5)
    truth = np.stack([draw(scene, PICTURE_SIZE, PICTURE_SIZE) for scene in scenes])
    with torch.no_grad():
        semantic = compressor(shrunk(_planes(truth), COMPRESSOR_SIZE))
    texts = [words(scene) for scene in scenes]
    _judge(work, "decoder", step, draw_latents(replace(trained, decoder=decoder), semantic, texts, 3), scenes)


def _show_prior(work: Path, trained: Trained, prior: WuerstchenPrior, step: int) -> None:
    """Held-out prompts, drawn with what Stage B has learned by now; nothing where it has not begun."""
    file = work / "decoder.pt"
    if not file.exists():
        return
    trained.decoder.load_state_dict(torch.load(file, weights_only=True)["averaged"])
    scenes = held_out_scenes(40, 5)
    texts = [words(scene) for scene in scenes]
    semantic = sample_semantic(prior, trained.captions, texts, 7)
    _judge(work, "prior", step, draw_latents(trained, semantic, texts, 3), scenes)


def drawn(work: Path, count: int) -> tuple[list[Scene], NDArray[np.uint8]]:
    """Scenes and their pictures, (count, 128, 128, RGB), made once and kept in the work directory."""
    file = work / f"pictures-{count}.npy"
    rng = np.random.default_rng(25)
    scenes = [random_scene(rng) for _ in range(count)]
    if not file.exists():
        partial_file = file.with_suffix(".partial.npy")
        np.save(partial_file, np.stack([draw(scene, PICTURE_SIZE, PICTURE_SIZE) for scene in scenes]))
        partial_file.replace(file)
    pictures: NDArray[np.uint8] = np.load(file, mmap_mode="r")
    return scenes, pictures


def encoded_scenes(
    work: Path,
    compressor: EfficientNetEncoder,
    vqgan: PaellaVQModel,
    scenes: list[Scene],
    pictures: NDArray[np.uint8],
) -> Encoded:
    """The latents of pictures of scenes, made once and kept in the work directory."""
    file = work / f"latents-{len(scenes)}.pt"
    if not file.exists():
        semantic, latents = [], []
        for start in range(0, len(scenes), 64):
            planes = _planes(np.array(pictures[start : start + 64]))
            with torch.no_grad():
                semantic.append(compressor(shrunk(planes, COMPRESSOR_SIZE)).half())
                latents.append(encoded(vqgan, planes).half())
        save(file, {"semantic": torch.cat(semantic), "latents": torch.cat(latents)})
    state = torch.load(file, weights_only=True)
    return Encoded(scenes, state["semantic"], state["latents"])


def _planes(pictures: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(255.0)


def _judge(work: Path, name: str, step: int, pictures: NDArray[np.uint8], scenes: Sequence[Scene]) -> None:
    right = shares([judge(p, s) for p, s in zip(pictures, scenes, strict=True)])
    _log.info("%s step %d right: %s", name, step, " ".join(f"{n} {share:.2f}" for n, share in right.items()))
    contact_sheet(pictures[:32], work / f"{name}-{step:06d}.png")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the embedded Würstchen.")
    parser.add_argument(
        "--work-dir", type=Path, default=Path("build/wuerstchen"), help="checkpoints and previews"
    )
    parser.add_argument("--only", choices=STAGES, action="append", help="train this stage alone")
    parser.add_argument("--compressor-steps", type=int, default=9800)
    parser.add_argument("--vqgan-steps", type=int, default=2200)
    parser.add_argument("--decoder-steps", type=int, default=30000)
    parser.add_argument("--decoder-batch", type=int, default=16)
    parser.add_argument("--prior-steps", type=int, default=5000)
    parser.add_argument("--prior-batch", type=int, default=64)
    parser.add_argument("--pictures", type=int, default=20000, help="pictures to learn from")
    return parser


if __name__ == "__main__":
    main()
