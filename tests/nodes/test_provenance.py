"""What output files say of their making."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from nodegraph.graph import bind
from nodegraph.node import Folders, spec_of
from nodegraph.workflow import Workflow
from nodes.image_files import load_image, save_image
from nodes.provenance import metadata
from nodes.stable_diffusion.loaders import checkpoint_loader_simple
from tests.nodes.conftest import MakeContext

DOCUMENT: dict[str, Any] = {
    "prompt": {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "2": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "m.safetensors"}},
        "3": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "m.safetensors"}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }
}


def test_models_are_named_with_their_hash(make_context: MakeContext, folders: Folders) -> None:
    checkpoint = folders.models[0] / "checkpoints" / "m.safetensors"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"weights")
    (folders.input / "a.png").touch()
    specs = [spec_of(item) for item in (load_image, checkpoint_loader_simple, save_image)]
    context = make_context(DOCUMENT)
    context.bound = bind(
        Workflow.from_data(DOCUMENT), {spec.name: spec for spec in specs if spec}, folders, ["2", "3", "4"]
    )
    facts = json.loads(metadata(context)["nodegraph"])
    digest = hashlib.sha256(b"weights").hexdigest()
    assert facts["models"] == [
        {"folder": "checkpoints", "name": "m.safetensors", "bytes": 7, "sha256": digest}
    ]
    assert (facts["device"], facts["dtype"]) == ("cpu", "float32")
    checkpoint.unlink()
    facts = json.loads(metadata(context)["nodegraph"])
    assert facts["models"] == [{"folder": "checkpoints", "name": "m.safetensors"}]


def test_a_graph_without_models_names_none(make_context: MakeContext) -> None:
    facts = json.loads(metadata(make_context(DOCUMENT))["nodegraph"])
    assert set(facts) == {"version", "torch"}
    assert facts["torch"]
