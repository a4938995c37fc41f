"""Safetensors files: what is read, and what is refused with which sentence."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from nodegraph.node import NodeError
from nodes.models.tensor_file import TensorReader, read_header, read_headers, rest


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "half": torch.randn(300, 257).half(),
        "full": torch.randn(3, 1, 5),
        "brain": torch.randn(7).bfloat16(),
        "whole": torch.arange(9).reshape(3, 3),
        "none": torch.zeros(0, 4),
        "scalar": torch.tensor(2.5),
    }


@pytest.fixture
def file(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, metadata={"title": "x"})
    return path


def test_the_header_gives_names_shapes_types_and_metadata(
    file: Path, tensors: dict[str, torch.Tensor]
) -> None:
    header = read_header(file)
    assert {name: info.shape for name, info in header.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in tensors.items()
    }
    assert all(header.tensors[name].dtype == tensor.dtype for name, tensor in tensors.items())
    assert header.metadata == {"title": "x"}


@pytest.mark.parametrize("way", ["mapped", "read"])
def test_tensors_come_back_bit_for_bit(file: Path, tensors: dict[str, torch.Tensor], way: str) -> None:
    with TensorReader(read_header(file)) as reader:
        for name, tensor in tensors.items():
            assert torch.equal(getattr(reader, way)(name), tensor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_converting_while_reading_is_converting(
    file: Path, tensors: dict[str, torch.Tensor], dtype: torch.dtype
) -> None:
    with TensorReader(read_header(file)) as reader:
        for name, tensor in tensors.items():
            assert torch.equal(reader.read(name, dtype), tensor.to(dtype))


def test_mapped_tensors_outlive_the_reader_and_never_reach_the_file(file: Path) -> None:
    before = file.read_bytes()
    with TensorReader(read_header(file)) as reader:
        tensor = reader.mapped("half")
    tensor.zero_()
    assert file.read_bytes() == before
    with TensorReader(read_header(file)) as reader:
        assert reader.mapped("half").any()


def test_rested_maps_are_read_again_when_touched(file: Path, tensors: dict[str, torch.Tensor]) -> None:
    with TensorReader(read_header(file)) as reader:
        found = {name: reader.mapped(name) for name in tensors}
        maps = reader.maps
    assert len(maps) == 1
    rest(maps)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_several_files_are_one(tmp_path: Path) -> None:
    for index in range(2):
        save_file({f"t{index}": torch.full((4,), float(index))}, tmp_path / f"{index}.safetensors")
    header = read_headers([tmp_path / "0.safetensors", tmp_path / "1.safetensors"])
    with TensorReader(header) as reader:
        assert [float(reader.read(f"t{index}")[0]) for index in range(2)] == [0.0, 1.0]


def _file(header: Any, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def _entry(shape: Any = (2,), offsets: Any = (0, 8), dtype: Any = "F32") -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.safetensors", b"", "is empty"),
        ("m.safetensors", b"<!DOCTYPE html><html><body>Log in</body></html>", "web page"),
        ("m.safetensors", b"\n <html lang=en>", "web page"),
        ("m.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS pointer"),
        ("m.safetensors", b"GGUF\x03\x00\x00\x00" + bytes(40), "GGUF"),
        ("m.safetensors", b"PK\x03\x04" + bytes(60), "pickle"),
        ("m.ckpt", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + bytes(60), "pickle"),
        ("m.pt", b"PK\x03\x04" + bytes(60), "pickle"),
        ("m.bin", bytes(64), "pickle"),
        ("m.safetensors", b"hello", "not a safetensors file"),
        ("m.safetensors", bytes(100), "not a safetensors file"),
        ("m.safetensors", struct.pack("<Q", 1 << 60) + b"{" + bytes(50), "header would be"),
        ("m.safetensors", struct.pack("<Q", 5000) + b"{" + bytes(50), "truncated"),
        ("m.safetensors", _file(_entry(), bytes(7)), "truncated: "),
        ("m.safetensors", _file(b"{not json"), "not JSON"),
        ("m.safetensors", _file(b"{" * 40), "not JSON"),
        ("m.safetensors", _file({"a": 1}), "malformed"),
        ("m.safetensors", _file({"a": {"dtype": "F32"}}), "malformed"),
        ("m.safetensors", _file(_entry(shape="ab"), bytes(8)), "malformed"),
        ("m.safetensors", _file(_entry(dtype="F13"), bytes(8)), "unknown type"),
        ("m.safetensors", _file(_entry(dtype=["F32"]), bytes(8)), "unknown type"),
        ("m.safetensors", _file(_entry(shape=(3,)), bytes(8)), "does not fit its shape"),
        ("m.safetensors", _file(_entry(shape=(-1, -2)), bytes(8)), "does not fit its shape"),
        ("m.safetensors", _file(_entry(offsets=(8, 0)), bytes(8)), "does not fit its shape"),
        ("m.safetensors", _file(b'{"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,8]}}'), "malformed"),
        ("m.safetensors", _file(b'{"a":{"dtype":"F32","shape":[0],"shape":[2]}}'), "names 'shape' twice"),
        (
            "m.safetensors",
            _file(_entry() | {"b": _entry(offsets=(4, 12))["a"]}, bytes(12)),
            "over each other",
        ),
        ("m.safetensors", _file({"__metadata__": [1]}), "metadata"),
    ],
)
def test_what_is_no_model_is_refused_in_one_sentence(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(NodeError) as caught:
        read_header(path)
    assert said in caught.value.message
    assert caught.value.message.startswith(name)
    assert caught.value.code == "bad_model_file"


def test_a_pickle_is_refused_with_the_way_to_convert_it(tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(2)}}, path)
    with pytest.raises(NodeError) as caught:
        read_header(path)
    assert caught.value.hint is not None
    assert "safetensors.torch.save_file" in caught.value.hint


def test_a_safetensors_file_under_another_name_is_read(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "model.ckpt")
    assert list(read_header(tmp_path / "model.ckpt").tensors) == ["a"]


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="cannot be read"):
        read_header(tmp_path / "none.safetensors")
    with pytest.raises(NodeError, match="is a folder"):
        read_header(tmp_path)


@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_never_worse(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "m.safetensors"
    save_file({"a": torch.arange(6.0), "b": torch.zeros(2, 2)}, path)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    try:
        with TensorReader(read_header(path)) as reader:
            for name in reader.header.tensors:
                reader.read(name)
                reader.mapped(name)
    except NodeError as error:
        assert error.message.startswith("m.safetensors")
