"""Saving, previewing and loading pictures."""

from __future__ import annotations

import json
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from nodegraph.formats.png import texts_of
from nodegraph.node import Cancelled, Context, Folders, NodeError, SavedFile
from nodes.image_files import (
    load_image,
    load_image_mask,
    load_image_output,
    preview_image,
    save_animated_png,
    save_animated_webp,
    save_image,
    to_pil,
)
from nodes.values import Image
from tests.nodes.conftest import MakeContext

DOCUMENT: dict[str, Any] = {
    "nodegraph": 1,
    "title": "A title: ü",
    "prompt": {"3": {"class_type": "KSampler", "inputs": {"seed": 2**64 - 1}}},
}
EXIF_ORIENTATION = 0x0112


def levels(*shape: int) -> torch.Tensor:
    """Pixels that 8 bits hold exactly."""
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, 256, shape, generator=generator).float() / 255


def saved(shown: Any, key: str = "images") -> list[SavedFile]:
    return list(shown.ui[key])


@pytest.mark.parametrize("channels", [3, 4])
def test_a_saved_picture_loads_again(context: Context, channels: int) -> None:
    pixels = levels(2, 5, 7, channels)
    files = saved(save_image(Image(pixels), context, "a/b"))
    assert [item.filename for item in files] == ["b_00001_.png", "b_00002_.png"]
    loaded = load_image_output("a/b_00002_.png", context)
    torch.testing.assert_close(loaded.IMAGE.pixels, pixels[1:, ..., :3], rtol=0, atol=1e-7)
    if channels == 4:
        torch.testing.assert_close(loaded.MASK.values, 1 - pixels[1:, ..., 3], rtol=0, atol=1e-7)
    else:
        assert loaded.MASK.values.shape == (1, 64, 64) and not loaded.MASK.values.any()


def test_levels_are_cut_off_not_rounded() -> None:
    values = torch.tensor([-1.0, 0.0, 0.999 / 255, 1.999 / 255, 0.5, 1.0, 2.0, float("nan"), float("inf")])
    picture = to_pil(values[None, :, None].repeat(1, 1, 3))
    assert np.asarray(picture)[0, :, 0].tolist() == [0, 0, 0, 1, 127, 255, 255, 0, 255]


def test_a_picture_that_is_nan_throughout_is_refused(context: Context, folders: Folders) -> None:
    with pytest.raises(NodeError, match="not a number") as caught:
        save_image(Image(torch.full((1, 4, 4, 3), float("nan"))), context)
    assert caught.value.code == "not_a_number"
    assert not any(folders.output.rglob("*"))


def test_a_picture_of_two_channels_is_refused(context: Context, folders: Folders) -> None:
    with pytest.raises(NodeError, match="1, 3 or 4 channels"):
        save_image(Image(levels(1, 4, 4, 2)), context)
    assert not folders.output.exists()


def test_a_cancelled_run_saves_nothing_more(make_context: MakeContext, folders: Folders) -> None:
    ctx = make_context()
    ctx.cancelled = True
    with pytest.raises(Cancelled):
        save_image(Image(levels(2, 4, 4, 3)), ctx)
    assert not folders.output.exists()


def test_an_empty_batch_is_refused(context: Context) -> None:
    with pytest.raises(NodeError, match="no picture to save"):
        save_image(Image(torch.zeros(0, 4, 4, 3)), context)


def test_a_png_carries_its_workflow(make_context: MakeContext) -> None:
    (file,) = saved(save_image(Image(levels(1, 4, 4, 3)), make_context(DOCUMENT)))
    texts = texts_of(file.path.read_bytes())
    assert json.loads(texts["prompt"]) == DOCUMENT["prompt"]
    assert json.loads(texts["workflow"]) == DOCUMENT
    assert json.loads(texts["nodegraph"])["torch"]


def test_an_editor_graph_that_came_along_is_kept(make_context: MakeContext) -> None:
    graph: dict[str, Any] = {"nodes": [], "links": []}
    document = {**DOCUMENT, "extra_data": {"extra_pnginfo": {"workflow": graph, "note": "mine"}}}
    (file,) = saved(save_image(Image(levels(1, 4, 4, 3)), make_context(document)))
    texts = texts_of(file.path.read_bytes())
    assert json.loads(texts["workflow"]) == graph
    assert json.loads(texts["note"]) == "mine"


def test_metadata_can_be_turned_off(make_context: MakeContext) -> None:
    quiet = make_context(DOCUMENT, metadata=False)
    (file,) = saved(save_image(Image(levels(1, 4, 4, 3)), quiet))
    (webp,) = saved(save_animated_webp(images=Image(levels(2, 4, 4, 3)), ctx=quiet, method="fastest"))
    assert texts_of(file.path.read_bytes()) == {}
    assert texts_of(webp.path.read_bytes()) == {}


def test_names_take_values_of_nodes_and_sizes(make_context: MakeContext) -> None:
    shown = save_image(Image(levels(1, 4, 6, 3)), make_context(DOCUMENT), "%width%x%height%_%KSampler.seed%")
    assert saved(shown)[0].filename == "6x4_18446744073709551615_00001_.png"


def test_previews_go_to_the_temporary_folder(context: Context, folders: Folders) -> None:
    (file,) = saved(preview_image(Image(levels(1, 4, 4, 3)), context))
    assert file.type == "temp" and file.path.parent == folders.temp
    assert not folders.output.exists()


