"""Safetensors files: a checked header, and tensors mapped or read one at a time.

The format (https://github.com/huggingface/safetensors): eight bytes of little-endian header length, a JSON
header of `{name: {dtype, shape, data_offsets}}` with an optional `__metadata__` of strings, then the data.
"""

from __future__ import annotations

import io
import json
import math
import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from nodegraph.node import NodeError

MAX_HEADER = 100_000_000
"""Bytes; the limit that the format's own reader keeps."""
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_PIECE = 32_000
"""Elements; torch starts further threads from 32,768."""
CONVERT_HINT = (
    "Pickle files can run code when they are opened. Convert it once, where you trust it: "
    "`torch.load(path, map_location='cpu', weights_only=True)`, take `state_dict` out of it if it is there, and write "
    "the tensors with `safetensors.torch.save_file`; or download the .safetensors version."
)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies: `start` and `stop` are byte offsets in the file at `path`."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int
    path: Path


@dataclass(frozen=True)
class TensorHeader:
    """What a safetensors file, or several that belong together, holds, without the data."""

    paths: tuple[Path, ...]
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape by tensor name."""
        return {name: info.shape for name, info in self.tensors.items()}


def read_header(path: Path) -> TensorHeader:
    """Return the header of the safetensors file at `path`.

    Raises NodeError where the file is a pickle, something else, empty, truncated or damaged.
    """
    if path.is_dir():
        raise _bad(path, "it is a folder, not a file", "Use DiffusersLoader for a diffusers folder.")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
            length = struct.unpack("<Q", head[:8])[0] if len(head) >= 8 else 0
            _check_magic(path, head, size, length)
            file.seek(8)
            raw = file.read(length)
    except OSError as error:
        raise _bad(path, f"it cannot be read ({error.strerror or error})") from error
    try:
        header = json.loads(raw, object_pairs_hook=_unique)
    except _Twice as error:
        raise _bad(
            path, f"its header names {error} twice", "The file is damaged: download it again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise _bad(path, "its header is not JSON", "The file is damaged: download it again.") from error
    return _parse(path, header, 8 + length, size)


class _Twice(Exception):
    """A key that an object of the header gives twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Twice(repr(key[:200]))
        found[key] = value
    return found


def _bad(path: Path, why: str, hint: str | None = None) -> NodeError:
    return NodeError(f"{path.name} cannot be used: {why}.", code="bad_model_file", hint=hint)


def _check_magic(path: Path, head: bytes, size: int, length: int) -> None:
    if size == 0:
        raise _bad(path, "it is empty", "Download it again.")
    start = head.lstrip()[:64].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise _bad(
            path,
            "it is a web page, not a model",
            "The download was an error or log-in page: download it again.",
        )
    if start.startswith(b"version https://git-lfs"):
        raise _bad(
            path,
            "it is a Git LFS pointer, not the model",
            "Fetch the real file, for instance with `git lfs pull`.",
        )
    if head[:4] == b"GGUF":
        raise _bad(path, "it is a GGUF file", "Use the .safetensors version of the model.")
    named_so = path.suffix.lower() in PICKLES and head[8:9] != b"{"
    # A zip archive is what torch.save writes now; before, a bare pickle of protocol 2.
    if named_so or head[:4] == b"PK\x03\x04" or head[:3] == b"\x80\x02\x8a":
        raise _bad(path, "it is a pickle (.ckpt, .pt, .pth, .bin), not safetensors", CONVERT_HINT)
    if size < 10 or length < 2 or head[8:9] not in (b"{", b" "):
        raise _bad(path, "it is not a safetensors file", "Expected a .safetensors model.")
    if length > MAX_HEADER:
        raise _bad(
            path, f"its header would be {length} bytes long", "The file is damaged or not safetensors."
        )
    if 8 + length > size:
        raise _bad(
            path, f"it is truncated: {size} bytes, its header alone needs {8 + length}", "Download it again."
        )


