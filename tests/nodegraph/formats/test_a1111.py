"""The parameters text of A1111's web UI."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from nodegraph.errors import ValidationError
from nodegraph.formats.a1111 import SAMPLERS, SCHEDULES, from_parameters
from nodegraph.registry import Registry
from nodegraph.workflow import Workflow
from nodes.pack import PACK

REGISTRY = Registry.from_packs([PACK])
FILES = {
    "checkpoints": ["other.safetensors", "sub/Dream_v1.5.safetensors"],
    "vae": ["ft-mse.safetensors"],
    "loras": ["ink.safetensors"],
}
TEXT = """a [red] castle, easyneg
on a hill
Negative prompt: blurry,
[[bad]]
Steps: 25, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 18446744073709551615, Size: 512x768, \
Model hash: abc, Model: dream_v1.5, VAE: ft-mse.safetensors, Clip skip: 2, RNG: CPU, TI hashes: "easyneg: ab", Version: v1.9"""


def made(text: str, registry: Any = REGISTRY) -> Workflow:
    document, problems = from_parameters(text, registry, lambda kind: FILES[kind])
    return Workflow.from_data(document).with_problems(problems)


def said(text: str) -> str:
    return "\n".join(str(problem) for problem in made(text).problems)


def settings(line: str) -> dict[str, Any]:
    return dict(made(f"a\nSteps: 5, RNG: CPU, Size: 64x64, Model: other, {line}").prompt["3"]["inputs"])


def test_everything_that_has_a_counterpart() -> None:
    workflow = made(TEXT)
    assert workflow.problems == ()
    inputs = {item["class_type"]: item["inputs"] for item in workflow.prompt.values()}
    assert workflow.prompt["6"]["inputs"]["text"] == "a (red:0.909) castle, embedding:easyneg\non a hill"
    assert workflow.prompt["7"]["inputs"]["text"] == "blurry,\n(bad:0.826)"
    assert inputs["KSampler"] == {
        "model": ["4", 0],
        "positive": ["6", 0],
        "negative": ["7", 0],
        "latent_image": ["5", 0],
        "seed": 2**64 - 1,
        "steps": 25,
        "cfg": 6.5,
        "sampler_name": "dpmpp_2m",
        "scheduler": "karras",
        "denoise": 1.0,
    }
    assert inputs["CheckpointLoaderSimple"] == {"ckpt_name": "sub/Dream_v1.5.safetensors"}
    assert inputs["EmptyLatentImage"] == {"width": 512, "height": 768, "batch_size": 1}
    assert inputs["CLIPSetLastLayer"] == {"clip": ["4", 1], "stop_at_clip_layer": -2}
    assert inputs["VAELoader"] == {"vae_name": "ft-mse.safetensors"}
    assert workflow.extra["canvas"]["notes"][0]["text"] == TEXT
    assert workflow.value_of("seed") == 2**64 - 1
    assert set(inputs) <= set(REGISTRY)
    unknown = [name for item in workflow.prompt.values() for name in item["inputs"]]
    known = {name for kind in inputs for name in REGISTRY[kind].inputs}
    assert set(unknown) <= known


def test_every_mapped_name_is_one_of_ours() -> None:
    inputs = REGISTRY["KSampler"].inputs
    assert inputs["sampler_name"].choice is not None and inputs["scheduler"].choice is not None
    assert set(SAMPLERS.values()) <= set(inputs["sampler_name"].choice.options)
    assert set(SCHEDULES.values()) <= set(inputs["scheduler"].choice.options)


@pytest.mark.parametrize(
    ("line", "sampler", "schedule"),
    [
        ("Sampler: Euler a", "euler_ancestral", "normal"),
        ("Sampler: DPM++ 2M Karras", "dpmpp_2m", "karras"),
        ("Sampler: DPM++ 2M SDE Exponential", "dpmpp_2m_sde", "exponential"),
        ("Sampler: DPM++ 2M", "dpmpp_2m", "normal"),
        ("Sampler: DPM++ 2M, Schedule type: Automatic", "dpmpp_2m", "karras"),
        ("Sampler: DPM++ 3M SDE, Schedule type: Automatic", "dpmpp_3m_sde", "exponential"),
        ("Sampler: DDIM, Schedule type: Automatic", "ddim", "ddim_uniform"),
        ("Sampler: Euler, Schedule type: SGM Uniform", "euler", "sgm_uniform"),
    ],
)
def test_samplers_and_schedules(line: str, sampler: str, schedule: str) -> None:
    found = settings(line)
    assert (found["sampler_name"], found["scheduler"]) == (sampler, schedule)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<hypernet:x:1>\nSteps: 5", "<hypernet:x> has no counterpart"),
        ("[a:b:0.5]\nSteps: 5", "words that change during the run"),
        ("a BREAK b\nSteps: 5", "the word BREAK"),
        ("Steps: 5, Model: dreamy_v1.5", "'sub/Dream_v1.5.safetensors', the nearest name, is used instead"),
        ("Steps: 5, Model: zzzzzzz", "put it into checkpoints as 'zzzzzzz.safetensors'"),
        ("Steps: 5", "the text names no model; 'other.safetensors' stands in"),
        ("Steps: 5, Sampler: Restart", "the sampler 'Restart' has no counterpart"),
        ("Steps: 5, Sampler: Euler, Schedule type: Align Your Steps", "the schedule"),
        ("Steps: 5, Hires upscale: 2, Hires upscaler: Latent, Denoising strength: 0.5", "the hires fix"),
        ("Steps: 5, Denoising strength: 0.5", "made from another"),
        ("Steps: 5, Size: 500x333", "496x336"),
        ("Steps: 5", "512x512 is used"),
        ("Steps: 5, Seed: x", "seed is no number"),
        ("Steps: 5, CFG scale: nan", "cfg scale is no number"),
        ("Steps: 5, ADetailer model: face, ENSD: 31337", "adetailer model, ensd"),
        ("Steps: 5", "on its GPU"),
    ],
)
def test_what_is_lost_is_said(text: str, message: str) -> None:
    assert message in said(text)


def test_loras_are_loaded_where_there_is_a_node_for_them() -> None:
    text = "a <lora:ink:0.8> <lora:ink:0.5:0.25>\nSteps: 5"
    workflow = made(text)
    assert workflow.prompt["20"]["inputs"] == {
        "model": ["4", 0],
        "clip": ["4", 1],
        "lora_name": "ink.safetensors",
        "strength_model": 0.8,
        "strength_clip": 0.8,
    }
    assert workflow.prompt["21"]["inputs"]["strength_model"] == 0.25
    assert workflow.prompt["3"]["inputs"]["model"] == ["21", 0]
    assert workflow.prompt["6"]["inputs"]["text"] == "a"
    without = made(text, {name: spec for name, spec in REGISTRY.items() if name != "LoraLoader"})
    assert "20" not in without.prompt
    assert any("the LoRA 'ink' (strength 0.8) is left out" in problem.message for problem in without.problems)


def test_a_png_of_a1111(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", TEXT)
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png", pnginfo=info)
    workflow = Workflow.load(tmp_path / "a.png", REGISTRY, lambda kind: FILES[kind])
    assert workflow.prompt == made(TEXT).prompt
    assert Workflow.load(tmp_path / "a.png").prompt["4"]["inputs"] == {"ckpt_name": "dream_v1.5.safetensors"}


@pytest.mark.parametrize(
    "piece", ["[", "[[a", "<a:", "a:", "Steps: 5, ", " ", '"\\', ",", "[a:", "Steps:  ", "<lora:a:1>", "\n"]
)
def test_hostile_texts_are_read_in_a_moment(piece: str) -> None:
    text = (piece * 100_000)[:99_000]
    began = time.process_time()
    made(f"{text}\nSteps: 5, TI hashes: {text[:400]}")
    made(f"Steps: 5, {text}")
    assert time.process_time() - began < 10
    with pytest.raises(ValidationError, match="no parameters text"):
        made(text + "Steps: 5" * 10_000)
