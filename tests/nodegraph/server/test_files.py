"""Files over HTTP: showing, uploading, masks; and names that try to lead elsewhere."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from urllib.parse import urlencode

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nodegraph.server.config import Limits
from tests.nodegraph.server.serving import Served, served

OUTSIDE = (
    "../secret.png",
    "..\\secret.png",
    "a/../../secret.png",
    "/etc/passwd",
    "\\etc\\passwd",
    "%2e%2e/secret.png",
    "link/secret.png",
    "file-link.png",
    "C:\\secret.png",
    "..",
    "secret.png\0.png",
)


def picture(
    size: tuple[int, int] = (8, 6), colour: tuple[int, ...] = (255, 0, 0, 128), **texts: str
) -> bytes:
    """A PNG."""
    buffer = io.BytesIO()
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    Image.new("RGBA", size, colour).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


async def view(server: Served, status: int = 200, **query: str) -> tuple[bytes, dict[str, str]]:
    """The bytes and headers of a file."""
    async with server.session.get(f"{server.url}/view?{urlencode(query)}") as answer:
        assert answer.status == status, await answer.text()
        return await answer.read(), dict(answer.headers)


async def test_a_picture_is_shown_and_anything_else_is_downloaded(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        output = tmp_path / "output"
        (output / "sub").mkdir()
        data = picture()
        (output / "sub" / "a_00001_.png").write_bytes(data)
        for name in ("page.html", "drawing.svg", "notes.txt", "script.js", "x.json"):
            (output / name).write_text("<script>alert(1)</script>", encoding="utf-8")
        body, headers = await view(server, filename="a_00001_.png", subfolder="sub", type="output")
        assert body == data
        assert headers["Content-Type"] == "image/png"
        assert headers["Content-Disposition"].startswith("inline")
        for name in ("page.html", "drawing.svg", "notes.txt", "script.js", "x.json"):
            _, headers = await view(server, filename=name)
            assert headers["Content-Type"] == "application/octet-stream"
            assert headers["Content-Disposition"].startswith("attachment")
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "sandbox" in headers["Content-Security-Policy"]


async def test_files_of_each_folder_and_of_none(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        (tmp_path / "data" / "temp" / "t.png").write_bytes(picture())
        await view(server, filename="hello.png", type="input")
        await view(server, filename="t.png", type="temp")
        await view(server, filename="t.png [temp]")
        await view(server, 404, filename="t.png")
        await view(server, 404, filename="output")
        await view(server, 400, filename="t.png", type="models")
        await view(server, 400, filename="")
        assert await server.error("GET", "/view", 400) == "invalid_request"
        (tmp_path / "output" / 'ü "x".png').write_bytes(picture())
        _, headers = await view(server, filename='ü "x".png')
        assert "filename*=UTF-8''%C3%BC%20%22x%22.png" in headers["Content-Disposition"]


@pytest.mark.parametrize("name", OUTSIDE)
async def test_no_name_leads_out_of_a_folder(tmp_path: Path, name: str) -> None:
    async with served(tmp_path) as server:
        secret = tmp_path / "secret.png"
        secret.write_bytes(picture())
        (tmp_path / "output" / "link").symlink_to(tmp_path)
        (tmp_path / "output" / "file-link.png").symlink_to(secret)
        folder = name.rpartition("/")[0] or name
        for query in ({"filename": name}, {"filename": "secret.png", "subfolder": folder}):
            async with server.session.get(f"{server.url}/view?{urlencode(query)}") as answer:
                assert answer.status in (400, 403, 404), await answer.text()


@pytest.mark.parametrize(
    "folder", ["..", "../x", "a/../../x", "/tmp", "\\tmp", "link", "link/x", "C:\\x", "a\x01b", ".hidden"]
)
async def test_no_upload_is_kept_outside(tmp_path: Path, folder: str) -> None:
    async with served(tmp_path) as server:
        (tmp_path / "input" / "link").symlink_to(tmp_path)
        before = sorted(path for path in tmp_path.rglob("*") if path.suffix == ".png")
        for kind in ("input", "output", "temp"):
            if kind != "input" and "link" in folder:
                continue
            form = b"--x\r\nContent-Disposition: form-data; name=image; filename=new.png\r\n\r\nx\r\n"
            for key, value in (("subfolder", folder), ("type", kind), ("overwrite", "true")):
                form += f"--x\r\nContent-Disposition: form-data; name={key}\r\n\r\n{value}\r\n".encode()
            headers = {"Content-Type": "multipart/form-data; boundary=x"}
            async with server.session.post(
                server.url + "/upload/image", data=form + b"--x--\r\n", headers=headers
            ) as answer:
                assert answer.status in (400, 403), await answer.text()
        assert sorted(path for path in tmp_path.rglob("*") if path.suffix == ".png") == before


async def test_a_preview_is_smaller_and_channels_are_taken_apart(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        (tmp_path / "output" / "a.png").write_bytes(picture())
        for form, kind in (("webp;90", "WEBP"), ("jpeg;50", "JPEG"), ("webp", "WEBP"), ("nonsense", "WEBP")):
            body, headers = await view(server, filename="a.png", preview=form)
            shown = Image.open(io.BytesIO(body))
            assert (shown.format, headers["Content-Type"]) == (kind, f"image/{kind.lower()}")
        body, _ = await view(server, filename="a.png", channel="rgb")
        assert Image.open(io.BytesIO(body)).getpixel((0, 0)) == (255, 0, 0)
        body, _ = await view(server, filename="a.png", channel="a")
        assert Image.open(io.BytesIO(body)).getpixel((0, 0)) == (0, 0, 0, 128)
        await view(server, 400, filename="a.png", channel="x")
        (tmp_path / "output" / "b.png").write_bytes(b"no picture")
        await view(server, 400, filename="b.png", preview="webp")


async def test_a_picture_that_would_fill_the_memory_is_not_decoded(tmp_path: Path) -> None:
    async with served(tmp_path, limits=Limits(pixels=47)) as server:
        (tmp_path / "output" / "a.png").write_bytes(picture())
        await view(server, filename="a.png")
        await view(server, 413, filename="a.png", preview="webp")
        huge = bytearray(picture())
        huge[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
        (tmp_path / "output" / "b.png").write_bytes(huge)
        await view(server, 400, filename="b.png", preview="webp")


async def test_an_upload_keeps_what_is_there(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        folder = tmp_path / "input"
        made = await server.upload("/upload/image", "a.png", b"one")
        assert [made[name] for name in ("name", "subfolder", "type", "size")] == ["a.png", "", "input", 3]
        assert (await server.upload("/upload/image", "a.png", b"one"))["name"] == "a.png"
        assert (await server.upload("/upload/image", "a.png", b"two"))["name"] == "a (1).png"
        assert (await server.upload("/upload/image", "a.png", b"two"))["name"] == "a (1).png"
        assert (await server.upload("/upload/image", "a.png", b"three", overwrite="true"))["name"] == "a.png"
        assert ((folder / "a.png").read_bytes(), (folder / "a (1).png").read_bytes()) == (b"three", b"two")
        found = await server.upload("/api/upload/image", "b.png", b"x", subfolder="deep/er", type="temp")
        assert [found[name] for name in ("name", "subfolder", "type")] == ["b.png", "deep/er", "temp"]
        assert (tmp_path / "data" / "temp" / "deep" / "er" / "b.png").read_bytes() == b"x"
        assert list((tmp_path / "data" / "incoming").iterdir()) == []
        listed = await server.get("/internal/files/input")
        assert {"a.png", "a (1).png"} <= set(listed)


@pytest.mark.parametrize(
    "name", ["", ".hidden", "a\x7fb.png", "NUL.png", "a:b.png", "trailing. ", "x" * 300 + ".png", "?.png"]
)
async def test_an_uploaded_file_has_a_plain_name(tmp_path: Path, name: str) -> None:
    async with served(tmp_path) as server:
        before = sorted((tmp_path / "input").iterdir())
        found = await server.upload("/upload/image", name, b"x", 400)
        assert found["error"]["type"] in ("bad_name", "bad_form", "no_file")
        assert sorted((tmp_path / "input").iterdir()) == before


async def test_a_path_as_the_name_counts_as_its_last_part(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        for name in ("/etc/a.png", "../../a.png"):
            assert (await server.upload("/upload/image", name, b"x"))["name"] == "a.png"
        assert (tmp_path / "input" / "a.png").read_bytes() == b"x"


async def test_a_mask_is_laid_over_its_picture(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        (tmp_path / "output" / "a.png").write_bytes(picture(colour=(9, 8, 7, 255), prompt='{"1": {}}'))
        mask = picture(colour=(0, 0, 0, 40))
        original = json.dumps({"filename": "a.png", "subfolder": "", "type": "output"})
        found = await server.upload("/upload/mask", "mask.png", mask, original_ref=original)
        with Image.open(tmp_path / "input" / found["name"]) as merged:
            assert merged.getpixel((0, 0)) == (9, 8, 7, 40)
            assert merged.info["prompt"] == '{"1": {}}'
        small = picture((2, 2))
        refused = await server.upload("/upload/mask", "mask.png", small, 400, original_ref=original)
        assert refused["error"]["type"] == "sizes_differ"
        await server.upload("/upload/mask", "mask.png", mask, 403, original_ref='{"filename": "../a.png"}')
        await server.upload("/upload/mask", "mask.png", mask, 400, original_ref="{")
        await server.upload("/upload/mask", "mask.png", b"none", 400, original_ref=original)


async def test_models_and_their_metadata(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        models = tmp_path / "models"
        (models / "embeddings").mkdir()
        (models / "embeddings" / "fine.safetensors").write_bytes(b"x")
        header = json.dumps({"__metadata__": {"title": "T"}, "a": {"dtype": "F32"}}).encode()
        (models / "checkpoints" / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
        (models / "checkpoints" / "short.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
        (models / "my kind").mkdir()
        assert "checkpoints" in await server.get("/models") and "my kind" not in await server.get("/models")
        assert await server.get("/models/checkpoints") == [
            "m.safetensors",
            "short.safetensors",
            "toy.safetensors",
        ]
        assert await server.get("/api/embeddings") == ["fine"]
        assert await server.get("/view_metadata/checkpoints?filename=m.safetensors") == {"title": "T"}
        for name in ("short.safetensors", "toy.safetensors", "none.safetensors"):
            await server.get(f"/view_metadata/checkpoints?filename={name}", 404)
        await server.get("/view_metadata/checkpoints?filename=..%2F..%2Finput%2Fhello.png", 403)
        await server.get("/view_metadata/input?filename=hello.png", 404)
        for kind in ("input", "nothing", "..%2Finput"):
            await server.get(f"/models/{kind}", 404)
