"""Makes docs/screenshots/*.png: the editor in Chromium, at work on a real server and the embedded model.

`python docs/make_screenshots.py [NAME...]` takes all of them, or the scenes that are named; `--to FOLDER` puts them elsewhere.
Chromium is looked for at $CHROMIUM, then on the path. The last bits of colours are dropped
until a picture is small, which no eye sees.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from playwright.sync_api import Browser, Page, sync_playwright

from tests.web.serving import FLAGS, chromium, served

ROOT = Path(__file__).parents[1]
MOST_BYTES = 180_000
WIDE, SMALL = (1360, 800), (400, 800)
PROMPTS = (
    "a small yellow star on a black background",
    "a large cyan star on a purple background",
    "a pink heart above a blue diamond on a yellow background",
    "a large red circle on a blue background",
)
ENDED = '.status:is([data-status="success"], [data-status="failed"])'


class Camera:
    """Takes a page as a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, page: Page, name: str, *, dark: bool = False) -> None:
        """Save what the page shows, and with `dark` what it shows in the dark as well."""
        for scheme in ("light", "dark") if dark else ("light",):
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.wait_for_timeout(250)
            shown = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            path = self.folder / f"{name}{'-dark' if scheme == 'dark' else ''}.png"
            # A palette of the colours that are met most would lose those of sockets and links, which are few and small.
            for bits in (7, 6, 5, 4):
                ImageOps.posterize(shown, bits).save(path, optimize=True)
                if path.stat().st_size < MOST_BYTES:
                    break
            print(f"{path}: {path.stat().st_size // 1000} kB")
        page.emulate_media(color_scheme="light")


def press(page: Page, name: str) -> None:
    """Press a button by its whole name."""
    page.get_by_role("button", name=name, exact=True).click()


def show(page: Page, panel: str) -> None:
    """Open a panel."""
    tab = page.get_by_role("navigation", name="Panels").get_by_role(
        "button", name=re.compile(rf"^{panel}( \(\d+\))?$")
    )
    if tab.get_attribute("aria-pressed") == "false":
        tab.click()
    page.wait_for_timeout(400)


def set_value(page: Page, widget: str, value: str) -> None:
    """Type into a widget."""
    field = page.get_by_role("textbox", name=widget, exact=True)
    field.fill(value)
    field.blur()


def run(page: Page, prompt: str | None = None) -> None:
    """Run, with another prompt where one is given, to the end."""
    if prompt is not None:
        set_value(page, "text of Prompt", prompt)
    press(page, "Run")
    page.wait_for_timeout(150)
    page.locator(ENDED).wait_for(timeout=120_000, state="attached")
    page.wait_for_timeout(300)


def queue(page: Page, title: str, steps: int) -> None:
    """Have a run of this title wait its turn, or begin."""
    page.get_by_label("Title of the workflow").fill(title)
    set_value(page, "steps of Sampler", str(steps))
    press(page, "Run")
    page.wait_for_timeout(300)


def cancel_all(page: Page) -> None:
    show(page, "Queue")
    press(page, "Cancel all that wait")
    press(page, "Cancel")
    page.locator('.status[data-status="cancelled"]').wait_for()


def from_afar() -> str:
    """A workflow of 500 nodes: blends of pictures, in groups of colours."""
    prompt: dict[str, Any] = {}
    for index in range(500):
        column, row = divmod(index, 20)
        meta = {"pos": [column * 340, row * 230]}
        if index < 100:
            inputs: dict[str, Any] = {"width": 8, "height": 8, "batch_size": 1, "color": index}
            prompt[str(index)] = {"class_type": "EmptyImage", "inputs": inputs, "_meta": meta}
        else:
            inputs = {"image1": [str(index - 100 + index % 7), 0], "image2": [str(index - 20), 0]}
            inputs |= {"blend_factor": 0.5, "blend_mode": "normal"}
            prompt[str(index)] = {"class_type": "ImageBlend", "inputs": inputs, "_meta": meta}
    return json.dumps({"nodegraph": 1, "title": "Five hundred nodes", "prompt": prompt})


