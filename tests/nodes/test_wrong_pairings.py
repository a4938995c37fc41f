"""Models and values that do not go together are refused before anything runs, with what was found and what is needed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nodegraph.cli import main
from nodegraph.errors import Problem
from nodegraph.node import Folders, Runtime
from nodegraph.registry import Registry
from nodegraph.session import Session
from nodegraph.workflow import Workflow
from nodes.models.loading import empty_module
from nodes.models.pool import ModelPool
from nodes.models.tensor_file import read_header
from nodes.pack import PACK
from nodes.values import Architecture
from tests.nodegraph.running import n

EMBEDDED = Path(__file__).parents[2] / "nodes/models/embedded/checkpoints/shapes-sd.safetensors"
NARROW = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "channel_mult": (1,),
    "num_res_blocks": (1,),
    "depth_in": (1,),
    "depth_middle": 1,
    "depth_out": (1, 1),
    "cross_attention_dim": 16,
    "linear": False,
    "num_heads": 8,
}
"""A U-Net that reads encodings 16 numbers wide; those of the embedded model are 64."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model files and an input folder."""
    root = tmp_path_factory.mktemp("pairings")
    for kind in ("checkpoints", "diffusion_models", "vae"):
        (root / "models" / kind).mkdir(parents=True)
    shutil.copy(EMBEDDED, root / "models" / "checkpoints" / "sd.safetensors")
    shapes = empty_module(Architecture("unet", tuple(NARROW.items()))).state_dict()
    tensors = {name: torch.zeros(tensor.shape) for name, tensor in shapes.items()}
    save_file(tensors, root / "models" / "diffusion_models" / "narrow.safetensors")
    encoder = {
        key.removeprefix("first_stage_model."): tensor
        for key, tensor in load_file(EMBEDDED).items()
        if key.startswith(("first_stage_model.encoder", "first_stage_model.quant"))
    }
    metadata = dict(read_header(EMBEDDED).metadata)
    save_file(encoder, root / "models" / "vae" / "encoder.safetensors", metadata=metadata)
    for folder in ("input", "output", "temp"):
        (root / folder).mkdir()
    save_file({"latent_tensor": torch.ones(1, 16, 8, 8)}, root / "input" / "wide.latent")
    torch.manual_seed(0)
    return root


@pytest.fixture
def session(place: Path) -> Iterator[Session]:
    folders = Folders((place / "models",), place / "input", place / "output", place / "temp")
    with Session(Registry.from_packs([PACK]), Runtime(folders)) as made:
        yield made


def text_to_image(**changes: dict[str, Any]) -> dict[str, Any]:
    """A small picture from the embedded model; `changes` replace nodes."""
    return {
        "checkpoint": n("CheckpointLoaderSimple", ckpt_name="sd.safetensors"),
        "positive": n("CLIPTextEncode", text="a circle", clip=["checkpoint", 1]),
        "negative": n("CLIPTextEncode", text="", clip=["checkpoint", 1]),
        "empty": n("EmptyLatentImage", width=64, height=64),
        "sampler": n(
            "KSampler",
            model=["checkpoint", 0],
            positive=["positive", 0],
            negative=["negative", 0],
            latent_image=["empty", 0],
            steps=1,
            sampler_name="euler",
            scheduler="normal",
        ),
        "decode": n("VAEDecode", samples=["sampler", 0], vae=["checkpoint", 2]),
        "save": n("SaveImage", images=["decode", 0]),
    } | changes


def refused(session: Session, prompt: dict[str, Any]) -> dict[tuple[str | None, str | None], Problem]:
    """The problems by node and input; nothing is loaded for them."""
    report = session.check(Workflow.from_data(prompt))
    assert session.resources.get(ModelPool).held() == 0
    assert report.warnings == ()
    return {(problem.node, problem.input): problem for problem in report.problems}


def test_what_goes_together_runs(session: Session) -> None:
    assert refused(session, text_to_image()) == {}
    result = session.run(Workflow.from_data(text_to_image())).raise_for_status()
    assert {"checkpoint", "sampler", "save"} <= set(result.ran)


def test_prompts_of_another_text_encoder(session: Session) -> None:
    prompt = text_to_image(unet=n("UNETLoader", unet_name="narrow.safetensors", weight_dtype="default"))
    prompt["sampler"]["inputs"]["model"] = ["unet", 0]
    (problem,) = refused(session, prompt).values()
    assert str(problem) == (
        "node sampler (KSampler), input positive: the conditioning does not fit the model: sd1 reads encodings"
        " 16 numbers wide. Found: encodings 64 numbers wide. Encode the prompt with the CLIP of the same checkpoint."
    )


