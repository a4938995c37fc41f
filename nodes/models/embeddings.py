"""Textual inversions: vectors that stand for a word, from files in the `embeddings` folder."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from torch import Tensor

from nodegraph.node import Folders, NodeError
from nodes.models.tensor_file import TensorReader, read_header

_SUFFIXES = (".safetensors", ".sft", ".pt", ".bin")


def embedding_file(folders: Folders, name: str) -> Path | None:
    """Return the file of the embedding `name`: a path in the folder or a file name, its suffix optional."""
    by_name: dict[str, str] = {}
    for known in folders.list("embeddings"):
        path = PurePosixPath(known)
        for alias in (known, path.name, str(path.with_suffix("")), path.stem):
            held = by_name.get(alias)
            if held is None or _rank(known) < _rank(held):
                by_name[alias] = known
    found = by_name.get(name.replace("\\", "/"))
    return folders.find("embeddings", found) if found is not None else None


def _rank(name: str) -> tuple[int, int]:
    """Safetensors before pickles, files nearer to the top first."""
    suffix = PurePosixPath(name).suffix.lower()
    return (_SUFFIXES.index(suffix) if suffix in _SUFFIXES else len(_SUFFIXES), name.count("/"))


def read_embedding(path: Path, width: int) -> Tensor:
    """Return the vectors (n, width) of the embedding at `path`, float32; any width where none has the wanted one.

    Raises NodeError where the file is damaged, a pickle or holds no vectors.
    """
    header = read_header(path)
    tables = {
        name: info.shape
        for name, info in header.tensors.items()
        if len(info.shape) in (1, 2) and info.dtype.is_floating_point
    }
    fitting = [name for name, shape in tables.items() if shape[-1] == width]
    usual = [name for name in ("emb_params", "clip_l", "clip_g") if name in fitting]
    chosen = next(iter((*usual, *fitting, *tables)), None)
    if chosen is None:
        raise NodeError(f"{path.name} is not an embedding: it holds no vectors.", code="wrong_model_file")
    with TensorReader(header) as reader:
        return reader.read(chosen).float().reshape(-1, tables[chosen][-1])
