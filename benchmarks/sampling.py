"""What sampling costs: beyond the network's own calls, against the diffusers pipeline, and in bf16.

python benchmarks/sampling.py [--checkpoint FILE] [--size 512] [--steps 20] [--repeats 5] [--device cpu]

Each comparison is paired: both sides run in turn in this process, on the same weights and inputs, and the
figures are medians over the pairs. Prints one JSON object with the environment that it ran in. Targets: at most
3 % over the bare calls; at most 1.0 times the pipeline; bf16 at most half the step time of fp32.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nodegraph.folders import Folders
from nodegraph.node import Runtime
from nodes.diffusion.model_denoiser import Network
from nodes.diffusion.sampling import draw_noise, sample, sampled_levels
from nodes.models.autoencoder import Autoencoder
from nodes.models.ldm_keys import unet_to_diffusers, vae_to_diffusers
from nodes.models.pool import ModelPool
from nodes.pack import PACK
from nodes.stable_diffusion.loaders import Checkpoint, load_checkpoint
from nodes.values import Cond, Conditioning, Guider, Latent, Model, Sampler

SCALE = 7.0


@dataclass(frozen=True)
class Setup:
    """What is measured: the loaded models and the size of the run."""

    checkpoint: Checkpoint
    positive: Tensor
    negative: Tensor
    latent: Latent
    steps: int
    repeats: int

    @property
    def guider(self) -> Guider:
        """Classifier-free guidance with the two prompts."""
        roles = (("positive", self.positive), ("negative", self.negative))
        prompts = tuple((role, Conditioning((Cond(context),))) for role, context in roles)
        return Guider("cfg", self.checkpoint.MODEL, prompts, (("cfg", SCALE),))

    def sample(self, network: Network, seed: int) -> Tensor:
        """One run of the driver that the KSampler uses."""
        model = self.checkpoint.MODEL
        levels = sampled_levels(model, "euler", "normal", self.steps)
        noise = draw_noise(self.latent, seed)
        done, _ = sample(network, self.guider, noise, seed, Sampler("euler"), levels, self.latent)
        return done.samples

    def call(self, network: Network) -> tuple[Tensor, Tensor, Tensor]:
        """What one call with guidance is given: noise, timesteps and both encodings."""
        shape = self.latent.samples.shape
        x = torch.randn(2 * shape[0], *shape[1:], device=network.device, dtype=network.dtype)
        context = torch.cat([self.positive, self.negative]).repeat_interleave(shape[0], dim=0)
        timestep = torch.full((len(x),), 500.0, device=network.device)
        return x, timestep, context.to(network.device, network.dtype)

    def bare(self, network: Network) -> None:
        """The network's calls of one run, and nothing else."""
        x, timestep, context = self.call(network)
        with torch.no_grad():
            for _ in range(self.steps):
                network(x, timestep, context)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """How long one call takes, the device's queue included."""
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def paired(
    one: Callable[[], object], other: Callable[[], object], repeats: int, device: torch.device
) -> dict[str, float]:
    """Medians of both and of their ratio; which of them goes first changes from pair to pair."""
    seconds(one, device), seconds(other, device)
    pairs = []
    for index in range(repeats):
        if index % 2:
            second = seconds(other, device)
            pairs.append((seconds(one, device), second))
        else:
            pairs.append((seconds(one, device), seconds(other, device)))
    return {
        "seconds": statistics.median(first for first, _ in pairs),
        "reference_seconds": statistics.median(second for _, second in pairs),
        "ratio": statistics.median(first / second for first, second in pairs),
    }


def against_bare_calls(setup: Setup, pool: ModelPool) -> dict[str, float]:
    """Sampling against the calls that it makes."""
    with pool.network(setup.checkpoint.MODEL) as network:
        return paired(
            lambda: setup.sample(network, 1), lambda: setup.bare(network), setup.repeats, network.device
        )


def against_diffusers(setup: Setup, pool: ModelPool) -> dict[str, float]:
    """Sampling and decoding against StableDiffusionPipeline, from the same encodings."""
    model, vae = setup.checkpoint.MODEL, setup.checkpoint.VAE
    with pool.network(model) as network, pool.vae(vae) as autoencoder:
        pipeline = _pipeline(network.module, autoencoder, model).to(network.device)
        height, width = (
            round(side * model.latent_format.downscale) for side in setup.latent.samples.shape[-2:]
        )
        noise = draw_noise(setup.latent, 1).to(network.device, network.dtype)

        def ours() -> Tensor:
            return autoencoder.decode(setup.sample(network, 1))

        def theirs() -> Any:
            return pipeline(
                prompt_embeds=setup.positive.to(network.device, network.dtype),
                negative_prompt_embeds=setup.negative.to(network.device, network.dtype),
                num_inference_steps=setup.steps,
                guidance_scale=SCALE,
                height=height,
                width=width,
                latents=noise.clone(),
                output_type="pt",
            ).images

        difference = (ours().cpu() - theirs().permute(0, 2, 3, 1).float().cpu()).abs().mean()
        return paired(ours, theirs, setup.repeats, network.device) | {
            "mean_difference_of_pictures": float(difference)
        }