@pytest.mark.parametrize("kind", ["SamplerCustom", "CFGGuider", "BasicGuider", "PerpNegGuider"])
def test_every_way_of_sampling_looks(session: Session, kind: str) -> None:
    conds = {"positive": ["positive", 0], "negative": ["negative", 0]}
    inputs: dict[str, Any] = {
        "SamplerCustom": {
            **conds,
            "sampler": ["euler", 0],
            "sigmas": ["sigmas", 0],
            "latent_image": ["empty", 0],
        },
        "CFGGuider": conds,
        "BasicGuider": {"conditioning": ["positive", 0]},
        "PerpNegGuider": {**conds, "empty_conditioning": ["negative", 0]},
    }[kind]
    prompt = text_to_image(
        unet=n("UNETLoader", unet_name="narrow.safetensors", weight_dtype="default"),
        euler=n("KSamplerSelect", sampler_name="euler"),
        sigmas=n("BasicScheduler", model=["unet", 0], scheduler="normal", steps=1),
        noise=n("RandomNoise", noise_seed=1),
        it=n(kind, model=["unet", 0], **inputs),
    )
    if kind != "SamplerCustom":
        given = {"noise": ["noise", 0], "guider": ["it", 0], "sampler": ["euler", 0], "sigmas": ["sigmas", 0]}
        prompt["guided"] = n("SamplerCustomAdvanced", **given, latent_image=["empty", 0])
    prompt["decode"]["inputs"]["samples"] = ["it" if kind == "SamplerCustom" else "guided", 1]
    del prompt["sampler"]
    (place,) = refused(session, prompt)
    assert place == ("it", "conditioning" if kind == "BasicGuider" else "positive")


def test_a_latent_of_other_channels(session: Session) -> None:
    prompt = text_to_image(empty=n("LoadLatent", latent="wide.latent"))
    prompt["again"] = n("VAEDecode", samples=["empty", 0], vae=["checkpoint", 2])
    prompt["show"] = n("PreviewImage", images=["again", 0])
    found = refused(session, prompt)
    assert {place: (problem.code, problem.found) for place, problem in found.items()} == {
        ("sampler", "latent_image"): ("wrong_latent", "latents with 16 channels, of shape (1, 16, 8, 8)"),
        ("again", "samples"): ("wrong_latent", "latents with 16 channels, of shape (1, 16, 8, 8)"),
    }
    wanted = "latents of Stable Diffusion 1.x and 2.x (sd1), 4 channels"
    assert {problem.allowed for problem in found.values()} == {wanted}


def test_a_vae_that_goes_the_other_way_only_and_pictures_too_small_for_it(session: Session) -> None:
    prompt = text_to_image(
        vae=n("VAELoader", vae_name="encoder.safetensors"),
        picture=n("EmptyImage", width=64, height=7),
        encode=n("VAEEncode", pixels=["picture", 0], vae=["vae", 0]),
        decode=n("VAEDecode", samples=["encode", 0], vae=["vae", 0]),
    )
    found = refused(session, prompt)
    assert list(found) == [("encode", "pixels"), ("decode", "vae")]
    assert found["encode", "pixels"].found == "pixels of shape (1, 7, 64, 3)"
    assert found["decode", "vae"].message == "this VAE file holds an encoder only: it cannot decode."
    prompt["picture"] = n("EmptyImage", width=64, height=8)
    assert list(refused(session, prompt)) == [("decode", "vae")]


def test_a_broken_model_file_is_refused_before_anything_runs(session: Session, place: Path) -> None:
    path = place / "models" / "checkpoints" / "cut.safetensors"
    path.write_bytes(EMBEDDED.read_bytes()[:1000])
    prompt = text_to_image(checkpoint=n("CheckpointLoaderSimple", ckpt_name=path.name))
    (problem,) = refused(session, prompt).values()
    assert problem.node == "checkpoint"
    path.unlink()


@pytest.mark.parametrize("command", ["run", "validate", "plan"])
def test_the_command_line_refuses_with_exit_code_2(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    prompt = text_to_image(empty=n("LoadLatent", latent="wide.latent"))
    (tmp_path / "w.json").write_text(json.dumps(prompt))
    words = ["--models-dir", str(place / "models"), "--input-dir", str(place / "input")]
    with pytest.raises(SystemExit) as caught:
        main([command, str(tmp_path / "w.json"), *words], Registry.from_packs([PACK]))
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert err == (
        "error: node sampler (KSampler), input latent_image: the latent does not fit the model: sd1 works on latents"
        " with 4 channels. Found: latents with 16 channels, of shape (1, 16, 8, 8). Allowed: latents of Stable"
        " Diffusion 1.x and 2.x (sd1), 4 channels. Encode the picture with the VAE of this model.\n"
    )
