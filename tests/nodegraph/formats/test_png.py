"""Workflows in pictures."""

from __future__ import annotations

import json
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from nodegraph.errors import ValidationError
from nodegraph.formats.png import texts_of
from nodegraph.workflow import Workflow
from tests.nodegraph.toy import toy_registry

PROMPT = {"1": {"class_type": "ToyText", "inputs": {"text": "grün 🎨"}}}
DOCUMENT = {"nodegraph": 1, "title": "T", "prompt": PROMPT}
UI = {
    "nodes": [{"id": 1, "type": "ToyText", "widgets_values": ["from the editor"]}],
    "links": [],
    "version": 0.4,
}


def png(path: Path, **texts: str) -> Path:
    return png_of(path, False, **texts)


def png_of(path: Path, compressed: bool, **texts: str) -> Path:
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text, zip=compressed)
    Image.new("RGB", (2, 2)).save(path, pnginfo=info)
    return path


def webp(path: Path, **texts: str) -> Path:
    exif = Image.Exif()
    for tag, (key, text) in zip((0x0110, 0x010F), texts.items(), strict=False):
        exif[tag] = f"{key}:{text}"
    Image.new("RGB", (2, 2)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_the_prompt_of_a_png(tmp_path: Path, compressed: bool) -> None:
    path = png_of(tmp_path / "a.png", compressed, prompt=json.dumps(PROMPT, ensure_ascii=False))
    assert Workflow.load(path).prompt == PROMPT
    path = png_of(tmp_path / "b.png", compressed, prompt=json.dumps(PROMPT))
    assert Workflow.load(path).prompt == PROMPT


def test_utf8_in_a_latin1_chunk_is_understood() -> None:
    body = b"prompt\0" + json.dumps(PROMPT, ensure_ascii=False).encode()
    chunk = struct.pack(">I", len(body)) + b"tEXt" + body + struct.pack(">I", zlib.crc32(b"tEXt" + body))
    assert Workflow.of_picture(b"\x89PNG\r\n\x1a\n" + chunk, "x.png").prompt == PROMPT


def test_a_whole_document_is_preferred(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", prompt=json.dumps({}), workflow=json.dumps(DOCUMENT))
    assert Workflow.load(path).title == "T"


def test_the_api_form_is_preferred_to_the_editors(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", prompt=json.dumps(PROMPT), workflow=json.dumps(UI))
    workflow = Workflow.load(path)
    assert workflow.prompt == PROMPT
    assert workflow.extra["extra_data"]["extra_pnginfo"]["workflow"] == UI
    path = png(tmp_path / "b.png", workflow=json.dumps(UI))
    assert Workflow.load(path, toy_registry()).prompt["1"]["inputs"] == {"text": "from the editor"}


def test_a_damaged_workflow_does_not_hide_the_prompt(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", prompt=json.dumps(PROMPT), workflow="{")
    assert Workflow.load(path).prompt == PROMPT


def test_the_prompt_of_a_webp(tmp_path: Path) -> None:
    path = webp(tmp_path / "a.webp", prompt=json.dumps(PROMPT), workflow=json.dumps(UI))
    assert Workflow.load(path).prompt == PROMPT


@pytest.mark.parametrize(
    "texts", [{}, {"parameters": "in many small steps"}, {"prompt": "not JSON"}, {"prompt": "[1]"}]
)
def test_a_picture_without_a_workflow_is_refused_by_name(tmp_path: Path, texts: dict[str, str]) -> None:
    for path in (png(tmp_path / "plain.png", **texts), webp(tmp_path / "plain.webp", **texts)):
        with pytest.raises(ValidationError, match=path.name):
            Workflow.load(path)


@pytest.mark.parametrize("keep", [7, 8, 20, 40, 60, -20])
def test_a_truncated_picture_is_refused(tmp_path: Path, keep: int) -> None:
    whole: Any = png(tmp_path / "a.png", prompt=json.dumps(PROMPT)).read_bytes()
    path = tmp_path / "cut.png"
    path.write_bytes(whole[: keep if keep > 0 else 60])
    with pytest.raises(ValidationError):
        Workflow.load(path)


def test_a_decompression_bomb_is_left_out() -> None:
    bomb = zlib.compress(b"x" * (65 * 2**20))
    body = b"prompt\0\0" + bomb
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(body)) + b"zTXt" + body + b"0000"
    assert texts_of(data) == {}


def test_damaged_exif_data_is_passed_over_in_silence() -> None:
    exif = b"II*\0" * 20
    body = b"WEBPEXIF" + struct.pack("<I", len(exif)) + exif
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert texts_of(b"RIFF" + struct.pack("<I", len(body)) + body) == {}
    assert told == []