def example(page: Page, camera: Camera) -> None:
    """What one sees first, and after the first runs."""
    camera.take(page, "example", dark=True)
    for prompt in PROMPTS:
        run(page, prompt)
    camera.take(page, "finished", dark=True)
    show(page, "History")
    camera.take(page, "history")
    set_value(page, "steps of Sampler", "24")
    show(page, "Plan")
    camera.take(page, "plan")
    show(page, "Graph as a list")
    page.get_by_role("region", name="Graph as a list").get_by_role("button", name="Sampler").click()
    camera.take(page, "list")
    show(page, "Result")
    page.locator("figure button").click()
    press(page, "Compare with a slider")
    press(page, "Details")
    page.get_by_role("complementary", name="Details").get_by_text("128 × 128").wait_for()
    camera.take(page, "viewer", dark=True)
    page.keyboard.press("Escape")
    press(page, "App view")
    camera.take(page, "app", dark=True)


def running(page: Page, camera: Camera) -> None:
    """Progress and a preview on the node, and the runs that wait."""
    set_value(page, "steps of Sampler", "1200")
    press(page, "Run")
    page.get_by_alt_text("Preview of Sampler").wait_for()
    page.get_by_text(re.compile(r"^3\d\d of 1200$")).first.wait_for(timeout=120_000)
    camera.take(page, "running", dark=True)
    queue(page, "Hats", 30)
    queue(page, "Hats, finer", 60)
    queue(page, "Stars", 20)
    show(page, "Queue")
    camera.take(page, "queue", dark=True)
    cancel_all(page)


def error(page: Page, camera: Camera) -> None:
    """What is wrong: on the node, on its input, and in the panel."""
    page.locator(".node", has=page.get_by_text("Prompt", exact=True)).locator(".head").first.click()
    page.keyboard.press("Delete")
    run(page)
    camera.take(page, "error", dark=True)


def menus(page: Page, camera: Camera) -> None:
    """The search, an open sub-graph and the list of shortcuts."""
    page.locator(".react-flow__pane").dblclick(position={"x": 480, "y": 520})
    page.get_by_role("combobox", name="Add a node").press_sequentially("latent")
    camera.take(page, "search", dark=True)
    page.keyboard.press("Escape")
    page.locator(".node", has=page.get_by_text("Sampler", exact=True)).locator(".head").first.click(
        button="right"
    )
    page.get_by_role("menuitem", name="Make a sub-graph").click()
    page.locator(".subgraph").get_by_role("button", name="Open").click()
    camera.take(page, "subgraph")
    press(page, "Keyboard shortcuts")
    camera.take(page, "shortcuts")


def large(page: Page, camera: Camera) -> None:
    """An empty canvas, and one with 500 nodes."""
    press(page, "File")
    press(page, "New, empty")
    camera.take(page, "empty", dark=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.json"
        path.write_text(from_afar(), encoding="utf-8")
        page.locator("#file-menu input[type=file]").set_input_files(path)
        page.locator(".canvas[data-far]").wait_for()
        page.wait_for_timeout(800)
        camera.take(page, "far")


def small(page: Page, camera: Camera) -> None:
    """A screen of 400 pixels."""
    page.set_viewport_size({"width": SMALL[0], "height": SMALL[1]})
    page.reload()
    page.get_by_role("button", name="Run", exact=True).wait_for()
    page.wait_for_timeout(500)
    run(page)
    camera.take(page, "small", dark=True)
    show(page, "History")
    camera.take(page, "small-history")
    press(page, "Close panel")
    press(page, "App view")
    camera.take(page, "small-app")


SCENES: tuple[Callable[[Page, Camera], None], ...] = (example, running, error, menus, large, small)


def take(browser: Browser, address: str, camera: Camera, names: list[str]) -> None:
    """Each scene in a profile of its own."""
    for scene in SCENES:
        if names and scene.__name__ not in names:
            continue
        width, height = WIDE
        context = browser.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce", locale="en-GB"
        )
        page = context.new_page()
        page.goto(address)
        page.get_by_role("button", name="Run", exact=True).wait_for()
        page.wait_for_timeout(500)
        scene(page, camera)
        context.close()


def main() -> None:
    """Serve, open, take, say how large each is."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [scene.__name__ for scene in SCENES]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(names)}; all by default")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "screenshots")
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in names]:
        parser.error(f"no scene is called {', '.join(unknown)}; there are {', '.join(names)}")
    asked.to.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as data,
        served(Path(data)) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        take(browser, address, Camera(asked.to), asked.names)
        browser.close()


if __name__ == "__main__":
    main()
