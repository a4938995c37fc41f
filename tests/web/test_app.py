"""The form view with its calls, and the viewer of pictures, in a real browser against a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.web.test_editor import ROOT, downloaded, field, run
from tests.web.test_working import press, until

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_a_parameter_is_declared_at_its_widget_set_in_the_form_and_taken_back(page: Page) -> None:
    field(page, "denoise of Sampler").hover()
    press(page, "Make denoise of Sampler a parameter")
    assert downloaded(page, "Download .json")["parameters"]["denoise"] == {"node": "3", "input": "denoise"}
    press(page, "App view")
    form = page.get_by_role("region", name="Parameters")
    form.get_by_role("textbox", name="prompt", exact=True).fill("a green triangle")
    form.get_by_role("textbox", name="steps", exact=True).fill("2")
    run(page)
    assert page.get_by_role("region", name="Result").locator("img").count() == 1
    press(page, "Edit the form")
    name = form.get_by_role("textbox", name="Name of denoise", exact=True)
    name.fill("strength")
    name.press("Enter")
    form.get_by_role("textbox", name="Description of strength", exact=True).fill("how much changes")
    press(page, "Remove the parameter prefix")
    form.get_by_role("combobox", name="Add a parameter…").select_option(label="scheduler")
    press(page, "App view")
    after = downloaded(page, "Download .json")
    assert after["parameters"]["strength"]["description"] == "how much changes"
    assert "scheduler" in after["parameters"] and "prefix" not in after["parameters"]
    assert after["prompt"]["6"]["inputs"]["text"] == "a green triangle"
    assert field(page, "steps of Sampler").input_value() == "2"


def test_the_calls_that_are_shown_work_as_they_stand(page: Page, tmp_path: Path) -> None:
    page.get_by_label("Title of the workflow").fill("Von Hand, it's")
    press(page, "App view")
    form = page.get_by_role("region", name="Parameters")
    form.get_by_role("textbox", name="prompt", exact=True).fill('it\'s "a $HOME" of\n`circles`')
    form.get_by_role("textbox", name="steps", exact=True).fill("1")
    form.get_by_role("textbox", name="seed", exact=True).fill("18446744073709551615")
    calls = page.get_by_role("region", name="Call it from a program")
    calls.get_by_role("button", name="Save on the server").click()
    page.get_by_text("Saved as").wait_for()
    command = calls.get_by_label("curl", exact=True).last.inner_text()
    answer = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(answer.stdout)
    assert found["status"] == "completed"
    job = json.loads(page.request.get(f"{page.url.rstrip('/')}/api{found['job']}").text())
    assert job["document"]["prompt"]["6"]["inputs"]["text"] == 'it\'s "a $HOME" of\n`circles`'
    assert job["document"]["prompt"]["3"]["inputs"]["seed"] == 18446744073709551615
    calls.get_by_role("button", name="Python", exact=True).click()
    program = calls.get_by_label("Python", exact=True).last.inner_text()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told.stdout.startswith("completed")
    assert len(list(tmp_path.rglob("*.png"))) == 1


def test_a_picture_is_zoomed_moved_compared_and_says_how_it_was_made(page: Page) -> None:
    for seed in ("5", "6"):
        field(page, "seed of Sampler").fill(seed)
        field(page, "steps of Sampler").fill("2")
        run(page)
        until(page, lambda: page.locator("figure img").count() == 1)
    page.locator("figure button").click()
    viewer = page.get_by_role("dialog")
    picture = viewer.locator(".stage img")
    flat = picture.evaluate("image => image.style.transform")
    box = viewer.locator(".stage").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.wheel(0, -400)
    until(page, lambda: picture.evaluate("image => image.style.transform") != flat)
    zoomed = picture.evaluate("image => image.style.transform")
    page.mouse.down()
    page.mouse.move(box["x"] + 350, box["y"] + 220, steps=3)
    page.mouse.up()
    until(page, lambda: picture.evaluate("image => image.style.transform") != zoomed)
    page.get_by_role("button", name="show all of it").click()
    until(page, lambda: picture.evaluate("image => image.style.transform") == flat)
    press(page, "Compare side by side")
    sources = [image.get_attribute("src") for image in viewer.locator(".stage img").all()]
    assert len(set(sources)) == 2
    press(page, "Compare with a slider")
    slider = viewer.get_by_role("slider")
    clip = "layer => getComputedStyle(layer).clipPath"
    middle = viewer.locator(".layer.above").evaluate(clip)
    slider.fill("80")
    assert viewer.locator(".layer.above").evaluate(clip) != middle
    press(page, "Details")
    details = viewer.get_by_role("complementary", name="Details")
    details.get_by_text("128 × 128").wait_for()
    assert details.locator("div", has_text="seed").locator("dd").inner_text() == "6"
    with page.expect_download() as download:
        viewer.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename.endswith(".png")