def parts_against_diffusers(setup: Setup, pool: ModelPool) -> dict[str, dict[str, float]]:
    """One call of the U-Net with guidance, and one decode, against those of diffusers on the same weights."""
    model, vae = setup.checkpoint.MODEL, setup.checkpoint.VAE
    with pool.network(model) as network, pool.vae(vae) as autoencoder, torch.no_grad():
        pipeline = _pipeline(network.module, autoencoder, model).to(network.device)
        x, timestep, context = setup.call(network)
        latents = x[: len(setup.latent.samples)]
        scaled = latents / pipeline.vae.config.scaling_factor
        return {
            "network": paired(
                lambda: network(x, timestep, context),
                lambda: pipeline.unet(x, timestep, encoder_hidden_states=context).sample,
                setup.repeats,
                network.device,
            ),
            "decoder": paired(
                lambda: autoencoder.decode(latents),
                lambda: pipeline.vae.decode(scaled).sample,
                setup.repeats,
                network.device,
            ),
        }


def _pipeline(module: torch.nn.Module, autoencoder: Autoencoder, model: Model) -> Any:
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel

    facts = dict(model.architecture.arguments)
    blocks = facts["num_res_blocks"][0]
    down = ["CrossAttn" if depth else "" for depth in facts["depth_in"][::blocks]]
    up = ["CrossAttn" if depth else "" for depth in facts["depth_out"][:: blocks + 1]]
    weights = module.state_dict()
    names = unet_to_diffusers(model.architecture, weights)
    first = next(iter(weights.values()))
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=[facts["model_channels"] * factor for factor in facts["channel_mult"]],
            layers_per_block=blocks,
            down_block_types=[f"{kind}DownBlock2D" for kind in down],
            up_block_types=[f"{kind}UpBlock2D" for kind in up],
            cross_attention_dim=facts["cross_attention_dim"],
            attention_head_dim=facts["num_heads"],
            norm_num_groups=facts.get("norm_groups", 32),
        )
    unet.load_state_dict({names[key]: tensor for key, tensor in weights.items()}, assign=True)
    decoder = autoencoder.module.state_dict()
    vae_facts = dict(autoencoder.vae.architecture.arguments)
    widths = [vae_facts["channels"] * factor for factor in vae_facts["channel_mult"]]
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=widths,
            layers_per_block=vae_facts["num_res_blocks"],
            down_block_types=["DownEncoderBlock2D"] * len(widths),
            up_block_types=["UpDecoderBlock2D"] * len(widths),
            norm_num_groups=vae_facts.get("norm_groups", 32),
            scaling_factor=model.latent_format.scale,
        )
    vae_names = vae_to_diffusers(autoencoder.vae.architecture, decoder)
    known = vae.state_dict()
    vae.load_state_dict(
        {
            vae_names[key]: tensor.reshape(known[vae_names[key]].shape).to(first.dtype)
            for key, tensor in decoder.items()
        },
        assign=True,
    )
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="linspace",
        steps_offset=1,
    )
    pipeline = StableDiffusionPipeline(
        vae.eval(), None, None, unet.eval(), scheduler, None, None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def in_bf16(setup: Setup, pool: ModelPool, other: ModelPool) -> dict[str, float]:
    """The bare network's step in bf16 against fp32."""
    model = setup.checkpoint.MODEL
    with pool.network(model) as exact, other.network(model) as rough:
        found = paired(
            lambda: setup.bare(rough), lambda: setup.bare(exact), max(2, setup.repeats // 2), exact.device
        )
    return found | {"step_seconds_bf16": found["seconds"] / setup.steps}


def environment(pool: ModelPool) -> dict[str, Any]:
    """What the figures depend on."""
    gpu = torch.cuda.get_device_name(pool.device) if pool.device.type == "cuda" else None
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "device": str(pool.device),
        "gpu": gpu,
        "dtype": str(pool.dtype).removeprefix("torch."),
    }


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    embedded = next(iter(sorted((PACK.model_roots[0] / "checkpoints").glob("*.safetensors"))), None)
    parser.add_argument("--checkpoint", type=Path, default=embedded)
    parser.add_argument("--size", type=int, default=128, help="side of the picture in pixels")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--only", choices=("bare", "diffusers", "parts", "bf16"))
    given = parser.parse_args()
    if given.checkpoint is None:
        parser.error("there is no embedded model: name a --checkpoint")
    folders = Folders((), Path(), Path(), Path())
    pool = ModelPool(Runtime(folders, device=given.device, dtype=given.dtype))
    checkpoint = load_checkpoint(given.checkpoint)
    with pool.text_encoder(checkpoint.CLIP) as encoder:
        positive, negative = (
            encoder.encode("a large red circle on a blue background")[0],
            encoder.encode("")[0],
        )
    side = round(given.size / checkpoint.MODEL.latent_format.downscale)
    empty = Latent(torch.zeros(given.batch, 4, side, side))
    setup = Setup(checkpoint, positive, negative, empty, given.steps, given.repeats)
    found: dict[str, Any] = {
        "benchmark": "sampling",
        "environment": environment(pool),
        "checkpoint": given.checkpoint.name,
        "size": given.size,
        "batch": given.batch,
        "steps": given.steps,
    }
    if given.only in (None, "bare"):
        found["against_bare_calls"] = against_bare_calls(setup, pool)
    if given.only in (None, "diffusers"):
        found["against_diffusers"] = against_diffusers(setup, pool)
    if given.only in (None, "parts"):
        found["parts_against_diffusers"] = parts_against_diffusers(setup, pool)
    if given.only in (None, "bf16"):
        low = ModelPool(Runtime(folders, device=given.device, dtype="bf16"))
        found["bf16_against_fp32"] = in_bf16(setup, pool, low)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
