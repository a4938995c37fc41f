"""Train the embedded Stable Diffusion from nothing: `python -m nodes.models.embedded.train --work-dir DIR`.

Five stages, each of which resumes where an interrupted run stopped: the autoencoder, the text encoder's head start,
the latents, the noise predictor, the decoder's finish. About two hours on two CPU cores with bfloat16 instructions.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nodes.models.embedded.captions import words
from nodes.models.embedded.decoder_training import polish_decoder
from nodes.models.embedded.evaluate import held_out_scenes, judge, shares
from nodes.models.embedded.export import checkpoint_tensors, write_checkpoint
from nodes.models.embedded.latents import OTHER_SIZES, encoded_scenes
from nodes.models.embedded.preview import contact_sheet, sample_pictures
from nodes.models.embedded.text_training import train_text
from nodes.models.embedded.tokens import CaptionTokens
from nodes.models.embedded.unet_training import Networks, Plan, train_unet, training_networks
from nodes.models.embedded.vae_training import train_vae

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

_log = logging.getLogger(__name__)
_SHOWN = (
    "a large red circle on a blue background",
    "a small yellow star on a black background",
    "a green square to the left of a red triangle on a white background",
    "a pink heart above a blue diamond on a yellow background",
    "purple triangle",
    "a large orange diamond in the top left corner on a cyan background",
    "a plain green background",
    "a white circle on the right on a red background",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages that are missing in the work directory and write the checkpoint there."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    work: Path = options.work_dir
    work.mkdir(parents=True, exist_ok=True)
    device = _device(options.device)
    tokens = caption_tokens()
    vae = train_vae(work, options.vae_steps, options.vae_batch, device)
    text = train_text(work, options.text_steps, 64, tokens, device)
    main_latents = encoded_scenes(work, vae, options.pictures, (16, 16), 11, device)
    others = [
        encoded_scenes(work, vae, max(64, options.pictures // 20), size, 12, device) for size in OTHER_SIZES
    ]
    plan = Plan(steps=options.steps, batch=options.batch, save_every=options.save_every)
    networks = train_unet(
        work,
        plan,
        training_networks(text, device),
        main_latents,
        others,
        tokens,
        device,
        previewer(work, vae, tokens),
    )
    vae = polish_decoder(work, vae, options.decoder_steps, options.vae_batch, device)
    file = work / "shapes-sd.safetensors"
    size = write_checkpoint(file, checkpoint_tensors(vae, networks.unet, networks.text))
    _log.info("%s: %d bytes", file, size)


def caption_tokens() -> CaptionTokens:
    """Captions to CLIP ids through the packaged vocabulary."""
    from nodes.models.tokenizer import tokenizer

    return CaptionTokens(tokenizer().encode)


def previewer(work: Path, vae: AutoencoderKL, tokens: CaptionTokens) -> Callable[[Networks, int], None]:
    """What shows how far training is: pictures of fixed prompts as `sheet-STEP.png`, shares of right answers as a log line."""
    scenes = held_out_scenes(56, 5)
    prompts = [*_SHOWN, *map(words, scenes)]

    def preview(networks: Networks, step: int) -> None:
        pictures = sample_pictures(networks, vae, tokens, prompts, 7)
        right = shares([judge(p, s) for p, s in zip(pictures[len(_SHOWN) :], scenes, strict=True)])
        _log.info("step %d right: %s", step, " ".join(f"{name} {share:.2f}" for name, share in right.items()))
        contact_sheet(pictures[:32], work / f"sheet-{step:06d}.png")

    return preview


def _device(name: str) -> torch.device:
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the embedded Stable Diffusion.")
    parser.add_argument(
        "--work-dir", type=Path, default=Path("build/embedded"), help="checkpoints and previews"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--steps", type=int, default=3800, help="steps of the noise predictor")
    parser.add_argument("--batch", type=int, default=64, help="pictures in a step of the noise predictor")
    parser.add_argument("--vae-steps", type=int, default=3500)
    parser.add_argument("--vae-batch", type=int, default=8)
    parser.add_argument("--decoder-steps", type=int, default=600)
    parser.add_argument("--text-steps", type=int, default=600)
    parser.add_argument(
        "--pictures", type=int, default=20000, help="pictures that the noise predictor learns from"
    )
    parser.add_argument("--save-every", type=int, default=250, help="steps between checkpoints and previews")
    return parser


if __name__ == "__main__":
    main()
