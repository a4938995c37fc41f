"""What a person does first in the editor, in a real browser."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

ROOT = Path(__file__).parents[2]
PICTURE = "figure img"


def node(page: Page, title: str) -> Locator:
    """The node of a title."""
    return page.locator(".node", has=page.locator(".head .name").get_by_text(title, exact=True))


def field(page: Page, name: str) -> Locator:
    """The field of a widget."""
    return page.get_by_role("textbox", name=name, exact=True)


def run(page: Page) -> None:
    """Run what is on the canvas and wait for the end."""
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator('.status:is([data-status="success"], [data-status="failed"])').wait_for(timeout=60_000)


def status(page: Page) -> str:
    return page.locator(".status").inner_text()


def downloaded(page: Page, entry: str) -> dict[str, Any]:
    """The JSON that an entry of the File menu downloads."""
    page.get_by_role("button", name="File", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name=entry, exact=True).click()
    found: dict[str, Any] = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    return found


def link(page: Page, output: str, target: str) -> None:
    """Drag from an output to an input, by their names."""
    page.get_by_label(output, exact=True).drag_to(page.get_by_label(target, exact=True))


def drag(page: Page, what: Locator, right: int, down: int) -> None:
    """Move something by so many pixels of the screen."""
    box = what.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right, y + down, steps=5)
    page.mouse.up()


def add(page: Page, name: str, x: int, y: int) -> None:
    """Add the first node that the search finds, at a place of the canvas."""
    page.locator(".react-flow__pane").dblclick(position={"x": x, "y": y})
    page.get_by_role("combobox", name="Add a node").fill(name)
    page.keyboard.press("Enter")


def test_the_example_runs_and_its_picture_is_shown_and_what_is_unchanged_is_cached(page: Page) -> None:
    run(page)
    assert "Done" in status(page)
    source = page.locator(PICTURE).first.get_attribute("src")
    assert source is not None
    picture = Image.open(io.BytesIO(page.request.get(f"{page.url.rstrip('/')}{source}").body()))
    assert picture.size == (128, 128)
    red, _, blue = picture.convert("RGB").getpixel((64, 64))  # type: ignore[misc]
    assert red > blue, "the example asks for a red circle"

    field(page, "steps of Sampler").fill("7")
    run(page)
    assert node(page, "Prompt").get_attribute("data-state") == "cached"
    assert node(page, "Prompt").locator(".badge").inner_text() == "cached"
    assert node(page, "Sampler").get_attribute("data-state") == "done"
    assert re.fullmatch(r"[\d.]+ s|< 0\.1 s", node(page, "Sampler").locator(".badge").inner_text())
    run(page)
    assert "nothing had changed" in status(page)
    assert node(page, "Model").get_attribute("data-state") == "cached"


def test_progress_and_a_preview_are_on_the_node_and_a_run_can_be_cancelled(page: Page) -> None:
    field(page, "steps of Sampler").fill("3000")
    page.get_by_role("button", name="Run", exact=True).click()
    sampler = node(page, "Sampler")
    sampler.get_by_role("progressbar").wait_for()
    sampler.get_by_text("of 3000").wait_for()
    assert re.fullmatch(r"\d+ s", sampler.locator(".spent").inner_text())
    sampler.get_by_alt_text("Preview of Sampler").wait_for()
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_text("Cancelled").wait_for()
    page.get_by_role("button", name="Run", exact=True).wait_for()


def test_a_picture_is_made_from_an_empty_canvas_by_dragging(page: Page) -> None:
    page.get_by_role("button", name="File", exact=True).click()
    page.get_by_role("button", name="New, empty").click()
    for name, x, y in (
        ("load checkpoint", 30, 60),
        ("clip text encode", 310, 60),
        ("empty latent image", 310, 220),
        ("ksampler", 620, 60),
        ("vae decode", 310, 420),
        ("save image", 620, 420),
    ):
        add(page, name, x, y)
    assert page.locator(".node").count() == 6
    link(page, "Output CLIP of Load Checkpoint: CLIP", "Input clip of CLIP Text Encode (Prompt): CLIP")
    link(page, "Output MODEL of Load Checkpoint: MODEL", "Input model of KSampler: MODEL")
    encoded = "Output CONDITIONING of CLIP Text Encode (Prompt): CONDITIONING"
    link(page, encoded, "Input positive of KSampler: CONDITIONING")
    link(page, encoded, "Input negative of KSampler: CONDITIONING")
    link(page, "Output LATENT of Empty Latent Image: LATENT", "Input latent_image of KSampler: LATENT")
    link(page, "Output LATENT of KSampler: LATENT", "Input samples of VAE Decode: LATENT")
    link(page, "Output VAE of Load Checkpoint: VAE", "Input vae of VAE Decode: VAE")
    # The wrong type is refused, so that the next one is the only link into the input.
    link(page, "Output LATENT of KSampler: LATENT", "Input images of Save Image: IMAGE")
    link(page, "Output IMAGE of VAE Decode: IMAGE", "Input images of Save Image: IMAGE")
    assert page.locator(".react-flow__edge").count() == 8
    field(page, "width of Empty Latent Image").fill("128")
    field(page, "height of Empty Latent Image").fill("128")
    field(page, "steps of KSampler").fill("2")
    field(page, "text of CLIP Text Encode (Prompt)").fill("a large green triangle")
    run(page)
    assert "Done" in status(page)
    assert page.locator(PICTURE).count() == 1


def test_an_error_is_shown_on_the_node_on_the_input_and_in_the_panel(page: Page) -> None:
    node(page, "Prompt").locator(".head").click()
    page.keyboard.press("Delete")
    run(page)
    assert status(page) == "Failed"
    sampler = node(page, "Sampler")
    assert sampler.get_attribute("data-state") == "failed"
    assert sampler.locator("[data-troubled]").inner_text() == "positive"
    panel = page.get_by_role("region", name="Problems")
    # The list leads to the node, wherever that is.
    page.locator(".react-flow__pane").hover(position={"x": 10, "y": 10})
    for _ in range(3):
        page.mouse.wheel(0, -400)
    sampler.wait_for(state="detached")
    panel.get_by_role("button", name="Sampler").click()
    sampler.wait_for()
    assert page.locator(".node[data-selected] .head .name").inner_text() == "Sampler"


def test_what_is_wrong_comes_with_what_would_help(page: Page, tmp_path: Path) -> None:
    document = json.loads((ROOT / "workflows" / "text_to_image.json").read_text(encoding="utf-8"))
    document["prompt"]["3"]["inputs"]["sampler_name"] = "eulr"
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    page.locator("#file-menu input[type=file]").set_input_files(path)
    sampler = node(page, "Sampler")
    sampler.get_by_text("eulr", exact=True).wait_for()
    run(page)
    assert "sampler_name" in sampler.locator(".row[data-troubled]").inner_text()
    troubles = sampler.locator(".troubles").inner_text()
    assert "not one of the choices" in troubles and "Did you mean 'euler'" in troubles
    told = page.get_by_role("region", name="Problems").locator("li").inner_text()
    for words in ("Found: 'eulr'", "Allowed: 'euler'", "Did you mean 'euler'"):
        assert words in told


def test_what_comes_after_a_failure_is_skipped(page: Page, tmp_path: Path) -> None:
    document = json.loads((ROOT / "workflows" / "text_to_image.json").read_text(encoding="utf-8"))
    # Whether two latents can be laid over each other is found out at work.
    size = {"width": 64, "height": 64, "batch_size": 1}
    document["prompt"]["10"] = {"class_type": "EmptyPixelLatent", "inputs": size, "_meta": {"pos": [0, 500]}}
    document["prompt"]["11"] = {
        "class_type": "LatentCompositeMasked",
        "inputs": {"destination": ["5", 0], "source": ["10", 0], "x": 0, "y": 0, "resize_source": False},
        "_meta": {"title": "Over", "pos": [630, 500]},
    }
    document["prompt"]["8"]["inputs"]["samples"] = ["11", 0]
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    page.locator("#file-menu input[type=file]").set_input_files(path)
    node(page, "Over").wait_for()
    run(page)
    assert node(page, "Over").get_attribute("data-state") == "failed"
    for title in ("Decode", "Save"):
        assert node(page, title).locator(".badge").inner_text() == "skipped"


def test_everything_that_is_done_can_be_undone(page: Page) -> None:
    before = downloaded(page, "Download .json")
    field(page, "text of Prompt").fill("a small yellow star")
    drag(page, node(page, "Sampler").locator(".head"), 40, 300)
    node(page, "Size").locator(".head").click()
    page.keyboard.press("Delete")
    add(page, "ksampler", 60, 60)
    field(page, "steps of KSampler").fill("7")
    field(page, "steps of KSampler").press("Enter")
    after = downloaded(page, "Download .json")
    assert set(after["prompt"]) - set(before["prompt"]) == {"10"}
    assert after["prompt"]["10"]["inputs"]["steps"] == 7
    assert after["prompt"]["3"]["_meta"]["pos"] != before["prompt"]["3"]["_meta"]["pos"]
    assert "latent_image" not in after["prompt"]["3"]["inputs"]
    undo = page.get_by_role("button", name="Undo")
    while undo.is_enabled():
        undo.click()
    assert downloaded(page, "Download .json") == before
    redo = page.get_by_role("button", name="Redo")
    while redo.is_enabled():
        redo.click()
    assert downloaded(page, "Download .json") == after


def test_the_largest_seed_reaches_the_picture_with_every_digit(page: Page) -> None:
    largest = 18446744073709551615
    field(page, "seed of Sampler").fill(str(largest))
    field(page, "steps of Sampler").fill("1")
    run(page)
    source = page.locator(PICTURE).first.get_attribute("src")
    picture = Image.open(io.BytesIO(page.request.get(f"{page.url.rstrip('/')}{source}").body()))
    assert json.loads(picture.info["prompt"])["3"]["inputs"]["seed"] == largest
    assert downloaded(page, "Download .json")["prompt"]["3"]["inputs"]["seed"] == largest
    assert largest in downloaded(page, "Download for ComfyUI")["nodes"][0]["widgets_values"]


def test_a_link_dropped_on_the_canvas_offers_what_fits_and_connects_it(page: Page) -> None:
    image = page.get_by_label("Output IMAGE of Decode: IMAGE", exact=True)
    image.drag_to(page.locator(".react-flow__pane"), target_position={"x": 800, "y": 700})
    page.get_by_role("combobox", name="Add a node").fill("preview")
    page.get_by_role("option", name="Preview Image").click()
    found = downloaded(page, "Download .json")["prompt"]["10"]
    assert found["class_type"] == "PreviewImage"
    assert found["inputs"]["images"] == ["8", 0]


def test_a_workflow_is_saved_and_opened_again(page: Page) -> None:
    page.get_by_label("Title of the workflow").fill("My circles")
    field(page, "text of Prompt").fill("two circles")
    page.keyboard.press("Control+s")
    page.get_by_text("Saved as “My circles”.").wait_for()
    page.reload()
    page.get_by_role("button", name="File", exact=True).click()
    page.get_by_role("button", name="My circles", exact=True).click()
    text = field(page, "text of Prompt")
    assert text.input_value() == "two circles"


@pytest.mark.parametrize("form", ["document", "api", "ui", "png"])
def test_a_file_of_any_format_is_opened(page: Page, form: str, tmp_path: Path) -> None:
    if form == "png":
        field(page, "steps of Sampler").fill("1")
        run(page)
        source = page.locator(PICTURE).first.get_attribute("src")
        name, data = "picture.png", page.request.get(f"{page.url.rstrip('/')}{source}").body()
    else:
        entry = {"document": "Download .json", "api": "Download as API .json", "ui": "Download for ComfyUI"}[
            form
        ]
        name, data = "file.json", json.dumps(downloaded(page, entry)).encode()
    path = tmp_path / name
    path.write_bytes(data)
    page.get_by_role("button", name="File", exact=True).click()
    page.get_by_role("button", name="New, empty").click()
    assert page.locator(".node").count() == 0
    page.locator("#file-menu input[type=file]").set_input_files(path)
    node(page, "Sampler").wait_for()
    assert downloaded(page, "Download .json")["prompt"]["3"]["inputs"]["latent_image"] == ["5", 0]


def test_sizes_and_sockets_are_where_they_were_reckoned_before_drawing(page: Page) -> None:
    sampler = node(page, "Sampler")
    drawn = sampler.evaluate("node => node.offsetHeight")
    assert drawn == 1 + 34 + 5 + 4 * 24 + 6 * 28 + 5 + 1
    size = node(page, "Size")
    assert size.evaluate("node => node.offsetHeight") == 1 + 34 + 5 + 24 + 3 * 28 + 5 + 1
    assert node(page, "Prompt").evaluate("node => node.offsetHeight") == 140, (
        "text is as high as the file says"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_is_the_systems_until_it_is_chosen(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    colour = "getComputedStyle(document.querySelector('.bar')).backgroundColor"
    before = page.evaluate(colour)
    page.get_by_role("button", name="Theme").click()  # light
    light = page.evaluate(colour)
    page.get_by_role("button", name="Theme").click()  # dark
    dark = page.evaluate(colour)
    assert light != dark
    assert before == (dark if scheme == "dark" else light)


def test_the_shortcuts_are_listed(page: Page) -> None:
    page.locator(".react-flow__pane").click(position={"x": 20, "y": 20})
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keyboard shortcuts").get_by_text("Delete what is selected").wait_for()
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0


def test_a_title_with_markup_is_text(page: Page, tmp_path: Path) -> None:
    document = json.loads((ROOT / "workflows" / "text_to_image.json").read_text(encoding="utf-8"))
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    document["title"] = document["prompt"]["3"]["_meta"]["title"] = hostile
    path = tmp_path / "hostile.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    page.on("dialog", lambda dialog: pytest.fail(f"script ran: {dialog.message}"))
    page.locator("#file-menu input[type=file]").set_input_files(path)
    node(page, hostile).wait_for()
