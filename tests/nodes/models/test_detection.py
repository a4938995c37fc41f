"""What a file is: the real models' shapes, other kinds of files, metadata."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nodegraph.node import NodeError
from nodes.diffusion.parametrisation import Discrete
from nodes.models.detection import describe, find, hints_of, need
from nodes.models.diffusers_folder import read_folder
from nodes.models.recipes import model_recipe
from nodes.models.tensor_file import read_header
from nodes.stable_diffusion.loaders import load_checkpoint

Shapes = dict[str, tuple[int, ...]]
UNET = "model.diffusion_model."


def hollow(
    path: Path, shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str] | None = None
) -> Path:
    """A half-precision file with these tensors whose data is a hole: as large as the real one, and no bytes on disk."""
    header: dict[str, Any] = {"__metadata__": dict(metadata or {})}
    place = 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    raw = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + place)
    return path


@pytest.fixture(scope="module")
def sd15() -> Shapes:
    path = Path(__file__).parents[2] / "data" / "parity" / "sd15_keys.json"
    return {key: tuple(shape) for key, shape in json.loads(path.read_text()).items()}


@pytest.fixture(scope="module")
def sd21(sd15: Shapes) -> Shapes:
    """Stable Diffusion 2.1's shapes: linear projections, a context of 1,024, OpenCLIP's text tower."""
    shapes: Shapes = {}
    for key, shape in sd15.items():
        if key.startswith("cond_stage_model"):
            continue
        if key.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
            shape = (shape[0], 1024)
        if key.endswith(("proj_in.weight", "proj_out.weight")) and key.startswith(UNET):
            shape = shape[:2]
        shapes[key] = shape
    text = "cond_stage_model.model."
    shapes[text + "token_embedding.weight"] = (49408, 1024)
    shapes[text + "positional_embedding"] = (77, 1024)
    shapes[text + "text_projection"] = (1024, 1024)
    shapes[text + "logit_scale"] = ()
    for name in ("ln_final.weight", "ln_final.bias"):
        shapes[text + name] = (1024,)
    for layer in range(24):
        block = f"{text}transformer.resblocks.{layer}."
        for name, shape in (
            ("attn.in_proj_weight", (3072, 1024)),
            ("attn.in_proj_bias", (3072,)),
            ("attn.out_proj.weight", (1024, 1024)),
            ("attn.out_proj.bias", (1024,)),
            ("mlp.c_fc.weight", (4096, 1024)),
            ("mlp.c_fc.bias", (4096,)),
            ("mlp.c_proj.weight", (1024, 4096)),
            ("mlp.c_proj.bias", (1024,)),
            *((f"ln_{n}.{kind}", (1024,)) for n in (1, 2) for kind in ("weight", "bias")),
        ):
            shapes[block + name] = shape
    return shapes


def test_sd15_is_read_off_names_and_shapes(tmp_path: Path, sd15: Shapes) -> None:
    extra = {**sd15, "model_ema.decay": (), "alphas_cumprod": (1000,)}
    extra["cond_stage_model.transformer.text_model.embeddings.position_ids"] = (1, 77)
    model, clip, vae = load_checkpoint(hollow(tmp_path / "sd15.safetensors", extra))
    assert (model.family, clip.family) == ("sd1", "sd1")
    assert model.parametrisation == Discrete(prediction="eps")
    assert model.latent_format.scale == vae.latent_format.scale == 0.18215
    assert (model.architecture["in_channels"], model.architecture["num_heads"]) == (4, 8)
    assert (clip.architecture["layers"], clip.architecture["heads"]) == (12, 12)
    assert clip.architecture["activation"] == "quick_gelu"
    assert (vae.architecture["channels"], vae.architecture["channel_mult"]) == (128, (1, 2, 4, 4))


def test_sd15_in_the_old_text_layout(tmp_path: Path, sd15: Shapes) -> None:
    shapes = {key.replace("transformer.text_model.", "transformer."): shape for key, shape in sd15.items()}
    assert load_checkpoint(hollow(tmp_path / "old.safetensors", shapes)).CLIP.architecture["layers"] == 12


@pytest.mark.parametrize(("channels", "what"), [(9, "inpainting"), (8, "editing")])
def test_models_with_more_input_channels(tmp_path: Path, sd15: Shapes, channels: int, what: str) -> None:
    shapes = {**sd15, UNET + "input_blocks.0.0.weight": (320, channels, 3, 3)}
    model = load_checkpoint(hollow(tmp_path / f"{what}.safetensors", shapes)).MODEL
    assert model.architecture["in_channels"] == channels
    assert model.parametrisation == Discrete(prediction="eps")


def test_sd21_is_read_off_names_and_shapes(tmp_path: Path, sd21: Shapes) -> None:
    model, clip, _ = load_checkpoint(hollow(tmp_path / "sd21.safetensors", sd21))
    assert (model.family, clip.family) == ("sd2", "sd2")
    assert (model.architecture["linear"], model.architecture["head_width"]) == (True, 64)
    assert (clip.architecture["layers"], clip.architecture["heads"]) == (24, 16)
    assert (clip.architecture["activation"], clip.architecture["projection"]) == ("gelu", 1024)


@pytest.mark.parametrize(("spread", "wanted"), [(0.05, "eps"), (0.2, "v_prediction")])
def test_the_prediction_of_sd2_is_told_by_a_bias(
    tmp_path: Path, sd21: Shapes, spread: float, wanted: str
) -> None:
    path = hollow(tmp_path / "sd21.safetensors", sd21)
    header = read_header(path)
    info = header.tensors[UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias"]
    torch.manual_seed(0)
    with path.open("r+b") as file:
        file.seek(info.start)
        file.write((torch.randn(info.shape) * spread).half().numpy().tobytes())
    assert load_checkpoint(path).MODEL.parametrisation == Discrete(prediction=wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metadata", "wanted"),
    [
        ({"modelspec.prediction_type": "v"}, "v_prediction"),
        ({"modelspec.prediction_type": "epsilon"}, "eps"),
        ({"nodegraph": '{"prediction_type": "v_prediction"}'}, "v_prediction"),
    ],
)
def test_metadata_overrides_the_prediction(
    tmp_path: Path, sd15: Shapes, metadata: dict[str, str], wanted: str
) -> None:
    model = load_checkpoint(hollow(tmp_path / "m.safetensors", sd15, metadata)).MODEL
    assert model.parametrisation == Discrete(prediction=wanted)  # type: ignore[arg-type]


def test_malformed_metadata_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "m.safetensors", metadata={"nodegraph": "{"})
    with pytest.raises(NodeError, match="metadata is not JSON"):
        hints_of(read_header(tmp_path / "m.safetensors"))


OTHERS = {
    "a LoRA": {"lora_unet_down_blocks_0_attentions_0.lora_up.weight": (320, 4)},
    "a ControlNet": {"control_model.input_hint_block.0.weight": (16, 3, 3, 3)},
    "a textual inversion embedding": {"emb_params": (4, 768)},
    "a saved latent": {"latent_tensor": (1, 4, 8, 8), "latent_format_version_0": (0,)},
    "a Stable Diffusion XL model": {"conditioner.embedders.0.transformer.x": (1,)},
    "a Stable Diffusion 3 model": {"model.diffusion_model.joint_blocks.0.x": (1,)},
    "a Flux model": {"double_blocks.0.x": (1,)},
    "of an unknown kind (1 tensors: something.else...)": {"something.else": (3, 3, 3)},
    "a file without tensors": {},
}


@pytest.mark.parametrize(("what", "shapes"), OTHERS.items(), ids=OTHERS)
def test_other_files_are_named_for_what_they_are(
    tmp_path: Path, what: str, shapes: dict[str, tuple[int, ...]]
) -> None:
    path = hollow(tmp_path / "other.safetensors", shapes)
    assert describe(read_header(path)) == what
    with pytest.raises(NodeError) as caught:
        load_checkpoint(path)
    assert str(caught.value.problem(None, None, None)).count(what) == 1
    assert caught.value.hint is not None


def test_a_part_alone_is_named_with_the_node_that_loads_it(tmp_path: Path, sd15: Shapes) -> None:
    for prefix, node in (
        ("first_stage_model.", "VAELoader"),
        ("cond_stage_model.transformer.", "CLIPLoader"),
        (UNET, "UNETLoader"),
    ):
        shapes = {key[len(prefix) :]: shape for key, shape in sd15.items() if key.startswith(prefix)}
        with pytest.raises(NodeError) as caught:
            load_checkpoint(hollow(tmp_path / "part.safetensors", shapes))
        assert caught.value.hint is not None
        assert node in caught.value.hint


def test_sdxl_is_refused_by_name(tmp_path: Path, sd15: Shapes) -> None:
    shapes = {**sd15, UNET + "label_emb.0.0.weight": (1280, 2816), UNET + "label_emb.0.0.bias": (1280,)}
    with pytest.raises(NodeError, match="Stable Diffusion XL or unCLIP model, which is not supported yet"):
        load_checkpoint(hollow(tmp_path / "xl.safetensors", shapes))


def test_a_missing_tensor_is_named(tmp_path: Path, sd15: Shapes) -> None:
    shapes = {key: shape for key, shape in sd15.items() if "input_blocks.4.1.norm" not in key}
    with pytest.raises(NodeError, match=r"2 of the 686 tensors .* such as input_blocks\.4\.1\.norm\.bias"):
        load_checkpoint(hollow(tmp_path / "m.safetensors", shapes))


def test_a_tensor_of_another_shape_is_named(tmp_path: Path, sd15: Shapes) -> None:
    shapes = {**sd15, UNET + "out.0.weight": (64,)}
    with pytest.raises(NodeError, match=r"out\.0\.weight has the shape \(64,\) and should have \(320,\)"):
        load_checkpoint(hollow(tmp_path / "m.safetensors", shapes))


def test_parts_are_found_in_either_naming(first: Any) -> None:
    for part in ("unet", "vae"):
        whole = find(read_header(first.file), part)
        alone = find(read_header(next((first.folder / part).glob("*.safetensors"))), part)
        assert whole is not None
        assert alone is not None
        assert (whole.layout, alone.layout) == ("ldm", "diffusers")
        assert set(whole.shapes) == set(alone.shapes)


def test_a_diffusers_unet_alone_is_a_recipe(first: Any) -> None:
    header = read_header(next((first.folder / "unet").glob("*.safetensors")))
    hints = hints_of(read_header(first.file))
    assert model_recipe(need(header, "unet"), hints).architecture["channel_mult"] == (1, 2, 2)


def test_a_folder_gives_the_recipes_and_its_scheduler(second: Any) -> None:
    model, clip, vae = read_folder(second.folder)
    assert model.parametrisation == Discrete(prediction="v_prediction")
    assert (model.family, vae.latent_format.scale) == ("sd2", 0.5)
    assert clip.architecture["heads"] == 4


@pytest.mark.parametrize(
    ("part", "left", "said"),
    [
        ("unet", [], r"lacks unet/diffusion_pytorch_model\.safetensors"),
        ("text_encoder", ["model.bin"], r"text_encoder holds a pickle \(model\.bin\)"),
    ],
)
def test_a_folder_with_a_part_missing_is_refused(
    tmp_path: Path, first: Any, part: str, left: list[str], said: str
) -> None:
    for name in ("unet", "vae", "text_encoder"):
        (tmp_path / name).mkdir()
        for file in (first.folder / name).iterdir():
            if name != part or file.suffix == ".json":
                (tmp_path / name / file.name).symlink_to(file)
    for name in left:
        (tmp_path / part / name).write_bytes(b"")
    with pytest.raises(NodeError, match=said):
        read_folder(tmp_path)


def test_a_broken_configuration_is_refused(tmp_path: Path, first: Any) -> None:
    for name in ("unet", "vae", "text_encoder"):
        (tmp_path / name).symlink_to(first.folder / name)
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text("{")
    with pytest.raises(NodeError, match="not readable JSON"):
        read_folder(tmp_path)


def test_a_folder_in_pieces_is_read(tmp_path: Path, first: Any) -> None:
    for name in ("vae", "text_encoder"):
        (tmp_path / name).symlink_to(first.folder / name)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").symlink_to(first.folder / "unet" / "config.json")
    stored = load_file(next((first.folder / "unet").glob("*.safetensors")))
    names = sorted(stored)
    for index, half in enumerate((names[::2], names[1::2]), start=1):
        part = {name: stored[name] for name in half}
        save_file(part, tmp_path / "unet" / f"diffusion_pytorch_model-0000{index}-of-00002.safetensors")
    assert len(read_folder(tmp_path)[0].weights.paths) == 2
