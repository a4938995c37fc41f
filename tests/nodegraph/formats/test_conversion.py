"""`nodegraph convert`: formats, node types that are not installed, hostile files, pictures."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nodegraph.cli import main
from nodegraph.errors import ValidationError
from nodegraph.formats.conversion import missing
from nodegraph.formats.object_info import from_object_info
from nodegraph.formats.pictures import with_workflow
from nodegraph.formats.png import texts_of
from nodegraph.formats.ui_writing import to_ui
from nodegraph.modes import resolve
from nodegraph.registry import Registry
from nodegraph.workflow import Workflow
from nodes.pack import PACK
from tests.nodegraph.toy import toy_registry

Json = dict[str, Any]
TOYS = toy_registry()
OBJECT_INFO: Json = {
    "SomebodysSampler": {
        "input": {
            "required": {
                "model": ["MODEL"],
                "image": [["a.png"], {"image_upload": True}],
                "noise_seed": ["INT", {"default": 0, "min": 0, "max": 2**64 - 1}],
                "kind": ["COMBO", {"options": ["fixed", "loose"]}],
                "strength": ["FLOAT", {"default": 1.0, "forceInput": True}],
            },
            "optional": {"curve": ["STRING", {"default": "linear", "multiline": True}]},
            "hidden": {"unique_id": "UNIQUE_ID"},
        },
        "output": ["MODEL", ["a", "b"]],
        "output_name": ["model", "choice"],
        "display_name": "Somebody's sampler",
    }
}
FOREIGN: Json = {
    "nodes": [
        {
            "id": 1,
            "type": "ToyLoadModel",
            "widgets_values": ["a.safetensors"],
            "outputs": [{"name": "MODEL", "type": "MODEL"}],
        },
        {
            "id": 2,
            "type": "SomebodysSampler",
            "pos": [7, 8],
            "inputs": [{"name": "model", "type": "MODEL", "link": 1}],
            "outputs": [
                {"name": "model", "type": "MODEL", "links": [2]},
                {"name": "choice", "type": "COMBO"},
            ],
            "properties": {"cnr_id": "somebodys-pack"},
            "widgets_values": ["b.png", 99, "randomize", "fixed", "image", "cubic"],
        },
        {"id": 3, "type": "ToyShow", "inputs": [{"name": "item", "type": "*", "link": 2}]},
    ],
    "links": [[1, 1, 0, 2, 0, "MODEL"], [2, 2, 0, 3, 0, "MODEL"]],
    "version": 0.4,
}
NAMED = {"image": "b.png", "noise_seed": 99, "kind": "fixed", "curve": "cubic", "model": ["1", 0]}


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command line on the toy nodes: (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(words, TOYS)
        code = leaving.value.code
        out, err = capsys.readouterr()
        return (code if isinstance(code, int) else 0), out, err

    return run


def test_nodes_that_are_not_installed_keep_all_that_the_file_says() -> None:
    workflow = Workflow.from_data(FOREIGN, TOYS)
    assert workflow.prompt["2"]["inputs"] == {"model": ["1", 0]}
    assert workflow.prompt["3"]["inputs"] == {"item": ["2", 0]}
    (problem,) = missing(workflow, TOYS, TOYS)
    assert (problem.code, problem.node, problem.class_type) == ("unknown_node", "2", "SomebodysSampler")
    assert "--object-info" in problem.message
    node = to_ui(workflow, TOYS)["nodes"][1]
    before = FOREIGN["nodes"][1]
    assert (node["type"], node["pos"], node["widgets_values"]) == (
        before["type"],
        [7, 8],
        before["widgets_values"],
    )
    assert node["properties"] == before["properties"]


def test_another_servers_description_names_their_values() -> None:
    described = from_object_info(OBJECT_INFO)
    known = {**TOYS, **described}
    workflow = Workflow.from_data(FOREIGN, known)
    assert workflow.prompt["2"]["inputs"] == NAMED
    assert workflow.prompt["2"]["_meta"]["title"] == "Somebody's sampler"
    assert to_ui(workflow, known)["nodes"][1]["widgets_values"] == FOREIGN["nodes"][1]["widgets_values"]
    assert [item.message for item in missing(workflow, TOYS, known)] == [
        "this node type is not installed; its place and its values are kept."
    ]


def test_convert_reads_a_description(shell: Any, tmp_path: Path) -> None:
    (tmp_path / "ui.json").write_text(json.dumps(FOREIGN))
    (tmp_path / "info.json").write_text(json.dumps(OBJECT_INFO))
    code, out, err = shell("convert", "ui.json", "--to", "api", "--object-info", "info.json")
    assert (code, json.loads(out)["2"]["inputs"]) == (0, NAMED)
    assert err.count("SomebodysSampler") == 1 and "not installed" in err
    code, out, _ = shell("convert", "ui.json", "--to", "ui", "--object-info", "info.json")
    assert json.loads(out)["nodes"][1]["widgets_values"] == FOREIGN["nodes"][1]["widgets_values"]
    (tmp_path / "info.json").write_text("[]")
    assert shell("convert", "ui.json", "--object-info", "info.json")[0] == 2


def test_a_description_of_our_own_nodes_reads_as_they_do(tmp_path: Path) -> None:
    from nodegraph.describe import describe_all

    registry = Registry.from_packs([PACK])
    described = from_object_info(describe_all(registry, lambda kind: []))
    for name, spec in registry.items():
        theirs = described[name]
        assert [item.type for item in theirs.outputs] == [item.type for item in spec.outputs]
        assert {key: item.type for key, item in theirs.inputs.items()} == {
            key: item.type for key, item in spec.inputs.items()
        }


def node(node_id: int, kind: str, values: list[Any], *links: tuple[str, str, int], outputs: int = 1) -> Json:
    inputs = [{"name": name, "type": socket, "link": link} for name, socket, link in links]
    return {
        "id": node_id,
        "type": kind,
        "widgets_values": values,
        "inputs": inputs,
        "outputs": [{}] * outputs,
    }


def test_the_usual_graph_of_the_real_nodes() -> None:
    """Text to image, enlarged and sampled again: what ComfyUI makes of it when it queues, value by value."""
    nodes = [
        node(1, "CheckpointLoaderSimple", ["sd.safetensors"], outputs=3),
        node(2, "CLIPTextEncode", ["a castle"], ("clip", "CLIP", 1)),
        node(3, "CLIPTextEncode", ["blurry"], ("clip", "CLIP", 2)),
        node(4, "EmptyLatentImage", [512, 768, 1]),
        node(
            5,
            "KSampler",
            [156680208700286, "randomize", 13, 8.5, "dpmpp_sde", "normal", 1],
            *(("model", "MODEL", 3), ("positive", "CONDITIONING", 4), ("negative", "CONDITIONING", 5)),
            ("latent_image", "LATENT", 6),
        ),
        node(6, "LatentUpscale", ["nearest-exact", 1088, 1920, "disabled"], ("samples", "LATENT", 7)),
        node(7, "VAEDecode", [], ("samples", "LATENT", 8), ("vae", "VAE", 9)),
        node(8, "SaveImage", ["ComfyUI"], ("images", "IMAGE", 10), outputs=0),
        node(9, "LoadImageMask", ["mask.png", "red", "image"]),
        node(10, "SetLatentNoiseMask", [], ("samples", "LATENT", 11), ("mask", "MASK", 12)),
        node(11, "ConditioningSetArea", [704, 384, 0, 312, 1.5], ("conditioning", "CONDITIONING", 13)),
    ]
    sources = [
        (1, 1),
        (1, 1),
        (1, 0),
        (11, 0),
        (3, 0),
        (10, 0),
        (5, 0),
        (6, 0),
        (1, 2),
        (7, 0),
        (4, 0),
        (9, 0),
        (2, 0),
    ]
    links = [[number, *source, 0, 0, "*"] for number, source in enumerate(sources, 1)]
    registry = Registry.from_packs([PACK])
    workflow = Workflow.from_data({"nodes": nodes, "links": links, "version": 0.4}, registry)
    found = {
        key: (item["class_type"], item["inputs"]) for key, item in resolve(workflow.prompt, registry).items()
    }
    assert found == {
        "1": ("CheckpointLoaderSimple", {"ckpt_name": "sd.safetensors"}),
        "2": ("CLIPTextEncode", {"text": "a castle", "clip": ["1", 1]}),
        "3": ("CLIPTextEncode", {"text": "blurry", "clip": ["1", 1]}),
        "4": ("EmptyLatentImage", {"width": 512, "height": 768, "batch_size": 1}),
        "5": (
            "KSampler",
            {
                "seed": 156680208700286,
                "steps": 13,
                "cfg": 8.5,
                "sampler_name": "dpmpp_sde",
                "scheduler": "normal",
                "denoise": 1,
                "model": ["1", 0],
                "positive": ["11", 0],
                "negative": ["3", 0],
                "latent_image": ["10", 0],
            },
        ),
        "6": (
            "LatentUpscale",
            {
                "upscale_method": "nearest-exact",
                "width": 1088,
                "height": 1920,
                "crop": "disabled",
                "samples": ["5", 0],
            },
        ),
        "7": ("VAEDecode", {"samples": ["6", 0], "vae": ["1", 2]}),
        "8": ("SaveImage", {"filename_prefix": "ComfyUI", "images": ["7", 0]}),
        "9": ("LoadImageMask", {"image": "mask.png", "channel": "red"}),
        "10": ("SetLatentNoiseMask", {"samples": ["4", 0], "mask": ["9", 0]}),
        "11": (
            "ConditioningSetArea",
            {"width": 704, "height": 384, "x": 0, "y": 312, "strength": 1.5, "conditioning": ["2", 0]},
        ),
    }
    again = Workflow.from_data(to_ui(workflow, registry), registry)
    assert again.prompt.keys() == workflow.prompt.keys()
    assert all(again.prompt[key]["inputs"] == item["inputs"] for key, item in workflow.prompt.items())


def sub_graph(number: int, inner: list[int], nodes: int = 0) -> Json:
    listed = [{"id": 100 + index, "type": f"g{item}"} for index, item in enumerate(inner)]
    listed += [{"id": index, "type": "ToyText", "widgets_values": ["x" * 9999]} for index in range(nodes)]
    return {"id": f"g{number}", "name": f"g{number}", "nodes": listed, "links": []}


def graph(*nodes: Any, links: Any = (), definitions: Any = ()) -> Json:
    return {"nodes": [*nodes], "links": [*links], "definitions": {"subgraphs": [*definitions]}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (graph({"id": 1, "type": "g0"}, definitions=[sub_graph(0, [1]), sub_graph(1, [0])]), "holds itself"),
        (
            graph({"id": 1, "type": "g0"}, definitions=[sub_graph(i, [i + 1]) for i in range(30)]),
            "more than 20 deep",
        ),
        (
            graph({"id": 1, "type": "g0"}, definitions=[sub_graph(i, [i + 1] * 4) for i in range(12)]),
            "more than 5000",
        ),
        (
            graph({"id": 1, "type": "g0"}, definitions=[sub_graph(0, [1] * 1500), sub_graph(1, [], 500)]),
            "comes to too much",
        ),
        (graph({"id": 1, "type": "A"}, {"id": "1", "type": "B"}), "two nodes of w.json have the id 1"),
        (graph(definitions=[sub_graph(0, []), sub_graph(0, [])]), "two of the sub-graphs"),
        (graph({"type": "A"}), "a node has no id"),
        (graph({"id": 1}), "node 1: it has no type"),
        (graph("node"), "a node is not an object"),
        (graph({"id": 1, "type": "A", "inputs": {}}), "node 1: inputs is not a list"),
        (graph({"id": 1, "type": "A", "widgets_values": 5}), "node 1: widgets_values is no list"),
        (graph(links=[[1, 2]]), "a link does not say where it comes from"),
        (graph(definitions=[{"id": "g"}, 5]), "has no id"),
        (graph({"id": 1, "type": "g"}, definitions=[{"id": "g"}]), "has no list of nodes"),
    ],
)
def test_a_hostile_file_gives_one_clear_error(data: Json, message: str) -> None:
    began = time.process_time()
    with pytest.raises(ValidationError, match=message) as caught:
        Workflow.from_data(data, TOYS, name="w.json")
    assert len(caught.value.problems) == 1
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"nodes": ' + '[{"inputs": ' * 200 + "1" + "}]" * 200 + "}", "nest"),
        ('{"nodes": ' + "[" * 100_000, "nest"),
        ('{"nodes": [{"id": 1, "type": "A", "widgets_values": [NaN]}], "links": []}', "NaN"),
        ('{"nodes": [], "nodes": []}', "a key twice"),
        ('{"nodes": ["' + "x" * (65 * 2**20), "larger than 32 MiB"),
    ],
)
def test_hostile_text_gives_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        Workflow.loads(text, TOYS)
    assert len(caught.value.problems) == 1


def test_long_chains_are_read_in_linear_time() -> None:
    chain = [
        {"id": number, "type": "Reroute", "inputs": [{"link": number - 1}]} for number in range(1, 5_001)
    ]
    shows = [
        {"id": 30_000 + number, "type": "ToyShow", "inputs": [{"name": "item", "link": 5_000}]}
        for number in range(1000)
    ]
    first = {"id": 0, "type": "ToyText", "widgets_values": ["x"]}
    data = graph(first, *chain, *shows, links=[[number, number, 0, 0, 0] for number in range(5_001)])
    began = time.process_time()
    workflow = Workflow.from_data(data, TOYS)
    assert time.process_time() - began < 10
    assert workflow.prompt["30999"]["inputs"] == {"item": ["0", 0]}


@pytest.mark.parametrize("form", [("PNG", {}), ("WEBP", {"lossless": True}), ("WEBP", {"quality": 50})])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pictures_carry_workflows_and_keep_their_pixels(
    tmp_path: Path, form: tuple[str, Json], mode: str
) -> None:
    path = tmp_path / f"a.{form[0].lower()}"
    Image.linear_gradient("L").resize((33, 20)).convert(mode).save(path, form[0], **form[1])
    before = Image.open(path).convert("RGBA").tobytes()
    data = path.read_bytes()
    for texts in ({"prompt": {"1": "grün 🎨"}, "workflow": {"b": 1}}, {"prompt": {"2": "x" * 70_000}}):
        data = with_workflow(data, texts, "a")
        assert {key: json.loads(text) for key, text in texts_of(data).items()} == texts
    path.write_bytes(data)
    with Image.open(path) as picture:
        assert (picture.size, picture.convert("RGBA").tobytes()) == ((33, 20), before)


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n\0\0\0\xffIHDR", b"RIFF\0\0\0\0WEBPVP8 \xff\0\0\0", b"GIF89a", b""]
)
def test_what_is_no_whole_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ValidationError):
        with_workflow(data, {}, "a")


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_convert_into_pictures(shell: Any, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "ui.json").write_text(json.dumps(FOREIGN))
    code, _, err = shell("convert", "ui.json", "-o", f"a.{suffix}")
    assert code == 2 and "there is none at" in err
    Image.new("RGB", (4, 4)).save(tmp_path / f"a.{suffix}")
    for form in ("ui", "document", "api"):
        assert shell("convert", "ui.json", "--to", form, "-o", f"a.{suffix}")[0] == 0
        code, out, _ = shell("convert", f"a.{suffix}", "--to", "api")
        assert json.loads(out)["3"]["inputs"] == {"item": ["2", 0]}
        texts = texts_of((tmp_path / f"a.{suffix}").read_bytes())
        found = json.loads(texts["workflow"]) if "workflow" in texts else {}
        assert ("nodes" in found, "nodegraph" in found) == (form == "ui", form == "document")
    code, _, err = shell("convert", f"a.{suffix}", "-o", f"b.{'png' if suffix == 'webp' else 'webp'}")
    assert code == 2 and "no picture of the kind" in err
    assert shell("convert", f"a.{suffix}", "-o", f"b.{suffix}")[0] == 0
    assert Workflow.load(tmp_path / f"b.{suffix}", TOYS).prompt["1"]["inputs"] == {"name": "a.safetensors"}
