"""What an output file says of its making: the workflow, the models, the versions, the machine."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any

from nodegraph.node import Context, NodeError, file_identity

HASHED_BYTES = 64 * 2**20
"""Models up to this size are named by their SHA-256: hashing gigabytes would take longer than many a picture.

`file_identity` is that hash only for files that it reads whole, which are those up to this size.
"""


def metadata(ctx: Context) -> dict[str, str]:
    """JSON texts by key for a file's metadata; empty where the runtime option `metadata` is off.

    `prompt` is the graph in API form, `workflow` the whole document (or the editor graph that came with it) and
    `nodegraph` the versions and, where models were used, their files, the kind of device and the precision.
    """
    if not ctx.runtime.options.get("metadata", True):
        return {}
    document = ctx.document
    prompt = document.get("prompt")
    texts = {"prompt": _json(prompt if isinstance(prompt, Mapping) else document)}
    extra = document.get("extra_data")
    extra = extra.get("extra_pnginfo") if isinstance(extra, Mapping) else None
    if isinstance(extra, Mapping):
        texts.update({str(key): _json(item) for key, item in extra.items()})
    if "workflow" not in texts and "nodegraph" in document:
        texts["workflow"] = _json(document)
    texts["nodegraph"] = _json(_making(ctx))
    return texts


def _making(ctx: Context) -> dict[str, Any]:
    facts: dict[str, Any] = {"version": _version("nodegraph"), "torch": _version("torch")}
    models = _models(ctx)
    if models:
        from nodes.models.devices import network_dtype, resolve_device

        device = resolve_device(ctx.runtime.device)
        dtype = network_dtype(ctx.runtime.dtype, device)
        facts |= {"device": device.type, "dtype": str(dtype).removeprefix("torch."), "models": models}
    return facts


def _models(ctx: Context) -> list[dict[str, Any]]:
    """The model files that the graph names, each once."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for item in ctx.graph.nodes.values():
        for name, value in item.literals.items():
            choice = item.spec.inputs[name].choice
            kind = choice.files if choice is not None else None
            if kind is None or kind in ("input", "output", "temp") or not isinstance(value, str):
                continue
            found.setdefault((kind, value), _model(ctx, kind, value))
    return list(found.values())


def _model(ctx: Context, kind: str, name: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"folder": kind, "name": name}
    try:
        path = ctx.folders.find(kind, name)
        if path.is_file():
            facts["bytes"] = path.stat().st_size
            if facts["bytes"] <= HASHED_BYTES:
                facts["sha256"] = file_identity(path)
    except (NodeError, OSError):
        # The file went away while the graph ran; its name is still worth keeping.
        pass
    return facts


def _json(item: Any) -> str:
    # Documents are read-only mappings, which json does not know.
    return json.dumps(item, default=dict)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
