"""What moves the canvas' view, and the files that are dropped on it."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.web.test_canvas import PANE, document, empty
from tests.web.test_editor import downloaded

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_a_fit_jumps_at_once_for_those_who_want_no_motion(page: Page) -> None:
    # Every place that the canvas is moved to from the press of a key on.
    watch = """() => {
        window.places = [];
        const view = document.querySelector('.react-flow__viewport');
        window.watched?.disconnect();
        window.watched = new MutationObserver(() => window.places.push(view.style.transform));
        window.watched.observe(view, {attributes: true, attributeFilter: ['style']});
    }"""

    def places() -> int:
        page.locator(PANE).hover(position={"x": 10, "y": 10})
        for _ in range(3):
            page.mouse.wheel(0, -400)
        page.wait_for_timeout(300)
        page.evaluate(watch)
        page.keyboard.press("f")
        page.wait_for_timeout(500)
        return len(set(page.evaluate("window.places")))

    assert places() == 1
    page.emulate_media(reduced_motion="no-preference")
    assert any(places() > 1 for _ in range(5)), "others see it move"


def test_the_map_leads_to_where_it_is_pressed(page: Page) -> None:
    def view() -> dict[str, float]:
        found: dict[str, float] = page.locator(".react-flow__viewport").evaluate(
            "view => { const {a, e, f} = new DOMMatrix(getComputedStyle(view).transform); return {a, e, f}; }"
        )
        return found

    whole = view()
    page.locator(PANE).hover(position={"x": 10, "y": 10})
    for _ in range(3):
        page.mouse.wheel(0, -400)
    small = page.get_by_role("img", name="Map of the graph")
    box = small.bounding_box()
    near = view()
    assert box is not None and near["a"] > whole["a"]
    page.mouse.move(box["x"] + box["width"] - 30, box["y"] + box["height"] / 2)
    page.mouse.down()
    there = view()
    assert there["e"] < near["e"] - 100 and there["a"] == pytest.approx(near["a"])
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert view()["e"] > there["e"] + 100
    before = view()
    page.mouse.wheel(0, 200)
    assert view()["a"] < before["a"]
    page.get_by_role("button", name="Fit View").click()
    page.wait_for_timeout(300)
    assert view() == pytest.approx(whole, rel=0.05, abs=2)
    assert small.count() == 0


@pytest.mark.parametrize("form", ["document", "api", "ui", "png", "a1111"])
def test_a_file_that_is_dropped_on_the_canvas_is_opened(page: Page, form: str) -> None:
    entry = {"document": "Download .json", "ui": "Download for ComfyUI"}.get(form, "Download as API .json")
    data = json.dumps(downloaded(page, entry)).encode()
    name, kind = "file.json", "application/json"
    if form in ("png", "a1111"):
        name, kind = "picture.png", "image/png"
        info = PngInfo()
        if form == "png":
            info.add_text("prompt", data.decode())
        else:
            info.add_text(
                "parameters", "a red hat\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 64x64"
            )
        picture = io.BytesIO()
        Image.new("RGB", (8, 8)).save(picture, "PNG", pnginfo=info)
        data = picture.getvalue()
    empty(page)
    page.evaluate(
        """([name, kind, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name, {type: kind}));
            const options = {dataTransfer: data, bubbles: true, cancelable: true, clientX: 400, clientY: 400};
            const pane = document.querySelector('.react-flow__pane');
            pane.dispatchEvent(new DragEvent('dragover', options));
            pane.dispatchEvent(new DragEvent('drop', options));
        }""",
        [name, kind, list(data)],
    )
    page.locator(".node").nth(5).wait_for()
    kinds = [item["class_type"] for item in document(page)["prompt"].values()]
    assert "KSampler" in kinds and "LoadImage" not in kinds