def _parse(path: Path, header: Any, begin: int, size: int) -> TensorHeader:
    damaged = "The file is damaged: download it again."
    if not isinstance(header, dict):
        raise _bad(path, "its header is not a JSON object", damaged)
    metadata = header.pop("__metadata__", None) or {}
    tensors: dict[str, TensorInfo] = {}
    end = begin
    for name, entry in header.items():
        try:
            shape = tuple(int(length) for length in entry["shape"])
            first, last = (int(offset) for offset in entry["data_offsets"])
            code = str(entry["dtype"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _bad(path, f"the header's entry of tensor {name!r} is malformed", damaged) from error
        if code not in DTYPES:
            raise _bad(
                path, f"tensor {name!r} has the unknown type {code!r}", "Use an fp32, fp16 or bf16 file."
            )
        dtype = DTYPES[code]
        fits = 0 <= first <= last and all(length >= 0 for length in shape)
        if not fits or last - first != math.prod(shape) * dtype.itemsize:
            raise _bad(path, f"tensor {name!r} has a size that does not fit its shape", damaged)
        tensors[name] = TensorInfo(dtype, shape, begin + first, begin + last, path)
        end = max(end, begin + last)
    ordered = sorted(
        (info.start, info.stop, name) for name, info in tensors.items() if info.start < info.stop
    )
    for (_, stop, first_name), (start, _, name) in pairwise(ordered):
        if start < stop:
            raise _bad(path, f"tensors {first_name!r} and {name!r} lie over each other", damaged)
    if end > size:
        raise _bad(path, f"it is truncated: {size} bytes, its header promises {end}", "Download it again.")
    if not isinstance(metadata, dict):
        raise _bad(path, "its metadata is not a JSON object", damaged)
    return TensorHeader((path,), tensors, {str(key): str(text) for key, text in metadata.items()})


def rest(maps: Sequence[mmap.mmap]) -> None:
    """Let the system take back the pages of maps whose tensors are not in use now; they are read again when touched."""
    for one in maps:
        if hasattr(mmap, "MADV_DONTNEED"):
            one.madvise(mmap.MADV_DONTNEED)


def read_headers(paths: Sequence[Path]) -> TensorHeader:
    """Return the headers of several files as one; the tensors and metadata of later files win.

    Raises NodeError as `read_header` does.
    """
    headers = [read_header(path) for path in paths]
    if len(headers) == 1:
        return headers[0]
    tensors: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    for header in headers:
        tensors.update(header.tensors)
        metadata.update(header.metadata)
    return TensorHeader(tuple(paths), tensors, metadata)


class TensorReader:
    """Reads the tensors of a header. Use it as a context manager; mapped tensors outlive it."""

    def __init__(self, header: TensorHeader) -> None:
        self.header = header
        self._files: dict[Path, io.FileIO] = {}
        self._maps: dict[Path, mmap.mmap] = {}

    @property
    def maps(self) -> tuple[mmap.mmap, ...]:
        """The maps that tensors were made of so far."""
        return tuple(self._maps.values())

    def __enter__(self) -> TensorReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()

    def _file(self, path: Path) -> io.FileIO:
        if path not in self._files:
            self._files[path] = io.FileIO(path, "rb")
        return self._files[path]

    def mapped(self, name: str) -> Tensor:
        """Return the tensor as a private map of the file: pages are read when touched, writes stay in memory."""
        info = self.header.tensors[name]
        if info.start == info.stop or info.start % info.dtype.itemsize:
            return self.read(name)
        if info.path not in self._maps:
            # A private writable map: torch warns about read-only buffers, and nothing may reach the file.
            self._maps[info.path] = mmap.mmap(self._file(info.path).fileno(), 0, access=mmap.ACCESS_COPY)
        count = (info.stop - info.start) // info.dtype.itemsize
        flat = torch.frombuffer(self._maps[info.path], dtype=info.dtype, count=count, offset=info.start)
        return flat.view(info.shape)

    def read(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """Return the tensor in memory of its own, as `dtype` where given.

        File pages never count as this process's memory, and a change of dtype needs no second copy.
        """
        info = self.header.tensors[name]
        self._file(info.path).seek(info.start)
        if dtype is None or dtype == info.dtype:
            raw = torch.empty(info.stop - info.start, dtype=torch.uint8)
            self._fill(info, memoryview(raw.numpy().data))
            return raw.view(info.dtype).view(info.shape)
        result = torch.empty(math.prod(info.shape), dtype=dtype)
        buffer = torch.empty(_PIECE * info.dtype.itemsize, dtype=torch.uint8)
        stored, target = buffer.view(info.dtype), memoryview(buffer.numpy().data)
        # Pieces this small are converted by one thread while they are in its cache: a load shares the machine with
        # work that runs, and waiting for a second thread for each tensor costs more than it converts.
        for first in range(0, result.numel(), _PIECE):
            part = result[first : first + _PIECE]
            self._fill(info, target[: part.numel() * info.dtype.itemsize])
            part.copy_(stored[: part.numel()])
        return result.view(info.shape)

    def _fill(self, info: TensorInfo, target: memoryview) -> None:
        file, done = self._file(info.path), 0
        while done < len(target):
            count = file.readinto(target[done:])
            if not count:
                raise _bad(info.path, "it ended early while it was read", "Was it being replaced?")
            done += count
