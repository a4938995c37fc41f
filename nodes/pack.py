"""The built-in pack: which modules hold its nodes."""

from __future__ import annotations

from pathlib import Path

from nodegraph.node import Pack

PACK = Pack(
    name="nodes",
    modules=(
        "nodes.alpha",
        "nodes.clip_vision",
        "nodes.compositing",
        "nodes.conditioning",
        "nodes.images",
        "nodes.image_effects",
        "nodes.image_files",
        "nodes.latent_batches",
        "nodes.latent_files",
        "nodes.latents",
        "nodes.masks",
        "nodes.pixel_space",
        "nodes.primitives",
        "nodes.processes",
        "nodes.sampling",
        "nodes.sampler_options",
        "nodes.custom_sampling",
        "nodes.published_schedules",
        "nodes.stable_diffusion.loaders",
        "nodes.stable_diffusion.lora",
        "nodes.stable_diffusion.text",
        "nodes.stable_diffusion.vae",
        "nodes.wuerstchen.loaders",
        "nodes.wuerstchen.latents",
        "nodes.wuerstchen.stable_cascade",
    ),
    settle="nodes.models.settling:settle",
    devices="nodes.models.devices:describe_devices",
    model_roots=(Path(__file__).parent / "models" / "embedded",),
)