def test_an_animated_webp_has_its_frames_and_workflow(make_context: MakeContext, folders: Folders) -> None:
    pixels = levels(3, 8, 8, 3)
    shown = save_animated_webp(images=Image(pixels), ctx=make_context(DOCUMENT), fps=10.0, method="default")
    assert shown.ui["animated"] == (True,)
    (file,) = saved(shown)
    with PIL.Image.open(file.path) as opened:
        assert (opened.format, getattr(opened, "n_frames", 1)) == ("WEBP", 3)
        opened.seek(1)
        opened.load()
        assert opened.info["duration"] == 100
        np.testing.assert_array_equal(np.asarray(opened.convert("RGB")) / np.float32(255), pixels[1].numpy())
    texts = texts_of(file.path.read_bytes())
    assert json.loads(texts["prompt"]) == DOCUMENT["prompt"]
    assert json.loads(texts["workflow"]) == DOCUMENT


def test_a_webp_of_one_frame_is_not_animated(context: Context) -> None:
    shown = save_animated_webp(
        images=Image(levels(1, 8, 8, 3)), ctx=context, method="slowest", lossless=False
    )
    assert shown.ui["animated"] == (False,)


def test_an_animated_png_has_its_frames_and_workflow(make_context: MakeContext) -> None:
    pixels = levels(3, 8, 8, 3)
    shown = save_animated_png(Image(pixels), make_context(DOCUMENT), fps=4.0)
    assert shown.ui["animated"] == (True,)
    data = saved(shown)[0].path.read_bytes()
    with PIL.Image.open(BytesIO(data)) as opened:
        assert getattr(opened, "n_frames", 1) == 3
        assert opened.info["duration"] == 250
    assert json.loads(texts_of(data)["prompt"]) == DOCUMENT["prompt"]


def put(folders: Folders, name: str, picture: PIL.Image.Image, **options: Any) -> str:
    picture.save(folders.input / name, **options)
    return name


def colours(*shape: int) -> PIL.Image.Image:
    array = (levels(*shape) * 255).round().to(torch.uint8).numpy()
    return PIL.Image.fromarray(array)


def test_a_photograph_is_turned_upright(context: Context, folders: Folders) -> None:
    exif = PIL.Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    picture = colours(4, 9, 3)
    loaded = load_image(put(folders, "a.png", picture, exif=exif), context).IMAGE.pixels
    expected = torch.from_numpy(np.array(picture)).float()[None] / 255
    torch.testing.assert_close(loaded, expected.rot90(-1, (1, 2)), rtol=0, atol=1e-7)


def test_a_palette_with_transparency(context: Context, folders: Folders) -> None:
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putdata([0, 1])
    loaded = load_image(put(folders, "a.png", picture, transparency=1), context)
    assert loaded.IMAGE.pixels.tolist() == [[[[1, 0, 0], [0, 0, 1]]]]
    assert loaded.MASK.values.tolist() == [[[0, 1]]]


def test_sixteen_bit_grey_keeps_its_range(context: Context, folders: Folders) -> None:
    grey = PIL.Image.fromarray(np.array([[0, 255 * 128, 65535]], np.uint16))
    loaded = load_image(put(folders, "a.png", grey), context).IMAGE.pixels
    assert (loaded[0, 0] * 255).round().tolist() == [[0, 0, 0], [128, 128, 128], [255, 255, 255]]


def test_an_animation_loads_as_a_batch(context: Context, folders: Folders) -> None:
    frames = [PIL.Image.new("RGB", (3, 2), color) for color in ("red", "lime", "blue")]
    name = put(folders, "a.gif", frames[0], save_all=True, append_images=frames[1:])
    loaded = load_image(name, context)
    assert loaded.IMAGE.pixels[:, 0, 0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert loaded.MASK.values.shape[0] == 3


@pytest.mark.parametrize(
    ("channel", "expected"),
    [("alpha", 1 - 40 / 255), ("red", 10 / 255), ("green", 20 / 255), ("blue", 30 / 255)],
)
def test_a_channel_as_mask(context: Context, folders: Folders, channel: str, expected: float) -> None:
    name = put(folders, "a.png", PIL.Image.new("RGBA", (3, 2), (10, 20, 30, 40)))
    values = load_image_mask(name, channel, context).values
    torch.testing.assert_close(values, torch.full((1, 2, 3), expected))


def test_a_picture_without_alpha_is_opaque(context: Context, folders: Folders) -> None:
    name = put(folders, "a.png", PIL.Image.new("L", (3, 2), 9))
    assert load_image_mask(name, "alpha", context).values.tolist() == [[[0, 0, 0], [0, 0, 0]]]


def test_a_name_may_say_its_folder(context: Context) -> None:
    save_image(Image(levels(1, 4, 4, 3)), context, "x")
    assert load_image("x_00001_.png [output]", context).IMAGE.pixels.shape == (1, 4, 4, 3)


def test_a_truncated_picture_is_one_clear_error(context: Context, folders: Folders) -> None:
    path = folders.input / put(folders, "a.png", colours(40, 40, 3))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(NodeError, match=r"a\.png is damaged"):
        load_image("a.png", context)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_one_clear_error(context: Context, folders: Folders, content: bytes) -> None:
    (folders.input / "a.png").write_bytes(content)
    with pytest.raises(NodeError, match=r"a\.png is not a picture"):
        load_image("a.png", context)


def test_a_picture_that_is_far_too_large_is_refused(context: Context, folders: Folders) -> None:
    path: Path = folders.input / put(folders, "a.png", PIL.Image.new("1", (8, 8)))
    data = path.read_bytes()
    header = b"IHDR" + struct.pack(">II", 30000, 30000) + data[24:29]
    path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    with pytest.raises(NodeError, match="too large"):
        load_image("a.png", context)


@pytest.mark.parametrize("name", ["no.png", "../secret.png"])
def test_a_file_that_is_not_among_the_inputs(context: Context, folders: Folders, name: str) -> None:
    (folders.input.parent / "secret.png").write_bytes(b"")
    with pytest.raises(NodeError):
        load_image(name, context)
